"""DICOM: the slices of one series in a folder as a volume, or one file as a picture or a slice. Who was scanned is not read.

The standard's world is LPS (PS3.3, C.7.6.2.1.1): a row of pixels leads along the first direction cosines, a column along the second.
"""

import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..common.machine import FLOAT, is_too_much
from ..common.words import times
from .damage import ImageError, too_large
from .world import from_lps

EXTENSIONS = (".dcm", ".dicom", ".ima")
CONVERT = "convert the series, as `dcm2niix -z y -o OUT FOLDER` does"
_MAGIC, _PREAMBLE = b"DICM", 128
_DEFLATED = "1.2.840.10008.1.2.1.99"
_ONE_PLANE = 1e-3  # of direction cosines
_STEP = 0.05  # part of a slice's distance to the next that positions are rounded by
_NOBODY = ("anon", "unknown", "no name", "none", "removed", "deid")


def is_named_so(path: Path) -> bool:
    """Whether a file has an extension of DICOM."""
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its extension or, where it has none, by its first bytes."""
    if is_named_so(path):
        return True
    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    # Scanners number files without an extension, or with one that is a UID's last number.
    if (path.suffix and not path.suffix[1:].isdigit()) or path.is_symlink():  # a link may lead out of the folder
        return False
    with path.open("rb") as file:
        return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC


def slices_in(folder: Path) -> list[Path]:
    """The DICOM files that lie in a folder itself."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and is_dicom(path))


def images_of(files: Sequence[Path]) -> list[Path]:
    """The images that the DICOM files of one folder are: the folder if they are slices of a series, or each file if none is another's.

    Of several series the folder is one image too, which ``read`` refuses in a sentence that names them.
    """
    if len(files) > 1 and _series_of(files[0]) != _series_of(files[1]):
        series = [_series_of(file) for file in files]
        if None not in series and len(set(series)) == len(files):
            return list(files)
    return [files[0].parent]


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a series, or one file; a file that is not placed is a picture ``(rows, columns)``.

    Raises
    ------
    ImageError
        If there are several series, slices that make no volume, colours, or a compression that cannot be undone here.
    """
    with _strict(path):
        slices = _slices(path)
        inverted = slices[0].PhotometricInterpretation == "MONOCHROME1"
        if len(slices) == 1 and not _is_placed(slices[0]):
            pixels = _pixels(path, slices[0])
            return _turned_white(pixels) if inverted else pixels, None
        slices, affine = _placed(path, slices)
        volume = np.empty((int(slices[0].Columns), int(slices[0].Rows), len(slices)), dtype=np.float32)
        for place, one in enumerate(slices):
            volume[:, :, place] = _pixels(path, one).T
        return _turned_white(volume) if inverted else volume, from_lps(affine)


def memory(path: Path) -> int:
    """Bytes that reading and looking at a series takes at most, by the header of its first slice."""
    files = _files(path)
    with _strict(path):
        return _memory(_header(files[0]), len(files), _size(files))


def names_somebody(path: Path) -> bool:
    """Whether the header of an image holds a name or a birth date; what they are is told to nobody."""
    with _strict(path):
        header = _header(_files(path)[0])
        name = str(header.get("PatientName", "")).strip(" ^").casefold()
        named = bool(name) and name != path.name.casefold() and not any(word in name for word in _NOBODY)
        return named or bool(str(header.get("PatientBirthDate", "")).strip())


def _files(path: Path) -> list[Path]:
    files = slices_in(path) if path.is_dir() else [path]
    if not files:
        raise ImageError(path, "a folder without DICOM files", "restore them, or remove its row from the table")
    return files


def _memory(header: Any, n: int, n_bytes: int) -> int:
    """The files as they are, the volume with masks of it, and one slice as it is decoded."""
    voxels = int(header.get("Rows", 0)) * int(header.get("Columns", 0))
    return n_bytes + voxels * (n * (2 * FLOAT + 1) + 6 * FLOAT)


def _pydicom() -> Any:
    """The library, which takes a third of a second to import, and is told not to warn of values that it reads anyway."""
    import pydicom
    import pydicom.config

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    return pydicom


def _dataset(file: Path, **options: Any) -> Any:
    """A file's data set; raise an ``ImageError`` for what is none. Its bytes are read whole: a claimed length is then no memory."""
    pydicom = _pydicom()
    size = file.stat().st_size
    if is_too_much(2 * size):
        raise ImageError(file, f"{size} bytes, for which this machine has no memory", "resample it to fewer voxels")
    with _strict(file):
        if str(pydicom.filereader.read_file_meta_info(file).get("TransferSyntaxUID", "")) == _DEFLATED:
            # It would be inflated whole, whatever it grows to.
            raise ImageError(file, "a deflated data set", f"inflate it, as `dcmconv +te {file.name} OUT.dcm` does")
        return pydicom.dcmread(io.BytesIO(file.read_bytes()), **options)


@contextmanager
def _strict(path: Path) -> Iterator[None]:
    """What is raised on a damaged file, as an ``ImageError``: of a stranger's bytes in a library that reads values when asked, anything."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(path, f"unreadable as DICOM ({_first_line(error)})") from error


def _header(file: Path) -> Any:
    return _dataset(file, stop_before_pixels=True)


def _series_of(file: Path) -> str | None:
    try:
        with _strict(file):
            return str(_dataset(file, specific_tags=["SeriesInstanceUID"]).get("SeriesInstanceUID") or "") or None
    except ImageError:
        return None


def _size(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _slices(path: Path) -> list[Any]:
    """The slices, once they are known to be of one series and of one size, in grey, and to fit the memory."""
    files = _files(path)
    if is_too_much(2 * _size(files)):
        raise ImageError(path, f"{len(files)} files, for which this machine has no memory", "resample the series to fewer voxels")
    slices = []
    for file in files:
        one = _dataset(file)
        if "PixelData" not in one:
            # Reports, presentation states and plans lie beside the slices of a series.
            if len(files) > 1 and "Rows" not in one:
                continue
            raise ImageError(path, f"{file.name} holds no image", "take it away, or restore it")
        _require_grey(path, file, one)
        slices.append(one)
    if not slices:
        raise ImageError(path, "no file with an image", "restore the slices, or remove its row from the table")
    series = Counter(str(one.get("SeriesInstanceUID", "")) for one in slices)
    if len(series) > 1:
        told = " and ".join(
            _told(next(one for one in slices if str(one.get("SeriesInstanceUID", "")) == uid), n) for uid, n in series.items()
        )
        raise ImageError(path, f"{len(series)} series in one folder: {told}", "keep one of them, or give each a folder")
    if len({one.PhotometricInterpretation for one in slices}) > 1:
        raise ImageError(path, "slices of MONOCHROME1 and of MONOCHROME2, whose intensities are of two scales", "keep those of one kind")
    sizes = Counter((int(one.Columns), int(one.Rows)) for one in slices)
    if len(sizes) > 1:
        raise ImageError(path, f"slices of different sizes: {', '.join(f'{n} of {times(size)}' for size, n in sizes.items())}", CONVERT)
    if is_too_much(_memory(slices[0], len(slices), _size(files))):
        raise too_large(path, (*next(iter(sizes)), len(slices)))
    return slices


def _told(one: Any, n: int) -> str:
    number, what = one.get("SeriesNumber"), str(one.get("SeriesDescription", "")).strip()
    return f"number {number}{f' ({what})' if what else ''}, of {n} file{'s' if n != 1 else ''}"


def _require_grey(path: Path, file: Path, one: Any) -> None:
    kind, frames = str(one.get("PhotometricInterpretation", "")), one.get("NumberOfFrames")
    if str(frames or 1) != "1":
        raise ImageError(path, f"{file.name} has {frames} frames in one file (enhanced DICOM)", CONVERT)
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(
            path, f"{file.name} is in colours ({kind or 'of no kind that it names'})", "give the grey images that it was made of"
        )
    if min(int(one.get("Rows") or 0), int(one.get("Columns") or 0)) < 1:
        raise ImageError(path, f"{file.name} has no rows and columns")


def _pixels(path: Path, one: Any) -> np.ndarray:
    """A slice ``(rows, columns)`` in the units of the modality."""
    if "ModalityLUTSequence" in one:
        raise ImageError(path, "intensities by a table (Modality LUT)", CONVERT)
    syntax = one.file_meta.get("TransferSyntaxUID")
    compressed = bool(getattr(syntax, "is_compressed", False))
    try:
        stored = np.asarray(one.pixel_array)
    except Exception as error:  # of a stranger's bytes in several libraries, anything
        if compressed:
            name = getattr(syntax, "name", syntax)
            mend = "install the extra `dicom` (pip install 'tinycohort[dicom]'), or decompress it, as `gdcmconv --raw IN OUT` does"
            raise ImageError(path, f"compressed as {name}, which cannot be undone here ({_first_line(error)})", mend) from error
        raise ImageError(path, f"unreadable pixels ({_first_line(error)})") from error
    slope, intercept = (float(one.get(name, usual)) for name, usual in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise ImageError(path, f"a rescale slope of {slope:g} and an intercept of {intercept:g}, so nobody knows its intensities", CONVERT)
    if stored.shape != (int(one.Rows), int(one.Columns)):
        raise ImageError(path, f"pixels of {times(stored.shape)}, where the header says {one.Rows} x {one.Columns}")
    with np.errstate(all="ignore"):
        return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _turned_white(image: np.ndarray) -> np.ndarray:
    """A MONOCHROME1 image as white as the standard shows it: by the extremes of all slices, whose intensities stay those of one scale."""
    return np.subtract(image.max() + image.min(), image, out=image)


def _is_placed(one: Any) -> bool:
    return all(one.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))


def _placed(path: Path, slices: Sequence[Any]) -> tuple[list[Any], np.ndarray]:
    """The slices along their normal, and the affine from (column, row, slice) to mm in LPS."""
    if not all(_is_placed(one) for one in slices):
        raise ImageError(path, "slices that do not say where they lie (ImagePositionPatient)", CONVERT)
    orientations = np.array([_numbers(path, one, "ImageOrientationPatient", 6) for one in slices])
    spacings = np.array([_numbers(path, one, "PixelSpacing", 2) for one in slices])
    origins = np.array([_numbers(path, one, "ImagePositionPatient", 3) for one in slices])
    across, down = orientations[0, :3], orientations[0, 3:]
    if max(abs(across @ across - 1), abs(down @ down - 1), abs(across @ down)) > 10 * _ONE_PLANE or spacings.min() <= 0:
        raise ImageError(path, "an orientation or a spacing that places no pixels", CONVERT)
    if np.abs(orientations - orientations[0]).max() > _ONE_PLANE or np.abs(spacings / spacings[0] - 1).max() > _ONE_PLANE:
        raise ImageError(path, "slices of different orientation or spacing, as of a localiser", "keep the slices of one volume")
    normal = np.cross(across, down)
    order = np.argsort(origins @ normal, kind="stable")
    origins = origins[order]
    step = _step(path, origins, normal, slices[0])
    affine = np.eye(4)
    # The spacing is that of rows, then that of columns: a step along a row is one from column to column.
    affine[:3] = np.column_stack([across * spacings[0, 1], down * spacings[0, 0], step, origins[0]])
    return [slices[place] for place in order], affine


def _step(path: Path, origins: np.ndarray, normal: np.ndarray, first: Any) -> np.ndarray:
    """From one slice to the next, in mm; raise an ``ImageError`` if slices are missing, lie in one place, or are sheared."""
    if len(origins) == 1:
        thickness = first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1
        return normal * (abs(float(thickness)) or 1.0)
    steps = np.diff(origins @ normal)
    usual = float(np.median(steps))
    if steps.min() < 1e-3 or usual < 1e-3:
        raise ImageError(path, "several slices in one place (echoes, or volumes over time)", "keep one volume")
    if np.abs(steps - usual).max() > _STEP * usual:
        gap = int(np.abs(steps - usual).argmax())
        told = f"slices {gap + 1} and {gap + 2} along the series lie {steps[gap]:.3g} mm apart, where others lie {usual:.3g}"
        raise ImageError(path, told, "restore the slice that is missing, or keep those that are evenly spaced")
    step = (origins[-1] - origins[0]) / (len(origins) - 1)
    if np.linalg.norm(step - normal * (step @ normal)) > _STEP * usual:
        raise ImageError(path, "slices that are shifted along each other (a tilted gantry)", CONVERT)
    return step


def _numbers(path: Path, one: Any, name: str, n: int) -> np.ndarray:
    try:
        numbers = np.array([float(number) for number in one.get(name)])
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (n,) or not np.isfinite(numbers).all():
        raise ImageError(path, f"a header whose {name} is not {n} numbers", CONVERT)
    return numbers


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__

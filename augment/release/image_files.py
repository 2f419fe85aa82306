"""Images of a cohort on disk, as NIfTI, PNG or rows of one ``.npz``: each says whether it is synthetic, and can leave the cohort."""

import json
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any
from zipfile import BadZipFile

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...datasets.common.custody import is_inside
from ...datasets.common.errors import DataError, UsageError
from ...datasets.formats.nifti import AS_PICTURE, MARK, REAL
from ...datasets.formats.pictures import PNG_AFFINE, PNG_AXES
from ...datasets.identity import participant_of
from ...datasets.spaces import PLANES, ImageSpace, as_seen, picture_axes
from ...datasets.synthetic_mark import is_marked
from ...datasets.transforms import Images
from .form import FileFormat, Format
from .values import Values

ARRAYS, PICTURES = "images.npz", "images"  # a file, and a folder, of a cohort
PER_IMAGE = ("images", "labels", "participants")  # the arrays of an .npz that have a row an image
SKULL_UNKNOWN = "SkullStripped is false because no voxel was set to zero here; whether the source's images were stripped is not known"


@dataclass(frozen=True, eq=False)
class NamedImages:
    """The images of one class, the name of each in the cohort's table, and whether they are skull-stripped, where that is known."""

    label: str
    names: Sequence[str]
    images: Images
    skull_stripped: bool | None = None


def write_image(
    stem: Path,
    array: np.ndarray,
    space: ImageSpace,
    file_format: FileFormat,
    *,
    skull_stripped: bool | None = None,
    values: Values | None = None,
    synthetic: bool = True,
) -> None:
    """Write an image ``(X, Y[, Z])`` in [0, 1], marked as what it is, to ``stem`` with ``.nii.gz`` and ``.json``, or ``.png``, added.

    NIfTI is in RAS, and a picture a slice of 1 mm in it; PNG shows a slice as it is seen (``datasets/spaces.py``). BIDS asks every derived
    image for ``SkullStripped``, "non-brain voxels set to zero": where nobody knows it of the source, it is false, because nothing was
    set to zero here, and the description says so.

    Raises
    ------
    UsageError
        If a volume is to be a PNG.
    """
    values, mark = values or Values.asked(file_format), MARK if synthetic else REAL
    if file_format == "nifti":
        world = space.in_world
        volume = (as_seen(array) if space.is_picture else array).reshape(world.volume_shape)
        image = nib.Nifti1Image(values.stored(volume), np.array(world.affine))
        image.header.set_xyzt_units("mm")
        image.header["cal_max"] = values.white  # what viewers show as white, and what a synthetic image is divided by when it is read
        image.header["descrip"] = (f"{mark.partition(',')[0]}, {AS_PICTURE}" if space.is_picture else mark).encode()
        nib.save(image, stem.with_name(f"{stem.name}.nii.gz"))
        told = mark if skull_stripped is not None else f"{mark}; {SKULL_UNKNOWN}"
        content = {"Synthetic": synthetic, "Description": told, "SkullStripped": bool(skull_stripped)}
        sidecar = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        stem.with_name(f"{stem.name}.json").write_text(sidecar, encoding="utf-8")
        return
    if array.ndim != 2:
        raise UsageError("Volumes cannot be written as PNG; choose --format nifti or npz.")
    texts = PngInfo()
    texts.add_text("Description", mark)
    if not space.is_picture:
        array, world = as_seen(array), space.in_world
        texts.add_text(PNG_AXES, picture_axes(next(plane for plane, axis in PLANES.items() if axis == world.flat_axis)))
        texts.add_text(PNG_AFFINE, " ".join(map(repr, (np.array(world.affine) @ world.seen).ravel().tolist())))
    grey = Image.fromarray(values.stored(array), mode="L")
    grey.save(stem.with_name(f"{stem.name}.png"), pnginfo=texts)


def write_images(
    folder: Path, parts: Sequence[NamedImages], file_format: Format, values: Values | None = None, *, synthetic: bool = True
) -> None:
    """Write the images of a cohort.

    Parameters
    ----------
    folder : Path
        The cohort's folder.
    parts : sequence of NamedImages
        One a class.
    file_format : {"nifti", "png", "npz"}
    values : Values, optional
        By default those of the format.
    synthetic : bool
        What each image says of itself.

    Raises
    ------
    UsageError
        If the images do not go into this format.
    """
    values = values or Values.asked(file_format)
    if file_format == "npz":
        _write_arrays(folder / ARRAYS, parts, values, synthetic)
        return
    for part in parts:
        for name, pixels in zip(part.names, part.images.pixels, strict=True):
            # The name of a session follows that of its participant, as BIDS has it, and is a folder in that one's.
            stem = folder.joinpath(*name.split("_"), "anat", f"{name}_T1w") if file_format == "nifti" else folder / PICTURES / name
            stem.parent.mkdir(parents=True, exist_ok=True)
            array, space = pixels[0].numpy(), part.images.space
            write_image(stem, array, space, file_format, skull_stripped=part.skull_stripped, values=values, synthetic=synthetic)


def move_images(cohort: Path, quarantine: Path, people: Collection[str]) -> None:
    """Move the images of ``people``, as the table spells them, from one folder into another, where some of them may be already.

    Raises
    ------
    DataError
        If somebody has none, or an id or a link leads out of the folders; nothing is moved then.
    """
    require_plain_ids(people)
    if (cohort / ARRAYS).is_file():
        _require_inside([(cohort / ARRAYS, cohort), (quarantine / ARRAYS, quarantine)])
        _move_arrays(cohort / ARRAYS, quarantine / ARRAYS, {participant_of(who) for who in people})
        return
    paths = [path for who in people for path in _files_of(cohort, who)]
    moves = [(path, quarantine / path.relative_to(cohort)) for path in paths]
    _require_inside([place for path, target in moves for place in ((path, cohort), (target, quarantine))])
    for path, target in moves:
        # An earlier gate that was killed between its two folders has left it in both.
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def require_plain_ids(ids: Iterable[str]) -> None:
    """Raise a ``DataError`` for an id that is no single name of a file, or that of a folder of ours: a path made of it leads elsewhere."""
    for spelled in ids:
        # By the rules of Windows, which has every separator and the drives.
        if spelled in ("", "..", PICTURES) or PureWindowsPath(spelled).name != spelled or "\0" in spelled:
            told = f"The cohort's table has the id {spelled!r}, which is no name of a participant's file"
            raise DataError(f"{told}; restore it, or generate the cohort anew.")


def unmarked_images(folder: Path, images: Iterable[Path]) -> list[str]:
    """The names of those files of a cohort that do not say that they are synthetic: of its ``.npz``, or else of ``images``."""
    if not (folder / ARRAYS).is_file():
        return [path.name for path in images if not is_marked(path)]
    try:
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            return [] if "synthetic" in arrays.files and arrays["synthetic"].all() else [ARRAYS]
    except (OSError, ValueError, TypeError, BadZipFile):  # damage says nothing
        return [ARRAYS]


def _write_arrays(file: Path, parts: Sequence[NamedImages], values: Values, synthetic: bool) -> None:
    if len({part.images.space.shape for part in parts}) > 1:
        raise UsageError("The classes have images of different sizes, which one .npz cannot hold; choose --format nifti or png.")
    space = parts[0].images.space
    np.savez_compressed(
        file,
        images=values.stored(torch.cat([part.images.pixels for part in parts])[:, 0].numpy()),
        white=np.array(values.white),
        axes=np.array(list(space.axes)),
        affine=space.affine_of_axes,
        classes=np.array([part.label for part in parts]),
        labels=np.array([part.label for part in parts for _ in part.names]),
        participants=np.array([name for part in parts for name in part.names]),
        synthetic=np.array(synthetic),
    )


def _files_of(cohort: Path, spelled: str) -> list[Path]:
    """A participant's folder of NIfTI, or the picture."""
    found = [path for path in (cohort / spelled, cohort / PICTURES / f"{spelled}.png") if path.exists()]
    if not found:
        raise DataError(f"The cohort has neither {spelled}/ nor images/{spelled}.png, so it cannot be set aside; generate the cohort anew.")
    return found


def _require_inside(places: Iterable[tuple[Path, Path]]) -> None:
    for path, folder in places:
        if not is_inside(path, folder):
            raise DataError(f"{path.relative_to(folder)} is, or lies in, a link out of its folder; remove the link.")


def _move_arrays(source: Path, target: Path, people: Collection[str]) -> None:
    content = _load(source)
    per_image = [name for name in PER_IMAGE if name in content]
    moved = _owned_by(content["participants"], people)
    aside = {name: content[name][moved] for name in per_image}
    if target.is_file():
        earlier = _load(target)
        others = ~_owned_by(earlier["participants"], people)
        aside = {name: np.concatenate([earlier[name][others], array]) for name, array in aside.items()}
    np.savez_compressed(target, **{**content, **aside})
    np.savez_compressed(source, **{**content, **{name: content[name][~moved] for name in per_image}})


def _owned_by(owners: np.ndarray, people: Collection[str]) -> np.ndarray:
    return np.array([participant_of(str(owner)) in people for owner in owners], dtype=bool)


def _load(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}

"""Synthetic images on disk, as NIfTI, PNG or rows of one ``.npz``: each says that it is synthetic, and can leave the cohort."""

import json
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...datasets.common.errors import DataError, UsageError
from ...datasets.formats.nifti import MARK, MARK_OF_PICTURE
from ...datasets.formats.pictures import PNG_AFFINE, PNG_AXES
from ...datasets.identity import participant_of
from ...datasets.spaces import PLANES, ImageSpace, as_seen, picture_axes
from ...datasets.synthetic_mark import is_marked
from .generation import Generated

FileFormat = Literal["nifti", "png"]  # of an image by itself
Format = Literal[FileFormat, "npz"]
ARRAYS = "images.npz"
PER_IMAGE = ("images", "labels", "participants")  # the arrays of an .npz that have a row an image
SKULL_UNKNOWN = "SkullStripped is false because no voxel was set to zero here; whether the source's images were stripped is not known"


def default_format(space: ImageSpace) -> FileFormat:
    """``nifti`` where the images have a place in the world or are volumes, else ``png``."""
    return "nifti" if space.affine is not None or len(space.shape) == 3 else "png"


def write_image(stem: Path, array: np.ndarray, space: ImageSpace, file_format: FileFormat, *, skull_stripped: bool | None = None) -> None:
    """Write a synthetic image ``(X, Y[, Z])`` in [0, 1], marked as such, to ``stem`` with ``.nii.gz`` and ``.json``, or ``.png``, added.

    NIfTI is in RAS, and a picture a slice of 1 mm in it; PNG shows a slice as it is seen (``datasets/spaces.py``). BIDS asks every derived
    image for ``SkullStripped``, "non-brain voxels set to zero": where nobody knows it of the source, it is false, because nothing was
    set to zero here, and the description says so.

    Raises
    ------
    UsageError
        If a volume is to be a PNG.
    """
    if file_format == "nifti":
        world = space.in_world
        volume = (as_seen(array) if space.is_picture else array).reshape(world.volume_shape)
        image = nib.Nifti1Image(volume.astype(np.float32), np.array(world.affine))
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = (MARK_OF_PICTURE if space.is_picture else MARK).encode()
        nib.save(image, stem.with_name(f"{stem.name}.nii.gz"))
        told = MARK if skull_stripped is not None else f"{MARK}; {SKULL_UNKNOWN}"
        content = {"Synthetic": True, "Description": told, "SkullStripped": bool(skull_stripped)}
        sidecar = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        stem.with_name(f"{stem.name}.json").write_text(sidecar, encoding="utf-8")
        return
    if array.ndim != 2:
        raise UsageError("Volumes cannot be written as PNG; choose --format nifti or npz.")
    texts = PngInfo()
    texts.add_text("Description", MARK)
    if not space.is_picture:
        array, world = as_seen(array), space.in_world
        texts.add_text(PNG_AXES, picture_axes(next(plane for plane, axis in PLANES.items() if axis == world.flat_axis)))
        texts.add_text(PNG_AFFINE, " ".join(map(repr, (np.array(world.affine) @ world.seen).ravel().tolist())))
    grey = Image.fromarray(np.round(255 * array).astype(np.uint8), mode="L")
    grey.save(stem.with_name(f"{stem.name}.png"), pnginfo=texts)


def write_images(
    folder: Path, parts: Sequence[Generated], ids: Mapping[str, Sequence[str]], stripped: Mapping[str, bool | None], file_format: Format
) -> None:
    """Write the images of a cohort.

    Parameters
    ----------
    folder : Path
        The cohort's folder.
    parts : sequence of Generated
        One a class.
    ids : mapping
        From label to the images' participants, as the table spells them.
    stripped : mapping
        From label to whether the skull is stripped; ``None`` where nobody knows.
    file_format : {"nifti", "png", "npz"}

    Raises
    ------
    UsageError
        If the images do not go into this format.
    """
    if file_format == "npz":
        _write_arrays(folder / ARRAYS, parts, ids)
        return
    for part in parts:
        for name, pixels in zip(ids[part.label], part.images.pixels, strict=True):
            stem = folder / name / "anat" / f"{name}_T1w" if file_format == "nifti" else folder / "images" / name
            stem.parent.mkdir(parents=True, exist_ok=True)
            write_image(stem, pixels[0].numpy(), part.images.space, file_format, skull_stripped=stripped[part.label])


def move_images(cohort: Path, quarantine: Path, people: Collection[str]) -> None:
    """Move the images of ``people``, as the table spells them, from one folder into another, where some of them may be already.

    Raises
    ------
    DataError
        If somebody has none.
    """
    if (cohort / ARRAYS).is_file():
        _move_arrays(cohort / ARRAYS, quarantine / ARRAYS, {participant_of(who) for who in people})
        return
    for who in people:
        _move_files(cohort, quarantine, who)


def unmarked_images(folder: Path, images: Iterable[Path]) -> list[str]:
    """The names of those files of a cohort that do not say that they are synthetic: of its ``.npz``, or else of ``images``."""
    if not (folder / ARRAYS).is_file():
        return [path.name for path in images if not is_marked(path)]
    try:
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            return [] if "synthetic" in arrays.files and arrays["synthetic"].all() else [ARRAYS]
    except (OSError, ValueError, TypeError, BadZipFile):  # damage says nothing
        return [ARRAYS]


def _write_arrays(file: Path, parts: Sequence[Generated], ids: Mapping[str, Sequence[str]]) -> None:
    if len({part.images.space.shape for part in parts}) > 1:
        raise UsageError("The classes have images of different sizes, which one .npz cannot hold; choose --format nifti or png.")
    space = parts[0].images.space
    np.savez_compressed(
        file,
        images=torch.cat([part.images.pixels for part in parts])[:, 0].numpy(),
        axes=np.array(list(space.axes)),
        affine=space.affine_of_axes,
        classes=np.array([part.label for part in parts]),
        labels=np.array([part.label for part in parts for _ in ids[part.label]]),
        participants=np.array([name for part in parts for name in ids[part.label]]),
        synthetic=np.array(True),
    )


def _move_files(cohort: Path, quarantine: Path, spelled: str) -> None:
    """Move a participant's folder of NIfTI, or the picture."""
    found = [path for path in (cohort / spelled, cohort / "images" / f"{spelled}.png") if path.exists()]
    if not found:
        raise DataError(f"The cohort has neither {spelled}/ nor images/{spelled}.png, so it cannot be set aside; generate the cohort anew.")
    for path in found:
        target = quarantine / path.relative_to(cohort)
        # An earlier gate that was killed between its two folders has left it in both.
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


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

"""From a cohort's files to one tensor of images in [0, 1], all in one space (MONAI transforms; the affine is kept to the end).

Volumes are brought to RAS orientation and keep the array's axis order: ``(X, Y, Z)``, a slice of them ``(X, Y)``, ``(X, Z)`` or
``(Y, Z)``. Pictures and arrays keep theirs: ``(rows, columns)``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.croppad.array import SpatialCrop
from monai.transforms.spatial.array import Orientation
from nibabel.affines import voxel_sizes

from .cohort import Cohort
from .common.errors import DataError, UsageError
from .common.machine import require_memory
from .common.words import times
from .formats.damage import ImageError
from .image_checks import scan_digest
from .images import read_image, white_of
from .resizing import PERCENTILES, as_meta, brought_to
from .sizes import AsSeen, sides_told
from .spaces import PLANES, ImageSpace, to_tuples
from .synthetic_mark import UNDECLARED, is_marked

LONGEST_SIDE = {2: 96, 3: 48}  # of the default size: what two CPU cores can train on
ASPECT_TOLERANCE = 0.1
_STORED_RESIZE = {"stretch": "resize", "crop": "crop"}
_AT_ONCE = 5_000  # images, so that what lies beside the result stays small


@dataclass(frozen=True)
class Preparation:
    """How images are brought to one size and range.

    Parameters
    ----------
    size : tuple of int, optional
        Size of the result, in the order of its array, or ``AsSeen``, which ``in_array_order`` puts into it; by default ``default_size`` of
        the first image's own (which is kept if they are cropped): sides of at most 96 (slices) or 48 (volumes).
    plane : {"sagittal", "coronal", "axial"}, optional
        Cut this slice out of volumes.
    position : str
        Where: a fraction of the extent (``"0.5"``) or a world coordinate (``"-12mm"``).
    resize : {"stretch", "crop"}
        Interpolate to ``size``, or pad and crop around the centre.
    scaling : {"percentile", "minmax", "none"}
        Map the percentiles 0.5 and 99.5 of each image to 0 and 1 (a few bright vessels do not darken a brain), or its minimum and maximum
        (the paper), or leave images as they are that are in [0, 1] already (synthetic ones): pictures of 8 and 16 bits, and arrays of 8,
        once white is 1.
    """

    size: tuple[int, ...] | None = None
    plane: Literal["sagittal", "coronal", "axial"] | None = None
    position: str = "0.5"
    resize: Literal["stretch", "crop"] = "stretch"
    scaling: Literal["percentile", "minmax", "none"] = "percentile"

    def __post_init__(self) -> None:
        if self.plane is not None and self.plane not in PLANES:
            raise UsageError(f"There is no plane '{self.plane}'; choose one of: {', '.join(PLANES)}.")
        if self.resize not in ("stretch", "crop"):
            raise UsageError(f"--resize is 'stretch' or 'crop', not '{self.resize}'.")
        if self.scaling not in ("percentile", "minmax", "none"):
            raise UsageError(f"--scaling is 'percentile', 'minmax' or 'none', not '{self.scaling}'.")
        if self.size is not None and (len(self.size) not in (2, 3) or min(self.size) < 8):
            raise UsageError(f"--size takes two numbers (slices) or three (volumes), each 8 or more, not {self.size}.")
        parse_position(self.position)

    def content(self) -> dict[str, Any]:
        """Plain values, as models, plans and studies store them and their digests hold them: ``resize`` is stored as ``fit``."""
        fit = _STORED_RESIZE[self.resize]
        return {"size": self.size, "plane": self.plane, "position": self.position, "fit": fit, "scaling": self.scaling}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Preparation":
        """Rebuild from ``content``, which may come from JSON (lists for tuples) or TOML (without what is ``None``)."""
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
        if "fit" in given:
            stored = given.pop("fit")
            given["resize"] = {fit: resize for resize, fit in _STORED_RESIZE.items()}.get(stored, stored)
        return cls(**given)


@dataclass(frozen=True, eq=False)
class Images:
    """A prepared cohort: ``pixels`` ``(n, 1, X, Y)`` or ``(n, 1, X, Y, Z)``, float32 in [0, 1], row for row as the cohort's table."""

    pixels: torch.Tensor
    space: ImageSpace

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> "Images":
        return Images(self.pixels[index], self.space)


def parse_position(position: str) -> tuple[float, bool]:
    """The number in ``"0.5"`` or ``"-12mm"``, and whether it is in mm.

    Raises
    ------
    UsageError
        For anything else, or a fraction outside [0, 1].
    """
    in_mm = position.endswith("mm")
    try:
        value = float(position.removesuffix("mm"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (not in_mm and not 0 <= value <= 1):
        raise UsageError(f"--position takes a fraction from 0 to 1, or a coordinate such as -12mm, not '{position}'.")
    return value, in_mm


def default_size(shape: tuple[int, ...], spacing: Sequence[float] | None = None) -> tuple[int, ...]:
    """The size at which two CPU cores can train on images of ``shape``: in proportion, its longest side what they can.

    Parameters
    ----------
    shape : tuple of int
        ``(X, Y)`` or ``(X, Y, Z)``.
    spacing : sequence of float, optional
        Sides of voxels, in mm; by default the same along all sides. Slices that are thicker than the shrunk voxels are long stay as many.
    """
    longest, steps = LONGEST_SIDE[len(shape)], spacing or (1.0,) * len(shape)
    factor = min(1.0, longest / max(shape))
    finest = min(steps) / factor
    return tuple(max(8, min(side, longest, round(side * step / finest))) for side, step in zip(shape, steps, strict=True))


def prepare(
    cohort: Cohort,
    preparation: Preparation,
    *,
    like: ImageSpace | None = None,
    on_image: Callable[[], None] = lambda: None,
    on_warning: Callable[[str], None] = lambda message: None,
) -> Images:
    """Read every image of ``cohort`` into one space.

    Parameters
    ----------
    cohort : Cohort
        Sound (``check.require_sound``).
    preparation : Preparation
        What to do with each image.
    like : ImageSpace, optional
        The grid to bring them to, of images that were prepared alike; by default the first image's own.
    on_image, on_warning : callable
        Called after each image, and with each sentence that the user should read.

    Raises
    ------
    DataError
        If an image does not fit the asked size, plane or position, or is not in [0, 1] and shall not be scaled.
    UsageError
        If so many images of the asked size take more memory than there is.
    """
    if like is not None:
        preparation = replace(preparation, size=like.shape)
    preparation = in_array_order(preparation, cohort)
    at_once = _prepare_at_once(cohort, preparation, on_image)
    if at_once is not None:
        return at_once
    flat_axes: set[int | None] = set()
    spaces, pixels = [], []
    for row in cohort.table["image"]:
        image, flat_axis, placed = _load(cohort, row, preparation)
        if preparation.size is None:
            shape, spacing = _sides(image, flat_axis)
            preparation = replace(preparation, size=default_size(shape, spacing) if preparation.resize == "stretch" else shape)
        assert preparation.size is not None
        if not pixels:
            require_memory(len(cohort), preparation.size)
            _check_size(image, flat_axis, preparation, on_warning)
        image = brought_to(_with_flat(preparation.size, flat_axis), image, preparation.resize, preparation.scaling, _place(cohort, row))
        flat_axes.add(flat_axis)
        plain = image.as_tensor().to(torch.float32)
        if preparation.scaling == "none" and not (plain.min() >= 0 and plain.max() <= 1):
            told = f"{_place(cohort, row)} has values from {float(plain.min()):g} to {float(plain.max()):g}"
            raise DataError(f"{told}, and --scaling none is for images in [0, 1]; choose percentile or minmax.")
        pixels.append(plain if flat_axis is None else plain.squeeze(1 + flat_axis))
        if placed:
            spaces.append(ImageSpace(tuple(pixels[-1].shape[1:]), to_tuples(np.asarray(image.affine)), flat_axis))
        on_image()
    if len(flat_axes) > 1:
        raise DataError(f"The images of {cohort.name} are cut along different planes; give --plane, or mend the cohort.")
    if not spaces:
        return Images(torch.stack(pixels), _unplaced(cohort, tuple(pixels[0].shape[1:]), preparation, flat_axes.pop()))
    reference = like if like is not None and like.affine is not None else spaces[0]
    aligned = all(space.is_like(reference) for space in spaces)
    if not aligned:
        on_warning(
            f"The images of {cohort.name} lie in different spaces (their affines differ): register them first, or the model learns poses."
        )
    return Images(torch.stack(pixels), replace(spaces[0], affine=reference.affine, aligned=aligned))


def in_array_order(preparation: Preparation, cohort: Cohort) -> Preparation:
    """A preparation whose size, if it was given as it is seen, is that of the arrays of a cohort's images: what is stored, and compared."""
    if not isinstance(preparation.size, AsSeen) or not len(cohort):
        return preparation
    image, _, _ = _load(cohort, cohort.table["image"].iloc[0], preparation)
    return replace(preparation, size=preparation.size.stored(picture=image.ndim == 3))


def space_of(cohort: Cohort, preparation: Preparation, on_warning: Callable[[str], None] = lambda text: None) -> ImageSpace:
    """The space of a cohort's prepared images, which its first one sets for all; raises as ``prepare`` does."""
    return prepare(cohort.where(np.arange(len(cohort)) == 0), preparation, on_warning=on_warning).space


def _prepare_at_once(cohort: Cohort, preparation: Preparation, on_image: Callable[[], None]) -> Images | None:
    """Arrays ``(n, X, Y)`` that have their size already, by the same arithmetic, many images at a time; ``None`` of all else.

    The 60,000 images of a benchmark take two seconds, where one by one they take two minutes.
    """
    arrays, rows = cohort.arrays, list(cohort.table["image"])
    if arrays is None or arrays.ndim != 3 or not rows or any(isinstance(row, str) for row in rows):
        return None
    shape, space = tuple(arrays.shape[1:]), cohort.space
    default = default_size(shape, None if space is None else space.spacing) if preparation.resize == "stretch" else shape
    if shape != (preparation.size or default):
        return None
    require_memory(len(rows), shape)
    pixels = torch.empty((len(rows), 1, *shape))
    for start in range(0, len(rows), _AT_ONCE):
        part = np.asarray(arrays[rows[start : start + _AT_ONCE]], dtype=np.float32)
        if preparation.scaling == "none":
            part = part / _full_scale(cohort)
            if not (part.min() >= 0 and part.max() <= 1):
                return None  # one by one, the image that does not fit is found and named
            pixels[start : start + len(part), 0] = torch.from_numpy(part)
            continue
        least, most = part.min(axis=(1, 2)), part.max(axis=(1, 2))
        low, high = least.astype(float), most.astype(float)
        if preparation.scaling == "percentile":
            found = np.percentile(part.reshape(len(part), -1), PERCENTILES, axis=1)
            ranged = found[0] != found[1]
            low[ranged], high[ranged] = found[0][ranged], found[1][ranged]
        # A constant image becomes 0, whatever it is divided by.
        span = np.where(high > low, high - low, 1.0).astype(np.float32)
        scaled = (part - low.astype(np.float32)[:, None, None]) / span[:, None, None]
        pixels[start : start + len(part), 0] = torch.from_numpy(scaled).clip(0, 1)
    for _ in rows:
        on_image()
    return Images(pixels, space if space is not None and not space.is_picture else _unplaced(cohort, shape, preparation, None))


def _unplaced(cohort: Cohort, shape: tuple[int, ...], preparation: Preparation, flat_axis: int | None) -> ImageSpace:
    """The space of images that have no affine; pictures have the plane that is asked for, or else the one that the cohort tells."""
    space = ImageSpace(shape, flat_axis=flat_axis)
    told = None if cohort.space is None else cohort.space.plane
    return replace(space, plane=preparation.plane or told) if space.is_picture else space


def _load(cohort: Cohort, row: Any, preparation: Preparation) -> tuple[MetaTensor, int | None, bool]:
    """The image ``(1, ...)`` in RAS, cut to the asked plane, its flat axis, and whether its affine is one."""
    if not isinstance(row, str):
        image, placed = _from_arrays(cohort, row, preparation)
    else:
        array, affine = read_image(row)
        if not cohort.synthetic and is_marked(Path(row)):
            what, mend = UNDECLARED
            raise ImageError(Path(row), what, mend)
        if row in cohort.digests and cohort.digests[row] != scan_digest(array, affine):
            raise ImageError(Path(row), "changed since the cohort was checked", "repeat the command when nothing writes to the cohort")
        white = white_of(row)
        array, placed = array if white == 1 else array / np.float32(white), affine is not None
        if affine is None:
            image = MetaTensor(torch.from_numpy(array)[None])
        else:
            # A file may leave out the third dimension of a plane, or spell out a series of one volume.
            volume = array.reshape((*array.shape, 1)[:3])
            image = as_meta(Orientation("RAS", labels=None)(MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(affine))))
    if image.ndim == 3:
        return image, None, placed
    flat = [axis for axis in range(3) if image.shape[1 + axis] == 1]
    if preparation.plane is None or flat:
        return image, flat[0] if flat else None, placed
    axis = PLANES[preparation.plane]
    index = _plane_index(image, axis, preparation, where=str(row))
    start, end = [0, 0, 0], list(image.shape[1:])
    start[axis], end[axis] = index, index + 1
    return as_meta(SpatialCrop(roi_start=start, roi_end=end)(image)), axis, placed


def _from_arrays(cohort: Cohort, row: int, preparation: Preparation) -> tuple[MetaTensor, bool]:
    """One of a cohort's arrays ``(1, ...)``, where it lies if that is told, and whether it is."""
    assert cohort.arrays is not None
    scale = _full_scale(cohort) if preparation.scaling == "none" else np.float32(1)
    array, space = np.array(cohort.arrays[row], dtype=np.float32) / scale, cohort.space
    if space is None or space.is_picture:
        return MetaTensor(torch.from_numpy(array)[None]), False
    volume = torch.from_numpy(array.reshape(space.volume_shape))[None]
    return MetaTensor(volume, affine=torch.tensor(space.in_world.affine, dtype=torch.float64)), space.affine is not None


def _full_scale(cohort: Cohort) -> np.float32:
    """What is white, where a cohort's arrays say so by their type: pictures of 8 bit."""
    assert cohort.arrays is not None
    return np.float32(255 if cohort.arrays.dtype == np.uint8 else 1)


def _plane_index(image: MetaTensor, axis: int, preparation: Preparation, where: str) -> int:
    value, in_mm = parse_position(preparation.position)
    extent = image.shape[1 + axis]
    if not in_mm:
        return min(extent - 1, int(value * extent))
    affine = np.asarray(image.affine, dtype=float)
    # Through the middle of the volume: in a tilted one the coordinate also changes along a slice.
    middle = (np.array(image.shape[1:]) - 1) / 2
    middle[axis] = 0
    origin = affine[axis, :3] @ middle + affine[axis, 3]
    index = round((value - origin) / affine[axis, axis])
    if not 0 <= index < extent:
        reach = sorted((origin, origin + affine[axis, axis] * (extent - 1)))
        raise DataError(f"{where} has no {preparation.plane} slice at {value:g} mm: it reaches from {reach[0]:g} to {reach[1]:g} mm.")
    return index


def _check_size(image: MetaTensor, flat_axis: int | None, preparation: Preparation, on_warning: Callable[[str], None]) -> None:
    shape, spacing = _sides(image, flat_axis)
    size = preparation.size
    assert size is not None
    if len(size) != len(shape):
        kind = "slices" if len(shape) == 2 else "volumes"
        raise UsageError(f"--size has {len(size)} numbers, and the images are {kind} of {times(shape)}; give {len(shape)}, or --plane.")
    if preparation.resize == "stretch" and _distorts(shape, size, spacing):
        old, new = (sides_told(sides, picture=image.ndim == 3) for sides in (shape, size))
        on_warning(f"Resizing {old} to {new} distorts the images; keep the proportions, or use --resize crop.")


def _distorts(shape: Sequence[int], size: Sequence[int], spacing: Sequence[float]) -> bool:
    """Whether proportions change, but for voxels that are no cubes and come nearer to be some."""
    old = np.log(np.asarray(spacing, dtype=float))
    new = old + np.log(np.asarray(shape, dtype=float) / np.asarray(size, dtype=float))
    before, after = (steps[:, None] - steps for steps in (old, new))
    tolerance = math.log(1 + ASPECT_TOLERANCE)
    return bool(((after > np.maximum(before, 0) + tolerance) | (after < np.minimum(before, 0) - tolerance)).any())


def _sides(image: MetaTensor, flat_axis: int | None) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The sides of an image ``(1, ...)`` in voxels, without a flat one, and how long a voxel is along each (1 in a picture)."""
    steps = voxel_sizes(np.asarray(image.affine, dtype=float)) if image.ndim == 4 else (1.0, 1.0)
    sides = [(int(side), float(step)) for axis, (side, step) in enumerate(zip(image.shape[1:], steps, strict=True)) if axis != flat_axis]
    return tuple(side for side, _ in sides), tuple(step for _, step in sides)


def _with_flat(size: Sequence[int], flat_axis: int | None) -> list[int]:
    """The sides of a slice, or of a volume, with the flat one of a plane."""
    return list(size) if flat_axis is None else [*size[:flat_axis], 1, *size[flat_axis:]]


def _place(cohort: Cohort, row: str | int) -> str:
    return row if isinstance(row, str) else f"Image {row} of {cohort.name}"

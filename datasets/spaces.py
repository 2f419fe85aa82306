"""Where images lie and how they stand: the grid of prepared images, and slices as they are seen.

Slices are seen as radiologists see them: superior or, in an axial slice, anterior is up; the patient's left is on the viewer's right,
and in a sagittal slice anterior is on the viewer's left. So the rows of an axial picture lead to P and its columns to L, those of a
coronal one to I and L, those of a sagittal one to I and P. A picture does not say what it shows: it is taken to stand so too, in the
plane that its user names.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # the RAS axis that a plane cuts
DEFAULT_PLANE = "axial"  # of a picture of which nobody has said it: a plane (X, Y, 1) is what most tools take a 2-D NIfTI for
SAME_PLACE = 0.1  # mm
_OPPOSITE = dict(zip("RASLPI", "LPIRAS", strict=True))

Affine = tuple[tuple[float, ...], ...]


def as_seen(slices: np.ndarray) -> np.ndarray:
    """Turn slices ``(..., X, Y)``, whose axes lead to R, A or S, into rows and columns as they are seen; and these back."""
    return slices[..., ::-1, ::-1].swapaxes(-1, -2)


def picture_axes(plane: str) -> str:
    """Where the rows and the columns of a picture lead: "PL" for "axial"."""
    across, up = "RAS".replace("RAS"[PLANES[plane]], "")
    return _OPPOSITE[up] + _OPPOSITE[across]


@dataclass(frozen=True)
class ImageSpace:
    """The voxel grid that all images of a prepared cohort share.

    Parameters
    ----------
    shape : tuple of int
        ``(X, Y)`` or ``(X, Y, Z)``; of pictures ``(rows, columns)``.
    affine : tuple of tuples, optional
        ``4 x 4``, voxel to world in mm (RAS); ``None`` for pictures and arrays.
    flat_axis : int, optional
        For slices of volumes: the axis of the volume that they cut.
    aligned : bool
        False if the images' own affines differ: the affine is then the first image's.
    plane : {"sagittal", "coronal", "axial"}, optional
        For pictures, what they show, as far as it is known.
    """

    shape: tuple[int, ...]
    affine: Affine | None = None
    flat_axis: int | None = None
    aligned: bool = True
    plane: str | None = None

    def __post_init__(self) -> None:
        """Raise a ``TypeError`` or a ``ValueError`` for what is no grid."""
        if len(self.shape) not in (2, 3) or not all(type(side) is int and side > 0 for side in self.shape):
            raise ValueError(f"{self.shape} is the shape of neither a slice nor a volume")
        if self.affine is not None and np.asarray(self.affine, dtype=float).shape != (4, 4):
            raise ValueError("an affine is of 4 x 4 numbers")
        if self.flat_axis not in (None, 0, 1, 2) or not isinstance(self.aligned, bool):
            raise ValueError(f"there is no axis {self.flat_axis}, or aligned is neither true nor false")
        if self.plane is not None and self.plane not in PLANES:
            raise ValueError(f"there is no plane {self.plane}")

    def is_like(self, other: "ImageSpace") -> bool:
        """Whether images of both have the same sides, and lie in the same place to a tenth of a millimetre."""
        if (self.shape, self.flat_axis) != (other.shape, other.flat_axis) or (self.affine is None) != (other.affine is None):
            return False
        return self.affine is None or bool(np.allclose(self.corners, other.corners, rtol=0, atol=SAME_PLACE))

    @property
    def is_picture(self) -> bool:
        """Whether an image is rows and columns, and not a volume, or a slice of one, whose axes lead to R, A and S."""
        return len(self.shape) == 2 and self.affine is None and self.flat_axis is None

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of voxels along each side, in mm; 1 in pictures and arrays."""
        if self.affine is None:
            return (1.0,) * len(self.shape)
        steps = voxel_sizes(np.asarray(self.affine, dtype=float))
        return tuple(float(step) for step, side in zip(steps, self.volume_shape, strict=True) if len(self.shape) == 3 or side != 1)

    @property
    def corners(self) -> np.ndarray:
        """``(8, 3)``: where the outermost voxels lie, in mm; of images with an affine."""
        ends = np.array(list(itertools.product(*((0, side - 1) for side in self.volume_shape))))
        return apply_affine(np.asarray(self.affine, dtype=float), ends)

    @property
    def volume_shape(self) -> tuple[int, ...]:
        """``(X, Y, Z)``, with 1 along a slice's flat axis (the last, for pictures)."""
        if len(self.shape) == 3:
            return self.shape
        axis = 2 if self.flat_axis is None else self.flat_axis
        return (*self.shape[:axis], 1, *self.shape[axis:])

    @property
    def axes(self) -> str:
        """Where each axis of an image leads: "RAS" for a volume, "RS" for a coronal slice, "IL" for a coronal picture."""
        if self.is_picture:
            return picture_axes(self.plane or DEFAULT_PLANE)
        return "RAS" if len(self.shape) == 3 else "RAS".replace("RAS"[_last(self.flat_axis)], "")

    @property
    def in_world(self) -> "ImageSpace":
        """The space of the same images once they are volumes or slices with an affine; what has none gets voxels of 1 mm."""
        if self.is_picture:
            rows, columns = self.shape
            return ImageSpace((columns, rows), _EYE, PLANES[self.plane or DEFAULT_PLANE])
        return replace(self, affine=self.affine or _EYE, flat_axis=None if len(self.shape) == 3 else _last(self.flat_axis))

    @property
    def affine_of_axes(self) -> np.ndarray:
        """``4 x 4``, from the indices of ``axes`` to mm; those of an image of two axes are followed by a 0."""
        world = self.in_world
        affine = np.asarray(world.affine, dtype=float)
        if self.is_picture:
            return affine @ world.seen
        return affine if world.flat_axis is None else affine @ world.flattened

    @property
    def flattened(self) -> np.ndarray:
        """``4 x 4``, from a slice's indices, followed by a 0, to those of its volume."""
        across, up = (axis for axis in range(3) if axis != _last(self.flat_axis))
        return np.eye(4)[:, [across, up, _last(self.flat_axis), 3]]

    @property
    def seen(self) -> np.ndarray:
        """``4 x 4``, from the row and the column of a slice as it is seen, followed by a 0, to the indices of its volume."""
        width, height = self.shape
        return self.flattened @ np.array([[0, -1, 0, width - 1], [-1, 0, 0, height - 1], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=float)


def in_ras(images: np.ndarray, axes: Sequence[str], affine: np.ndarray | None) -> tuple[np.ndarray, ImageSpace]:
    """Turn images whose axes are told as by ``ImageSpace.axes`` and ``affine_of_axes`` to R, A and S; pictures stay what they are.

    What has the axes of a picture, but an affine of its own, is a slice of a volume.

    Parameters
    ----------
    images : numpy.ndarray
        ``(n, X, Y)`` or ``(n, X, Y, Z)``.
    axes : sequence of str
        A letter of RASLPI for each axis of an image.
    affine : numpy.ndarray, optional
        ``4 x 4``, from an image's indices to mm.

    Raises
    ------
    ValueError
        If the axes are none, or not as many as an image has, or the affine places no voxels, or leads elsewhere than the axes.
    """
    letters = "".join(axes)
    ahead = "".join(letter if letter in "RAS" else _OPPOSITE.get(letter, "?") for letter in letters)
    if len(letters) != images.ndim - 1 or len(set(ahead)) != len(letters) or "?" in ahead:
        raise ValueError(f"its axes are '{letters}', where an image has {images.ndim - 1}, each to one of R, A, S, L, P and I")
    if affine is not None and not is_placement(affine):
        raise ValueError("its affine is not of 4 x 4 numbers that place voxels")
    flat = next((axis for axis, letter in enumerate("RAS") if letter not in ahead), None)
    orientation = _orientation(letters + ("" if flat is None else "RAS"[flat]), affine, n_told=len(letters))
    picture = next((plane for plane in PLANES if picture_axes(plane) == letters), None)
    if picture is not None:
        space = ImageSpace(tuple(images.shape[1:]), plane=picture)
        if affine is None or np.allclose(affine, space.affine_of_axes):
            return images, space
    whole = images if flat is None else images[..., None]
    # The images themselves are the last axis, which stays where it is.
    turned = np.moveaxis(nib.orientations.apply_orientation(np.moveaxis(whole, 0, -1), orientation), -1, 0)
    if flat is not None:
        turned = turned.squeeze(1 + flat)
    placed = None
    if affine is not None:
        inverse = nib.orientations.inv_ornt_aff(orientation, whole.shape[1:])
        placed = to_tuples(np.asarray(affine, dtype=float) @ inverse)
    return turned, ImageSpace(tuple(turned.shape[1:]), placed, flat)


def _orientation(letters: str, affine: np.ndarray | None, n_told: int) -> np.ndarray:
    """As nibabel has it, of three axes, of which the first ``n_told`` were told: if one was not, the affine says its direction.

    Raises
    ------
    ValueError
        If the affine leads elsewhere.
    """
    told = nib.orientations.axcodes2ornt(letters)
    if affine is None:
        return told
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    own = nib.orientations.io_orientation(affine)
    along, along_own = (cosines[axes[:, 0].astype(int), range(3)] for axes in (told, own))
    told[n_told:, 1] = np.where(along[n_told:] < 0, -1, 1)
    # Between two axes, as at 45 degrees, rounding decides which of them nibabel names.
    if float(told[:, 1] @ along) < float(own[:, 1] @ along_own) - 1e-3:
        leads = "".join(nib.orientations.ornt2axcodes(own)[:n_told])
        raise ValueError(f"its axes are '{letters[:n_told]}', and its affine leads to '{leads}'")
    return told


def is_placement(affine: Any) -> bool:
    """Whether an affine maps voxels to the world one to one, in sides from a nanometre to a kilometre."""
    affine = np.asarray(affine)
    if affine.shape != (4, 4) or affine.dtype.kind not in "iuf" or not np.isfinite(affine).all():
        return False
    sides = np.linalg.svd(affine[:3, :3].astype(float), compute_uv=False)
    return bool(sides.min() > 1e-6 and sides.max() < 1e6)


def to_tuples(affine: np.ndarray) -> Affine:
    """An affine as an ``ImageSpace`` holds it."""
    return tuple(tuple(float(number) for number in line) for line in affine)


def _last(axis: int | None) -> int:
    return 2 if axis is None else axis


_EYE = to_tuples(np.eye(4))

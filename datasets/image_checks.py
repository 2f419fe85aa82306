"""What one decoded image shows of itself: its grid, its content's digest, and what is wrong with it."""

import hashlib
from dataclasses import dataclass, field, replace

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from .common.words import times
from .small_images import Small
from .spaces import is_placement

# The plane that is flat along each axis of RAS.
_PLANES = {0: "a sagittal plane", 1: "a coronal plane", 2: "an axial plane"}


@dataclass(frozen=True)
class Look:
    """What one image shows: its grid in RAS without a flat axis, which axis that was, two digests, and what is wrong.

    ``digest`` is of the voxels, which a copy has under whatever header; ``scan`` of the voxels and of where the header places them.
    ``small`` is a small version of a sound one, where people are compared by their images. ``spacing`` is how long its voxels are, in mm to
    a hundredth along the sides of ``shape``, and ``orientation`` how it is stored, as "LPS"; ``notes`` is what ``images.notes_of`` tells.
    """

    shape: tuple[int, ...]
    flat_axis: int | None
    digest: str
    scan: str
    faults: tuple[tuple[str, str], ...]
    small: Small | None = field(default=None, compare=False)
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    notes: frozenset[str] = frozenset()

    @property
    def one_image(self) -> bool:
        """Whether it is a plane or a volume, and neither a series nor a line."""
        return 2 <= len(self.shape) <= 3 and 1 not in self.shape

    @property
    def kind(self) -> str:
        """What it is an image of: planes, cut one way, or volumes."""
        if self.flat_axis is not None:
            return _PLANES[self.flat_axis]
        return "a plane" if len(self.shape) == 2 else "a volume"


def look_at(array: np.ndarray, affine: np.ndarray | None) -> Look:
    """Describe one decoded image.

    Parameters
    ----------
    array : numpy.ndarray
        As ``read_image`` returns it.
    affine : numpy.ndarray of shape (4, 4), or None
        ``None`` for a picture, which has no orientation.
    """
    placed = affine is None or is_placement(affine)
    shape, flat_axis = _grid(array.shape, affine if placed else None)
    content = np.ascontiguousarray(array, dtype=np.float32)
    digest = content_digest(content)
    faults = [] if placed else [("an affine that places no voxels (its header is damaged)", "convert the image again")]
    finite = np.isfinite(content)
    if not finite.all():
        faults.append((f"{finite.size - int(finite.sum())} voxels NaN or infinite", "convert the image again, or replace them"))
    elif content.min() == content.max():
        faults.append((f"constant: every voxel is {content.flat[0]:g}", "replace the empty image, or remove its row"))
    spacing, orientation = (None, None) if affine is None or not placed else _stored(affine, flat_axis)
    look = Look(shape, flat_axis, digest, _of_scan(digest, affine), tuple(faults), spacing=spacing, orientation=orientation)
    if look.one_image:
        return look
    size = times(array.shape)
    mend = "give one plane or one volume per file (of a series: its mean, or one of its volumes)"
    return replace(look, faults=(*faults, (f"wrong dimensions: {size}", mend)))


def content_digest(array: np.ndarray) -> str:
    """SHA-256 of an image's shape and voxels, float32 as ``read_image`` returns them."""
    content = np.ascontiguousarray(array, dtype=np.float32)
    digest = hashlib.sha256(repr(content.shape).encode())
    digest.update(content.data)
    return digest.hexdigest()


def scan_digest(array: np.ndarray, affine: np.ndarray | None) -> str:
    """SHA-256 of an image's shape, voxels and affine, its numbers to a thousandth; of what has no affine, ``content_digest``."""
    return _of_scan(content_digest(array), affine)


def _of_scan(content: str, affine: np.ndarray | None) -> str:
    if affine is None:
        return content
    # Not by halves: 240 mm in 256 voxels is 0.9375, where the last digits of a header would decide.
    rounded = np.floor(np.asarray(affine, dtype=np.float64) * 1000 + 0.55) / 1000 + 0.0  # which makes -0 a 0
    return hashlib.sha256(f"{content}\n{rounded.tolist()}".encode()).hexdigest()


def _stored(affine: np.ndarray, flat_axis: int | None) -> tuple[tuple[float, ...], str]:
    """The sides of voxels along R, A and S, without a flat axis, and where the stored axes lead."""
    towards = nib.orientations.io_orientation(affine)
    steps = voxel_sizes(affine)[np.argsort(towards[:, 0])]
    spacing = tuple(round(float(step), 2) for axis, step in enumerate(steps) if axis != flat_axis)
    return spacing, "".join(nib.orientations.ornt2axcodes(towards))


def _grid(shape: tuple[int, ...], affine: np.ndarray | None) -> tuple[tuple[int, ...], int | None]:
    """The sides along R, A and S (a series of one volume is a volume), without the flat axis of a plane; and that axis."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if affine is None or len(shape) != 3:
        return shape, None
    towards = nib.orientations.io_orientation(affine)[:, 0]
    shape = tuple(shape[int(axis)] for axis in np.argsort(towards))
    flat = [axis for axis, side in enumerate(shape) if side == 1]
    if len(flat) != 1:
        return shape, None
    return tuple(side for side in shape if side != 1), flat[0]

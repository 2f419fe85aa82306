"""Random changes of pose, shape and brightness: small, different for each image, the same from the same seed."""

import math

import pytest
import torch
from torch import Tensor

from tinycohort.augment.fitting.jitter import BEND, BEND_GRID, GAIN, ROTATION, SCALE, SHIFT, _rotations, jitter

SHAPES = {"2-D": (24, 20), "3-D": (14, 12, 10)}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def images(request) -> Tensor:
    return torch.rand((6, 1, *request.param), generator=seeded(0))


def coordinate(n: int, shape: tuple[int, ...], axis: int) -> Tensor:
    """Images whose brightness is the position along an axis: 1/4 at its low edge, 3/4 at its high one."""
    size = shape[axis]
    ramp = 0.25 + 0.5 * (torch.arange(size) + 0.5) / size
    return ramp.reshape([-1 if a == axis else 1 for a in range(len(shape))]).expand(n, 1, *shape).contiguous()


def inner(images: Tensor) -> Tensor:
    """Without a margin that no displacement below crosses."""
    for axis in range(2, images.ndim):
        margin = images.shape[axis] // 4
        images = images.narrow(axis, margin, images.shape[axis] - 2 * margin)
    return images


def test_strength_0_changes_nothing_and_draws_nothing(images):
    generator = seeded(1)
    before = generator.get_state()
    assert torch.equal(jitter(images, 0, generator), images)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("strength", [0.5, 1.0, 5.0])
def test_shape_range_and_seed(images, strength):
    original, before = images.clone(), torch.get_rng_state()
    first, again, other = (jitter(images, strength, seeded(seed)) for seed in (1, 1, 2))
    assert first.shape == images.shape
    assert first.dtype == images.dtype
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, images)
    assert torch.equal(images, original)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_changes_vanish_with_the_strength(images):
    changes = [float((jitter(images, strength, seeded(1)) - images).abs().mean()) for strength in (1e-1, 1e-2, 1e-3)]
    # Linear in the strength while displacements stay below a voxel; at 0.1 they are 0.1 x 0.2 of half of at most 24 voxels.
    assert changes[0] > 5 * changes[1] > 25 * changes[2] > 0


def test_each_image_changes_in_its_own_way(images):
    same = images[:1].expand_as(images)
    changed = jitter(same, 1.0, seeded(1)).flatten(1)
    assert (torch.cdist(changed, changed).fill_diagonal_(math.inf) > 0.1).all()
    # In place and shape as well as in brightness: without the gain they still differ.
    assert (torch.corrcoef(changed).fill_diagonal_(0) < 0.999).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_displacement_is_as_large_as_documented_and_no_larger(shape, strength):
    n, dims = 64, len(shape)
    # A white image shows the gain, and a ramp divided by it shows where each voxel came from, as a share of half the field of view.
    gain = inner(jitter(torch.ones((n, 1, *shape)) / 2, strength, seeded(1))) * 2
    moved = torch.stack([inner(jitter(coordinate(n, shape, a), strength, seeded(1))) / gain for a in range(dims)])
    start = torch.stack([inner(coordinate(n, shape, a)) for a in range(dims)])
    shares = 4 * (moved - start)
    assert float((gain - 1).abs().max()) <= GAIN * strength + 1e-5
    assert float((gain.flatten(1).amax(1) - gain.flatten(1).amin(1)).max()) < 1e-4
    # At most, at 1/2 of half the field from the centre: dims - 1 rotations, scale, shift, and the bend's largest of all normals drawn;
    # cubic interpolation between them overshoots by less than a third.
    normals = n * dims * BEND_GRID**dims
    bend = BEND * math.sqrt(2 * math.log(normals)) * 4 / 3
    turned = (dims - 1) * math.sin(ROTATION * strength * math.sqrt(dims)) * 0.5
    assert float(shares.abs().max()) <= turned + (0.5 * SCALE + SHIFT + bend) * strength * (1 + SCALE)
    # The mean of a uniform shift is SHIFT / 2 and all else moves the centre little: the middle voxels' root mean square is near
    # sqrt(SHIFT^2 / 3 + BEND^2), the latter at most, for interpolation smooths. Sampling n images x dims: 1 in sqrt(2 n dims).
    middle = shares[(..., *[size // 2 for size in shares.shape[3:]])]
    rms = float(middle.square().mean().sqrt()) / strength
    error = 4 / math.sqrt(2 * n * dims)
    assert SHIFT / math.sqrt(3) * (1 - error) < rms < math.sqrt(SHIFT**2 / 3 + BEND**2 + (0.1 * (ROTATION + SCALE)) ** 2) * (1 + error)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_displacements_have_no_preferred_direction(shape):
    n = 400
    gain = inner(jitter(torch.ones((n, 1, *shape)) / 2, 1.0, seeded(2))) * 2
    for axis in range(len(shape)):
        shift = (inner(jitter(coordinate(n, shape, axis), 1.0, seeded(2))) / gain - inner(coordinate(n, shape, axis))).flatten(1).mean(1)
        assert abs(float(shift.mean())) < 4 * float(shift.std()) / math.sqrt(n)


def test_a_rotation_turns_voxels_whatever_the_field_of_view(monkeypatch):
    """A bar along either side of a field that is four times as long as wide turns by the same angle, which is within the amplitude."""
    for name in ("SCALE", "SHIFT", "BEND", "GAIN"):
        monkeypatch.setattr(f"tinycohort.augment.fitting.jitter.{name}", 0.0)
    shape = (96, 24)
    x, y = torch.meshgrid(*(torch.arange(side) - (side - 1) / 2 for side in shape), indexing="ij")
    angles = []
    for along, across in ((x, y), (y, x)):
        bar = torch.exp(-((along / 8) ** 2) - (across / 2) ** 2)
        moved = jitter(bar[None, None], 1.0, seeded(3))[0, 0]
        moments = [float((moved * a * b).sum() / moved.sum()) for a, b in ((along, along), (across, across), (along, across))]
        angles.append(0.5 * math.atan2(2 * moments[2], moments[0] - moments[1]))
    assert 0.01 < abs(angles[0]) < ROTATION
    assert angles[0] == pytest.approx(-angles[1], rel=0.05)


@pytest.mark.parametrize("dims", [2, 3])
def test_rotations_are_matrix_exponentials(dims):
    upper = torch.triu(torch.randn((50, dims, dims), generator=seeded(0), dtype=torch.float64), diagonal=1)
    upper[0] = 0
    skew = upper - upper.mT
    torch.testing.assert_close(_rotations(skew), torch.matrix_exp(skew), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_image_that_fills_its_frame_gets_no_black_edges(shape):
    """What is moved in from beyond the frame goes on as its border does: chests, and crops of brains, have no background of 0."""
    moved = jitter(torch.full((20, 1, *shape), 0.5), 1.0, seeded(0))
    assert float(moved.min()) > 0.5 * (1 - GAIN) - 1e-6

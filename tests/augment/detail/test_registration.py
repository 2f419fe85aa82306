"""Displacements take one image to another, can be undone, and never fold."""

import math

import pytest
import torch
import torch.nn.functional as F
from monai.networks.blocks.warp import DVF2DDF, Warp

from tinycohort.augment.detail import registration
from tinycohort.augment.detail.registration import (
    N_SQUARINGS,
    Velocities,
    _exponential,
    _unfolded,
    jacobians,
    move,
    register,
)

SHAPES = [(28, 28), (40, 48), (20, 24, 16)]


def smooth(n, shape, seed=0, knots=4):
    """Images as decoded ones are: without anything that is smaller than a few voxels."""
    noise = torch.rand((n, 1, *[knots] * len(shape)), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, shape, mode="bicubic" if len(shape) == 2 else "trilinear", align_corners=True).clamp(0, 1)


def velocities(n, shape, strength, seed=1):
    """Of which none leads out of the image."""
    knots = strength * torch.randn((n, len(shape), *[3] * len(shape)), generator=torch.Generator().manual_seed(seed))
    return Velocities(F.pad(knots, [1, 1] * len(shape)), shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_registered_is_nearer_than_what_is_not(shape):
    moving = smooth(3, shape)
    fixed = move(moving, velocities(3, shape, 0.3).displacements())
    moved = move(moving, register(moving, fixed).displacements())
    before, after = ((image - fixed).square().flatten(1).mean(1) for image in (moving, moved))
    assert (after < 0.5 * before).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_is_not_moved_to_itself(shape):
    image = smooth(2, shape)
    assert register(image, image).displacements().abs().max() < 0.1


def test_a_known_displacement_is_found():
    """A blob that lies 3 voxels further along the first axis, and 2 back along the second."""
    x, y = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")

    def blob(a, b):
        return torch.exp(-((x - a) ** 2 + (y - b) ** 2) / 60)[None, None]

    found = register(blob(24, 20), blob(27, 18)).displacements()
    # The moved image at (27, 18) comes from (24, 20).
    assert torch.allclose(found[0, :, 27, 18], torch.tensor([-3.0, 2.0]), atol=0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_registered_together_or_one_by_one_is_the_same(shape):
    moving, fixed = smooth(4, shape), smooth(4, shape, seed=5)
    together = register(moving, fixed).displacements()
    alone = torch.cat([register(moving[i : i + 1], fixed[i : i + 1]).displacements() for i in range(4)])
    assert torch.allclose(together, alone, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_way_back_undoes_the_way(shape):
    field = velocities(2, shape, 0.3)
    there, back = field.displacements(), field.displacements(-1)
    round_trip = there + move(back, there)
    assert there.abs().max() > 1
    assert round_trip.abs().max() < (0.05 if len(shape) == 2 else 0.15) * there.abs().max()


def test_two_halves_of_the_way_are_the_way():
    field = velocities(2, (40, 48), 0.3)
    half = field.displacements(0.5)
    assert (half + move(half, half) - field.displacements()).abs().max() < 0.02 * half.abs().max()


def test_each_image_goes_its_own_share():
    field = velocities(2, (28, 28), 0.3)
    both = field.displacements(torch.tensor([0.25, 1.0]))
    assert torch.equal(both[1], field.displacements()[1])
    assert torch.allclose(both[0], field.displacements(0.25)[0])


@pytest.mark.filterwarnings("ignore:.*native grid_sample:UserWarning")
@pytest.mark.parametrize("shape", SHAPES)
def test_warps_and_exponentials_are_those_of_monai(shape):
    field, images = velocities(2, shape, 0.3), smooth(2, shape)
    knots = field.knots
    spacing = torch.tensor([(side - 1) / (points - 1) for side, points in zip(shape, knots.shape[2:], strict=True)])
    mode = "bicubic" if len(shape) == 2 else "trilinear"
    flow = F.interpolate(knots, shape, mode=mode, align_corners=True) * spacing.reshape(1, -1, *[1] * len(shape))
    theirs = DVF2DDF(N_SQUARINGS, padding_mode="border")(flow)
    assert torch.allclose(_exponential(knots, shape), theirs, atol=1e-3)
    moved = Warp("bicubic" if len(shape) == 2 else "bilinear", padding_mode="border")(images, theirs)
    assert torch.allclose(move(images, theirs), moved, atol=1e-4)
    assert theirs.abs().max() > 1


@pytest.mark.parametrize("shape", SHAPES)
def test_with_fewer_squarings_as_good_a_way_is_found(monkeypatch, shape):
    """What is found is moved by all of them, whichever looked for it."""
    moving, fixed = smooth(6, shape, 2), smooth(6, shape, 3)

    def left() -> float:
        moved = move(moving, register(moving, fixed).displacements())
        return float((moved - fixed).square().mean() / (moving - fixed).square().mean())

    few = left()
    monkeypatch.setattr(registration, "N_SQUARINGS_OF_A_STEP", registration.N_SQUARINGS)
    assert few == pytest.approx(left(), rel=0.01)
    assert few < 0.8


def test_a_constant_velocity_is_a_shift():
    """Two distances between knots of 7 voxels along the first axis, on the way from voxel to voxel as it is told in voxels."""
    knots = torch.zeros(1, 2, 5, 5)
    knots[:, 0] = 2.0
    assert torch.allclose(_exponential(knots, (29, 29))[:, 0], torch.tensor(14.0), atol=1e-4)


def test_the_jacobian_is_that_of_a_linear_map():
    x, y, z = torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij")
    displacement = torch.stack([0.2 * x, -0.5 * y + 0.1 * x, 0.3 * z])[None].double()
    assert torch.allclose(jacobians(displacement), torch.tensor(1.2 * 0.5 * 1.3).double())


def test_a_mirrored_axis_folds():
    x, _ = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    assert torch.allclose(jacobians(torch.stack([-2 * x, 0 * x])[None]), torch.tensor(-1.0))


@pytest.mark.parametrize("shape", [(16, 16), (28, 28), (12, 12, 12)])
def test_nothing_folds_however_different_images_are(shape):
    moving, fixed = (smooth(8, shape, seed, knots=6) for seed in (0, 1))
    found = register(moving, fixed)
    assert jacobians(found.displacements()).min() > 0
    assert found.knots.abs().max() > 0.1


def test_what_folds_is_halved():
    """Until it does not, and the rest of the batch stays as it was."""
    field = velocities(3, (28, 28), 0.3)
    wild = field.knots.clone()
    wild[1] *= 30
    found = _unfolded(wild, (28, 28))
    assert torch.equal(found[0], wild[0])
    assert torch.equal(found[2], wild[2])
    ratio = float(wild[1].abs().max() / found[1].abs().max())
    assert ratio > 1
    assert math.log2(ratio) == pytest.approx(round(math.log2(ratio)))
    assert jacobians(Velocities(found, (28, 28)).displacements()).min() > 0


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    register(smooth(1, (16, 16)), smooth(1, (16, 16), 1))
    assert torch.equal(torch.rand(1), expected)

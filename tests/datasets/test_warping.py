"""Where voxels of moved images come from, against what torch and MONAI compute of the same numbers."""

import pytest
import torch
import torch.nn.functional as F
from monai.networks.blocks.warp import Warp

from tinycohort.datasets.warping import between, sampled, sampling_grid, warped


def mode_of(shape: tuple[int, ...]) -> str:
    return "bicubic" if len(shape) == 2 else "trilinear"


@pytest.mark.parametrize("shape", [(9, 14), (80, 96), (8, 11, 10), (40, 48, 40)])
def test_the_sampling_grid_is_torch_s_affine_grid_and_interpolation(shape):
    generator = torch.Generator().manual_seed(0)
    dims = len(shape)
    theta = torch.randn((3, dims, dims + 1), generator=generator, dtype=torch.float64)
    coarse = torch.randn((3, dims, *[5] * dims), generator=generator, dtype=torch.float64)
    affine = F.affine_grid(theta, [3, 1, *shape], align_corners=False)
    smooth = F.interpolate(coarse, shape, mode=mode_of(shape), align_corners=True)
    torch.testing.assert_close(sampling_grid(theta, coarse, shape), affine + smooth.movedim(1, -1), rtol=0, atol=1e-12)
    if dims == 3:  # cubic all the same where nothing varies along the third axis
        flat = coarse[..., :1].expand_as(coarse)
        smooth = F.interpolate(flat[..., 0], shape[:2], mode="bicubic", align_corners=True)[..., None].expand(-1, -1, *shape)
        cubic = sampling_grid(theta, flat, shape, cubic=True)
        torch.testing.assert_close(cubic, affine + smooth.movedim(1, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("grid", "shape"), [((5, 5), (9, 14)), ((3, 8), (20, 24)), ((4, 3, 5), (8, 11, 10)), ((20, 24), (40, 31))])
def test_between_knots_a_field_is_torch_s_interpolation(grid, shape):
    knots = torch.randn((3, 2, *grid), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smooth = F.interpolate(knots, shape, mode=mode_of(shape), align_corners=True)
    torch.testing.assert_close(between(knots, shape), smooth, rtol=0, atol=1e-12)


def test_a_field_of_two_knots_is_linear_between_them():
    knots = torch.tensor([0.0, 3.0]).reshape(1, 1, 2, 1).expand(1, 1, 2, 2)
    torch.testing.assert_close(between(knots, (4, 2))[0, 0, :, 0], torch.tensor([0.0, 1.0, 2.0, 3.0]))


@pytest.mark.filterwarnings("ignore:.*native grid_sample:UserWarning")
@pytest.mark.parametrize("shape", [(9, 14), (8, 11, 10)])
def test_an_image_is_warped_as_by_monai(shape):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((3, 1, *shape), generator=generator)
    displacements = 3 * torch.randn((3, len(shape), *shape), generator=generator)
    for mode in ("bilinear", "bicubic")[: 4 - len(shape)]:
        expected = Warp(mode, padding_mode="border")(images, displacements)
        torch.testing.assert_close(warped(images, displacements, mode), expected, rtol=0, atol=1e-4)


def test_both_ways_to_move_an_image_agree():
    """Two voxels along the first axis: by the displacements of all voxels, and by an affine change, whose units are halves of a side."""
    images = torch.rand((1, 1, 12, 10), generator=torch.Generator().manual_seed(0))
    theta = torch.tensor([[[1.0, 0, 0], [0, 1, 2 * 2 / 12]]])  # the last axis comes first
    displacements = torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 12, 10)
    moved = warped(images, displacements)
    torch.testing.assert_close(moved[:, :, :-2], images[:, :, 2:], rtol=0, atol=1e-5)
    torch.testing.assert_close(sampled(images, sampling_grid(theta, torch.zeros(1, 2, 3, 3), (12, 10))), moved, rtol=0, atol=1e-5)

"""Random changes of training images, by laws and against MONAI and torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.transforms.utils import create_grid, create_rotate
from torch import Tensor

from tinycohort.classifiers.augmentation import CHANGES, _rotations, apply, changed, composed, draw, mixup


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(30, 36), (14, 16, 18)])
def test_augmentation_changes_every_image_differently_by_the_seed(shape):
    images = torch.rand(1, 1, *shape).repeat(4, *[1] * (1 + len(shape)))
    kept = images.clone()
    moved = changed(images, seeded(3))
    assert torch.equal(images, kept)
    assert moved.shape == images.shape
    assert moved.dtype == torch.float32
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert torch.equal(moved, changed(images, seeded(3)))
    assert not torch.equal(moved, changed(images, seeded(4)))
    apart = (moved[:, None] - torch.cat([moved, images[:1]])[None]).abs().flatten(2).mean(dim=2)
    assert (apart[~torch.eye(4, 5, dtype=torch.bool)] > 0.01).all()


def test_noise_that_a_gpu_draws_is_new_at_each_draw_and_the_same_from_the_same_generator(monkeypatch):
    monkeypatch.setattr("tinycohort.classifiers.augmentation._draws_by_itself", lambda device: True)
    one, again = seeded(3), seeded(3)
    first, second = (draw(2, (31, 41), one).noise for _ in range(2))
    assert float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].abs()) < 0.1
    assert torch.equal(draw(2, (31, 41), again).noise, first)


def test_augmentation_draws_nothing_global():
    np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    states = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    changed(torch.rand(2, 1, 20, 24, generator=seeded(0)), seeded(3))
    assert np.random.get_state()[1].tolist() == states[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])


@pytest.mark.parametrize("shape", [(30, 36), (14, 16, 18)])
def test_what_was_drawn_is_what_happens(shape):
    dims = len(shape)
    images = torch.rand(2, 1, *shape)
    drawn = draw(2, shape, seeded(0))
    drawn.affines[:] = torch.eye(dims + 1)
    drawn.bends[:], drawn.gammas[:], drawn.noise[:] = 0, 1, 0
    torch.testing.assert_close(apply(images, drawn), images, atol=1e-5, rtol=0)  # nothing drawn, nothing changed
    drawn.affines[0, 0, -1] = 2  # the first image moves by two voxels along the first axis
    drawn.bends[1, dims - 1] = 3  # the second by three along the last, all its points alike
    moved = apply(images, drawn)
    torch.testing.assert_close(moved[0, :, :-2], images[0, :, 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[1, ..., :-3], images[1, ..., 3:], atol=1e-5, rtol=0)
    drawn = replace(drawn, affines=torch.eye(dims + 1).repeat(2, *[1] * 2), bends=torch.zeros_like(drawn.bends))
    drawn.gammas[:], drawn.noise[1] = torch.tensor([1.5, 1.0]), 0.25
    changed = apply(images, drawn)
    torch.testing.assert_close(changed[0], images[0] ** 1.5, atol=1e-5, rtol=0)
    torch.testing.assert_close(changed[1], (images[1] + 0.25).clamp(max=1), atol=1e-5, rtol=0)


def test_a_rotation_keeps_lengths_in_voxels():
    """A quarter turn of an image that is not square, about its centre."""
    image = torch.zeros(1, 1, 31, 41)
    image[0, 0, 15, 24] = 1  # four voxels from the centre along the second axis
    drawn = draw(1, (31, 41), seeded(0))
    drawn.affines[0] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    drawn.bends[:], drawn.gammas[:], drawn.noise[:] = 0, 1, 0
    assert (apply(image, drawn)[0, 0] > 0.9).nonzero().tolist() == [[19, 20]]


@pytest.mark.parametrize("shape", [(40, 48), (20, 24, 20)])
def test_draws_stay_within_their_bounds_and_reach_towards_them(shape):
    dims = len(shape)
    drawn = draw(200, shape, seeded(1))
    linear, shift = drawn.affines[:, :dims, :dims], drawn.affines[:, :dims, dims] / torch.tensor(shape)
    scales = linear.norm(dim=1)
    assert 1.08 < scales.max() <= 1.1 + 1e-5
    assert 0.9 - 1e-5 <= scales.min() < 0.92
    assert 0.045 < shift.abs().max() <= 0.07  # 0.05, which is rotated with the rest
    assert (linear.det() > 0).all()  # no mirroring
    assert 0.7 <= drawn.gammas.min() < 0.75
    assert 1.4 < drawn.gammas.max() <= 1.5
    assert 0.04 < drawn.noise.flatten(1).std(dim=1).max() < 0.06
    assert 0 < drawn.bends.flatten(1).std(dim=1).max() < 0.03 * min(shape)


@pytest.mark.parametrize("shape", [(40, 48), (20, 24, 22)])
def test_it_is_what_monais_grid_and_torchs_interpolation_make(shape):
    """Places on a full grid, moved by the matrix; of slices bent by torch's own bicubic interpolation."""
    dims = len(shape)
    images, drawn = torch.rand(3, 1, *shape, generator=seeded(1)), draw(3, shape, seeded(2))
    if dims == 3:  # torch has no cubic interpolation of volumes
        drawn.bends[:] = 0
    places = (drawn.affines[:, :dims] @ torch.as_tensor(create_grid(shape)).float().reshape(dims + 1, -1)).reshape(3, dims, *shape)
    if dims == 2:
        places = places + F.interpolate(drawn.bends, shape, mode="bicubic", align_corners=True)
    grid = places.movedim(1, -1).div((torch.tensor(shape) - 1) / 2).flip(-1)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=True).clamp(0, 1)
    expected = (moved ** drawn.gammas.reshape(-1, *[1] * (dims + 1)) + drawn.noise).clamp(0, 1)
    torch.testing.assert_close(apply(images, drawn), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_rotations_are_monais(dims):
    angles = torch.tensor([[0.1], [-0.4]]) if dims == 2 else torch.tensor([[0.1, -0.3, 0.7], [0.5, 0.2, 0.1]])
    for found, radians in zip(_rotations(angles), angles.tolist(), strict=True):
        np.testing.assert_allclose(found.numpy(), np.asarray(create_rotate(dims, radians))[:dims, :dims], atol=1e-6)


# Mixup, and several changes


def batch() -> tuple[Tensor, Tensor]:
    """Images that are all of one grey, their label by it."""
    labels = torch.arange(40) % 3
    return (labels / 2).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 5).clone(), labels


def test_mixup_mixes_labels_as_it_mixes_images():
    images, labels = batch()
    mixed, soft = mixup(images, labels, seeded(0))
    assert soft.shape == (40, 3)
    torch.testing.assert_close(soft.sum(1), torch.ones(40))
    torch.testing.assert_close(mixed[:, 0, 0, 0], soft @ torch.tensor([0, 0.5, 1]))
    assert 0.5 < soft.max(1).values.mean() < 0.95
    own = soft[torch.arange(40), labels]
    assert own.min() < 0.2  # all shares are as likely
    again = mixup(mixed, soft, seeded(1))[1]  # labels that are soft are mixed too
    torch.testing.assert_close(again.sum(1), torch.ones(40))


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_decided_by_the_generator_and_keeps_shape_and_range(name):
    images, labels = torch.rand(6, 1, 20, 24, generator=seeded(0)), torch.arange(6) % 2
    kept = images.clone()
    change = CHANGES[name]
    moved, said = change(images, labels, seeded(1))
    assert torch.equal(images, kept)
    assert moved.shape == images.shape
    assert 0 <= moved.min() <= moved.max() <= 1
    for seed, same in ((1, True), (2, False)):
        other, told = change(images, labels, seeded(seed))
        assert torch.equal(moved, other) is same
        if same:
            assert torch.equal(said, told)


def test_composed_changes_follow_each_other_and_draw_for_themselves():
    images, labels = batch()
    seen: list[Tensor] = []

    def drawing(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seen.append(torch.rand(3, generator=generator))
        return images / 2, labels

    def greedy(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        torch.rand(100, generator=generator)
        return images + 1, labels

    moved, _ = composed([greedy, drawing])(images, labels, seeded(5))
    torch.testing.assert_close(moved, (images + 1) / 2)
    composed([drawing, drawing])(images, labels, seeded(5))
    assert torch.equal(seen[0], seen[2])  # whatever came first
    assert not torch.equal(seen[1], seen[2])

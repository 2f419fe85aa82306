"""Nearest training images, by brute force."""

import numpy as np
import pytest
import torch
from memory import grown_by, measured

from tinycohort.augment.fitting import nearest
from tinycohort.augment.fitting.nearest import explained_variance, nearest_images


def images(n: int, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.rand((n, 1, *shape), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 5), (6, 5, 4)], ids=["2-D", "3-D"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 1), (30, 700)])
def test_against_brute_force(n, m, shape):
    some, references = images(n, shape, 0), images(m, shape, 1)
    distance, index = nearest_images(some, references)
    squares = (some[:, None].double() - references[None].double()).square().flatten(2).mean(2).numpy()
    np.testing.assert_array_equal(index, squares.argmin(1))
    # Squares of norm 1 or so per voxel are expanded, in float64: half the digits are left of a distance of 0, more of larger ones.
    np.testing.assert_allclose(distance, np.sqrt(squares.min(1)), atol=1e-7, rtol=1e-6)


def test_a_copy_is_found_at_distance_0():
    references = images(300, (40, 40), 0)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    distance, index = nearest_images(references[order], references)
    assert (index == order.numpy()).all()
    assert distance.max() < 1e-7


@measured
def test_of_volumes_it_takes_less_memory_than_they_do():
    """The compiled way of scikit-learn would take twice as much: up to 256 images of each side in float64."""
    some, references = images(60, (64, 64, 64), 0), images(40, (64, 64, 64), 1)
    nearest_images(some[:2], references[:2])
    assert grown_by(lambda: nearest_images(some, references)) < 4 * (some.numel() + references.numel())


def test_distance_is_the_root_mean_square_difference_over_voxels():
    distance, _ = nearest_images(torch.full((1, 1, 9, 8), 0.75), torch.full((1, 1, 9, 8), 0.5))
    assert distance == pytest.approx([0.25], rel=1e-6)


def test_what_is_explained_takes_no_copy_of_all_images(frugal):
    """300 volumes of 48^3 are 127 MiB in float32; in float64, squared, and beside the differences they took 640."""
    some = images(1, (48, 48, 48), 0).expand(300, 1, 48, 48, 48)
    assert explained_variance(some, (0.9 * some[:1]).expand_as(some), torch.zeros(1, 48, 48, 48)) == pytest.approx(0.99, abs=1e-6)


@pytest.mark.parametrize("n", [1, 5, 33, 1000])
def test_what_is_explained_is_that_of_all_images_at_once(n, monkeypatch):
    """To 1e-12: the same sums in float64, in another order."""
    monkeypatch.setattr(nearest, "AT_ONCE", 100)
    some, others, mean = images(n, (7, 5), 0), images(n, (7, 5), 1), images(1, (7, 5), 2)[0]
    residual, total = ((some - part).double().square().sum() for part in (others, mean))
    assert explained_variance(some, others, mean) == pytest.approx(float(1 - residual / total), abs=1e-12)


def test_explained_variance():
    some = images(20, (7, 5), 0)
    mean = some.mean(0)
    assert explained_variance(some, some, mean) == 1
    assert explained_variance(some, mean.expand_as(some), mean) == pytest.approx(0, abs=1e-12)
    assert explained_variance(some, 1 - some, mean) < 0
    # Half the way from the mean leaves a quarter of the squares.
    assert explained_variance(some, (some + mean) / 2, mean) == pytest.approx(0.75, abs=1e-6)

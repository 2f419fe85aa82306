"""A partition gives every voxel to somebody, mostly one, and nobody too much."""

import pytest
import torch

from tinycohort.augment.detail.partition import draw_partition, spread, weights_of

SHAPES = [(28, 28), (80, 96), (12, 16, 10)]


def fields(n=20, k=4, shape=(40, 48), pieces=6, seed=0):
    return spread(draw_partition(n, k, shape, pieces, torch.Generator().manual_seed(seed)), shape)


def everywhere(found):
    return torch.ones((len(found), *found.shape[2:]), dtype=torch.bool)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bound", [0.26, 0.4, 0.9])
def test_shares_sum_to_one_and_keep_the_bound(shape, bound):
    found = fields(shape=shape)
    weights, shares = weights_of(found, torch.ones_like(found), everywhere(found), bound)
    assert weights.shape == found.shape
    assert torch.allclose(weights.sum(1), torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(shares, weights.flatten(2).mean(2), atol=1e-5)
    assert shares.max() <= bound


def test_a_bound_that_binds_nobody_changes_nothing():
    found = fields()
    weights, shares = weights_of(found, torch.ones_like(found), everywhere(found), 1.0)
    assert torch.equal(weights.argmax(1), found.argmax(1))
    assert 0.3 < shares.max() < 1


def test_a_voxel_is_mostly_one_persons():
    found = fields()
    weights, _ = weights_of(found, torch.ones_like(found), everywhere(found), 0.4)
    assert weights.amax(1).mean() > 0.75


@pytest.mark.parametrize("shape", SHAPES)
def test_borders_are_no_finer_than_two_voxels(shape):
    """From one voxel to the next, what a part has changes by no more than a border of two voxels would have it."""
    found = fields(shape=shape, pieces=10)
    weights, _ = weights_of(found, torch.ones_like(found), everywhere(found), 1.0)
    for axis in range(2, weights.ndim):
        steps = weights.diff(dim=axis).abs().flatten()
        assert steps.sort().values[int(0.99 * len(steps))] < 0.5


def test_the_background_does_not_count():
    found = fields(k=3)
    foreground = torch.zeros(20, 40, 48, dtype=torch.bool)
    foreground[:, 10:30, 10:35] = True
    weights, shares = weights_of(found, torch.ones_like(found), foreground, 0.4)
    inside = weights[:, :, 10:30, 10:35].flatten(2).mean(2)
    assert torch.allclose(shares, inside, atol=1e-5)
    assert inside.max() <= 0.4
    assert weights.flatten(2).mean(2).max() > 0.4


@pytest.mark.parametrize("voxels", [0, 1])
def test_a_foreground_that_cannot_be_cut_is_shared_equally(voxels):
    found = fields(n=5, k=3)
    foreground = torch.zeros(5, 40, 48, dtype=torch.bool)
    foreground.view(5, -1)[:, :voxels] = True
    weights, shares = weights_of(found, torch.ones_like(found), foreground, 0.4)
    assert torch.allclose(weights.sum(1), torch.tensor(1.0), atol=1e-5)
    assert shares.max() <= 0.4


def test_finer_fields_have_more_borders():
    def borders(pieces):
        owner = fields(pieces=pieces).argmax(1)
        return float((owner[:, 1:] != owner[:, :-1]).float().mean())

    assert borders(4) < borders(8) < borders(16)


def test_equal_shares_are_the_least_that_can_be_bound():
    with pytest.raises(ValueError, match=r"3 parts cannot each have at most 0\.3"):
        weights_of(fields(k=3), torch.ones_like(fields(k=3)), everywhere(fields(k=3)), 0.3)


def test_partitioned_together_or_one_by_one_is_the_same():
    found = fields(n=40)
    able, foreground = torch.ones_like(found), everywhere(found)
    together = weights_of(found, able, foreground, 0.3)
    for i in range(40):
        alone = weights_of(found[i : i + 1], able[i : i + 1], foreground[i : i + 1], 0.3)
        assert torch.allclose(alone[0][0], together[0][i], atol=1e-5)
        assert torch.allclose(alone[1][0], together[1][i], atol=1e-5)


def test_near_an_equal_share_there_are_still_pieces():
    found = fields(n=60)
    weights, shares = weights_of(found, torch.ones_like(found), everywhere(found), 0.252)
    assert shares.max() <= 0.252
    assert weights.amax(1).flatten(1).mean(1).min() > 0.6


def test_nobody_has_what_they_cannot_have():
    """The left half is nobody's but the first two's."""
    found = fields()
    able = torch.ones_like(found)
    able[:, 2:, :20] = 0
    weights, shares = weights_of(found, able, everywhere(found), 0.4)
    assert weights[:, 2:, :20].max() < 1e-3
    assert shares.max() <= 0.4


def test_the_generator_decides():
    assert torch.equal(fields(seed=4), fields(seed=4))
    assert not torch.equal(fields(seed=4), fields(seed=5))

"""Morphs: what lies at the ends of the way, who is drawn, and what is kept of background and sharpness."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinycohort.augment.detail import morph as module
from tinycohort.augment.detail.morph import Morph, draw_morphs, morph_of, n_batches
from tinycohort.datasets.common.errors import UsageError

SHAPES = [(1, 24, 20), (3, 20, 24), (1, 14, 12, 10)]  # grey, colour, volumes
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def discs(n: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Discs on a background of 0, each with a place, a width and a grain of its own."""
    channels, *sides = shape
    draws = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in sides), indexing="ij")
    images = []
    for _ in range(n):
        squared = sum(np.square(axis - draws.uniform(-0.15, 0.15)) for axis in axes)
        inside = squared < draws.uniform(0.35, 0.6)
        images.append(inside * np.clip(0.6 + 0.2 * draws.standard_normal((channels, *sides)), 0.05, 1))
    return torch.tensor(np.stack(images), dtype=torch.float32)


def of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def names(n: int) -> list[str]:
    return [f"person {i}" for i in range(n)]


def laplacian(images: Tensor) -> float:
    kernel = torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
    return float(F.conv2d(images, kernel).square().mean())


@each_shape
def test_the_way_leads_from_the_first_to_the_second(shape: tuple[int, ...]):
    images = discs(4, shape)
    first, second = images[:2], images[2:]
    field = torch.randn((2, *shape[1:]), generator=of(1))
    for way, end in ((0.0, first), (1.0, second)):
        torch.testing.assert_close(morph_of(first, second, torch.full((2,), way), field), end, atol=1e-4, rtol=0)


def test_a_morph_lies_where_two_people_meet():
    """Two equal bells, apart: their mean has two humps, and the morph one, as far along as the way is."""
    place = torch.linspace(-1, 1, 48)

    def bell(centre: float) -> Tensor:
        return torch.exp(-((place[:, None] - centre) ** 2 + place[None] ** 2) / 0.15)[None, None]

    first, second = bell(-0.15), bell(0.15)
    field = torch.randn((1, 48, 48), generator=of(0))
    for way, centre in ((0.25, -0.075), (0.5, 0.0), (0.75, 0.075)):
        morph = morph_of(first, second, torch.tensor([way]), field)
        assert float((morph[0, 0].sum(1) * place).sum() / morph.sum()) == pytest.approx(centre, abs=0.02)
        assert (morph - bell(centre)).square().mean() < 0.2 * (torch.lerp(first, second, way) - bell(centre)).square().mean()


@each_shape
def test_a_batch_equals_its_items_one_by_one(shape: tuple[int, ...]):
    images, way, field = discs(6, shape), torch.tensor([0.3, 0.5, 0.7]), torch.randn((3, *shape[1:]), generator=of(2))
    together = morph_of(images[:3], images[3:], way, field)
    alone = [morph_of(images[i : i + 1], images[i + 3 : i + 4], way[i : i + 1], field[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=0)


@each_shape
def test_the_same_seed_gives_the_same_bytes_and_another_others(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "AT_ONCE", 2 * int(np.prod(shape[1:])))
    images, calls = discs(5, shape), []
    one, again = (draw_morphs(images, names(5), 5, of(3), lambda: calls.append(1)) for _ in range(2))
    assert one.pixels.shape == (5, *shape)
    for name in ("pixels", "rows", "shares"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert len(calls) == 2 * n_batches(images, 5) == 6
    assert not torch.equal(one.pixels, draw_morphs(images, names(5), 5, of(4)).pixels)


@each_shape
def test_the_background_is_exactly_0_and_all_else_is_in_range(shape: tuple[int, ...]):
    images = discs(4, shape)
    drawn = draw_morphs(images, names(4), 6, of(5))
    assert drawn.pixels.min() == 0
    assert drawn.pixels.max() <= 1
    nobody = (images[drawn.rows] > 0).any(1).any(1, keepdim=True).logical_not()  # where neither of the two is
    corners = drawn.pixels[(slice(None), slice(None), *[0] * (len(shape) - 1))]
    assert (corners == 0).all()
    shares = [((part > 0).float().mean(dim=tuple(range(1, part.ndim)))) for part in (drawn.pixels, images)]
    assert (shares[0] >= shares[1].min() - 0.1).all()
    assert (shares[0] <= shares[1].max() + 0.1).all()
    assert (drawn.pixels * nobody == 0).float().mean() > 0.98


def test_no_morph_is_of_one_person_and_nobody_is_favoured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "morph_of", lambda first, second, way, field: first)
    # Of one person five images, of two others one each.
    people = ["a", "b", "a", "a", "c", "a", "a"]
    n = 6000
    drawn = draw_morphs(torch.zeros(len(people), 1, 8, 8), people, n, of(6))
    pairs = [(people[i], people[j]) for i, j in drawn.rows.tolist()]
    counts = Counter(pairs)
    assert set(counts) == {(one, other) for one in "abc" for other in "abc" if one != other}
    error = (n * (1 / 6) * (5 / 6)) ** 0.5
    assert all(abs(count - n / 6) < 4 * error for count in counts.values())
    images_of_a = Counter(row for row in drawn.rows.flatten().tolist() if people[row] == "a")
    n_of_a = sum(images_of_a.values())
    assert set(images_of_a) == {0, 2, 3, 5, 6}
    assert all(abs(count - n_of_a / 5) < 4 * (n_of_a * 0.2 * 0.8) ** 0.5 for count in images_of_a.values())


def test_shares_are_uniform_up_to_the_largest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "morph_of", lambda first, second, way, field: first)
    shares = draw_morphs(torch.zeros(3, 1, 8, 8), names(3), 4000, of(7), morph=Morph(share=0.6)).shares
    torch.testing.assert_close(shares.sum(1), torch.ones(4000))
    assert shares.min() >= 0.4
    assert shares.max() <= 0.6
    assert float(shares[:, 1].mean()) == pytest.approx(0.5, abs=4 * 0.2 / 12**0.5 / 4000**0.5)
    assert float(shares[:, 1].std()) == pytest.approx(0.2 / 12**0.5, rel=0.05)


@pytest.mark.parametrize("way", [0.25, 0.5, 0.75])
def test_detail_is_the_seconds_in_the_share_that_the_way_is(way: float):
    """Of an anatomy that both have alike: what differs is noise, which is the second's where the morph is nearer to the second."""
    anatomy = discs(1, (1, 64, 64)) > 0
    first, second = (anatomy * (0.5 + 0.1 * torch.randn((1, 1, 64, 64), generator=of(seed))).clamp(0.1, 0.9) for seed in (8, 9))
    field = module.spread(module.draw_partition(1, 1, (64, 64), module.PIECES, of(10)), (64, 64))[:, 0]
    weight = module._weight_of_second(field, anatomy[:, 0], torch.tensor([way]))
    assert float((weight > 0.5)[anatomy[:, 0]].float().mean()) == pytest.approx(way, abs=0.01)
    morph = morph_of(first, second, torch.tensor([way]), field)
    nearer = F.avg_pool2d((morph - second).abs() - (morph - first).abs(), 5, stride=1, padding=2) < 0
    decided = anatomy & ((weight - 0.5).abs() > 0.45)[:, None]
    assert (nearer == (weight > 0.5)[:, None])[decided].float().mean() > 0.9


def test_a_morph_is_as_sharp_as_people_are():
    """Grain of some voxels' width, which moving keeps, and a mean loses."""
    images = torch.randn((12, 1, 52, 52), generator=of(11))
    for _ in range(2):
        images = F.avg_pool2d(images, 3, stride=1)
    images = (0.5 + 0.5 * images).clamp(0.05, 1)
    drawn = draw_morphs(images, names(12), 12, of(12))
    first, second = (images[rows] for rows in drawn.rows.T)
    assert laplacian((first + second) / 2) < 0.7 * laplacian(images)
    assert 0.7 * laplacian(images) < laplacian(drawn.pixels) < 1.1 * laplacian(images)


def test_who_cannot_be_paired_and_shares_that_cannot_be():
    with pytest.raises(UsageError, match=re.escape("A morph is of two people of a class, and there is 1; add people of this class")):
        draw_morphs(discs(3, (1, 8, 8)), ["a", "a", "a"], 2, of(13))
    for share in (0.5, 1.0, float("nan")):
        with pytest.raises(UsageError, match=r"between 0\.5 and 1"):
            Morph(share=share)

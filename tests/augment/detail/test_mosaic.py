"""A mosaic has the detail of its donors where they have it, is background where they are, and gives nobody the greater part."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from tinycohort.augment.detail.donors import Donors
from tinycohort.augment.detail.mosaic import FAINTEST, Mosaic, add_detail
from tinycohort.augment.detail.partition import weights_of
from tinycohort.datasets.common.errors import UsageError

M, D = 12, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def donors(shape=(24, 28), channels=1, people=None, age=None, m=M):
    """Made up: a bright disc on a background of exactly 0, with noise that decoding loses."""
    g = seeded(9)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in shape], indexing="ij")
    radius = torch.stack(axes).square().sum(0).sqrt()
    size = 0.6 + 0.2 * torch.rand((m, 1, *[1] * len(shape)), generator=g)
    disc = torch.sigmoid(12 * (size - radius)).expand(m, channels, *shape) * 0.6
    inside = (radius < size).expand(m, 1, *shape)
    images = (disc + 0.15 * torch.randn((m, channels, *shape), generator=g)).clamp(0.05, 1) * inside
    codes = torch.cat([size.flatten(1), torch.randn((m, D - 1), generator=g)], 1)
    names = tuple(f"P{i:02d}" for i in range(m)) if people is None else tuple(people)
    return Donors(disc, images - disc, inside, codes, names, age)


def drawn(given, mosaic=None, n=6, seed=0):
    rows = torch.arange(n) % len(given.people)
    return add_detail(mosaic or Mosaic(), given, given.decoded[rows], given.codes[rows], seeded(seed))


def roughness(images):
    return sum(images.diff(dim=axis).square().mean() for axis in range(2, images.ndim))


@pytest.mark.parametrize("shape", [(24, 28), (12, 14, 12)])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_as_rough_as_images_and_their_background_is_0(shape, channels):
    given = donors(shape, channels)
    found = drawn(given)
    images = given.decoded + given.residuals
    assert found.pixels.shape == (6, channels, *shape)
    assert float(found.pixels.min()) >= 0
    assert float(found.pixels.max()) <= 1
    assert 0.6 * roughness(images) < roughness(found.pixels) < 1.4 * roughness(images)
    assert roughness(found.pixels) > 2 * roughness(given.decoded)
    # The corners are nobody's foreground.
    corner = found.pixels[(slice(None), slice(None), *[slice(2)] * len(shape))]
    assert (corner == 0).all()
    assert found.pixels.amax(1)[found.pixels.amax(1) > 0].min() >= FAINTEST
    zeros = (found.pixels == 0).float().mean()
    assert float(zeros) == pytest.approx(float((~given.foreground).float().mean()), abs=0.08)
    assert (found.smallest_jacobian > 0).all()


def test_nobody_has_more_than_the_bound_and_all_donors_differ():
    found = drawn(donors(), Mosaic(largest_share=0.3))
    assert found.donors.shape == found.shares.shape == (6, 4)
    assert found.shares.max() <= 0.3
    assert torch.allclose(found.shares.sum(1), torch.tensor(1.0), atol=1e-5)
    assert all(len(set(rows)) == 4 for rows in found.donors.tolist())


def test_the_bound_holds_where_the_sample_is_not_background(monkeypatch):
    import tinycohort.augment.detail.mosaic as module

    seen = []

    def looked_at(*arguments):
        seen.append(weights_of(*arguments))
        return seen[-1]

    monkeypatch.setattr(module, "weights_of", looked_at)
    # Discs of very different sizes: the union of four is much larger than what is kept of them.
    given = donors()
    small = given.foreground & (given.decoded > 0.5)
    given = replace(given, foreground=torch.where(torch.arange(M).view(-1, 1, 1, 1) % 2 == 0, small, given.foreground))
    found = drawn(given, n=12)
    (weights, _), there = seen[0], (found.pixels > 0)[:, 0]
    shares = (weights * there[:, None]).flatten(2).sum(2) / there.flatten(1).sum(1)[:, None]
    assert torch.allclose(shares, found.shares, atol=1e-4)
    assert shares.max() <= 0.4 + 1e-5


def test_without_residuals_there_is_no_detail():
    given = donors()
    plain = replace(given, residuals=torch.zeros_like(given.residuals), foreground=torch.ones_like(given.foreground))
    assert torch.equal(drawn(plain).pixels, given.decoded[:6].clamp(FAINTEST, 1))


def test_the_variance_of_what_is_put_together_stays():
    """Of white noise that nothing moves, a mosaic has the variance, also where two people meet."""
    noise = 0.05 * torch.randn((M, 1, 40, 40), generator=seeded(1))
    flat = torch.full_like(noise, 0.5)
    given = Donors(flat, noise, torch.ones_like(noise, dtype=torch.bool), torch.randn(M, D, generator=seeded(2)), tuple(map(str, range(M))))
    found = add_detail(Mosaic(), given, flat.repeat(5, 1, 1, 1), torch.zeros(5 * M, D), seeded())
    assert float((found.pixels - 0.5).std()) == pytest.approx(0.05, rel=0.03)


def test_the_seed_decides_and_the_batch_does_not(monkeypatch):
    import tinycohort.augment.detail.mosaic as module

    given = donors()
    one, two, other = drawn(given), drawn(given), drawn(given, seed=1)
    assert torch.equal(one.pixels, two.pixels)
    assert not torch.equal(one.pixels, other.pixels)
    steps = []
    rows = torch.arange(6)
    monkeypatch.setattr(module, "AT_ONCE", 2 * 24 * 28)
    again = add_detail(Mosaic(), given, given.decoded[rows], given.codes[rows], seeded(), lambda: steps.append(1))
    assert torch.equal(again.donors, one.donors)
    assert torch.allclose(again.pixels, one.pixels, atol=0.02)
    assert len(steps) == 3


def test_somebody_with_several_images_is_one_donor():
    given = donors(people=["P0"] * 6 + [f"P{i}" for i in range(1, 7)])
    rows = given.draw(given.codes.repeat(50, 1), 4, "random", seeded())
    people = [[given.people[row] for row in of_sample] for of_sample in rows.tolist()]
    assert all(len(set(of_sample)) == 4 for of_sample in people)
    # Of the one who has six, all are used; and they are drawn no more often than the others: of six, for one is nearest in code.
    counts = Counter(name for of_sample, own in zip(people, given.people * 50, strict=True) if own != "P0" for name in of_sample)
    assert counts["P0"] / (6 * 50) == pytest.approx(4 / 6, abs=0.08)
    assert {row for of_sample in rows.tolist() for row in of_sample if given.people[row] == "P0"} == set(range(6))


def test_near_donors_are_near_in_code():
    given = donors(m=40)
    near, anybody = (given.draw(given.codes, 3, choice, seeded()) for choice in ("near", "random"))

    def distance(rows):
        return float((given.codes[rows] - given.codes[:, None]).square().sum(-1).mean())

    assert distance(near) < 0.5 * distance(anybody)


def test_donors_by_age_are_of_the_age_of_the_nearest_person():
    given = donors(m=40, age=tuple(range(40)))
    rows = given.draw(given.codes, 4, "age", seeded())
    # The 12 people nearest in age to each but themselves, of whom 4 are drawn.
    assert (rows - torch.arange(40)[:, None]).abs().max() <= 13
    with pytest.raises(UsageError, match="ages of the training people are not known"):
        drawn(replace(given, age=None), Mosaic(donors_by="age"))


def test_whoever_is_nearest_in_code_is_no_donor():
    given = donors(m=9)
    for by in ("random", "near"):
        rows = given.draw(given.codes.repeat(30, 1), 4, by, seeded())
        assert not (rows == torch.arange(9).repeat(30)[:, None]).any()
    # Of as many people as are needed, all are.
    few = given.draw(given.codes, 9, "random", seeded())
    assert all(sorted(of_sample) == list(range(9)) for of_sample in few.tolist())


def test_codes_that_are_all_the_same_choose_somebody():
    given = replace(donors(), codes=torch.zeros(M, D))
    for by in ("random", "near"):
        assert given.draw(given.codes, 4, by, seeded()).shape == (M, 4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("blur", "no detail 'blur'"),
        ("", "no detail ''"),
        ("mosaic n_donors=1", "2 or more"),
        ("mosaic pieces=1", "2 or more"),
        ("mosaic n_donors=2", "raise n_donors or largest_share"),
        ("mosaic largest_share=0.25", "at least 25% in the mean"),
        ("mosaic largest_share=2", "between 0 and 1"),
        ("mosaic donors_by=best", "random or near or age"),
        ("mosaic people=4", "no setting people"),
    ],
)
def test_what_cannot_be_a_mosaic_is_told(text, told):
    with pytest.raises(UsageError, match=told):
        Mosaic.parse(text)


def test_a_mosaic_reads_what_it_writes():
    mosaic = Mosaic(n_donors=6, donors_by="near", pieces=8, largest_share=0.25)
    assert Mosaic.parse(str(mosaic)) == mosaic
    assert Mosaic.parse("mosaic") == Mosaic()


def test_too_few_people_are_told():
    with pytest.raises(UsageError, match="takes 4 people for an image, and there are 3"):
        drawn(donors(m=3), n=1)

"""Patches against a slow version; that new people's are let pass; that a piece of a patient is found, and where, and whose."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from tinycohort.augment.release import patches
from tinycohort.augment.release.copying import REACH
from tinycohort.augment.release.gate import Gate
from tinycohort.augment.release.patches import STEPS, PeoplesPatches, windows
from tinycohort.datasets.likeness import closeness_p
from tinycohort.experiments.audit import planted


def fields(n, seed, shape=(24, 30), smooth=1.5):
    """Smooth random images of one law."""
    noise = np.random.default_rng(seed).normal(size=(n, *shape))
    return ndimage.gaussian_filter(noise, sigma=(0, *[smooth] * len(shape))).astype(np.float32)


def search(images, training, people):
    return PeoplesPatches(training, np.array(people)).search(images)


def names(n):
    return [f"p{i:02d}" for i in range(n)]


@pytest.mark.parametrize("shape", [(80, 96), (24, 30), (28, 28), (80, 96, 80), (7, 9)])
def test_windows_are_a_twentieth_and_overlap_as_far_as_people_can_be_shifted(shape):
    found, reach = windows(shape), REACH[len(shape)]
    assert np.prod([part.stop - part.start for part in found[0]]) == pytest.approx(
        0.05 * np.prod(shape), rel=0.15 if min(shape) > 10 else 0.4
    )
    for axis, side in enumerate(shape):
        parts = sorted({(window[axis].start, window[axis].stop) for window in found})
        assert (parts[0][0], parts[-1][1]) == (reach, side - reach)
        steps, width = np.diff([start for start, _ in parts]), parts[0][1] - parts[0][0]
        assert (steps <= width / STEPS[len(shape)] + 1).all()
    assert len(found) == len(set(map(str, found)))


@pytest.mark.parametrize("shape", [(80, 96), (104, 88), (28, 28), (40, 48, 40), (80, 96, 80)])
def test_a_window_lies_within_every_patch_of_a_tenth(shape):
    for axis, side in enumerate(shape):
        parts = {(window[axis].start, window[axis].stop) for window in windows(shape)}
        width = math.ceil(side * 0.1 ** (1 / len(shape)))
        for corner in range(side - width + 1):
            assert any(corner <= start and stop <= corner + width for start, stop in parts), (axis, corner)


def test_a_bar_may_be_shown_of_the_places():
    seen = []

    def track(places):
        for place in places:
            yield place
            seen.append(place)

    known = PeoplesPatches(fields(6, 1, (24, 30)), np.array(names(6)))
    found = known.search(fields(2, 0, (24, 30)), track)
    assert len(seen) == len(found.places) > 10


def test_a_tiny_image_has_no_windows_and_nothing_is_found():
    assert windows((4, 5)) == []
    found = search(fields(3, 0, (4, 5)), fields(4, 1, (4, 5)), names(4))
    assert (found.places, found.copies(Gate(), looks=3), found.most_telling()) == ((), {}, {})


@pytest.mark.parametrize("shape", [(14, 13), (8, 9, 7)], ids=["2-D", "3-D"])
def test_distances_and_ratios_by_brute_force_of_people_with_several_images(shape):
    images, training, people = fields(3, 0, shape, 0.5), fields(6, 1, shape, 0.5), ["b", "a", "b", "c", "d", "d"]
    found, reach = search(images, training, people), REACH[len(shape)]
    assert found.names == ("a", "b", "c", "d")
    assert len(found.places) == len(windows(shape))

    def distance(one, other, window):
        best = np.inf
        for shift in itertools.product(range(-reach, reach + 1), repeat=len(shape)):
            there = tuple(slice(part.start + step, part.stop + step) for part, step in zip(window, shift, strict=True))
            best = min(best, np.sqrt(2 - 2 * np.corrcoef(one[window].ravel(), other[there].ravel())[0, 1]))
        return best

    for place, window in list(zip(found.places, windows(shape), strict=True))[::3]:
        slow = [[min(distance(i, training[j], window) for j in range(6) if people[j] == who) for who in "abcd"] for i in images]
        assert place.closeness.distance == pytest.approx(np.min(slow, axis=1), abs=1e-4)
        assert place.closeness.person.tolist() == np.argmin(slow, axis=1).tolist()
        assert place.closeness.ratio == pytest.approx([sorted(row)[0] / sorted(row)[1] for row in slow], abs=1e-4)
        among = np.full((4, 4), np.inf)
        for i, j in itertools.permutations(range(6), 2):
            if people[i] != people[j]:
                pair = "abcd".index(people[i]), "abcd".index(people[j])
                among[pair] = min(among[pair], distance(training[i], training[j], window))
        usual = [sorted(row)[0] / sorted(row)[1] for row in among]
        assert place.p == pytest.approx(closeness_p(place.closeness.ratio, usual), rel=1e-2, abs=1e-6)


def test_of_many_people_some_tell_what_is_usual(monkeypatch):
    images, training = fields(20, 0), fields(60, 1)
    everybody = search(images, training, names(60))
    monkeypatch.setattr(patches, "EXAMPLES", 15)
    some = PeoplesPatches(training, np.array(names(60)))
    assert [len(some.usual_at(number)) for number in range(len(some.windows))] == [15] * len(some.windows)
    for place, other in zip(everybody.places, some.search(images).places, strict=True):
        assert np.array_equal(place.closeness.ratio, other.closeness.ratio)
        assert np.corrcoef(place.p, other.p)[0, 1] > 0.95


def test_what_shows_nothing_is_no_evidence():
    images, training = fields(4, 0), fields(20, 1)
    images[0, :, 15:] = 0  # background
    images[1, :, 15:] = 0.3 + 1e-3 * images[1, :, 15:]  # nearly constant
    training[:11, :12] = 0  # of more than half
    found = search(images, training, names(20))
    where = np.array([[float(part) for part in place.where.split(", ")] for place in found.places])
    assert len(found.places) < len(windows((24, 30)))
    assert where[:, 0].min() > 0.4
    right = [place for place, middle in zip(found.places, where, strict=True) if middle[1] > 0.7]
    assert right
    for place in right:
        assert np.isinf(place.closeness.distance[:2]).all()
        assert place.p[:2].tolist() == [1, 1]
        assert np.isfinite(place.closeness.distance[2:]).all()
    blank = search(np.zeros_like(images), training, names(20)).most_telling()
    assert set(blank["patch: nearest"]) == set(blank["patch: place"]) == {""}
    assert np.isnan(blank["patch: p"]).all()


@pytest.mark.parametrize("cohorts", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_new_people_are_let_pass_at_the_level_whatever_the_limit_of_the_ratio(cohorts):
    gate, called, p = Gate(level=0.2, ratio=1), 0, []
    for seed in range(cohorts):
        found = search(fields(30, [seed, 0], (12, 16)), fields(40, [seed, 1], (12, 16)), names(40))
        called += bool(found.copies(gate, looks=30))
        p.append(found.places[len(found.places) // 2].p)
    assert stats.binomtest(called, cohorts, gate.level, alternative="greater").pvalue > 0.001
    # One p-value alone is near to uniform, not merely large.
    share = np.mean(np.concatenate(p) <= 0.05)
    assert 0.02 < share < 0.09


@pytest.mark.parametrize("shape", [(40, 48), (16, 18, 16)], ids=["2-D", "3-D"])
def test_a_piece_of_a_patient_is_found_with_its_place_and_the_patient(shape):
    training, images = fields(30, 0, shape), fields(12, 1, shape)
    (here, *_, last) = windows(shape)
    images[5][here] = 0.6 * training[17][here] + 0.2
    shifted = tuple(slice(part.start - 1, part.stop - 1) for part in last)
    images[8][last] = training[3][shifted]
    found = search(images, training, names(30))
    reasons = found.copies(Gate(), looks=2 * len(images))
    assert sorted(reasons) == [5, 8]
    middle = ", ".join(f"{(part.start + part.stop) / 2 / side:.2f}" for part, side in zip(here, shape, strict=True))
    assert reasons[5].startswith(f"a copy of p17 (a patch at {middle} of the sides: 0.0")
    assert reasons[8].startswith("a copy of p03 (a patch at ")
    table = found.most_telling()
    assert (table["patch: nearest"][5], table["patch: place"][5], table["patch: nearest"][8]) == ("p17", middle, "p03")
    assert found.of(slice(5, 9)).copies(Gate(), looks=2 * len(images)) == {0: reasons[5], 3: reasons[8]}


@pytest.mark.parametrize("share", [planted.PATCH[2], planted.TENTH[2]], ids=["half a side", "a tenth"])
def test_planted_patches_are_found(share):
    training = torch.from_numpy(fields(40, 0, (64, 72)))[:, None]
    ground = torch.from_numpy(ndimage.gaussian_filter(fields(40, 1, (64, 72)), sigma=(0, 2, 2)))[:, None]
    made = planted.patched(training, ground, np.random.default_rng(0), share)
    found = search(made[:, 0].numpy(), training[:, 0].numpy(), names(40))
    reasons = found.copies(Gate(), looks=400)
    assert len(reasons) >= 36
    assert all(reason.startswith(f"a copy of p{row:02d} ") for row, reason in reasons.items())


@pytest.mark.parametrize("shape", [(40, 48), (20, 24, 16)], ids=["2-D", "3-D"])
def test_what_is_planted_beside_whole_copies(shape):
    originals, ground = (torch.from_numpy(fields(5, seed, shape))[:, None] for seed in (0, 1))
    rng = np.random.default_rng(0)
    made = planted.patched(originals, ground, rng, planted.PATCH[len(shape)])
    theirs, others = (torch.isclose(made, part, atol=1e-6).flatten(1).float().mean(1) for part in (originals, ground))
    # A half of every side of slices, less the way over which it fades: a tenth of the image and more. All else is as it was.
    share = planted.PATCH[len(shape)]
    assert ((theirs > 0.1) & (theirs <= share ** len(shape))).all()
    assert (others >= 1 - (share + 0.05) ** len(shape)).all()
    assert not torch.equal(made, planted.patched(originals, ground, rng, planted.PATCH[len(shape)]))
    warp = planted.searched_kinds(True, ground[:1])["warped"]
    warped = warp(originals, rng)
    assert warped.shape == originals.shape
    assert (warped - originals).abs().flatten(1).mean(1).min() > 0.05 * originals.std()
    # A slope keeps its order, because nothing folds; at the edge, where it ends, cubic interpolation overshoots.
    slope = torch.linspace(0, 1, shape[0]).reshape(1, 1, -1, *[1] * (len(shape) - 1)).expand(8, 1, *shape).contiguous()
    moved = warp(slope, rng)
    assert moved[:, :, 3:-3].diff(dim=2).min() > 0
    assert 0.1 / planted.KNOTS / 4 < (moved - slope).abs().mean() < 0.1 / planted.KNOTS * 2
    blended = planted.searched_kinds(True, ground[:1])["blended"](originals, rng)
    assert torch.allclose(blended, 0.7 * originals + 0.3 * originals[[4, 0, 1, 2, 3]])

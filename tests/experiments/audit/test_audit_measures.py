"""Measures of memorisation and attacks against slow versions, on new draws of the people's law, and where half the images are copies."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from tinycohort.augment.release.copying import REACH
from tinycohort.augment.release.gate import Gate
from tinycohort.experiments.audit import measures, membership, planted
from tinycohort.experiments.audit.poses import posed_distances

DIMENSION, PATIENTS, HELD_OUT, IMAGES = 6, 40, 24, 60
TRAINING = np.arange(PATIENTS + HELD_OUT) < PATIENTS


def euclidean(x, y):
    return np.sqrt(np.square(x[:, None] - y[None]).sum(-1))


def world(rng, copied=0):
    """Distances of images to people, and among people, all of one law but for so many images that nearly are patients."""
    people, drawn = rng.normal(size=(PATIENTS + HELD_OUT, DIMENSION)), rng.normal(size=(IMAGES, DIMENSION))
    drawn[:copied] = people[rng.permutation(PATIENTS)[:copied]] + 0.01 * rng.normal(size=(copied, DIMENSION))
    among = euclidean(people, people)
    np.fill_diagonal(among, np.inf)
    return euclidean(drawn, people), among


def split(to_people, among):
    return to_people[:, TRAINING], among[np.ix_(TRAINING, TRAINING)]


# Against loops.


@pytest.mark.parametrize("copied", [0, 10])
def test_the_measures_are_what_their_papers_define(copied):
    to_people, among = world(np.random.default_rng(0), copied)
    to_training, among_training = split(to_people, among)
    nearer = sum(min(row[TRAINING]) < min(row[~TRAINING]) for row in to_people) / IMAGES
    assert measures.nearer_share(to_people, TRAINING) == pytest.approx(nearer)
    authentic = 0
    for row in to_training:
        (nearest,) = (j for j in range(PATIENTS) if row[j] == min(row))
        authentic += row[nearest] > min(among_training[nearest, j] for j in range(PATIENTS) if j != nearest)
    assert measures.authentic_share(to_training, among_training) == pytest.approx(authentic / IMAGES)
    identifiable = sum(
        min(to_training[:PATIENTS, i]) < min(among_training[i, j] for j in range(PATIENTS) if j != i) for i in range(PATIENTS)
    )
    assert measures.identifiable_share(to_training, among_training) == pytest.approx(identifiable / PATIENTS)
    ratios = [sorted(row)[0] / sorted(row)[1] for row in to_training]
    assert measures.closeness_score(to_training) == pytest.approx(np.mean([-np.log(ratio) for ratio in ratios]))


def test_ties_are_halved_and_a_copy_beyond_all_digits_stays_a_number():
    to_people = np.array([[1.0, 2.0, 1.0], [0.0, 1.0, 3.0]])
    assert measures.nearer_share(to_people, np.array([True, True, False])) == 0.75
    assert measures.closeness_score(to_people[1:]) == pytest.approx(-np.log(1e-6))


def test_repeated_images_by_hand():
    among_patients = np.array([[np.inf, 1.0, 4.0], [1.0, np.inf, 4.0], [4.0, 4.0, np.inf]])
    assert measures.repeated(np.array([0.05, 0.1, 0.2, np.inf]), among_patients).tolist() == [True, True, False, False]


def test_attacks_compare_the_images_around_a_person_with_the_other_people_there():
    to_people, among = world(np.random.default_rng(1), 8)
    n = len(among)
    nearest = [min(among[i, j] for j in range(n) if j != i) for i in range(n)]
    by_distance = [np.log(nearest[i] / min(to_people[:, i])) for i in range(n)]
    radius = np.median([min(column) for column in to_people.T])
    balls = [[sum(value <= radius for value in column) for column in distances.T] for distances in (to_people, among)]
    by_density = [np.log((s + 0.5) / (IMAGES + 0.5) / ((r + 0.5) / (n + 0.5))) for s, r in zip(*balls, strict=True)]
    for scores, slow in ((membership.distance_scores, by_distance), (membership.density_scores, by_density)):
        assert scores(to_people, among).tolist() == pytest.approx(slow)
        assert membership.attack(scores(to_people, among), TRAINING, np.random.default_rng(0)).auc == pytest.approx(
            roc_auc_score(TRAINING, np.round(slow, 9))
        )
    assert np.isfinite(membership.distance_scores(0 * to_people, among)).all()


# What is to be expected of images that are new people.


def test_what_new_draws_lead_to_expect():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(400):
        to_people, among = world(rng)
        found.append((measures.nearer_share(to_people, TRAINING), measures.identifiable_share(*split(to_people, among))))
    expected = (TRAINING.mean(), measures.expected_identifiable_share(IMAGES, PATIENTS))
    for values, mean in zip(np.transpose(found), expected, strict=True):
        assert abs(values.mean() - mean) < 4 * values.std() / np.sqrt(len(values))
    # More images than patients are not looked at.
    assert measures.expected_identifiable_share(IMAGES, PATIENTS) == PATIENTS / (2 * PATIENTS - 1)
    assert measures.expected_identifiable_share(5, PATIENTS) == 5 / (PATIENTS + 4)


def test_new_people_give_no_alarm_beyond_the_level_and_copies_do():
    rng = np.random.default_rng(3)
    found = {0: [], IMAGES // 2: []}
    for copied, runs in ((0, 150), (IMAGES // 2, 40)):
        for _ in range(runs):
            to_people, among = world(rng, copied)
            p = dict(measures.memorisation_p(to_people, among, TRAINING, rng, deals=59))
            for name, scores in (("distance", membership.distance_scores), ("density", membership.density_scores)):
                p[name] = membership.attack(scores(to_people, among), TRAINING, rng).p
            found[copied].append(p)
    for name in found[0][0]:
        alarms = sum(p[name] <= 0.05 for p in found[0])
        assert stats.binomtest(alarms, len(found[0]), 0.05, alternative="greater").pvalue > 0.001, name
        # Authenticity is the dullest: a deal leaves most copies their patients, and honest images are inauthentic often.
        least = {"nearer": 0.7, "inauthentic": 0.2, "identifiable": 0.5}.get(name, 0.95)
        assert np.mean([p[name] <= 0.05 for p in found[IMAGES // 2]]) > least, name


def test_images_that_are_blurred_alike_for_everybody_are_no_memorisation():
    """Half way to the mean of the law, images are nearer to everybody: authenticity falls, and no test takes that for memorisation."""
    rng = np.random.default_rng(4)
    alarms, authentic = 0, []
    for _ in range(60):
        people, drawn = rng.normal(size=(PATIENTS + HELD_OUT, DIMENSION)), 0.5 * rng.normal(size=(IMAGES, DIMENSION))
        among = euclidean(people, people)
        np.fill_diagonal(among, np.inf)
        to_people = euclidean(drawn, people)
        authentic.append(
            measures.authentic_share(*split(to_people, among))
            - measures.authentic_share(among[~TRAINING][:, TRAINING], split(to_people, among)[1])
        )
        alarms += min(measures.memorisation_p(to_people, among, TRAINING, rng, deals=59).values()) <= 0.05 / 4
    assert np.mean(authentic) < -0.1
    assert stats.binomtest(alarms, 60, 0.05, alternative="greater").pvalue > 0.001


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_the_interval_of_an_area_holds_it_as_often_as_it_says(shift):
    rng, true = np.random.default_rng(5), stats.norm.cdf(shift / np.sqrt(2))
    held = 0
    for _ in range(600):
        attack = membership.attack(np.r_[rng.normal(shift, 1, 25), rng.normal(0, 1, 12)], np.arange(37) < 25, rng)
        held += attack.low <= true <= attack.high
    assert stats.binomtest(held, 600, 0.95).pvalue > 0.001 or held / 600 > 0.95


def test_half_of_those_trained_on_are_told_from_the_others_as_often_as_the_control_says():
    rng = np.random.default_rng(6)
    scores = np.round(rng.normal(size=31), 1)  # with ties
    control = membership.control_area(scores, rng)
    halves = [rng.permutation(31) < 15 for _ in range(600)]
    assert np.mean([roc_auc_score(half, scores) > control for half in halves]) == pytest.approx(0.05, abs=0.03)
    assert membership.control_area(np.arange(400.0), rng) < 0.56 < control
    assert np.isnan(membership.control_area(scores[:3], rng))


def test_intervals_at_the_ends_have_a_width():
    for members, others in ((1, 1), (5, 3), (200, 90)):
        (low, one), (nought, high) = membership.auc_interval(1, members, others), membership.auc_interval(0, members, others)
        assert (nought, one) == (0, 1)
        assert low == pytest.approx(1 - high, abs=1e-6)
        assert 0.05 < low < 1
    wide, narrow = membership.auc_interval(0.6, 10, 10), membership.auc_interval(0.6, 100, 100)
    assert wide[0] < narrow[0] < 0.6 < narrow[1] < wide[1]


# Copies in other poses.


@pytest.mark.parametrize("shape", [(8, 10), (6, 7, 5)], ids=["2-D", "3-D"])
def test_the_best_pose_by_brute_force_whichever_of_two_images_is_moved(shape):
    some, others = (np.random.default_rng(seed).normal(size=(3, *shape)).astype(np.float32) for seed in (0, 1))
    found, n_axes, reach = posed_distances(some, others), len(shape), REACH[len(shape)]
    slow = np.full(found.shape, np.inf)
    for i, j in itertools.product(range(3), repeat=2):
        for axis, shift in itertools.product([None, *range(n_axes)], itertools.product(range(-reach, reach + 1), repeat=n_axes)):
            moved = np.pad(others[j] if axis is None else np.flip(others[j], axis), reach, constant_values=np.nan)
            moved = np.roll(moved, shift, axis=tuple(range(n_axes)))[(slice(reach, -reach),) * n_axes]
            both = ~np.isnan(moved)
            correlation = np.corrcoef(some[i][both], moved[both])[0, 1]
            slow[i, j] = min(slow[i, j], np.sqrt(2 - 2 * correlation))
    assert found == pytest.approx(slow, abs=1e-4)
    assert posed_distances(others, some) == pytest.approx(found.T, abs=1e-5)


@pytest.mark.parametrize("kind", ["exact", "shifted", "intensity-scaled", "flipped"])
def test_a_copy_in_another_pose_is_at_no_distance_also_where_the_edge_is_not_black(kind):
    originals = torch.rand((5, 1, 14, 11), generator=torch.Generator().manual_seed(0))
    copied = planted.searched_kinds(True, originals[:1])[kind](originals, np.random.default_rng(0))
    distances = posed_distances(copied[:, 0].numpy(), originals[:, 0].numpy())
    assert np.diag(distances).max() < 2e-3
    assert (distances + 2 * np.eye(5)).min() > 0.5


@pytest.mark.parametrize("in_world", [True, False])
def test_planted_copies_are_what_they_are_called(in_world):
    originals = torch.rand((4, 1, 12, 9), generator=torch.Generator().manual_seed(0))
    rng, ground = np.random.default_rng(0), originals.mean(0, keepdim=True)
    made = {name: kind(originals, rng) for name, kind in planted.searched_kinds(in_world, ground).items()}
    assert all(copy.shape == originals.shape and copy.dtype == torch.float32 for copy in made.values())
    assert torch.equal(made["exact"], originals)
    assert torch.allclose(made["intensity-scaled"], 0.7 * originals + 0.1)
    assert torch.equal(made["flipped"], originals.flip(2 if in_world else 3))
    for copy, original in zip(made["shifted"], originals, strict=True):
        inner = [original[:, 2 - i : 10 - i, 2 - j : 7 - j] for i, j in itertools.product((-2, 2), repeat=2)]
        assert any(torch.allclose(copy[:, 2:10, 2:7], part, atol=1e-6) for part in inner)


STEPS = {d: list(itertools.product((0, 1), repeat=d)) for d in (2, 3)}


@pytest.mark.parametrize("shape", [(24, 20), (12, 10, 14)], ids=["2-D", "3-D"])
def test_copies_of_kinds_that_are_not_searched_are_what_they_are_called(shape):
    d = len(shape)
    # Waves of the length of the image: what is cut and moved stays smooth.
    axes = torch.meshgrid(*(torch.linspace(0, 3, side) for side in shape), indexing="ij")
    originals = torch.stack([(1 + torch.sin(sum((i + 2 + j) / 3 * axis for j, axis in enumerate(axes)))) / 2 for i in range(3)])[:, None]
    ground = torch.zeros_like(originals[:1])
    kinds, rng = planted.other_kinds(ground), np.random.default_rng(1)
    made = {name: kind(originals, rng) for name, kind in kinds.items()}
    assert all(copy.shape == originals.shape and copy.dtype == torch.float32 for copy in made.values())
    assert all(not torch.equal(copy, originals) for copy in made.values())
    noise = (made["noise of 0.2"] - originals).std()
    assert noise == pytest.approx(0.2, rel=0.1)
    assert torch.allclose(made["gamma of 2"], originals**2)
    # Half a voxel along every axis is the mean of the 2^d voxels around, on one side or the other of each.
    inner, ways = (slice(2, -2),) * d, list(itertools.product((-1, 1), repeat=d))
    for copy, original in zip(made["shifted by half a voxel"], originals, strict=True):
        moved = [[original[0].roll([s * b for s, b in zip(way, step, strict=True)], tuple(range(d))) for step in STEPS[d]] for way in ways]
        assert any(torch.allclose(copy[0][inner], torch.stack(steps).mean(0)[inner], atol=1e-5) for steps in moved)
    # The middle of an image is where it turns and scales.
    odd = torch.rand((3, 1, 9, 9), generator=torch.Generator().manual_seed(0))
    turned = planted.moved(odd, 90, 1, 0)
    assert torch.allclose(turned, odd.rot90(1, (2, 3)), atol=1e-5) or torch.allclose(turned, odd.rot90(-1, (2, 3)), atol=1e-5)
    assert torch.allclose(planted.moved(odd, 0, 2, 0)[:, :, ::2, ::2], odd[:, :, 2:7, 2:7], atol=1e-5)
    # A patch of a tenth holds a tenth less the way over which it fades, and nothing else of anybody.
    patch = (made["a patch of a tenth"] != 0).flatten(1).float().mean(1)
    assert ((patch > 0.02) & (patch <= 0.17)).all()


def test_noise_is_a_quarter_of_the_way_to_the_nearest_other_of_those_who_are_copied():
    originals = torch.rand((6, 1, 60, 50), generator=torch.Generator().manual_seed(0)) ** 3
    copied = planted.noisy(originals, np.random.default_rng(0))
    distances = posed_distances(copied[:, 0].numpy(), originals[:, 0].numpy())
    among = np.sqrt(2 - 2 * np.corrcoef(originals.flatten(1).numpy())) + 9 * np.eye(6)
    assert np.diag(distances) == pytest.approx(np.median(among.min(axis=1)) / 4, rel=0.05)


@pytest.mark.parametrize(("members", "others", "share"), [(49, 21, 0.05), (20, 9, 1 / 3)])
def test_how_often_the_gate_refuses_what_gives_nobody_away(members, others, share):
    """As docs/guide/audit.md tells it; of 1,000 cohorts, within three standard errors."""
    rng, training = np.random.default_rng(0), np.arange(members + others) < members
    refused = [membership.attack(rng.normal(size=len(training)), training, rng).high > Gate().membership for _ in range(1000)]
    assert np.mean(refused) == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / 1000))

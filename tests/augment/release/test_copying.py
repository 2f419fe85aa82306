"""Copies of patients: distances against slow versions, the law of the ratio by simulation, and what is found of planted copies."""

import numpy as np
import pytest
import torch
from scipy import stats

from tinycohort.augment.posterior import Posterior
from tinycohort.augment.release.copying import Patients, among_people, copies, screen_images, screen_latents, usual_ratios
from tinycohort.augment.release.gate import Gate
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.likeness import Closeness, aligned_distances, closeness_p, per_person, standardised


def images(n: int, shape=(9, 7), seed: int = 0) -> torch.Tensor:
    return torch.rand((n, 1, *shape), generator=torch.Generator().manual_seed(seed))


def aligned(some: torch.Tensor, others: torch.Tensor) -> np.ndarray:
    return aligned_distances(standardised(some), standardised(others)).numpy()


def euclidean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(x[:, None] - y[None]).sum(-1))


# Distances.


@pytest.mark.parametrize("shape", [(9, 7), (6, 5, 4)], ids=["2-D", "3-D"])
def test_the_aligned_distance_is_what_is_left_when_scale_and_offset_are_regressed_out(shape):
    some, others = images(4, shape), images(5, shape, seed=1)
    distances = aligned(some, others)
    for i, x in enumerate(some.double().flatten(1).numpy()):
        for j, y in enumerate(others.double().flatten(1).numpy()):
            ranged = [(v - v.mean()) / v.std() for v in (x, y)]
            root_mean_square = np.sqrt(np.mean(np.square(ranged[0] - ranged[1])))
            assert distances[i, j] == pytest.approx(root_mean_square, abs=1e-5)
            assert distances[i, j] == pytest.approx(np.sqrt(2 * (1 - np.corrcoef(x, y)[0, 1])), abs=1e-5)


def test_brightness_and_contrast_do_not_count_and_a_constant_image_is_near_nobody():
    some = images(3)
    assert np.diag(aligned(0.4 * some + 0.3, some)).max() < 1e-3
    assert not np.diag(aligned(some, some)).any()
    near = some + 1e-4 * images(3, seed=1)
    slow = np.linalg.norm(standardised(near).double() - standardised(some).double(), axis=1)
    assert np.diag(aligned(near, some)) == pytest.approx(slow, rel=1e-5)
    assert np.diag(aligned(1 - some, some)) == pytest.approx(2)
    for grey in (torch.full((1, 1, 9, 7), 0.3), torch.full((1, 1, 80, 96), 100.3)):
        assert not standardised(grey).any()
    assert aligned(torch.full((1, 1, 9, 7), 0.3), some)[0] == pytest.approx(np.sqrt(2))


def test_a_copy_is_one_in_volumes_of_millions_of_voxels():
    """Which float32 cannot add up one by one."""
    volume = torch.zeros(1, 6_000_000)
    volume[:, ::5] = torch.randint(1, 3000, (1, 1_200_000), generator=torch.Generator().manual_seed(0)).float()
    assert float(standardised(volume).double().square().sum()) == pytest.approx(1, abs=1e-5)
    assert aligned(0.37 * volume + 11, volume).item() < 1e-4


def test_of_somebody_with_several_images_the_nearest_counts():
    rng = np.random.default_rng(0)
    people, names = ["b", "a", "b", "c", "a"], ["a", "b", "c"]
    points = rng.normal(size=(5, 3))
    to_images = rng.random((4, 5))
    found, who = per_person(to_images, people)
    assert who == names
    slow = [[min(row[i] for i in range(5) if people[i] == name) for name in names] for row in to_images]
    assert found.tolist() == slow
    among, who = among_people(euclidean(points, points), people)
    assert who == names
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            pairs = [np.linalg.norm(points[k] - points[m]) for k in range(5) for m in range(5) if (people[k], people[m]) == (one, other)]
            assert among[i, j] == (np.inf if i == j else pytest.approx(min(pairs)))


def test_closeness_by_sorting():
    distances = np.random.default_rng(0).random((20, 6))
    found = Closeness.of(distances)
    for i, row in enumerate(distances):
        first, second = sorted(row)[:2]
        assert (found.distance[i], found.ratio[i]) == (first, pytest.approx(first / second))
        assert row[found.person[i]] == first
    assert Closeness.of([[0.0, 0.0, 1.0]]).ratio.tolist() == [0]


# The law of the ratio.


def test_the_p_value_of_a_ratio_is_uniform_whatever_the_dimension_and_however_few_are_known():
    rng = np.random.default_rng(0)
    for dimension, known in ((2, 5), (12, 5), (12, 40)):
        p = [float(closeness_p(rng.random(1) ** (1 / dimension), rng.random(known) ** (1 / dimension))[0]) for _ in range(2000)]
        assert stats.kstest(p, "uniform").pvalue > 0.001


def test_the_p_value_against_its_definition():
    real = np.array([0.97, 0.9, 0.99, 0.5, 0.95, 0.93, 0.88, 0.96, 0.98, 0.91, 0.94])
    x = sorted(-np.log(real))
    kept = 10  # of 11, nine tenths or more
    mean = (sum(x[:kept]) + (len(x) - kept) * x[kept - 1]) / kept
    for ratio in (0.2, 0.8, 1.0):
        assert closeness_p([ratio], real)[0] == pytest.approx(stats.f.sf(-np.log(ratio) / mean, 2, 2 * kept))


def test_twins_among_the_patients_do_not_blunt_it():
    real = np.full(40, 0.95)
    twins = np.r_[real[:38], 1e-6, 1e-6]
    assert closeness_p([0.6], twins)[0] == pytest.approx(closeness_p([0.6], real)[0], rel=1.0)
    assert closeness_p([0.6], twins)[0] < 1e-3


def test_where_nothing_can_be_told_nothing_is_claimed():
    assert closeness_p([1.0, 0.9], np.ones(5)).tolist() == [1.0, 0.0]
    assert closeness_p([0.0], np.zeros(5)).tolist() == [1.0]
    assert closeness_p([0.0], [0.9, 0.8]).tolist() == [0.0]


@pytest.mark.parametrize("dimension", [3, 15])
def test_new_people_are_no_copies_and_half_copies_are_found(dimension):
    """In as many cohorts as the level says, at most, an image is called a copy; here with no bound on the ratio, hence by the law alone."""
    rng = np.random.default_rng(dimension)
    alarms, found, n = 0, [], 60
    for _ in range(200):
        patients, drawn = rng.normal(size=(40, dimension)), rng.normal(size=(n, dimension))
        real = Closeness.of(among_people(euclidean(patients, patients), range(40))[0]).ratio
        for copied in (0, n // 2):
            drawn[:copied] = patients[:copied] + 0.001 * rng.normal(size=(copied, dimension))
            closeness = Closeness.of(euclidean(drawn, patients))
            p = closeness_p(closeness.ratio, real)
            flagged = copies(closeness, p, [str(i) for i in range(40)], Gate(ratio=1.0), where="image", looks=n)
            if copied:
                found.append(sum(row < copied for row in flagged) / copied)
                assert all(f"a copy of {row} " in reason for row, reason in flagged.items() if row < copied)
            else:
                alarms += bool(flagged)
    assert stats.binomtest(alarms, 200, 0.05, alternative="greater").pvalue > 0.001
    assert np.mean(found) > 0.99


def test_a_ratio_that_is_improbable_but_not_small_is_no_copy():
    closeness = Closeness.of([[0.6, 1.0, 1.0], [0.4, 1.0, 1.0]])
    flagged = copies(closeness, np.zeros(2), ["a", "b", "c"], Gate(), where="image", looks=2)
    assert flagged == {1: "a copy of a (image: 0.40 times as far from them as from anybody else)"}


# What generation looks at.


def screened(drawn, references, people):
    return screen_images(drawn, Patients.of(references, people), Gate(), looks=len(drawn))


def test_images_are_screened_against_those_trained_on():
    patients = images(12)
    drawn = torch.cat([images(5, seed=1), 0.5 * patients[3:4] + 0.2, patients[7:8] + 0.01 * images(1, seed=2)])
    people = [f"p{i:02d}" for i in range(12)]
    found = screened(drawn, patients, people)
    assert sorted(found) == [5, 6]
    assert found[5].startswith("a copy of p03 (image: 0.00 times")
    assert found[6].startswith("a copy of p07 ")
    # Two scans of one person are no second person.
    twice = torch.cat([patients, patients[3:4] + 0.01 * images(1, seed=3)])
    assert sorted(screened(drawn, twice, [*people, "p03"])) == [5, 6]
    assert screened(drawn, patients, ["a"] * 6 + ["b"] * 6) == {}


def test_of_many_images_and_people_a_screening_takes_some_at_a_time(monkeypatch):
    rows, people = standardised(images(23)), np.array([f"p{i % 13:02d}" for i in range(23)])
    slow = Closeness.of(among_people(aligned_distances(rows, rows), people)[0]).ratio
    drawn = torch.cat([images(5, seed=1), images(23)[3:4]])
    expected = screened(drawn, images(23), people.tolist())
    assert list(expected) == [5]
    monkeypatch.setattr("tinycohort.augment.release.copying.CHUNK", 2)
    assert usual_ratios(rows, people) == pytest.approx(slow, abs=1e-5)
    assert screened(drawn, images(23), people.tolist()) == expected
    monkeypatch.setattr("tinycohort.augment.release.copying.EXAMPLES", 5)
    assert usual_ratios(rows, people) == pytest.approx(slow[::3], abs=1e-5)
    assert list(screened(drawn, images(23), people.tolist())) == [5]


def test_latents_at_a_posterior_s_mean_are_reconstructions_and_its_draws_are_none():
    generator = torch.Generator().manual_seed(0)
    posterior = Posterior(torch.randn((30, 8), generator=generator), torch.full((30, 8), -4.0))
    alarms = sum(bool(screen_latents(posterior.sample(generator), posterior, Gate(), looks=30)) for _ in range(200))
    assert stats.binomtest(alarms, 200, 0.05, alternative="greater").pvalue > 0.001
    z = posterior.sample(generator)
    z[[4, 9]] = posterior.mean[[4, 9]] + 0.05 * posterior.std[[4, 9]]
    assert sorted(screen_latents(z, posterior, Gate(), looks=30)) == [4, 9]


def test_a_collapsed_posterior_shows_nobody():
    collapsed = Posterior(torch.zeros(30, 8), torch.zeros(30, 8))
    assert screen_latents(collapsed.mean, collapsed, Gate(), looks=30) == {}
    assert screen_latents(torch.zeros(3, 8), Posterior(torch.zeros(1, 8), torch.zeros(1, 8)), Gate(), looks=3) == {}


# The thresholds.


@pytest.mark.parametrize(
    ("texts", "reason", "says"),
    [
        (["copie=0.1"], "why", "--gate changes level, ratio, copies, not 'copie'"),
        (["power=0.1"], "why", "--gate changes level, ratio, copies, not 'power'"),
        (["copies"], "why", "--gate is written as level=0.1, not 'copies'"),
        (["copies=ten"], "why", "--gate is written as"),
        (["copies=1.1"], "why", "--gate copies lies between 0 and 1, not at 1.1"),
        (["copies=nan"], "why", "--gate copies lies between 0 and 1, not at nan"),
        (["copies=0.1"], "  ", "--gate and --reason go together"),
        ([], "why", "--gate and --reason go together"),
    ],
)
def test_a_threshold_is_changed_by_its_name_within_bounds_and_for_a_reason(texts, reason, says):
    with pytest.raises(UsageError, match=says):
        Gate.parse(texts, reason, ("level", "ratio", "copies"))


def test_changed_thresholds_are_recorded_with_their_reason():
    assert Gate.parse([], "") == Gate()
    assert "Reason" not in Gate().as_json()
    gate = Gate.parse(["copies=0.2", "power=0"], " stays inside ")
    assert gate == Gate(copies=0.2, power=0.0, reason="stays inside")
    assert gate.as_json()["Changed"] == ["copies", "power"]
    assert gate.as_json()["Reason"] == "stays inside"
    assert gate.as_json(["level", "copies"])["Thresholds"] == {"level": 0.05, "copies": 0.2}

"""Measures of fidelity against closed forms and slow, independent versions in float64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg

from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.experiments.fidelity import scores
from tinycohort.experiments.fidelity.diversity import LEAST_SIDES, ms_ssim_of_pairs, n_scales
from tinycohort.experiments.fidelity.features import Passport
from tinycohort.experiments.fidelity.frechet import Moments, frechet_distance, frechet_distance_of_features
from tinycohort.experiments.fidelity.kernel import kernel_distance
from tinycohort.experiments.fidelity.neighbours import density_coverage, precision_recall
from tinycohort.experiments.fidelity.prd import prd_curve, prd_of_histograms
from tinycohort.experiments.fidelity.scores import Estimate, Sample, Score, ranking, score, score_against

PASSPORT = Passport("toy", "Fréchet distance", "none", "none")


def draws(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# Fréchet distance


def moments(mean: np.ndarray, covariance: np.ndarray, n: int = 1000) -> Moments:
    return Moments(n, mean, covariance)


def test_frechet_of_non_commuting_covariances_against_sqrtm():
    a, b = draws(0, 12, 12), draws(1, 12, 12)
    first, second = a @ a.T, b @ b.T
    assert np.abs(first @ second - second @ first).max() > 1, "the test would not exercise the root"
    step = draws(2, 12)
    wanted = step @ step + np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)
    assert frechet_distance(moments(step, first), moments(np.zeros(12), second)) == pytest.approx(wanted, rel=1e-10)


def test_frechet_of_lesser_rank_against_the_closed_form():
    # Where one covariance is v v^T, the root's trace is sqrt(v^T S v); of two planes it is the nuclear norm of A^T B.
    a, b, v = draws(0, 40, 7), draws(1, 40, 5), draws(2, 40)
    full = draws(3, 40, 40)
    full = full @ full.T
    zero = np.zeros(40)
    wanted = v @ v + np.trace(full) - 2 * math.sqrt(v @ full @ v)
    assert frechet_distance(moments(zero, np.outer(v, v), 2), moments(zero, full)) == pytest.approx(wanted, rel=1e-9)
    wanted = np.trace(a @ a.T) + np.trace(b @ b.T) - 2 * np.linalg.svd(a.T @ b, compute_uv=False).sum()
    assert frechet_distance(moments(zero, a @ a.T, 8), moments(zero, b @ b.T, 6)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(10, 200), (200, 10), (15, 20), (64, 65), (2, 2)])
def test_frechet_of_features_is_that_of_their_moments(n, m):
    x, y = draws(0, n, 30) @ draws(1, 30, 30) + 3, draws(2, m, 30)
    by_moments = frechet_distance(Moments.of(x), Moments.of(y))
    assert frechet_distance_of_features(x, y) == pytest.approx(by_moments, rel=1e-6)
    assert frechet_distance(Moments.of(y), Moments.of(x)) == pytest.approx(by_moments, rel=1e-9)


def test_frechet_distance_is_0_of_a_sample_to_itself_and_of_constants_their_distance():
    for n in (5, 50):
        x = draws(0, n, 20)
        assert frechet_distance_of_features(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_distance_of_features(np.zeros((9, 4)), np.ones((9, 4))) == 4


def test_moments_keep_the_digits_that_large_means_take():
    x = draws(0, 1001, 6) * np.array([1e-3, 1, 1, 10, 100, 1]) + 1e4
    found = Moments.of(x)
    assert found.n == 1001
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-8, atol=1e-9)


# KID


def test_kernel_distance_against_a_double_loop(monkeypatch):
    monkeypatch.setattr("tinycohort.experiments.fidelity.kernel.CHUNK", 4)
    x, y = draws(0, 9, 5), draws(1, 7, 5) + 0.5

    def k(a, b):
        return (sum(a * b) / 5 + 1) ** 3

    wanted = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / (9 * 8)
    wanted += sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / (7 * 6)
    wanted -= 2 * sum(k(a, b) for a in x for b in y) / (9 * 7)
    assert kernel_distance(x, y) == pytest.approx(wanted, rel=1e-12)


def test_kernel_distance_has_no_bias():
    # In one dimension k(x, y) = sum_j C(3, j) x^j y^j, so MMD^2 is the weighted squared difference of the moments.
    same = [kernel_distance(draws(2 * i, 8, 3), draws(2 * i + 1, 8, 3)) for i in range(2000)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(len(same))
    shift = 0.5
    wanted = 3 * shift**2 + 3 * (shift**2) ** 2 + (shift**3 + 3 * shift) ** 2
    apart = [kernel_distance(draws(2 * i, 8, 1), draws(2 * i + 1, 8, 1) + shift) for i in range(4000)]
    assert abs(np.mean(apart) - wanted) < 3 * np.std(apart) / math.sqrt(len(apart))


# PRD


def test_prd_of_histograms_against_loops():
    real, synthetic = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.3, 0.2, 0.4])
    curve = prd_of_histograms(real, synthetic, n_angles=11)
    for i, angle in enumerate(np.linspace(1e-10, np.pi / 2 - 1e-10, 11)):
        slope = math.tan(angle)
        assert curve.precision[i] == pytest.approx(sum(min(slope * p, q) for p, q in zip(real, synthetic, strict=True)), rel=1e-9)
        assert curve.recall[i] == pytest.approx(sum(min(p, q / slope) for p, q in zip(real, synthetic, strict=True)), rel=1e-9)
    assert curve.precision[-1] == pytest.approx(0.6), "the share of the synthetic law where there is anything real"
    assert curve.recall[0] == pytest.approx(1.0), "the share of the real law where there is anything synthetic"


def test_prd_s_best_f_against_a_search():
    curve = prd_of_histograms(np.array([0.7, 0.3]), np.array([0.2, 0.8]))
    for beta in (8, 1 / 8):
        values = [(1 + beta**2) * p * r / (beta**2 * p + r) if p + r else 0 for p, r in zip(curve.precision, curve.recall, strict=True)]
        assert curve.best_f(beta) == pytest.approx(max(values), rel=1e-12)
    disjoint = prd_of_histograms(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert disjoint.best_f(8) == disjoint.best_f(1 / 8) == 0


def modes(seed: int, n: int, which: list[int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 10 * np.eye(8)[rng.choice(which, n)] + 0.1 * rng.standard_normal((n, 8))


def test_f_8_falls_with_missing_modes_and_f_1_8_with_junk():
    real = modes(0, 400, [0, 1, 2, 3])
    same = prd_curve(real, modes(1, 400, [0, 1, 2, 3]), seed=0, n_clusters=8)
    missing = prd_curve(real, modes(2, 400, [0, 1]), seed=0, n_clusters=8)
    junk = prd_curve(real, modes(3, 400, [0, 1, 2, 3, 4, 5, 6, 7]), seed=0, n_clusters=8)
    assert min(same.best_f(8), same.best_f(1 / 8)) > 0.9
    assert missing.best_f(8) < 0.6 < 0.9 < missing.best_f(1 / 8), "half the modes are missing: recall is low"
    assert junk.best_f(1 / 8) < 0.6 < 0.9 < junk.best_f(8), "half the images are junk: precision is low"


def test_prd_is_the_same_of_the_same_seed_and_wants_equal_sizes():
    x, y = draws(0, 60, 3), draws(1, 60, 3)
    assert (prd_curve(x, y, seed=1, n_runs=2).precision == prd_curve(x, y, seed=1, n_runs=2).precision).all()
    assert (prd_curve(x, y, seed=1, n_runs=2).precision != prd_curve(x, y, seed=2, n_runs=2).precision).any()
    with pytest.raises(ValueError, match="as many"):
        prd_curve(x, y[:50], seed=0)


# Neighbours


def brute(real: np.ndarray, synthetic: np.ndarray, k: int) -> dict[str, float]:
    def radius(points, i):
        return sorted(math.dist(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]

    in_real = [[math.dist(s, r) <= radius(real, i) for i, r in enumerate(real)] for s in synthetic]
    in_synthetic = [[math.dist(r, s) <= radius(synthetic, i) for i, s in enumerate(synthetic)] for r in real]
    return {
        "precision": float(np.mean([any(row) for row in in_real])),
        "recall": float(np.mean([any(row) for row in in_synthetic])),
        "density": sum(map(sum, in_real)) / (k * len(synthetic)),
        "coverage": float(np.mean(np.any(in_real, axis=0))),
    }


@pytest.mark.parametrize("shift", [0, 1e3], ids=["", "far from 0"])
def test_neighbours_against_brute_force(monkeypatch, shift):
    monkeypatch.setattr("tinycohort.experiments.fidelity.neighbours.CHUNK", 7)
    real, synthetic = draws(0, 40, 3) + shift, 0.7 * draws(1, 31, 3) + 0.6 + shift
    wanted = {k: brute(real, synthetic, k) for k in (3, 5)}
    assert len(set(wanted[3].values())) == 4, "the test would not tell the measures apart"
    for k, values in wanted.items():
        assert precision_recall(real, synthetic, k) == pytest.approx((values["precision"], values["recall"]))
        assert density_coverage(real, synthetic, k) == pytest.approx((values["density"], values["coverage"]))


def test_missing_modes_cost_recall_and_coverage_junk_costs_precision_and_density():
    real, missing, junk = modes(0, 200, [0, 1, 2, 3]), modes(1, 200, [0, 1]), modes(2, 200, [0, 1, 2, 3, 4, 5, 6, 7])
    precision, recall = precision_recall(real, missing)
    assert (precision > 0.8, recall < 0.6) == (True, True)
    precision, recall = precision_recall(real, junk)
    assert (precision < 0.6, recall > 0.8) == (True, True)
    assert density_coverage(real, missing)[1] < 0.6
    assert density_coverage(real, junk)[0] < 0.65


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 60)])
def test_density_and_coverage_of_equal_laws_are_what_they_are_expected_to_be(n, m):
    # Naeem et al. 2020, Lemma 1: no synthetic image is in a ball where the k = 5 nearest of the other n - 1 + m images are all real.
    expected_coverage = 1 - math.prod((n - i) / (n + m - i) for i in range(1, 6))
    values = np.array([density_coverage(draws(2 * i, n, 4), draws(2 * i + 1, m, 4)) for i in range(500)])
    wanted = (1.0, expected_coverage)
    assert (np.abs(values.mean(axis=0) - wanted) < 3.5 * values.std(axis=0) / math.sqrt(len(values))).all()


def test_a_neighbour_needs_more_images_than_its_number():
    with pytest.raises(ValueError, match="3-th"):
        precision_recall(draws(0, 3, 2), draws(1, 9, 2))


# Diversity


@pytest.mark.parametrize("shape", [(8, 9), (16, 16), (24, 22), (44, 50), (12, 12, 12), (22, 23, 24)], ids=str)
def test_ms_ssim_is_1_of_repeats_and_falls_with_noise(shape):
    one = torch.rand((1, 1, *shape), generator=torch.Generator().manual_seed(0))
    noise = torch.rand((7, 1, *shape), generator=torch.Generator().manual_seed(1))
    assert ms_ssim_of_pairs(one.expand(6, *one.shape[1:])) == pytest.approx(1, abs=1e-6)
    # Constant images have no contrast to compare.
    assert ms_ssim_of_pairs(torch.zeros(2, 1, *shape)) == pytest.approx(1)
    a_little, much = (ms_ssim_of_pairs((one + share * (noise - one)).contiguous()) for share in (0.1, 0.9))
    assert 1 > a_little > much


def test_every_number_of_scales_fits():
    for scales, side in enumerate(LEAST_SIDES, start=1):
        assert n_scales((side, side)) == scales
        assert math.isfinite(ms_ssim_of_pairs(torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))))


def test_pairs_are_disjoint():
    a, b = torch.zeros(1, 16, 16), torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert ms_ssim_of_pairs(torch.stack([a, a, b, b, a])) == pytest.approx(1, abs=1e-6)


# Scores


def sample(features: np.ndarray, **columns: object) -> Sample:
    return Sample(features.astype(np.float32), PASSPORT, **columns)  # type: ignore[arg-type]


def test_the_floor_has_the_bias_that_the_score_has():
    real = sample(draws(0, 400, 30))
    found = score(real, {"same law": sample(draws(1, 200, 30)), "shifted": sample(draws(2, 300, 30) + 0.7)}, measures=["frechet"], seed=0)
    same, shifted = found
    assert (same.n, shifted.n) == (200, 200)
    assert same.floor == shifted.floor
    assert same.floor.value > 1, "of equal laws the true distance is 0"
    assert same.floor.low < same.estimate.value < same.floor.high
    assert shifted.estimate.low > shifted.floor.high
    assert len(same.estimate.blocks) == scores.BLOCKS


def test_every_measure_is_scored_beside_its_floor_and_a_seed_decides_all():
    images = torch.rand((120, 1, 12, 12), generator=torch.Generator().manual_seed(0))
    real, other = sample(draws(0, 120, 4), images=images), sample(draws(1, 70, 4) + 0.8, images=images[:70])
    found = score(real, {"other": other}, seed=3)
    assert [item.measure for item in found] == [
        "Fréchet distance",
        *(name for law in list(scores.MEASURES.values())[1:] for name in law.names),
    ]
    for item in found:
        middle = np.mean(item.estimate.blocks) if item.estimate.of_blocks else item.estimate.value
        assert item.estimate.low <= middle <= item.estimate.high
    assert [item.measure for item in found if not item.estimate.of_blocks] == ["Fréchet distance", "kid", "ms-ssim"]
    assert score(real, {"other": other}, seed=3) == found
    assert score(real, {"other": other}, seed=4) != found


def test_nobody_is_in_both_halves_and_both_have_every_class():
    people = np.repeat(np.arange(40), 3)
    labels = np.where(people < 10, "AD", "CN")
    real = sample(draws(0, 120, 2), labels=labels, participants=people)
    other = sample(draws(1, 90, 2), labels=np.repeat(["AD", "CN", "unknown"], 30))
    (first, second), drawn = scores._draw(real, {"other": other}, np.random.default_rng(0))
    assert not set(people[np.concatenate(first)]) & set(people[np.concatenate(second)])
    assert [list(map(len, part)) for part in (first, second, drawn["other"])] == [[15, 30]] * 3
    assert set(labels[first[0]]) == {"AD"} == set(labels[second[0]])
    blocks = scores._whole_and_blocks(real, first, 3)
    assert [(part.labels == "AD").sum() for part in blocks[1:]] == [5, 5, 5]
    rows = [row.tobytes() for part in blocks[1:] for row in part.features]
    assert len(set(rows)) == len(rows) == len(blocks[0])


def test_the_interval_of_an_unbiased_measure_holds_the_truth():
    shift = 1.0
    wanted = 3 * shift**2 + 3 * (shift**2) ** 2 + (shift**3 + 3 * shift) ** 2
    held = 0
    for i in range(150):
        (found,) = score(sample(draws(3 * i, 200, 1)), {"": sample(draws(3 * i + 1, 100, 1) + shift)}, measures=["kid"], seed=i)
        held += found.estimate.low <= wanted <= found.estimate.high
    # 95 % of 150, less 3 standard errors; the law of a cubic kernel's values has heavy tails.
    assert held >= 0.88 * 150


def test_samples_of_one_law_tie_and_others_do_not():
    claims = 0
    for i in range(60):
        real = sample(draws(4 * i, 240, 3))
        found = score(real, {name: sample(draws(4 * i + j, 120, 3) + 0.5) for j, name in enumerate("abc", 1)}, measures=["frechet"], seed=i)
        claims += ranking(found)["rank"].max() > 1
    assert claims <= 8, "5 % of 60 and three standard errors"
    parts = {"worst": draws(1, 200, 3) + 3, "good": draws(2, 200, 3), "bad": draws(3, 200, 3) + 1}
    table = ranking(score(sample(draws(0, 400, 3)), {name: sample(part) for name, part in parts.items()}, measures=["frechet"], seed=0))
    assert list(table["synthetic"]) == ["good", "bad", "worst"]
    assert list(table["rank"]) == [1, 2, 3]
    assert set(table["verdict"]) == {"apart from all others"}


def test_no_measure_tells_two_samples_of_one_law_apart_too_often(monkeypatch):
    # Far from the real law, where clusters and balls hold few images and whole samples differ more than their blocks' spread tells.
    monkeypatch.setattr("tinycohort.experiments.fidelity.scores.prd_curve", lambda x, y, seed: prd_curve(x, y, seed=seed, n_runs=1))
    claims: dict[str, int] = {}
    for i in range(40):
        samples = {name: sample(draws(4 * i + j, 100, 20) + 1.2) for j, name in enumerate("ab", 1)}
        found = score(sample(draws(4 * i, 200, 20)), samples, measures=["kid", "prd", "precision-recall", "density-coverage"], seed=i)
        for measure in dict.fromkeys(item.measure for item in found):
            told = ranking([item for item in found if item.measure == measure])["rank"].max() > 1
            claims[measure] = claims.get(measure, 0) + told
    assert len(claims) == 7
    # 5 % of 40, and three standard errors.
    assert max(claims.values()) <= 6, claims


def test_blocks_that_all_say_the_same_tell_nothing_of_the_spread():
    parts = {"far": draws(1, 100, 3) + 50, "farther": draws(2, 100, 3) + 90}
    found = score(sample(draws(0, 200, 3)), {n: sample(p) for n, p in parts.items()}, measures=["precision-recall"], seed=0)
    assert found[0].estimate.blocks == (0.0,) * scores.BLOCKS
    assert math.isnan(found[0].estimate.low)
    assert list(ranking([item for item in found if item.measure == "precision"])["rank"]) == [1, 1]


def test_high_is_better_where_it_is():
    parts = {"misses": modes(1, 200, [0]), "has all": modes(2, 200, [0, 1, 2, 3])}
    found = score(sample(modes(0, 400, [0, 1, 2, 3])), {n: sample(p) for n, p in parts.items()}, measures=["density-coverage"], seed=0)
    table = ranking([item for item in found if item.measure == "coverage"])
    assert list(table["synthetic"]) == ["has all", "misses"]
    assert list(table["rank"]) == [1, 2]


def test_too_few_images_for_an_interval_tie():
    found = score(sample(draws(0, 40, 2)), {"a": sample(draws(1, 20, 2)), "b": sample(draws(2, 20, 2) + 5)}, measures=["frechet"], seed=0)
    assert math.isnan(found[0].estimate.low)
    assert list(ranking(found)["rank"]) == [1, 1]


def test_what_cannot_be_compared_is_told():
    real, other = sample(draws(0, 60, 2)), sample(draws(1, 30, 2))
    with pytest.raises(UsageError, match="no measure 'fid'"):
        score(real, {"": other}, measures=["fid"], seed=0)
    foreign = Sample(other.features, Passport("toy", "Fréchet distance", "others", "none"))
    with pytest.raises(UsageError, match=r"differ in weights \(none; others\)"):
        score(real, {"": foreign}, seed=0)
    with pytest.raises(DataError, match="Only 4 images"):
        score(real, {"": sample(draws(1, 4, 2))}, seed=0)
    with pytest.raises(UsageError, match="give the sample its images"):
        score(real, {"": other}, measures=["ms-ssim"], seed=0)
    one, two = (score(real, {"": other}, measures=["frechet"], seed=seed)[0] for seed in (0, 1))
    with pytest.raises(UsageError, match="scores of one call"):
        ranking([one, two])
    images = torch.rand((60, 1, 12, 12), generator=torch.Generator().manual_seed(0))
    alike = score(sample(draws(0, 60, 2), images=images), {"": sample(draws(1, 30, 2), images=images[:30])}, measures=["ms-ssim"], seed=0)
    with pytest.raises(UsageError, match="ranks nothing"):
        ranking(alike)


def test_a_reference_that_is_not_cut_is_compared_as_a_whole():
    labels = np.array(["a"] * 60 + ["b"] * 40 + ["c"] * 20)
    real, other = sample(draws(0, 120, 3), labels=labels), sample(draws(1, 120, 3), labels=labels)
    found = score_against(real, other, {"a": 60, "b": 40}, measures=["frechet", "kid"], seed=0)
    wanted = frechet_distance_of_features(real.features[:100], other.features[:100])
    assert found["Fréchet distance"].value == pytest.approx(wanted, rel=1e-9), "all of two classes, and none of the third"
    assert len(found["kid"].blocks) == scores.BLOCKS
    # The same seed draws the same rows of the reference, whatever it is compared with.
    half = {"a": 30, "b": 20}
    itself = score_against(real, real, half, measures=["frechet"], seed=0)["Fréchet distance"].value
    assert itself > 0, "the sample's rows are drawn apart from the reference's"
    assert score_against(real, other, half, measures=["kid"], seed=0) == score_against(real, other, half, measures=["kid"], seed=0)
    assert score_against(real, other, half, measures=["kid"], seed=0) != score_against(real, other, half, measures=["kid"], seed=1)


def test_two_samples_differ_if_they_do_in_every_run():
    real = sample(draws(0, 200, 3), labels=np.full(200, "a"))

    def run(seed: int, **shifts: float) -> list[Score]:
        def estimate(features: np.ndarray) -> Estimate:
            other = sample(features, labels=np.full(200, "a"))
            return score_against(real, other, {"a": 200}, measures=["frechet"], seed=0)["Fréchet distance"]

        floor = estimate(draws(99, 200, 3))
        parts = {name: estimate(draws(10 * seed + i, 200, 3) + shift) for i, (name, shift) in enumerate(shifts.items(), 1)}
        return [Score(name, "Fréchet distance", found, floor, 200, "low", PASSPORT) for name, found in parts.items()]

    first, second, turned = run(1, a=0.0, b=2.0, c=5.0), run(2, a=0.0, b=2.0), run(3, a=2.0, b=0.0, c=5.0)
    assert list(ranking(first, second)["rank"]) == [1, 2, 3], "what a run lacks is compared in the others"
    table = ranking(first, second, turned)
    assert list(table["rank"]) == [1, 1, 3], "one run says the opposite"
    assert table["value"][2] == pytest.approx(np.mean([first[2].estimate.value, turned[2].estimate.value]))


def test_runs_may_have_other_numbers_of_images_and_a_run_has_one():
    found = Estimate(1.0, math.nan, math.nan, False, (0.9, 1.0, 1.1, 0.95, 1.05))
    better = replace(found, value=0.5, blocks=(0.4, 0.51, 0.61, 0.44, 0.56))

    def run(n: int, measure: str = "kid", floor: Estimate = found) -> list[Score]:
        return [Score(name, measure, value, floor, n, "low", PASSPORT) for name, value in (("a", found), ("b", better))]

    table = ranking(run(18), run(11))
    assert table["synthetic"].tolist() == ["b", "a"]
    assert table["rank"].tolist() == [1, 2]
    for runs in ([run(18)[:1] + run(11)[1:]], [run(18), run(18, "recall")], [run(18), run(18, floor=better)]):
        with pytest.raises(
            UsageError, match="by one measure, in each run at one size, on the same real images: take the scores of one call"
        ):
            ranking(*runs)

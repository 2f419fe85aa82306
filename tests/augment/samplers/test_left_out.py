"""People who are left out: honestly chosen settings, folds, and a threshold that keeps its promise."""

import math
import warnings

import numpy as np
import pytest
import torch
from grids import numpy_state, seeded
from scipy.stats import binom

from tinycohort.augment.samplers import left_out
from tinycohort.augment.samplers.laws import Kernels, Mixture, Whitening
from tinycohort.augment.samplers.left_out import (
    FOLDS,
    MOST_SCORED,
    WIDTHS,
    People,
    choose_kernels,
    choose_manifold,
    choose_mixture,
    chosen_by_others,
    conformal_threshold,
    rows_of,
)
from tinycohort.augment.samplers.manifold import Manifold

LEVEL = 1e-4  # of every test; seeds are fixed


@pytest.mark.parametrize(
    ("n", "most", "folds"),
    [
        (4, None, 4),
        (FOLDS, None, FOLDS),
        (FOLDS + 1, None, FOLDS),
        (50, 20, FOLDS),
        (5000, None, FOLDS),
    ],
)
def test_every_code_is_scored_by_a_law_that_has_not_seen_it(n, most, folds):
    seen = []

    def score(kept, out):
        assert not set(kept) & set(out)
        assert len(set(kept)) == len(kept)
        assert len(kept) == n - len(out) if most is None else len(kept) <= most
        seen.append(out)
        return np.stack([out, 2 * out]).astype(float)

    people = People(np.arange(n))
    matrix, rows = people.scores(score, most=most), people.rows
    assert len(seen) == folds
    assert np.array_equal(matrix, [rows, 2 * rows])
    assert len(set(rows)) == len(rows) == min(n, MOST_SCORED)
    assert set(rows) <= set(range(n))


def test_a_person_is_left_out_with_all_of_their_codes():
    whose = np.random.default_rng(0).integers(0, 30, size=90) * 7
    people = People.of(torch.zeros(90, 2), torch.as_tensor(whose))
    folds = people.folds
    assert len(people) == len(set(whose)) == len(people.left_out)
    for kept, out in folds:
        assert not set(whose[kept]) & set(whose[out])
        assert sorted([*kept, *out]) == list(range(90))
    assert np.array_equal(np.concatenate([out for _, out in folds]), people.rows)
    assert sorted(people.rows) == list(range(90))
    values = np.stack([people.rows.astype(float), whose[people.rows].astype(float)])
    numbers = [int(whose[rows[0]]) for rows in people.left_out]
    assert np.allclose(people.means(values), [[np.flatnonzero(whose == number).mean() for number in numbers], numbers])
    assert np.array_equal(people.rows[people.first], [rows[0] for rows in people.left_out])


@pytest.mark.parametrize(("n_people", "each", "n_out", "n_scored"), [(5, 1100, 5, 400), (100, 300, 100, 20), (3000, 3, MOST_SCORED, 1)])
def test_of_many_codes_some_are_scored_and_their_people_are_left_out_with_all(n_people, each, n_out, n_scored):
    whose = np.arange(n_people).repeat(each)
    people, again = (People.of(torch.zeros(len(whose), 1), torch.as_tensor(whose)) for _ in range(2))
    assert [len(rows) for rows in people.scored] == [n_scored] * n_out
    assert len(people.rows) <= MOST_SCORED
    assert np.array_equal(people.rows, again.rows)
    assert all(set(some) <= set(rows) for some, rows in zip(people.scored, people.left_out, strict=True))
    for kept, out in people.folds:
        assert not set(whose[kept]) & set(whose[out])
        assert len(kept) == len(whose) - each * len(set(whose[out]))
    assert np.array_equal(people.means(whose[people.rows][None].astype(float))[0], whose[people.rows[people.first]])


def test_a_law_of_few_people_with_many_images_each_is_that_of_these_people():
    """Of 30 people the manifold is calibrated by 30, though one person has more images than are scored."""
    person = torch.cat([torch.arange(29).repeat_interleave(2), torch.full((2400,), 29)])
    codes = torch.randn((30, 2), generator=seeded(0))[person] + 0.1 * torch.randn((len(person), 2), generator=seeded(1))
    choice = choose_manifold(codes, codes[:58], person)
    assert len(choice.scores) == 30
    assert choice.settings["holds"] == 0.9
    assert choice.settings["log_threshold"] is not None


def test_a_centroid_is_left_out_with_its_person_where_its_code_is_not_scored(monkeypatch):
    """Each person has two codes, one of which is scored: a centroid that stayed would give it a density of hundreds of nats more."""
    codes = torch.randn((12, 3), generator=seeded(0)).repeat_interleave(2, dim=0)
    codes[1::2] += 1e-3
    person = torch.arange(12).repeat_interleave(2)
    whole = choose_manifold(codes, codes, person)
    monkeypatch.setattr(left_out, "MOST_SCORED", 12)
    part = choose_manifold(codes, codes, person)
    assert len(part.scores) == len(whole.scores) == 12
    assert np.allclose(part.scores, whole.scores, atol=0.1)


def test_repeated_scans_do_not_make_narrow_laws_look_good():
    """Two scans of 60 people, much more alike than people are: as 120 people they would choose the narrowest kernels, and hold nobody."""
    person = torch.arange(60).repeat_interleave(2)
    codes = torch.randn((60, 8), generator=seeded(0))[person] + 0.2 * torch.randn((120, 8), generator=seeded(1))
    new = torch.randn((400, 8), generator=seeded(2)) + 0.2 * torch.randn((400, 8), generator=seeded(3))
    fooled, honest = choose_kernels(codes).settings["width"], choose_kernels(codes, person).settings["width"]
    assert fooled == min(WIDTHS) < 0.6 < honest

    def held(person):
        choice = choose_manifold(codes, codes, person)
        settings = {name: choice.settings[name] for name in ("crowding", "width")}
        return float(Manifold.fit(codes, codes, **settings).cut(choice.settings["log_threshold"]).inside(new).double().mean())

    assert held(None) < 0.5
    assert 0.8 < held(person) < 0.98


def test_the_row_of_each_centroid_is_found_to_the_digit():
    """Codes that lie as close together as float32 can tell, where distances by the expanded square are noise; and codes alike."""
    codes = 3 + 1e-6 * torch.randn((200, 4), generator=seeded(0))
    order = torch.randperm(200, generator=seeded(1))[:90]
    assert len(set(map(bytes, codes.numpy()))) == 200
    assert np.array_equal(rows_of(codes[order], codes), order.numpy())
    alike = codes[[0, 0, 1, 1]]
    assert rows_of(alike[[0, 2, 1]], alike).tolist() == [0, 2, 1]
    assert rows_of(torch.zeros(1, 4), codes).tolist() == [-1]


@pytest.mark.parametrize("n", [12, 400])
@pytest.mark.parametrize("n_centroids", [1, 2])
def test_where_no_centroid_could_be_left_the_manifold_is_not_scored(n, n_centroids):
    codes = torch.randn((n, 3), generator=seeded(0))
    order = People.of(codes).rows
    choice = choose_manifold(codes, codes[order[:n_centroids]])
    # Two of 12 are left out one after the other, two of 400 in one fold.
    assert (len(choice.scores) == 0) == (n_centroids == 1 or n == 400)
    assert np.isfinite(choice.scores).all()
    if not len(choice.scores):
        assert choice.settings["log_threshold"] is None


def test_the_choice_for_a_code_never_looks_at_the_code_itself():
    scores = np.random.default_rng(2).normal(size=(5, 12))
    best, of_others = chosen_by_others(scores)
    assert best == scores.mean(axis=1).argmax()
    chosen = [int(np.delete(scores, code, axis=1).mean(axis=1).argmax()) for code in range(12)]
    assert len(set(chosen)) > 1
    assert np.allclose(of_others, [scores[candidate, code] for code, candidate in enumerate(chosen)])
    for code in range(12):
        changed = scores.copy()
        changed[:, code] = np.random.default_rng(code).normal(size=5) * 100
        assert chosen_by_others(changed)[1][code] == changed[chosen[code], code]


def test_a_choice_among_noise_is_not_rewarded():
    """The best of many equal candidates looks better than they are; the honest score does not."""
    rng = np.random.default_rng(0)
    found = [(*chosen_by_others(scores), scores) for scores in rng.normal(size=(400, 30, 20))]
    honest = np.array([scores.mean() for _, scores, _ in found])
    naive = np.array([matrix[best].mean() for best, _, matrix in found])
    error = honest.std(ddof=1) / math.sqrt(len(honest))
    assert honest.mean() < 3 * error
    assert naive.mean() > 10 * error


def test_the_kernels_width_by_brute_force():
    codes = torch.randn((30, 3), generator=seeded(0))
    choice = choose_kernels(codes)
    brute = np.empty((len(WIDTHS), 30))
    for kept, out in People.of(codes).folds:
        brute[:, out] = [Kernels.fit(codes[kept], width=width).log_density(codes[out]).numpy() for width in WIDTHS]
    rows = People.of(codes).rows
    assert choice.settings == {"width": WIDTHS[brute.mean(axis=1).argmax()]}
    assert np.allclose(choice.scores, chosen_by_others(brute[:, rows])[1], rtol=1e-9)


def test_a_mixture_has_as_many_components_as_there_are_crowds():
    codes = torch.randn((180, 2), generator=seeded(0))
    codes[:60] += torch.tensor([9.0, 0])
    codes[60:120] += torch.tensor([0, 9.0])
    choice = choose_mixture(codes)
    assert choice.settings["n_components"] == 3
    rows = People.of(codes).rows
    part = np.array_split(rows, FOLDS)[0]
    fitted = Mixture.fit(codes[np.delete(np.arange(180), part)], **choice.settings)
    assert np.allclose(choice.scores[: len(part)], fitted.log_density(codes[part]), rtol=1e-9)
    one = choose_mixture(torch.randn((180, 2), generator=seeded(0)))
    assert one.settings["n_components"] == 1


def test_a_mixture_finds_modes_that_lie_apart_in_one_dimension_of_many():
    """From one start EM ends in a division by the other dimensions, in which the modes lie on one another."""
    codes = torch.randn((120, 8), generator=seeded(0))
    codes[:60, 0] += 12
    for seed in range(5):
        means = Mixture.fit(codes, n_components=2, covariance="diag", seed=seed).means[:, 0]
        assert sorted(means.tolist()) == pytest.approx([-1, 1], abs=0.05)


def test_a_centroid_is_left_out_with_the_code_that_it_is():
    """Of codes far from each other a centroid that stayed would give its code a density of hundreds of nats more."""
    codes = torch.randn((12, 3), generator=seeded(0))
    choice = choose_manifold(codes, codes[::2])
    for place, row in list(enumerate(People.of(codes).rows))[:4]:
        kept = np.delete(np.arange(12), row)
        owners = [number for number in range(0, 12, 2) if number != row]
        whitening = Whitening.of(codes[kept])
        settings = {name: choice.settings[name] for name in ("crowding", "width")}
        law = Manifold.fit(codes[kept], codes[owners], **settings)
        assert torch.equal(law.whitening.factor, whitening.factor)
        # Another setting may be best for the others; none is far from it.
        assert choice.scores[place] == pytest.approx(float(law.log_whole(codes[row : row + 1])[0]), abs=1.5)


def test_two_modes_are_not_bridged():
    codes = torch.randn((120, 2), generator=seeded(0))
    codes[:60, 0] += 12
    choice = choose_manifold(codes, codes)
    assert choice.settings["crowding"] == 2
    manifold = Manifold.fit(codes, codes, crowding=2, width=choice.settings["width"]).cut(choice.settings["log_threshold"])
    assert not manifold.inside(torch.tensor([[6.0, 0.0]])).any()
    assert manifold.inside(torch.tensor([[0.0, 0.0], [12.0, 0.0]])).all()


def test_the_threshold_is_a_quantile_of_the_people_left_out():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 50.0))
    # (1 - 0.9) * 50 is a little below 5 in floating point.
    assert conformal_threshold(scores, 0.9) == 5
    assert conformal_threshold(scores, 0.8) == 10
    assert conformal_threshold(scores[:8], 0.9) is None
    assert conformal_threshold(np.arange(9.0), 0.9) == 0


@pytest.mark.parametrize("n", [19, 40, 99])
@pytest.mark.parametrize("holds", [0.8, 0.9, 0.95])
def test_the_threshold_keeps_its_promise(n, holds):
    """Of exchangeable scores, whatever their law: over many cohorts a new person reaches it as often as promised, and hardly more often."""
    cohorts = 4000
    scores = np.random.default_rng(n).standard_cauchy((cohorts, n + 1))
    reached = sum(scores[row, -1] >= conformal_threshold(scores[row, :-1], holds) for row in range(cohorts))
    low = binom.ppf(LEVEL / 2, cohorts, holds)
    high = binom.ppf(1 - LEVEL / 2, cohorts, min(1, holds + 1 / (n + 1)))
    assert low <= reached <= high


def test_the_manifold_holds_as_many_of_new_people_as_it_says():
    """Over cohorts that are drawn anew, in three dimensions, with the choice of its settings and all."""
    shares = []
    for cohort in range(12):
        people = torch.randn((290, 3), generator=seeded(cohort)) * torch.tensor([1.0, 0.5, 2.0])
        codes, new = people[:40], people[40:]
        choice = choose_manifold(codes, codes)
        settings = {name: choice.settings[name] for name in ("crowding", "width")}
        manifold = Manifold.fit(codes, codes, **settings).cut(choice.settings["log_threshold"])
        shares.append(float(manifold.inside(new).double().mean()))
    error = np.std(shares, ddof=1) / math.sqrt(len(shares))
    assert 0.9 - 4 * error < np.mean(shares) < 0.9 + 1 / 41 + 4 * error
    assert error < 0.03


@pytest.mark.parametrize("n", [1, 2, 3])
def test_of_too_few_codes_nothing_is_chosen(n):
    codes = torch.randn((n, 3), generator=seeded(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Kernels.fit(codes, **choose_kernels(codes).settings).log_density(codes).isfinite().all()
        assert choose_mixture(codes).settings["n_components"] == 1
        settings = choose_manifold(codes, codes).settings
    assert (settings["log_threshold"], settings["holds"]) == (None, 1.0)
    assert Manifold.fit(codes, codes, crowding=settings["crowding"], width=settings["width"]).log_whole(codes).isfinite().all()


CHOICES = {"kde": choose_kernels, "mixture": choose_mixture, "riemannian": lambda codes: choose_manifold(codes, codes)}


@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
def test_the_same_codes_give_the_same_choice_and_no_global_generator_is_asked(choose):
    codes = torch.randn((26, 3), generator=seeded(0))
    before, numpy_before = torch.get_rng_state(), numpy_state()
    first, second = choose(codes), choose(codes)
    assert first.settings == second.settings
    assert np.array_equal(first.scores, second.scores)
    assert np.isfinite(first.scores).all()
    assert torch.equal(torch.get_rng_state(), before)
    assert numpy_state() == numpy_before

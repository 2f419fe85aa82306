"""How laws are scored and chosen: by brute force on few codes, and by made truths."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from grids import numpy_state, seeded
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from tinycohort.augment.autoencoders import build_autoencoder
from tinycohort.augment.autoencoders.ae import AE
from tinycohort.augment.geometry.metric import RiemannianMetric
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.augment.samplers import law_scores, laws, left_out, plain
from tinycohort.augment.samplers.latents import Latents
from tinycohort.augment.samplers.law_scores import COLUMNS, SINGULAR, WITHOUT, LawScore, LawScores, score_laws
from tinycohort.augment.samplers.left_out import Choice, People, choose_kernels, choose_manifold
from tinycohort.augment.samplers.registry import fit_sampler, samplers_for


def latents_of(codes: Tensor, log_var: float = -5.0, model: str = "vae") -> Latents:
    """Of posteriors around ``codes`` ``(n, D)``, through the flow of the model if it has one."""
    torch.manual_seed(0)
    autoencoder = build_autoencoder(model, Architecture("conv", (8, 8), latent_dim=codes.shape[1], channels=2)).eval()
    if model == "ae":
        return Latents(codes, autoencoder)
    posterior = Posterior(codes, torch.full_like(codes, log_var))
    metric = RiemannianMetric.from_posterior(posterior)
    with torch.no_grad():
        for name, parameter in autoencoder.named_parameters():
            if name.startswith("steps."):
                parameter.normal_(0, 0.5 if parameter.ndim < 2 else parameter.shape[1] ** -0.5, generator=seeded(1))
        transported = autoencoder.transport(codes)
    return Latents(transported, autoencoder, posterior, metric)


def gaussian_codes(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn((n, dim), generator=seeded(seed)) * torch.linspace(0.6, 1.4, dim)


def two_modes(n: int, dim: int) -> Tensor:
    codes = gaussian_codes(n, dim)
    codes[: n // 2, 0] += 12
    return codes


@pytest.fixture(scope="module")
def scored() -> tuple[Latents, LawScores]:
    latents = latents_of(gaussian_codes(40, 4))
    return latents, score_laws(latents, latents_of(gaussian_codes(25, 4, seed=9)))


def by_name(scores: LawScores) -> dict[str, LawScore]:
    return {law.sampler: law for law in scores.laws}


def test_scores_are_those_of_brute_force(scored):
    """Of the laws that are closed, in float64 by SciPy and scikit-learn."""
    latents, scores = scored
    codes, variance = latents.codes.double().numpy(), math.exp(-5)
    found: dict[str, list[float]] = {"gaussian": [], "posterior": [], "normal": []}
    for kept, out in People.of(latents.codes).folds:
        others = codes[kept]
        for code in codes[out]:
            found["gaussian"].append(multivariate_normal(others.mean(axis=0), ledoit_wolf(others)[0]).logpdf(code))
            squares = ((others - code) ** 2).sum(axis=1) / variance
            found["posterior"].append(np.logaddexp.reduce(-0.5 * squares) - math.log(38) - 2 * math.log(2 * math.pi * variance))
            found["normal"].append(multivariate_normal(np.zeros(4), np.eye(4)).logpdf(code))
    laws = by_name(scores)
    for name, values in found.items():
        assert laws[name].left_out == pytest.approx(np.mean(values), rel=1e-4)
        assert laws[name].error == pytest.approx(np.std(values, ddof=1) / math.sqrt(40), rel=1e-3)
    kernels = choose_kernels(latents.codes)
    assert laws["kde"].left_out == pytest.approx(kernels.scores.mean())
    assert laws["kde"].settings == kernels.settings


def test_the_order_and_the_distance_to_the_best(scored):
    latents, scores = scored
    assert {law.sampler for law in scores.laws} == set(samplers_for(type(latents.autoencoder)))
    taking_part = [law for law in scores.laws if law.left_out is not None]
    assert list(scores.laws[: len(taking_part)]) == taking_part
    values = [law.left_out for law in taking_part]
    assert values == sorted(values, reverse=True)
    for law in taking_part:
        assert law.behind == pytest.approx(values[0] - law.left_out)
        assert law.behind_error >= 0
    for law in scores.laws[len(taking_part) :]:
        assert law.note == WITHOUT[law.sampler]


def test_people_held_out_are_scored_by_the_laws_of_all(scored):
    latents, scores = scored
    people = gaussian_codes(25, 4, seed=9)
    law = by_name(scores)["riemannian"]
    manifold = fit_sampler("riemannian", replace(latents, chosen=scores.settings))
    assert law.held_out == pytest.approx(float(manifold.log_whole(people).mean()), abs=1e-6)
    assert law.inside == float(manifold.inside(people).double().mean())
    assert law.inside > 0.6
    gaussian = fit_sampler("gaussian", latents)
    assert by_name(scores)["gaussian"].held_out == pytest.approx(float(gaussian.log_density(people).mean()), abs=1e-6)
    assert {law.n_held_out for law in scores.laws if law.left_out is not None} == {25}
    assert f"(of 25 held out: {law.inside:.0%})" in scores.promise
    assert all(law.held_out is None and law.n_held_out == 0 for law in score_laws(latents).laws)


def test_people_held_out_count_as_people_however_many_images_they_have(scored):
    """Nine with one image, and one far off with 51: of ten people nine can lie on the manifold."""
    latents, scores = scored
    far = 9 + 0.05 * torch.randn((51, 4), generator=seeded(2))
    codes, person = torch.cat([gaussian_codes(9, 4, seed=9), far]), torch.cat([torch.arange(9), torch.full((51,), 9)]) + 5
    law = by_name(score_laws(latents, replace(latents_of(codes), person=person)))["riemannian"]
    manifold = fit_sampler("riemannian", replace(latents, chosen=scores.settings))
    densities = manifold.log_whole(codes)
    assert law.n_held_out == 10
    assert law.held_out == pytest.approx(float(torch.cat([densities[:9], densities[9:].mean()[None]]).mean()), abs=1e-6)
    assert law.inside == pytest.approx(float(manifold.inside(codes[:9]).double().sum()) / 10)
    # With one image each it does not matter who is told to have it, to the digit.
    one = [by_name(score_laws(latents, replace(latents_of(codes), person=who)))["gaussian"] for who in (None, torch.arange(60) + 3)]
    assert one[0] == one[1]
    assert one[0].held_out == float(fit_sampler("gaussian", latents).log_density(codes).double().mean())


def test_what_was_chosen_is_drawn_without_another_look(scored, monkeypatch):
    latents, scores = scored
    expected = fit_sampler("riemannian", latents).sample(5, seeded(0))[0]
    for name in ("latents.choose_manifold", "fits.choose_kernels", "fits.choose_mixture"):
        monkeypatch.setattr(f"tinycohort.augment.samplers.{name}", lambda *_, **__: pytest.fail("it looks again"))
    chosen = replace(latents, chosen=scores.settings)
    assert torch.equal(fit_sampler("riemannian", chosen).sample(5, seeded(0))[0], expected)
    for name in ("kde", "mixture"):
        assert fit_sampler(name, chosen).sample(5, seeded(0))[0].isfinite().all()


@pytest.mark.parametrize("seed", range(3))
def test_of_gaussian_codes_the_manifold_is_level_and_taken(seed):
    scores = score_laws(latents_of(1 + 2 * torch.randn((160, 16), generator=seeded(seed))))
    laws = by_name(scores)
    assert scores.chosen == "riemannian"
    assert laws["riemannian"].left_out == pytest.approx(laws["gaussian"].left_out, abs=0.05)
    assert laws["normal"].behind > 5
    assert laws["posterior"].behind > 10
    assert laws["mixture"].settings["n_components"] == 1


@pytest.mark.parametrize(("n", "kept"), [(15, {14}), (40, {38}), (70, {66, 67})])
def test_all_laws_are_fitted_on_as_many_people(n, kept, monkeypatch):
    """One that had learnt from more people than another would be ahead by that alone."""
    latents, seen = latents_of(gaussian_codes(n, 2)), {}
    for law in (laws.Gaussian, laws.Kernels, laws.Mixture, plain.GaussianMixture):
        fit = law.fit

        def counting(codes, *, fit=fit, name=law.name, **settings):
            seen.setdefault(name, set()).add(len(codes))
            return fit(codes, **settings)

        monkeypatch.setattr(law, "fit", counting)
    score_laws(latents)
    assert set(seen) == {"gaussian", "kde", "mixture", "gmm"}
    assert set(map(frozenset, seen.values())) == {frozenset(kept)}


@pytest.mark.parametrize("dim", [2, 4])
def test_of_two_modes_a_law_of_two_modes_is_the_best(dim):
    scores = score_laws(latents_of(two_modes(120, dim)))
    laws = by_name(scores)
    assert scores.chosen in ("mixture", "kde", "riemannian")
    assert laws["mixture"].settings["n_components"] == 2
    assert laws["gaussian"].behind > 0.5
    assert laws["gaussian"].behind > 5 * laws["gaussian"].behind_error
    # The truth itself is not much better than what was found, whose components are shrunk.
    truth = [multivariate_normal([mode] + [0] * (dim - 1), np.diag(np.linspace(0.6, 1.4, dim) ** 2)) for mode in (12, 0)]
    best = np.logaddexp(*(normal.logpdf(two_modes(120, dim).numpy()) for normal in truth)).mean() - math.log(2)
    assert laws["mixture"].left_out == pytest.approx(best, abs=0.5)


def test_a_preferred_law_that_is_behind_by_more_than_its_error_is_not_taken():
    scores = score_laws(latents_of(two_modes(120, 6)))
    law = by_name(scores)["riemannian"]
    assert law.behind > law.behind_error
    assert scores.chosen == scores.laws[0].sampler != "riemannian"


@pytest.mark.parametrize(
    ("behind", "spread", "told"),
    [
        (0.04, 0.01, "level with gaussian (0.04 behind, up to 0.05 counts as level)"),
        (0.06, 0.01, None),
        (0.06, 0.6, "level with gaussian (0.06 behind, with a standard error of"),
    ],
)
def test_a_law_is_level_within_a_standard_error_or_what_no_draw_shows(behind, spread, told, monkeypatch):
    latents = latents_of(gaussian_codes(40, 2))
    noise = np.tile([-1.0, 1.0], 20)
    choices = {"gaussian": Choice({}, np.zeros(40)), "riemannian": Choice({}, -behind + spread * noise)}
    monkeypatch.setattr(law_scores, "_choices", lambda *given: choices)
    scores = score_laws(latents)
    assert scores.chosen == ("riemannian" if told else "gaussian")
    assert told is None or told in scores.sentence


def test_units_that_have_collapsed_do_not_decide():
    """Their codes hardly vary and their posteriors are as wide as the prior: what the decoder does not see ranks no laws."""
    codes = gaussian_codes(60, 12)
    active = score_laws(latents_of(codes[:, :4].contiguous()))
    codes[:, 4:] *= 0.01
    scores = score_laws(latents_of(codes, log_var=0.0))
    assert active.chosen == scores.chosen == "riemannian"
    assert by_name(scores)["riemannian"].behind < 0.5


def test_ten_full_components_of_few_codes_are_singular_and_said_to_be():
    scores = score_laws(latents_of(gaussian_codes(49, 16)))
    law = by_name(scores)["gmm"]
    assert law.behind > SINGULAR
    assert "singular" in law.note
    assert "of the 49 codes" in law.note
    assert "singular" not in by_name(scores)["mixture"].note


def test_scores_come_back_from_json(scored):
    for scores in (scored[1], score_laws(latents_of(gaussian_codes(5, 2))), score_laws(latents_of(gaussian_codes(3, 2)))):
        text = json.dumps(scores.as_json(), allow_nan=False)
        assert LawScores.from_json(json.loads(text)) == scores
        rows = scores.rows()
        assert {len(row) for row in rows} == {len(COLUMNS)}
        assert sum("(auto)" in row[0] for row in rows) == 1
        assert scores.chosen in scores.sentence


@pytest.mark.parametrize(("n_people", "each"), [(1, 2100), (2, 1100), (5, 1100), (40, 60)])
def test_people_with_more_images_than_are_scored_have_finite_scores(n_people, each):
    person = torch.arange(n_people).repeat_interleave(each)
    codes = gaussian_codes(n_people, 2)[person] + 0.3 * torch.randn((len(person), 2), generator=seeded(1))
    latents = latents_of(gaussian_codes(12, 2))
    posterior = Posterior(codes, torch.full_like(codes, -5.0))
    latents = replace(latents, codes=codes, posterior=posterior, person=person)
    scores = score_laws(latents)
    assert LawScores.from_json(json.loads(json.dumps(scores.as_json(), allow_nan=False))) == scores
    assert (scores.best.left_out is None) == (n_people < 4)
    assert bool(scores.promise) == (n_people == 40)
    assert fit_sampler(scores.chosen, replace(latents, chosen=scores.settings)).sample(5, seeded(0))[0].isfinite().all()


def test_a_person_s_other_scan_makes_no_law_look_good():
    """With each scan for a person, kernels a tenth as wide as people differ are the best, and copy everybody."""
    person = torch.arange(40).repeat_interleave(2)
    codes = gaussian_codes(40, 6)[person] + 0.05 * torch.randn((80, 6), generator=seeded(3))
    people = latents_of(gaussian_codes(200, 6, seed=4))
    fooled = score_laws(latents_of(codes), people)
    scores = score_laws(replace(latents_of(codes), person=person), people)
    assert fooled.best.held_out < scores.best.held_out - 1
    assert scores.best.left_out == pytest.approx(scores.best.held_out, abs=4 * scores.best.error)
    assert scores.best.error > fooled.best.error
    assert by_name(scores)["riemannian"].inside > 0.75
    # As many people as there are: a standard error does not shrink with scans.
    alone = by_name(score_laws(latents_of(gaussian_codes(40, 6))))
    assert by_name(scores)["gaussian"].error == pytest.approx(alone["gaussian"].error, rel=0.5)


def test_a_manifold_of_one_centroid_is_not_scored_and_loses_no_fit():
    codes = gaussian_codes(20, 3)
    latents = latents_of(codes)
    metric = RiemannianMetric.from_posterior(latents.posterior[torch.tensor([3])], rho=3.0)
    scores = score_laws(replace(latents, metric=metric), latents)
    law = by_name(scores)["riemannian"]
    assert (law.left_out, law.note) == (None, "takes no part: too few centroids to leave some out")
    assert scores.chosen == max((law for law in scores.laws if law.left_out is not None), key=lambda law: law.left_out).sampler
    assert LawScores.from_json(json.loads(json.dumps(scores.as_json()))) == scores


def test_a_constant_that_is_known_badly_takes_no_part(monkeypatch):
    """Of few proposals, and held to less."""
    monkeypatch.setattr(left_out, "SELECTION_PROPOSALS", 12)
    monkeypatch.setattr(law_scores, "MOST_ERROR", 0.02)
    latents = latents_of(gaussian_codes(30, 16))
    found = choose_manifold(latents.codes, latents.metric.centroids)
    law = by_name(score_laws(latents))["riemannian"]
    assert found.error > 0.02
    assert (law.left_out, law.note) == (None, f"takes no part: its constant is known to {found.error:.2f} nats only")


def test_a_cut_that_takes_much_of_the_law_is_told():
    """Six crowds far apart: people left out are more probable than most of what the law draws."""
    places = 12 * torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1], [2, 0], [0, 2]])
    codes = gaussian_codes(120, 2) + places[torch.arange(120) % 6]
    scores = score_laws(latents_of(codes), latents_of(codes[:20]))
    law = by_name(scores)["riemannian"]
    assert law.kept < 0.8
    row = next(row for row in scores.rows() if row[0].startswith("riemannian"))
    assert row[-1].endswith(f"its cut keeps {law.kept:.0%} of the law that was scored")


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(("model", "chosen"), [("vae", "riemannian"), ("ae", "gaussian")])
def test_too_few_codes_are_said_to_be(n, model, chosen):
    scores = score_laws(latents_of(gaussian_codes(n, 2), model=model))
    assert scores.chosen == chosen
    assert {law.note for law in scores.laws} == {"too few people to leave some out"}
    assert scores.promise == ""
    assert "too few people" in scores.sentence


def test_a_model_without_posteriors_has_laws_of_codes():
    scores = score_laws(latents_of(gaussian_codes(40, 4), model="ae"))
    assert {law.sampler for law in scores.laws} == set(samplers_for(AE))
    assert "riemannian" not in by_name(scores)
    assert scores.chosen in ("gaussian", "mixture")


@pytest.mark.parametrize("model", ["vae-nf", "vae-iaf"])
def test_laws_of_the_base_are_scored_as_laws_of_codes(model):
    """By the change of variables, with the determinant of autograd's Jacobian."""
    base = gaussian_codes(30, 3)
    latents, people = latents_of(base, model=model), latents_of(gaussian_codes(10, 3, seed=4), model=model)
    scores = score_laws(latents, people)

    def log_det(rows: Tensor) -> np.ndarray:
        flow = lambda row: latents.autoencoder.transport(row[None])[0]  # noqa: E731
        return np.array([float(torch.linalg.slogdet(torch.autograd.functional.jacobian(flow, row))[1]) for row in rows])

    lost = log_det(base[torch.as_tensor(People.of(base).rows)])
    assert np.std(lost) > 0.05
    law = by_name(scores)["riemannian"]
    assert law.left_out == pytest.approx((choose_manifold(base, latents.metric.centroids).scores - lost).mean(), abs=1e-4)
    manifold = fit_sampler("riemannian", latents)
    expected = manifold.log_whole(people.posterior.mean).numpy() - log_det(people.posterior.mean)
    assert law.held_out == pytest.approx(expected.mean(), abs=1e-4)
    # That of codes themselves needs no determinant.
    direct = score_laws(Latents(latents.codes, latents_of(base, model="ae").autoencoder))
    assert by_name(scores)["gaussian"].left_out == by_name(direct)["gaussian"].left_out


def test_the_same_latents_give_the_same_scores_and_no_global_generator_is_asked(scored):
    latents, _ = scored
    before, numpy_before = torch.get_rng_state(), numpy_state()
    assert score_laws(latents, seed=3) == score_laws(latents, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert numpy_state() == numpy_before


@pytest.mark.parametrize("case", ["same", "line", "wide", "constant", "tiny", "huge", "narrow"])
def test_odd_codes_are_scored(case):
    codes = torch.randn({"line": (20, 1), "wide": (12, 64)}.get(case, (14, 3)), generator=seeded(0))
    if case == "same":
        codes[2:] = codes[:1]
    if case == "constant":
        codes[:, 1] = 0.3
    codes = codes * {"tiny": 1e-9, "huge": 1e9}.get(case, 1.0)
    scores = score_laws(latents_of(codes, log_var=-60.0 if case == "narrow" else -5.0))
    json.dumps(scores.as_json(), allow_nan=False)
    assert fit_sampler(scores.chosen, latents_of(codes)).sample(5, seeded(0))[0].isfinite().all()


@pytest.mark.slow
def test_of_many_codes_a_part_is_left_out_in_little_memory(bounded):
    codes = two_modes(30_000, 16)
    posterior = Posterior(codes, torch.full_like(codes, -5.0))
    latents = replace(latents_of(codes[:1000].clone()), codes=codes, posterior=posterior)
    score_laws(latents_of(gaussian_codes(60, 16)))  # what is imported is not counted
    with bounded(240):
        scores = score_laws(latents)
    assert by_name(scores)["gaussian"].behind > 0

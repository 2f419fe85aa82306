"""The reach of ``riemannian``: its own, on a manifold that holds people left out, or a multiple of Algorithm 1's rho."""

import json
import math
from dataclasses import replace

import pytest
import torch

from tinycohort.augment.fitting.model import FittedModel
from tinycohort.augment.fitting.model_config import MetricSettings
from tinycohort.augment.posterior import Posterior
from tinycohort.augment.release.generation import build_sampler, draw_latents
from tinycohort.augment.samplers import left_out
from tinycohort.augment.samplers.fits import N_ITERATIONS
from tinycohort.augment.samplers.manifold import HOLDS, Manifold
from tinycohort.augment.samplers.registry import AUTO, SAMPLERS
from tinycohort.augment.samplers.riemannian import Riemannian
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.common.seeds import seeded_generator
from tinycohort.experiments.engine.systems import System


@pytest.fixture(scope="module")
def model(studies) -> FittedModel:
    return FittedModel.load(studies["pictures"].models / "CN")


def drawn(model, **settings):
    return draw_latents(model, 40, sampler="riemannian", seed=3, **settings)


@pytest.mark.parametrize(("text", "reach"), [("auto", AUTO), ("1", 1.0), ("0.25", 0.25), ("1e3", 1000.0)])
def test_a_reach_is_read(text, reach):
    assert SAMPLERS["riemannian"].settings["reach"].read(text) == reach


@pytest.mark.parametrize("text", ["", "Auto", "far", "0", "-1", "nan", "inf", "1,5"])
def test_what_is_no_reach(text):
    with pytest.raises(ValueError, match=r"(?s).*"):
        SAMPLERS["riemannian"].settings["reach"].read(text)


def test_its_own_reach_is_the_manifold_that_was_chosen(model):
    for settings in ({}, {"reach": AUTO}, {"reach": AUTO, "holds": HOLDS}):
        z, found = drawn(model, **settings)
        assert torch.equal(z, drawn(model)[0])
        assert (found.acceptance, found.unmoved, found.off_manifold) == (None, None, 0)
        assert found.effective_centroids > 1
        assert model.latents.manifold.inside(z).all()


@pytest.mark.parametrize(
    "settings", [{"reach": 1.0, "n_iterations": 100}, {"n_iterations": 100}, {"reach": 1.0, "n_iterations": 7, "n_leapfrog": 3}]
)
def test_a_number_of_iterations_gives_the_chains_of_algorithm_1_s_metric(model, settings):
    chain = {name: value for name, value in settings.items() if name != "reach"}
    expected, found = Riemannian(model.metric, **chain).sample(40, seeded_generator(3, "CN", "riemannian"))
    z, told = drawn(model, **settings)
    assert torch.equal(z, expected)
    assert told == found
    assert told.acceptance > 0


@pytest.mark.parametrize("setting", [{"n_leapfrog": 5}, {"n_warm_up": 10}, {"target_acceptance": 0.9}, {"log_threshold": math.log(0.5)}])
def test_a_setting_of_the_chains_is_one_of_the_paper_s_reach_and_there_is_a_chain(model, setting):
    expected = Riemannian(model.metric, **({} if "log_threshold" in setting else {"n_iterations": N_ITERATIONS}), **setting).sample(
        40, seeded_generator(3, "CN", "riemannian")
    )[0]
    assert torch.equal(drawn(model, **setting)[0], expected)
    assert torch.equal(drawn(model, reach=1.0, **setting)[0], expected)


def test_a_reach_multiplies_rho(model):
    sampler = build_sampler(model, "riemannian", seed=0, reach=2.5)
    assert sampler.metric.rho == 2.5 * model.metric.rho
    # As a fit with --rho-scale did, whose number is the reach where a draw has none; and no factor of one that it has.
    scaled = model.with_metric(MetricSettings(rho_scale=2.5))
    for settings, rho in (({}, 2.5), ({"reach": 2.5}, 2.5), ({"reach": 1.0}, 1.0), ({"n_iterations": 5}, 2.5)):
        assert build_sampler(scaled, "riemannian", seed=0, **settings).metric.rho == pytest.approx(rho * model.metric.rho, rel=1e-12)
    assert isinstance(build_sampler(scaled, "riemannian", seed=0, reach=AUTO), Manifold)
    given = model.with_metric(MetricSettings(rho=0.7))
    assert build_sampler(given, "riemannian", seed=0).metric.rho == pytest.approx(0.7)
    assert build_sampler(given, "riemannian", seed=0, reach=2.0).metric.rho == pytest.approx(1.4)


def test_a_metric_that_a_system_asks_for_is_at_the_paper_s_reach(model):
    for text, rho in (("lam=0.1", 1.0), ("rho_scale=3", 3.0), ("rho_scale=3 reach=1", 1.0), ("n_iterations=4", 1.0)):
        system = System.parse(f"vae:riemannian {text}")
        changed = system.with_metric(model)
        sampler = build_sampler(changed, "riemannian", seed=0, **system.sampling(changed))
        assert isinstance(sampler, Riemannian)
        assert sampler.metric.rho == pytest.approx(rho * model.metric.rho, rel=1e-12), text
    for text in ("vae:riemannian", "vae:riemannian reach=auto"):
        system = System.parse(text)
        assert isinstance(build_sampler(system.with_metric(model), "riemannian", seed=0, **system.sampling(model)), Manifold)


def test_the_less_it_holds_the_smaller_is_the_manifold(model):
    """Of 60 people, whose posteriors are narrow beside what they lie apart."""
    means = torch.randn((60, 2), generator=torch.Generator().manual_seed(0))
    model = replace(model, codes=means, posterior=Posterior(means, torch.full((60, 2), -4.0)), config=replace(model.config, laws={}))
    model = model.with_metric(MetricSettings())
    cuts = [build_sampler(model, "riemannian", seed=0, holds=holds) for holds in (0.3, 0.6, HOLDS)]
    assert cuts[0].log_threshold > cuts[1].log_threshold > cuts[2].log_threshold
    z, found = drawn(model, holds=0.3)
    assert cuts[0].inside(z).all()
    assert found.off_manifold == 0


def test_more_than_people_can_tell_is_refused(model):
    n = len(model.codes)
    with pytest.raises(
        UsageError, match=f"{n} training people cannot tell what holds 99.9%; ask for at most {math.floor(1000 * n / (n + 1)) / 10}%"
    ):
        build_sampler(model, "riemannian", seed=0, holds=0.999)


def of_people(model, n: int, **metric) -> FittedModel:
    """A model of ``n`` people in two dimensions, whose laws were not looked at."""
    means = torch.randn((n, 2), generator=torch.Generator().manual_seed(0))
    model = replace(model, codes=means, posterior=Posterior(means, torch.full((n, 2), -4.0)), config=replace(model.config, laws={}))
    return model.with_metric(MetricSettings(**metric))


@pytest.mark.parametrize(
    ("n", "holds", "metric", "told"),
    [
        (8, HOLDS, {}, "8 training people cannot tell what holds 90.0%; ask for at most 88.8%"),
        (3, 0.5, {}, "3 training people cannot tell what a manifold holds; leave out holds"),
        (
            12,
            HOLDS,
            {"n_centroids": 1, "rho": 3.0},
            r"A manifold of 1 centroids cannot tell what it holds: .* fit with more --centroids, or leave out holds",
        ),
        (12, 0.5, {"n_centroids": 1, "rho": 3.0}, "A manifold of 1 centroids cannot tell"),
    ],
)
def test_a_share_that_is_asked_for_by_name_is_held_or_refused(model, n, holds, metric, told):
    some = of_people(model, n, **metric)
    assert build_sampler(some, "riemannian", seed=0, reach=AUTO).log_threshold == -math.inf
    for again in (some, replace(some, config=replace(some.config, laws=some.law_scores.as_json()))):
        with pytest.raises(UsageError, match=told):
            build_sampler(again, "riemannian", seed=0, reach=AUTO, holds=holds)


def test_of_many_people_those_who_are_left_out_tell_what_is_held(model, monkeypatch):
    monkeypatch.setattr(left_out, "MOST_SCORED", 12)
    with pytest.raises(UsageError, match=r"12 training people cannot tell what holds 95.0%; ask for at most 92.3%"):
        build_sampler(of_people(model, 30), "riemannian", seed=0, holds=0.95)


@pytest.mark.parametrize("metric", [{"rho_scale": 2.0}, {"rho": 0.7}])
def test_a_share_of_a_model_with_a_reach_of_its_own_takes_the_reach_auto(model, metric):
    some = of_people(model, 40, **metric)
    with pytest.raises(UsageError, match=r"was fitted with a reach of its own \(--rho or --rho-scale\).* give reach=auto beside holds"):
        build_sampler(some, "riemannian", seed=0, holds=0.8)
    assert build_sampler(some, "riemannian", seed=0, holds=0.8, reach=AUTO).log_threshold > -math.inf


@pytest.mark.parametrize("holds", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_share_that_cannot_be_held(model, holds):
    with pytest.raises(UsageError, match="is a number between 0 and 1, not"):
        drawn(model, holds=holds)


@pytest.mark.parametrize("settings", [{"reach": 1.0}, {"n_iterations": 5}])
def test_a_share_is_held_at_the_reach_auto_alone(model, settings):
    with pytest.raises(UsageError, match="a setting of the reach auto"):
        drawn(model, holds=0.8, **settings)


def test_there_is_no_chain_at_the_reach_auto(model):
    with pytest.raises(UsageError, match="no chain to set n_iterations, n_leapfrog of; give a number as reach"):
        drawn(model, reach=AUTO, n_leapfrog=3, n_iterations=5)


def test_the_commands_take_it(augment, studies, tmp_path):
    models, out = studies["pictures"].models, tmp_path / "syn"
    words = ("generate", "--models", models, "-n", 3, "--sampler", "riemannian", "--out", out, "--force")
    for more, chains in (
        (("--set", "reach=1", "--set", "n_iterations=100"), True),
        (("--set", "reach=auto"), False),
        (("--set", "holds=0.8"), False),
    ):
        answer = augment(*words, *more)
        assert answer.code == 0, answer.err
        sampling = json.loads((out / "dataset_description.json").read_text())["Classes"]["AD"]["sampling"]
        assert ("acceptance" in sampling) == chains
        assert "auto" not in sampling


def test_rho_scale_is_deprecated_by_what_does_the_same(augment, fakes, tmp_path):
    words = ("fit", "--data", fakes.study(tmp_path / "study.npz"), "--out", tmp_path / "models", "--dry-run")
    answer = augment(*words, "--rho-scale", 2)
    assert answer.code == 0, answer.err
    assert "--rho-scale is deprecated: `augment generate --sampler riemannian --set reach=2` does the same" in answer.words
    assert "is deprecated" not in augment(*words).words


def test_what_was_fitted_with_rho_scale_is_what_the_reach_draws(model):
    scaled = replace(
        model, config=replace(model.config, metric=MetricSettings(rho_scale=2.0)), metric=replace(model.metric, rho=2 * model.metric.rho)
    )
    for settings in ({}, {"n_iterations": 5}):
        assert torch.equal(drawn(scaled, **settings)[0], drawn(model, reach=2.0, **settings)[0])

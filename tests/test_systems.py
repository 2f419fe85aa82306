from dataclasses import replace

import pytest
import torch

from tinycohort.augment.fitting import FitSettings
from tinycohort.augment.model import FittedModel, MetricSettings
from tinycohort.augment.training import TrainingSettings
from tinycohort.datasets.errors import UsageError
from tinycohort.experiments.systems import System


def test_a_system_is_read_from_its_text():
    system = System.parse("vae:riemannian beta=0.5 latent_dim=8 steps=200 jitter=0 rho_scale=2 n_centroids=5 n_iterations=30")
    assert system == System(
        "vae",
        "riemannian",
        model_settings={"beta": 0.5},
        networks={"latent_dim": 8},
        training={"steps": 200, "jitter": 0.0},
        metric={"rho_scale": 2.0, "n_centroids": 5},
        sampling={"n_iterations": 30},
    )


def test_the_name_of_what_is_trained_knows_nothing_of_metric_and_sampler_nor_of_the_order():
    first, second = System.parse("vae:riemannian beta=0.5 steps=200 rho_scale=2"), System.parse("vae:gmm steps=200 beta=0.5 n_components=3")
    assert first.trained_as == second.trained_as == "vae_beta=0.5_steps=200"
    assert System.parse("vae:gmm").trained_as == "vae"
    assert "/" not in replace(first, networks={"arch": "../../elsewhere"}).trained_as


def test_settings_of_the_study_are_changed_where_the_system_says_so_and_only_there():
    study = FitSettings(model_settings={"beta": 2.0}, latent_dim=4, training=TrainingSettings(steps=50, jitter=0.5))
    found = System.parse("vae:gmm latent_dim=8 jitter=0 lam=0.5").fit_settings(study)
    assert (found.model_settings, found.latent_dim) == ({"beta": 2.0}, 8)
    assert (found.training.steps, found.training.jitter, found.metric.lam) == (50, 0.0, 0.5)
    assert System.parse("ae:gmm").fit_settings(study).model_settings == {}  # the study's are a vae's


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vae", "no sampler ''"),
        ("vae:riemannian rho_scale=many", "rho_scale=many is no float"),
        ("vae:riemannian steps=1.5", "steps=1.5 is no int"),
        ("vae:riemannian n_components=3", "no setting 'n_components'"),
        ("vae:riemannian rho_scale=-1", "above 0"),
        ("vae:riemannian selection=best", "best"),
        ("vae:normal steps=0", "at least 1"),
    ],
)
def test_what_cannot_be_is_refused_with_one_sentence(text: str, words: str):
    with pytest.raises(UsageError, match=words):
        System.parse(text)


def test_the_metric_is_the_systems_and_the_model_stays_as_it_was(studies):
    fitted = FittedModel.load(studies["pictures"].models / "AD")
    wide = System.parse("vae:riemannian rho_scale=4 n_iterations=5")
    plain = System.parse("vae:riemannian n_iterations=5")
    before = fitted.metric
    assert before is not None
    assert not torch.equal(wide.draw(fitted, 4, seed=1).latents, plain.draw(fitted, 4, seed=1).latents)
    assert fitted.metric is before
    same = fitted.with_metric(fitted.config.metric).metric
    assert same is not None
    assert torch.equal(same.centroids, before.centroids)
    assert same.rho == before.rho
    scaled = fitted.with_metric(MetricSettings(rho_scale=4.0)).metric
    assert scaled is not None
    assert scaled.rho == pytest.approx(4 * before.rho)

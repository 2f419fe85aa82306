"""What a study compares is one text: a model, how it is trained, and how it is sampled."""

from dataclasses import replace

import pytest
import torch

from tinycohort.augment.autoencoders import AUTOENCODERS, settings_of_model
from tinycohort.augment.detail.mosaic import Mosaic
from tinycohort.augment.fitting.model import FittedModel
from tinycohort.augment.fitting.model_config import MetricSettings
from tinycohort.augment.fitting.settings import PRESETS, FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.augment.fitting.training_images import TrainingImages
from tinycohort.augment.samplers.registry import SAMPLERS, samplers_for
from tinycohort.augment.settings import settings_of
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.transforms import prepare
from tinycohort.experiments.engine.systems import DETAIL, System
from tinycohort.experiments.fidelity_study.plans import PLANS, TEST, VALIDATION, plan_of


def test_a_system_is_the_same_whatever_the_order_of_its_settings():
    one = System.parse("vae:riemannian rho_scale=2 beta=0.1 n_iterations=30 arch=resnet draw=3")
    other = System.parse("vae:riemannian arch=resnet draw=3 n_iterations=30 rho_scale=2.0 beta=1e-1")
    assert one == other
    assert (one.trained_as, one.drawn_as) == ("vae arch=resnet beta=0.1", "riemannian draw=3 n_iterations=30 rho_scale=2.0")
    assert one.sampler_settings == {"n_iterations": 30}
    assert one.metric_settings == {"rho_scale": 2.0, "draw": 3}
    assert System.of_key({"run": 0, "n": 9, "model": one.trained_as, "sampler": one.drawn_as}) == one


def test_systems_that_train_alike_share_a_model():
    trained = {
        System.parse(text).trained_as for text in ("vae:normal", "vae:riemannian lam=1", "vae:gmm n_components=3", "vae:reconstruction")
    }
    assert trained == {"vae"}
    assert System.parse("vae:normal beta=1").trained_as != "vae", "a default that is written out is another text, and trains again"


@pytest.mark.parametrize("model", AUTOENCODERS)
def test_every_setting_is_of_one_part(model):
    for sampler in samplers_for(AUTOENCODERS[model]):
        # own-metric has no settings of the posteriors' metric, so that rhvae's own centroids are meant.
        assert not set(settings_of_model(model)) & set(SAMPLERS[sampler].settings), f"{model}:{sampler}"
        System.parse(f"{model}:{sampler} " + " ".join(f"{setting.name}={setting.default}" for setting in settings_of_model(model).values()))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing:normal", "no model 'nothing'"),
        ("vae:nothing", "no sampler 'nothing'"),
        ("vae", "no sampler ''"),
        ("ae:riemannian", "needs a model with a Gaussian posterior"),
        ("vae:normal n_iterations=3", "no setting n_iterations"),
        ("vae:gmm rho_scale=2", "no setting rho_scale"),
        ("vae:riemannian rho_scale=large", "The setting rho_scale of .* is a number .by default 1.0., not 'large'"),
        ("vae:riemannian n_centroids=2.5", "is a whole number, not '2.5'"),
        ("vae:riemannian selection=best", "No way of choosing centroids is called 'best'"),
        ("vae:riemannian lam=-1", "--lambda, --rho and --rho-scale lie between"),
        ("vae:riemannian beta", "The setting beta"),
        ("vae:riemannian steps=1.5", "is a whole number.*, not '1.5'"),
        ("vae:normal steps=0", "at least 1"),
        ("vae:normal steps=10 epochs=2", "as long as its epochs or as its steps say; give one of them"),
    ],
)
def test_a_system_that_cannot_be_is_told(text, says):
    with pytest.raises(UsageError, match=says):
        System.parse(text)


def test_training_settings_are_part_of_what_is_trained(studies):
    system = System.parse("vae:riemannian steps=200 jitter=0 patience=7 rho_scale=2")
    assert (system.training, system.trained_as) == ({"steps": 200, "jitter": 0.0, "patience": 7}, "vae jitter=0.0 patience=7 steps=200")
    study = FitSettings(latent_dim=4)
    assert system.fit_settings(study).training.steps == 200
    assert system.fit_settings(study).metric == study.metric, "the metric is built when images are drawn"
    model = FittedModel.load(studies["pictures"].models / "CN")
    wide, plain = (
        System.parse(f"vae:riemannian n_iterations=5{more}").draw(model, 4, training_of(studies, model), seed=1)
        for more in (" rho_scale=4", "")
    )
    assert not torch.equal(wide.latents, plain.latents)


def test_steps_of_a_system_count_where_the_preset_has_epochs():
    plain = System.parse("vae:normal").fit_settings(PRESETS["paper-mnist"]).training
    asked = System.parse("vae:normal steps=500").fit_settings(PRESETS["paper-mnist"]).training
    assert (plain.epochs is None, asked.epochs, asked.steps) == (False, None, 500)
    assert asked.schedule(1000, (28, 28)) != plain.schedule(1000, (28, 28))
    epochs = System.parse("vae:normal epochs=3").fit_settings(replace(PRESETS["paper-mnist"], training=asked)).training
    assert epochs.schedule(1000, (28, 28)).epochs == 3


def training_of(studies, model):
    cohort = read_cohort(studies["pictures"].data).of_class(model.config.label)
    members = cohort.where(cohort.table["participant_id"].map(model.config.participants.trained_on).to_numpy(bool))
    return TrainingImages(prepare(members, model.config.preparation), tuple(members.people))


def test_detail_is_part_of_how_a_model_is_drawn_from(studies):
    system = System.parse("vae:gaussian detail=mosaic largest_share=0.3 n_donors=5")
    assert system.mosaic == Mosaic(n_donors=5, largest_share=0.3)
    assert (system.trained_as, system.drawn_as) == ("vae", "gaussian detail=mosaic largest_share=0.3 n_donors=5")
    assert System.of_key({"model": system.trained_as, "sampler": system.drawn_as}) == system
    assert System.parse("vae:gaussian").mosaic is None
    model = FittedModel.load(studies["pictures"].models / "CN")
    training = training_of(studies, model)
    plain, detailed = (System.parse(f"vae:gaussian{more}").draw(model, 4, training, seed=1) for more in ("", " detail=mosaic"))
    assert torch.equal(plain.latents, detailed.latents)
    assert plain.detail is None
    assert detailed.detail is not None
    assert not torch.equal(plain.images.pixels, detailed.images.pixels)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vae:gaussian n_donors=5", "n_donors are settings of the detail; add detail=mosaic"),
        ("vae:gaussian detail=blur", "detail of the system .* is mosaic, not 'blur'"),
        ("vae:gaussian detail=mosaic n_donors=2", "raise n_donors or largest_share"),
        ("vae:reconstruction detail=mosaic", "no setting detail"),
    ],
)
def test_a_detail_that_cannot_be_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        System.parse(text)


def test_no_setting_of_a_detail_is_one_of_something_else():
    """One text has them all: a name that two of them share would be read as the last one's."""
    of_detail = {DETAIL, *settings_of(Mosaic)}
    for name in AUTOENCODERS:
        assert not of_detail & {*settings_of_model(name)}
    for entry in SAMPLERS.values():
        assert not of_detail & {*entry.settings}
    for settings in (TrainingSettings, MetricSettings, FitSettings):
        assert not of_detail & {*settings_of(settings)}


def test_a_metric_is_changed_without_training(studies):
    model = FittedModel.load(studies["pictures"].models / "CN")
    assert System.parse("vae:riemannian").with_metric(model) is model
    two = System.parse("vae:riemannian n_centroids=2 lam=0.5").with_metric(model)
    assert len(two.metric.centroids) == 2
    assert two.metric.lam == 0.5
    assert two.digest == model.digest
    draws = [System.parse(f"vae:riemannian n_centroids=4 selection=random draw={i}").with_metric(model).metric.centroids for i in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_model_takes_of_the_study_s_settings_what_it_knows():
    settings = FitSettings(model_settings={"beta": 0.01, "likelihood": "fixed"}, channels=4)
    assert System.parse("iwae:normal samples=3").fit_settings(settings).model_settings == {"likelihood": "fixed", "samples": 3}
    resnet = System.parse("ae:gmm arch=resnet latent_dim=3").fit_settings(settings)
    assert (resnet.model, resnet.model_settings, resnet.arch, resnet.latent_dim, resnet.channels) == ("ae", {}, "resnet", 3, 4)


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_is_of_systems_that_there_are(name):
    plan = plan_of(name)
    systems = [system for members in plan.rows.values() for system in members]
    parsed = {text: System.parse(text) for text in systems}
    assert len({(system.trained_as, system.drawn_as) for system in parsed.values()}) == len(parsed)
    assert {len(members) for members in plan.rows.values()} <= {1, 10}, "one setting, or the paper's ten"
    assert (VALIDATION in plan.sides) == any(len(members) == 10 for members in plan.rows.values())
    assert plan.sides[0] == TEST
    assert {row for panel in plan.panels for row in panel.rows} <= set(plan.rows)


def test_the_grids_lie_in_the_paper_s():
    wae = [System.parse(text).model_settings for text in plan_of("search").rows["wae:normal, CNN"]]
    assert {one["bandwidth"] for one in wae} == {0.01, 0.1, 0.5, 1, 2, 5}
    assert {one["weight"] for one in wae} == {0.01, 0.1, 1, 10, 100}
    rae = [System.parse(text).model_settings for text in plan_of("search").rows["rae-gp:gmm, ResNet"]]
    assert {one[name] for one in rae for name in one} == {1e-6, 1e-4, 1e-3, 0.01, 0.1, 1}
    aae = [System.parse(text).model_settings["weight"] for text in plan_of("plug-in").rows["aae, Riemannian"]]
    assert aae == [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999]
    with pytest.raises(UsageError, match="no study 'table-1'; choose one of: benchmark, low-data"):
        plan_of("table-1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vae:gmm arch=paper-oasis", "made for 208 x 176 slices, not 16 x 16"),
        ("vae:gmm arch=paper", "no networks for 1 x 16 x 16 images"),
    ],
)
def test_networks_that_cannot_be_are_refused_before_anything_is_trained(text, says):
    System.parse("vae:gmm").require_networks(FitSettings(), (16, 16))
    System.parse("vae:gmm arch=paper-oasis").require_networks(FitSettings(), (208, 176))
    with pytest.raises(UsageError, match=says):
        System.parse(text).require_networks(FitSettings(), (16, 16))

"""Training: interrupted or not, it ends in the same weights; what is kept is the best epoch; nothing global is touched."""

import gc
import random
import re
import warnings
import weakref
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from recorded import CountingRecorder
from torch import Tensor, nn

from tinycohort.augment.autoencoders import AE, AUTOENCODERS, RAESN, VAE
from tinycohort.augment.autoencoders.rae import LAYERS
from tinycohort.augment.fitting import training
from tinycohort.augment.fitting.assessment import fit_warnings
from tinycohort.augment.fitting.fit import Hooks, fit_class
from tinycohort.augment.fitting.model import FittedModel
from tinycohort.augment.fitting.plan import FitPlan
from tinycohort.augment.fitting.settings import PRESETS, FitSettings
from tinycohort.augment.fitting.training import Schedule, TrainingSettings, default_steps, train
from tinycohort.augment.fitting.training_images import TrainingImages
from tinycohort.augment.networks import Architecture
from tinycohort.datasets.check import examine
from tinycohort.datasets.common.batches import batches_of_rows, n_batches
from tinycohort.datasets.common.compute import choose_device
from tinycohort.datasets.common.errors import DataError, GateError, UsageError
from tinycohort.datasets.common.graphs import Replayed
from tinycohort.datasets.common.seeds import derived_seed, seeded_generator
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import Split, split_cohort
from tinycohort.datasets.transforms import prepare

SETTINGS = TrainingSettings(epochs=6, learning_rate=1e-2, batch_size=5, patience=3, precision="fp32", device="cpu")
AVERAGING = replace(SETTINGS, average=0.8, even=True)
STOPPING = replace(SETTINGS, epochs=8, patience=1, average=0.8, stop_after=2)
HALVING = TrainingSettings(epochs=8, learning_rate=1e-2, batch_size=5, patience=1, precision="fp32", device="cpu")


def images(n=12, seed=0, shape=(16, 16)) -> Tensor:
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in shape), indexing="ij")
    middles = torch.rand(n, generator=torch.Generator().manual_seed(seed)) - 0.5
    return torch.stack([torch.exp(-4 * sum((axis - middle) ** 2 for axis in axes)) for middle in middles])[:, None]


def fresh(kind=VAE, shape=(16, 16), **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(Architecture("conv", shape, latent_dim=2, channels=2), **settings)


class Steered(VAE):
    """Trains as a VAE does, and has the validation losses that a test chooses; counts epochs where a resume point keeps it."""

    def __init__(self, *args, answers=(5.0, 6.0, 7.0, 8.0, 8.0, 4.0, 6.0, 3.0)):
        super().__init__(*args)
        self.answers = answers
        self.register_buffer("epochs", torch.tensor(0))

    def loss(self, x, generator):
        terms = super().loss(x, generator)
        if not self.training:
            terms["loss"] = torch.tensor(self.answers[int(self.epochs)])
            self.epochs += 1
        return terms


def trained(settings=SETTINGS, seed=3, model=None, shape=(16, 16), **options):
    model = model or fresh(shape=shape)
    result = train(model, images(shape=shape), images(4, seed=1, shape=shape), settings, seed=seed, **options)
    return model, result


def assert_same(one, other):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


class Killed(Exception):
    """What a process that is killed does not even have."""


def killer(epoch):
    def on_epoch(record):
        if record["epoch"] == epoch:
            raise Killed

    return on_epoch


@pytest.mark.parametrize(
    ("settings", "kind"),
    [(SETTINGS, VAE), (HALVING, Steered), (AVERAGING, VAE), (STOPPING, Steered)],
    ids=["plain", "halving", "averaging", "stopping"],
)
@pytest.mark.parametrize("kills", [(1,), (4,), (6,), (3, 5), (2, 3, 4, 5)])
def test_a_training_that_was_interrupted_ends_as_one_that_was_not(tmp_path, monkeypatch, settings, kind, kills):
    whole, expected = trained(settings, model=fresh(kind))
    if settings is STOPPING:
        # The best is the first: two epochs later it ends.
        assert expected.history["epoch"].tolist() == [1, 2, 3]
        kills = tuple(epoch for epoch in kills if epoch <= 3)
    elif kind is Steered:
        # Halved after epochs 3 and 5; the best are epochs 1, 6 and 8.
        assert expected.history["learning_rate"].tolist() == [1e-2] * 3 + [5e-3] * 2 + [2.5e-3] * 3
    monkeypatch.setattr(training, "SECONDS_BETWEEN_RESUME_POINTS", 0)
    for epoch in kills:
        with pytest.raises(Killed):
            trained(settings, model=fresh(kind), resume_folder=tmp_path, on_epoch=killer(epoch))
        # The epoch that was cut off is not in the resume point.
        assert (tmp_path / "state.safetensors").exists() == (epoch > 1)
        assert not list(tmp_path.glob(".writing-*"))
    seen = []
    resumed, result = trained(settings, model=fresh(kind), resume_folder=tmp_path, on_epoch=seen.append)
    assert_same(resumed, whole)
    pd.testing.assert_frame_equal(result.history, expected.history, check_exact=True)
    assert result.best_epoch == expected.best_epoch
    # A progress bar is told of the epochs before the interruption too.
    assert [record["epoch"] for record in seen] == expected.history["epoch"].tolist()


def test_resume_points_change_nothing_and_a_finished_training_is_not_repeated(tmp_path, monkeypatch):
    whole, expected = trained()
    monkeypatch.setattr(training, "SECONDS_BETWEEN_RESUME_POINTS", 0)
    first, _ = trained(resume_folder=tmp_path)
    assert_same(first, whole)
    # Killed after the last epoch, before the model was written.
    monkeypatch.setattr(VAE, "loss", None)
    again, result = trained(resume_folder=tmp_path)
    assert_same(again, whole)
    pd.testing.assert_frame_equal(result.history, expected.history, check_exact=True)


def test_resume_points_are_seldom(tmp_path):
    trained(resume_folder=tmp_path)
    assert not (tmp_path / "state.safetensors").exists()


@pytest.mark.parametrize("shape", [(16, 16), (10, 12, 10)])
def test_same_seed_same_weights(shape):
    (one, a), (same, b), (other, c) = (trained(seed=seed, shape=shape) for seed in (3, 3, 4))
    assert_same(one, same)
    pd.testing.assert_frame_equal(a.history, b.history, check_exact=True)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
    assert (a.history["train_loss"] != c.history["train_loss"]).all()


def test_a_training_that_has_ended_early_does_not_go_on_when_it_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_RESUME_POINTS", 0)
    whole, expected = trained(STOPPING, model=fresh(Steered), resume_folder=tmp_path)
    # Epoch 6 would be the best.
    monkeypatch.setattr(VAE, "loss", None)
    again, result = trained(STOPPING, model=fresh(Steered), resume_folder=tmp_path)
    assert_same(again, whole)
    assert result.best_epoch == expected.best_epoch == 1
    assert len(result.history) == 3


def test_what_is_validated_and_kept_is_the_average_of_the_weights():
    """One step an epoch: after t of them the average is a_t = d a_(t-1) + (1 - d) w_t with d = min(average, t / (t + 10))."""
    settings = replace(SETTINGS, epochs=5, batch_size=12, average=0.2)
    plain, weights = fresh(), []

    def note(record):
        weights.append({name: value.clone() for name, value in plain.state_dict().items()})

    trained(replace(settings, average=None), model=plain, on_epoch=note)
    expected = fresh().state_dict()
    for step, current in enumerate(weights, start=1):
        decay = min(0.2, step / (step + 10))
        averaged = [name for name, value in current.items() if value.is_floating_point()]
        expected |= {name: decay * expected[name] + (1 - decay) * current[name] for name in averaged}
    last = fresh(Steered, answers=[5.0, 4.0, 3.0, 2.0, 1.0])
    trained(settings, model=last)
    assert any("running_var" in name for name in expected)
    for name, value in last.state_dict().items():
        if value.is_floating_point() and name != "epochs":
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


def test_an_average_of_weights_of_spectral_norm_1_is_of_spectral_norm_1():
    """No step goes through the average, so that the vectors by which torch finds the norm would stay those of the first weights."""
    settings = replace(SETTINGS, epochs=30, average=0.9)
    model, started = fresh(RAESN), fresh(RAESN)
    trained(settings, model=model)
    layers = [layer for layer in model.decoder.modules() if isinstance(layer, LAYERS)]
    first = [layer for layer in started.decoder.modules() if isinstance(layer, LAYERS)]
    for layer, before in zip(layers, first, strict=True):
        moved = layer.parametrizations.weight.original - before.parametrizations.weight.original
        assert moved.norm() > 0.1 * before.parametrizations.weight.original.norm()
        rows = layer.weight.transpose(0, 1) if isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d)) else layer.weight
        assert torch.linalg.matrix_norm(rows.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_even_batches_leave_no_image_by_itself():
    model = fresh(Listening)
    trained(TrainingSettings(epochs=1, batch_size=11, jitter=0, even=True, precision="fp32", device="cpu"), model=model)
    assert [len(x) for side, x, _ in model.batches if side] == [6, 6]


@pytest.mark.parametrize("best", [1, 3, 6])
def test_the_weights_kept_are_those_of_the_best_validation_loss(best):
    model, seen = fresh(Steered, answers=[1.0 if epoch == best else 2.0 for epoch in range(1, 7)]), []

    def note(record):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})

    _, result = trained(model=model, on_epoch=note)
    assert result.best_epoch == best
    same = [all(torch.equal(value, weights[name]) for name, value in model.state_dict().items()) for weights in seen]
    assert same == [epoch == best for epoch in range(1, 7)]
    assert not model.training
    assert all(p.device.type == "cpu" for p in model.parameters())


def test_history_has_every_term_of_both_sides_and_the_loss_goes_down():
    _, result = trained(TrainingSettings(epochs=20, learning_rate=5e-3, batch_size=5, precision="fp32", device="cpu"))
    terms = [f"{side}_{term}" for side in ("train", "validation") for term in ("loss", "reconstruction", "kl")]
    assert list(result.history.columns) == ["epoch", "learning_rate", *terms]
    assert result.history["epoch"].tolist() == list(range(1, 21))
    assert result.history["train_loss"].tail(3).mean() < result.history["train_loss"].head(3).mean()
    assert result.history["validation_loss"].min() < result.history["validation_loss"][0]


class Listening(AE):
    """Keeps what it is given, and answers with a loss that a test chooses."""

    def __init__(self, *args, answer=lambda epoch, training: 1.0):
        super().__init__(*args)
        self.batches, self.answer = [], answer

    def loss(self, x, generator):
        self.batches.append((self.training, x.detach().clone(), float(torch.rand((), generator=generator))))
        steps = sum(training for training, _, _ in self.batches)
        loss = super().loss(x, generator)["loss"]
        return {"loss": loss * 0 + self.answer((steps + 2) // 3, self.training) + 0 * loss}


def test_each_epoch_sees_every_image_once_in_another_order():
    model = fresh(Listening)
    trained(TrainingSettings(epochs=3, batch_size=5, jitter=0, precision="fp32", device="cpu"), model=model)
    data = images()
    orders = []
    for epoch in range(3):
        batches = [x for side, x, _ in model.batches if side][3 * epoch : 3 * epoch + 3]
        assert [len(batch) for batch in batches] == [5, 5, 2]
        rows = [int(np.argmin([float((row - other).abs().max()) for other in data])) for row in torch.cat(batches)]
        assert sorted(rows) == list(range(12))
        orders.append(rows)
    assert len({tuple(order) for order in orders}) == 3
    noise = [number for side, _, number in model.batches if side]
    assert len(set(noise)) == len(noise)
    # Validation: unchanged, in order, with the same noise at every epoch.
    held_out = [(x, number) for side, x, number in model.batches if not side]
    assert all(torch.equal(x, images(4, seed=1)) for x, _ in held_out)
    assert len({number for _, number in held_out}) == 1


def test_jitter_changes_training_images_alone():
    model = fresh(Listening)
    trained(TrainingSettings(epochs=1, batch_size=12, jitter=1.0, precision="fp32", device="cpu"), model=model)
    (_, seen, _), (_, held_out, _) = model.batches
    assert torch.equal(held_out, images(4, seed=1))
    assert all(float((row - other).abs().max()) > 1e-3 for row in seen for other in images())


@pytest.mark.parametrize("side", [True, False], ids=["training", "validation"])
@pytest.mark.parametrize(("bad", "told"), [(1, "there was no good epoch before it"), (3, "the last good epoch was 2")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_and_names_the_last_good_epoch(side, bad, told, value):
    model = fresh(Listening, answer=lambda epoch, training: value if epoch == bad and training == side else 1.0)
    with pytest.raises(GateError, match=rf"no longer a finite number in epoch {bad}; {told}\. Lower --learning-rate") as error:
        trained(model=model)
    assert error.value.exit_code == 5


def test_colour_images_train():
    torch.manual_seed(0)
    x = images() * torch.tensor([1.0, 0.5, 0.1])[:, None, None]
    model = AE(Architecture("conv", (16, 16), latent_dim=2, channels=2, image_channels=3))
    history = train(model, x, x, SETTINGS, seed=0).history
    assert history["validation_loss"].iloc[-1] < 0.9 * history["validation_loss"].iloc[0]


def test_the_rate_is_halved_after_patience():
    model = fresh(Listening, answer=lambda epoch, training: 1.0)
    settings = TrainingSettings(epochs=8, batch_size=5, patience=2, learning_rate=0.08, precision="fp32", device="cpu")
    _, result = trained(settings, model=model)
    # Epoch 1 is the best; 2, 3 and 4 are not better: one more than the patience.
    assert result.history["learning_rate"].tolist() == [0.08] * 4 + [0.04] * 3 + [0.02]
    assert result.best_epoch == 1


def test_a_loss_below_zero_that_hardly_rises_is_no_better_one():
    model = fresh(Listening, answer=lambda epoch, training: -1000 + 0.01 * epoch)
    settings = TrainingSettings(epochs=6, batch_size=5, patience=2, learning_rate=0.08, precision="fp32", device="cpu")
    _, result = trained(settings, model=model)
    assert result.history["learning_rate"].tolist() == [0.08] * 4 + [0.04] * 2
    assert result.best_epoch == 1


class LookingAtTheLayout(AE):
    """Keeps which of its kernels lie channels last."""

    def loss(self, x, generator):
        self.layouts = {weight.is_contiguous(memory_format=torch.channels_last) for weight in self.decoder.parameters() if weight.ndim == 4}
        return super().loss(x, generator)


def test_training_lays_out_channels_last_and_leaves_the_plain_layout():
    model = fresh(LookingAtTheLayout)
    trained(TrainingSettings(epochs=1, batch_size=5, precision="fp32", device="cpu"), model=model)
    assert model.layouts == {True}
    assert all(weight.is_contiguous() for weight in model.parameters())


def test_bf16_trains_and_keeps_float32_weights():
    model, result = trained(TrainingSettings(epochs=3, batch_size=5, precision="bf16", device="cpu"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert np.isfinite(result.history.to_numpy()).all()
    _, exact = trained(TrainingSettings(epochs=3, batch_size=5, precision="fp32", device="cpu"))
    assert result.history["train_loss"][0] != exact.history["train_loss"][0]
    assert result.history["train_reconstruction"][0] == pytest.approx(exact.history["train_reconstruction"][0], rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"steps": 0},
        {"batch_size": 0},
        {"patience": 0},
        {"stop_after": 0},
        {"average": 1.0},
        {"average": -0.1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"jitter": -0.1},
        {"jitter": 6.0},
        {"precision": "fp8"},
        {"device": "tpu"},
    ],
    ids=str,
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(UsageError):
        TrainingSettings(**wrong)


@pytest.mark.parametrize(
    ("settings", "n", "schedule"),
    [
        ({"steps": 100, "batch_size": 16}, 20, (50, 50, None)),
        ({"steps": 100, "batch_size": 16}, 200, (8, 8, None)),
        ({"steps": 500, "batch_size": 16}, 20, (250, 50, None)),
        ({"steps": 3000, "batch_size": 16}, 16, (3000, 150, None)),
        ({"epochs": 7, "patience": 3}, 20, (7, 3, None)),
        ({"epochs": 7, "stop_after": 2}, 200, (7, 8, 2)),
        ({"batch_size": 100}, 1000, (300, 15, 45)),
        ({"batch_size": 100, "average": 0.9}, 1000, (300, 15, 45)),
        ({"batch_size": 100, "patience": 7, "stop_after": 9}, 1000, (300, 7, 9)),
    ],
)
def test_small_classes_train_as_many_steps_as_large_ones(settings, n, schedule):
    """A length that is asked for is kept; one that is not ends early. No rate is halved before 100 steps without a better loss."""
    assert TrainingSettings(**settings, jitter=1).schedule(n, (16, 16)) == Schedule(*schedule, 1)


@pytest.mark.parametrize(
    ("n", "shape", "strength"),
    [
        (20, (80, 96), 1.5),
        (49, (80, 96), 1.5),
        (100, (80, 96), 1.09),
        (167, (80, 96), 1.0),
        (5000, (28, 28), 1.0),
        (21, (40, 48, 40), 1.07),
    ],
)
def test_images_that_are_fewer_are_changed_more_whatever_the_length(n, shape, strength):
    for settings in (TrainingSettings(), TrainingSettings(steps=10), TrainingSettings(epochs=1000)):
        assert settings.schedule(n, shape).jitter == pytest.approx(strength, abs=0.01)
    assert TrainingSettings(jitter=0).schedule(n, shape).jitter == 0


def test_a_model_records_how_strongly_its_images_were_changed(study):
    cohort, split = study
    plan = FitPlan(cohort, split, "CN", SMALL)
    strength = plan.schedule.jitter
    assert 1 < strength <= 1.5
    assert fit_class(plan).config.training.jitter == strength


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "default"])
def test_the_paper_s_presets_train_as_long_as_the_paper_does_and_average_nothing(preset):
    settings = PRESETS[preset].training
    assert (settings.average, settings.even) == (None, None)
    assert settings.schedule(1000, (32, 32)) == Schedule(settings.epochs, settings.patience, None, 0)


def test_larger_images_have_fewer_steps_whatever_their_shape():
    assert default_steps((8, 8)) == default_steps((28, 28)) == 3000
    assert 2000 < default_steps((80, 96)) < 2500
    assert default_steps((40, 48, 40)) == default_steps((240, 320)) == pytest.approx(default_steps((80, 96)) * 10**-0.55, abs=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_devices():
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="No GPU that torch can use"):
        choose_device("gpu")
    with pytest.raises(UsageError, match="auto, cpu or gpu, not 'tpu'"):
        choose_device("tpu")


# fit_class

SMALL = FitSettings(latent_dim=2, channels=2, training=TrainingSettings(epochs=3, batch_size=5, precision="fp32", device="cpu"))


@pytest.fixture
def study(fakes, tmp_path):
    cohort = read_cohort(fakes.study(tmp_path / "study.npz"))
    return cohort, split_cohort(cohort, seed=0)


def global_states():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), kind, keys.tolist(), rest


def test_a_fit_leaves_global_randomness_alone_and_does_not_depend_on_it(study):
    before = global_states()
    one = fit_class(FitPlan(*study, "AD", SMALL))
    assert global_states() == before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(77)
        other = fit_class(FitPlan(*study, "AD", SMALL))
    assert_same(one.autoencoder, other.autoencoder)
    assert torch.equal(one.metric.centroids, other.metric.centroids)


def test_a_fit_knows_whose_images_are_whose(study, tmp_path):
    cohort, split = study
    assert fit_class(FitPlan(cohort, split, "CN", SMALL)).person is None
    table = cohort.table
    twice = table.groupby("label").cumcount() // 2
    cohort = replace(cohort, table=table.assign(participant_id=table["label"] + twice.astype(str)))
    split = split_cohort(cohort, seed=0)
    model = fit_class(FitPlan(cohort, split, "CN", SMALL))
    people = split.side(cohort.of_class("CN"), "train").table["participant_id"].to_numpy()
    assert ((model.person[:, None] == model.person).numpy() == (people[:, None] == people)).all()
    assert model.person.unique().numel() < len(people)
    assert torch.equal(model.latents.person, model.person)
    held_out = split.side(cohort.of_class("CN"), "validation").table["participant_id"]
    assert {law.n_held_out for law in model.law_scores.laws if law.left_out is not None} == {held_out.nunique()}
    assert held_out.nunique() < len(held_out)
    model.save(tmp_path)
    assert torch.equal(FittedModel.load(tmp_path).person, model.person)


def test_a_table_that_is_sorted_otherwise_is_the_same_fit(study):
    """By the digest it is: what it takes up, where it is resumed, is of the same images in the same order."""
    cohort, split = study
    order = np.random.default_rng(0).permutation(len(cohort))
    mixed = replace(cohort, table=cohort.table.iloc[order].reset_index(drop=True))
    plans = [FitPlan(some, split, "AD", SMALL, examine(some).digest) for some in (cohort, mixed)]
    assert plans[0].digest == plans[1].digest
    one, other = map(fit_class, plans)
    assert_same(one.autoencoder, other.autoencoder)
    assert torch.equal(one.codes, other.codes)
    assert list(plans[0].sides["train"].table["image_id"]) == list(split.side(cohort.of_class("AD"), "train").table["image_id"])


def test_images_are_put_into_the_order_that_the_model_knows(study):
    cohort, split = study
    plan = FitPlan(cohort, split, "CN", SMALL)
    model, side = fit_class(plan), plan.sides["train"]
    images = prepare(side, SMALL.preparation)
    people, age = tuple(side.people), tuple(range(len(side)))
    order = np.random.default_rng(0).permutation(len(side))
    mixed = TrainingImages(images[order], tuple(people[row] for row in order), tuple(float(age[row]) for row in order))
    found = mixed.in_order(model.order_of_training(mixed.images.pixels).tolist())
    assert torch.equal(found.images.pixels, images.pixels)
    assert (found.people, found.age) == (people, age)
    # Copies are told apart as little as they can be.
    twice = replace(model, codes=model.codes[[0, 0, *range(2, len(side))]])
    alike = images[[0, 0, *range(2, len(side))]][order]
    assert torch.equal(alike.pixels[twice.order_of_training(alike.pixels)], images.pixels[[0, 0, *range(2, len(side))]])
    # With one image twice and another not at all they are others.
    with pytest.raises(DataError, match="not the images that the model of CN was trained on"):
        model.order_of_training(alike.pixels)


def test_a_person_under_two_names_is_one_to_a_fit(study):
    cohort, split = study
    train = split.side(cohort.of_class("AD"), "train").table["participant_id"].tolist()
    other = next(who for who in cohort.table["participant_id"] if who not in train)
    # Through one who is not trained on, too.
    model = fit_class(FitPlan(replace(cohort, alike=((train[1], other), (train[4], other))), split, "AD", SMALL))
    assert model.person.tolist() == [row - (row > 4) if row != 4 else 1 for row in range(len(train))]


def test_seed_and_class_decide(study):
    first = fit_class(FitPlan(*study, "AD", SMALL))
    by_seed = fit_class(FitPlan(*study, "AD", FitSettings(**(vars(SMALL) | {"seed": 1}))))
    assert not torch.equal(first.autoencoder.decoder.body[0].weight, by_seed.autoencoder.decoder.body[0].weight)


def test_a_fit_does_not_see_the_test_side(study):
    cohort, split = study
    test = [person for person, side in split.sides.items() if side == "test"]
    changed = cohort.arrays.copy()
    rows = cohort.table["participant_id"].isin(test).to_numpy()
    changed[rows] = np.random.default_rng(1).random(changed[rows].shape)
    whole, blind = (
        fit_class(FitPlan(other, split, "AD", SMALL)) for other in (cohort, type(cohort)(**(vars(cohort) | {"arrays": changed})))
    )
    assert_same(whole.autoencoder, blind.autoencoder)
    people = whole.config.participants
    assert not any(people.seen(person) for person in test)
    for person, side in split.sides.items():
        label = cohort.table.set_index("participant_id")["label"][person]
        assert people.trained_on(person) == (side == "train" and label == "AD")


def test_what_a_fit_records(study):
    cohort, split = study
    epochs, warnings = [], []
    hooks = Hooks(on_epoch=epochs.append, on_warning=warnings.append)
    model = fit_class(FitPlan(cohort, split, "CN", SMALL, examine(cohort).digest), hooks=hooks)
    data, found = model.config.data, model.config.diagnostics
    assert len(epochs) == len(model.history) == 3
    assert data["counts"] == {"AD": 7, "CN": 10}
    assert (data["n_train"], len(model.codes), len(model.metric.centroids)) == (10, 10, 10)
    assert model.config.split["digest"] == split.digest
    assert found["kl"] == pytest.approx(sum(found["kl_per_unit"]), abs=1e-3)
    assert warnings == [f"CN: {text}" for text in fit_warnings(found, SMALL)]
    assert model.posterior is not None
    assert torch.equal(model.codes, model.posterior.mean)


@pytest.mark.parametrize(
    ("diagnostics", "says"),
    [
        ({"active_units": 0, "explained_train": 0.9, "explained_validation": 0.9}, "collapsed.*Train for more --steps, or lower --beta"),
        ({"active_units": 2, "explained_train": 0.01, "explained_validation": 0.9}, "explain 1%.*Train for more --steps"),
        ({"explained_train": -3.0, "explained_validation": 0.9}, "no better than their mean image .-300%"),
        ({"active_units": 2, "explained_train": 0.15, "explained_validation": 0.07}, "hardly knows its class.*explain 7%"),
    ],
)
def test_fits_that_are_worth_little_say_so(diagnostics, says):
    (warning,) = fit_warnings(diagnostics, SMALL)
    assert re.search(says, warning)


def test_too_strong_a_jitter_is_told_where_nothing_was_learnt():
    strong = replace(SMALL, training=replace(SMALL.training, jitter=2))
    nothing = {"active_units": 2, "explained_train": -0.01, "explained_validation": 0.9}
    assert ["lower --jitter" in fit_warnings(nothing, settings)[0] for settings in (strong, SMALL)] == [True, False]


def test_images_that_were_learnt_by_heart_are_told_by_both_shares():
    poor, by_heart = fit_warnings({"active_units": 2, "explained_train": 0.9, "explained_validation": -0.02}, SMALL)
    assert re.search("hardly knows its class.*explain none .-2%. of the variance", poor)
    assert re.search("of the training images' variance it explains 90%.*learnt its images by heart", by_heart)


def test_a_good_fit_is_silent_and_a_fixed_likelihood_gets_another_advice():
    assert fit_warnings({"active_units": 2, "explained_train": 0.9, "explained_validation": 0.4}, SMALL) == []
    fixed = FitSettings(model_settings={"likelihood": "fixed"})
    (warning,) = fit_warnings({"active_units": 0, "explained_train": 0.9, "explained_validation": 0.9}, fixed)
    assert "--likelihood calibrated" in warning


def test_classes_and_splits_that_cannot_be_fitted(study):
    cohort, split = study
    few = cohort.where(cohort.table["label"].eq("CN") | (cohort.table.index < 5))
    with pytest.raises(DataError, match="AD of study has 5 images; a model needs 10"):
        fit_class(FitPlan(few, split, "AD", SMALL))
    with pytest.raises(UsageError, match="label 'MCI'; its labels are: AD, CN"):
        fit_class(FitPlan(cohort, split, "MCI", SMALL))
    sides = {person: "train" if side == "validation" else side for person, side in split.sides.items()}
    with pytest.raises(DataError, match="leaves no validation image of class AD"):
        fit_class(FitPlan(cohort, Split(sides, split.fractions), "AD", SMALL))


@pytest.mark.parametrize(("arch", "written", "other"), [("conv", 16, 8), ("paper-oasis", 64, 16)])
def test_a_default_width_and_its_number_are_the_same_fit(study, arch, written, other):
    """So that what was begun, or published, with the number written out goes on."""
    settings = FitSettings(arch=arch)
    plans = [FitPlan(*study, "AD", replace(settings, channels=channels)).digest for channels in (None, written, other)]
    assert plans[0] == plans[1] != plans[2]
    stored = {"channels": written, "preparation": settings.preparation.content()}
    assert settings.as_dict() == asdict(settings) | stored


def test_a_fit_is_the_same_on_another_device(study):
    elsewhere = replace(SMALL, training=replace(SMALL.training, device="gpu"))
    assert FitPlan(*study, "AD", elsewhere).digest == FitPlan(*study, "AD", SMALL).digest
    longer = replace(SMALL, training=replace(SMALL.training, epochs=4))
    assert FitPlan(*study, "AD", longer).digest != FitPlan(*study, "AD", SMALL).digest


def test_a_resume_point_of_another_plan_is_refused(study, tmp_path):
    folder = tmp_path / "resume"
    fit_class(FitPlan(*study, "AD", SMALL, "data"), resume_folder=folder)
    fit_class(FitPlan(*study, "AD", SMALL, "data"), resume_folder=folder)
    for other, digest in ((FitSettings(**(vars(SMALL) | {"seed": 1})), "data"), (SMALL, "other data")):
        with pytest.raises(UsageError, match="unfinished fit with other settings, data, split or version"):
            fit_class(FitPlan(*study, "AD", other, digest), resume_folder=folder)
    with pytest.raises(UsageError, match=r"unfinished fit .* of tinycohort \(label: AD there, CN here\); repeat"):
        fit_class(FitPlan(*study, "CN", SMALL, "data"), resume_folder=folder)
    longer = replace(SMALL, channels=4, training=replace(SMALL.training, epochs=9))
    with pytest.raises(UsageError, match=r"\(channels: 2 there, 4 here, training.epochs: \d there, 9 here, data\); repeat"):
        fit_class(FitPlan(*study, "AD", longer, "other data"), resume_folder=folder)
    (folder / "plan.json").write_text('{"plan": "of an earlier version"}')
    with pytest.raises(UsageError, match="split or version of tinycohort; repeat those"):
        fit_class(FitPlan(*study, "AD", SMALL, "data"), resume_folder=folder)


def test_a_fit_that_goes_on_with_other_threads_or_precision_is_told(study, tmp_path, monkeypatch):
    """Of a number of threads the last digits of every step depend, and so the weights."""
    said = []

    def go_on(settings=SMALL):
        said.clear()
        fit_class(FitPlan(*study, "AD", settings, "data"), resume_folder=tmp_path / "resume", hooks=Hooks(on_warning=said.append))
        return [sentence for sentence in said if "goes on with" in sentence]

    assert go_on() == go_on() == []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    for _ in range(2):  # again and again: what was computed so before stays in it
        (sentence,) = go_on()
        assert "and goes on with 7 threads in fp32: its weights will not be those of one that was never interrupted" in sentence


def test_a_plan_that_does_not_say_of_which_images_it_is_is_not_resumed(study, tmp_path):
    """With the same ids other images would be the same plan."""
    with pytest.raises(UsageError, match=r"give FitPlan the whole cohort that require_sound.cohort. returns"):
        fit_class(FitPlan(*study, "AD", SMALL), resume_folder=tmp_path / "resume")
    assert not (tmp_path / "resume").exists()


# Steps as a GPU would replay them.


def trained_by_replays(monkeypatch, settings, model, **options):
    """With a recorder in place of CUDA's; and what it counted in training and in validation."""
    recorders = []

    def recorded(step, device, generators):
        recorders.append(CountingRecorder())
        return Replayed(step, recorders[-1])

    with monkeypatch.context() as patch:
        patch.setattr(training, "replayed", recorded)
        return *trained(settings, model=model, **options), recorders


@pytest.mark.parametrize("name", [name for name, kind in AUTOENCODERS.items() if kind.replayable])
@pytest.mark.parametrize("settings", [AVERAGING, replace(SETTINGS, precision="bf16")], ids=["averaging", "bf16"])
def test_replayed_steps_learn_what_steps_learn(monkeypatch, name, settings):
    """Bit by bit, with the noise, the jitter, the learning rate, both sizes of batches, and what a model makes before an epoch."""
    model, result, (steps, validations) = trained_by_replays(monkeypatch, settings, fresh(AUTOENCODERS[name]))
    plain, expected = trained(settings, model=fresh(AUTOENCODERS[name]))
    tolerance = 1e-6 if name == "hvae" else 0  # its second derivatives, on other memory, differ in the last digit
    for one, other in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(result.history, expected.history, rtol=tolerance)
    assert steps.again == (15 if settings is AVERAGING else 12)
    assert validations.again == 3


def test_a_model_that_cannot_be_replayed_is_not_tried(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        *_, recorders = trained_by_replays(monkeypatch, SETTINGS, fresh(AUTOENCODERS["rhvae"]))
    assert recorders == []


@pytest.mark.parametrize("kills", [(2,), (5,), (3, 5)])
def test_replayed_trainings_that_were_interrupted_end_as_one_that_was_not(tmp_path, monkeypatch, kills):
    whole, expected = trained(AVERAGING)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_RESUME_POINTS", 0)
    for epoch in kills:
        with pytest.raises(Killed):
            trained_by_replays(monkeypatch, AVERAGING, fresh(), resume_folder=tmp_path, on_epoch=killer(epoch))
    resumed, result, _ = trained_by_replays(monkeypatch, AVERAGING, fresh(), resume_folder=tmp_path)
    assert_same(resumed, whole)
    pd.testing.assert_frame_equal(result.history, expected.history, check_exact=True)


@pytest.mark.parametrize("settings", [SETTINGS, AVERAGING], ids=["plain", "averaging"])
def test_a_training_leaves_nothing_behind(monkeypatch, settings):
    """Studies fit hundreds of models, and a cycle is freed when Python likes."""
    alive = []

    class Watched(training._Fitting):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.append(weakref.ref(self))

    trained(settings)  # torch's first optimizer imports what fails somewhere, and the error keeps who asked for it
    monkeypatch.setattr(training, "_Fitting", Watched)
    gc.disable()
    try:
        trained(settings)
        assert alive.pop()() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", [name for name, kind in AUTOENCODERS.items() if kind.replayable])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_replayed_steps_learn_what_steps_learn(monkeypatch, name, precision):
    settings = replace(AVERAGING, device="gpu", precision=precision)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # that a step could not be recorded
        model, result = trained(settings, model=fresh(AUTOENCODERS[name]))
    again, _ = trained(settings, model=fresh(AUTOENCODERS[name]))
    assert_same(model, again)
    monkeypatch.setattr(training, "replayed", lambda step, device, generators: step)
    _, expected = trained(settings, model=fresh(AUTOENCODERS[name]))
    np.testing.assert_allclose(result.history["train_loss"], expected.history["train_loss"], rtol=1e-3 if precision == "fp32" else 2e-2)


def test_volumes_of_a_small_class_are_given_100_steps_too():
    assert TrainingSettings(batch_size=16).schedule(20, (40, 48, 40)) == Schedule(322, 50, 150, 322 / 300)


# What both kinds of training share.


@pytest.mark.parametrize("n", [1, 7, 16])
@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_batches_are_each_row_once(n, batch_size):
    plain = batches_of_rows(n, batch_size)
    assert torch.equal(torch.cat(list(plain)), torch.arange(n))
    assert [len(batch) for batch in plain] == [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)
    assert len(plain) == n_batches(n, batch_size)
    orders = []
    for epoch in range(4):
        first, second = (torch.cat(list(batches_of_rows(n, batch_size, order=seeded_generator(1, "order", epoch)))) for _ in range(2))
        assert torch.equal(first, second)
        assert sorted(first.tolist()) == list(range(n))
        orders.append(tuple(first.tolist()))
    assert len(set(orders)) == (4 if n > 6 else 1)


@pytest.mark.parametrize(("n", "batch_size", "sizes"), [(7, 3, [3, 2, 2]), (17, 16, [9, 8]), (6, 6, [6]), (1001, 10, [10] * 92 + [9] * 9)])
def test_even_batches_differ_by_one_row(n, batch_size, sizes):
    batches = batches_of_rows(n, batch_size, order=torch.Generator().manual_seed(1), even=True)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(torch.cat(list(batches)).tolist()) == list(range(n))


@pytest.mark.parametrize("even", [True, False])
def test_a_batch_of_more_rows_than_any_machine_can_count_is_all_of_them(even):
    (batch,) = batches_of_rows(3, 10**30, even=even)
    assert batch.tolist() == [0, 1, 2]


def test_streams_are_told_apart():
    seeds = {derived_seed(*key) for key in [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0,), (10, "a")]}
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(0, "a", 1) == derived_seed(0, "a", 1)
    used = torch.Generator()
    torch.rand(5, generator=used)
    assert torch.equal(torch.rand(3, generator=seeded_generator(0, "a", generator=used)), torch.rand(3, generator=seeded_generator(0, "a")))

"""The CNN of Table 5, its training, networks of a user's own, and the classical augmentation."""

import gc
import math
import random
import warnings
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recorded import CountingRecorder
from torch import Tensor, nn

from tinycohort.classifiers import loop
from tinycohort.classifiers.augmentation import changed, classical
from tinycohort.classifiers.loop import Augmentation
from tinycohort.classifiers.network import CNN, build_network, load_network
from tinycohort.classifiers.networks import network_of
from tinycohort.classifiers.training import ClassifierSettings, balancing_weights, predict_probabilities, train_classifier
from tinycohort.datasets.common.errors import GateError, UsageError
from tinycohort.datasets.common.graphs import Replayed

QUICK = ClassifierSettings(epochs=3, learning_rate=1e-3, batch_size=16, device="cpu")
SHAPE = (20, 24)


def toy(n: int, seed: int = 0, shape: tuple[int, ...] = SHAPE, contrast: float = 0.5) -> tuple[Tensor, Tensor]:
    """Noise, brighter in one half of the image by class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = 0.5 * torch.rand((n, 1, *shape), generator=generator)
    images[labels == 1, :, : shape[0] // 2] += contrast
    images[labels == 0, :, shape[0] // 2 :] += contrast
    return images, labels


# The network


def test_table_5_has_its_numbers():
    network = CNN((208, 176), 2)
    assert network.head[1].in_features == 256
    convolutions = [layer for layer in network.blocks if isinstance(layer, nn.Conv2d)]
    assert [(layer.out_channels, layer.kernel_size, layer.stride, layer.padding) for layer in convolutions] == [
        (8, (3, 3), (1, 1), (0, 0)),
        (16, (3, 3), (1, 1), (0, 0)),
        (32, (3, 3), (2, 2), (0, 0)),
        (64, (3, 3), (2, 2), (0, 0)),
    ]
    parts = [sum(weight.numel() for weight in layer.parameters()) for layer in [*network.blocks, *network.head]]
    assert [count for count in parts if count] == [80, 16, 1168, 32, 4640, 64, 18496, 128, 25700, 202]


def test_it_computes_what_table_5_says_in_table_5s_order():
    """Leaky ReLU before the pooling there, after it here."""
    torch.manual_seed(0)
    network = CNN((208, 176), 3)
    reference: list[nn.Module] = []
    for convolution, norm in zip(network.blocks[0::4], network.blocks[1::4], strict=True):
        reference += [convolution, norm, nn.LeakyReLU(), nn.MaxPool2d(2, 2)]
    _, first, _, second = network.head
    table_5 = nn.Sequential(*reference, nn.Flatten(), first, nn.ReLU(), second)
    images = torch.rand(3, 1, 208, 176)
    # In training mode too: batch statistics are taken before the pooling.
    torch.testing.assert_close(network(images), table_5(images))
    torch.testing.assert_close(network.eval()(images), table_5.eval()(images))


@pytest.mark.parametrize(("shape", "pooled"), [((80, 96), (3, 3)), ((91, 109), (3, 4)), ((150, 260), (5, 8)), ((50, 28), (2, 1))])
def test_other_sizes_are_padded_and_pooled_to_two_a_side(shape, pooled):
    network = CNN(shape, 2).eval()
    before = network.blocks[:-2](torch.rand(2, 1, *shape))
    assert before.shape[2:] == pooled
    torch.testing.assert_close(network.blocks[-2](before), nn.AdaptiveMaxPool2d(2)(before))


@pytest.mark.parametrize("shape", [(208, 176), (80, 96), (8, 8), (28, 31), (8, 9, 10), (40, 48, 40), (17, 60, 33)])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_any_size_and_any_number_of_classes(shape, n_classes):
    network = CNN(shape, n_classes)
    assert network.head[1].in_features == 64 * 2 ** len(shape)
    logits = network(torch.rand(3, 1, *shape))
    assert logits.shape == (3, n_classes)
    logits.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())
    assert network.head[-1].weight.grad.abs().sum() > 0


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="20, 24"):
        CNN(SHAPE, 2)(torch.rand(2, 1, 24, 20))


# Networks of a user's own


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "plug_ins.py").write_text(
        "from torch import nn\n"
        "def fits(shape, n_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1], 8), nn.Dropout(0.5), nn.Linear(8, n_classes))\n"
        "def three(shape, n_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1], 3))\n"
        "def narrow(shape, n_classes):\n"
        "    return nn.Linear(7, n_classes)\n"
        "def empty(shape, n_classes):\n"
        "    return nn.Flatten()\n"
        "def broken(shape, n_classes):\n"
        "    raise RuntimeError('no such depth')\n"
        "def text(shape, n_classes):\n"
        "    return 'resnet'\n"
        "number = 3\n"
    )
    (tmp_path / "needs_more.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_network_of_a_users_own_is_found_in_the_working_folder_and_trained(plug_ins):
    before = list(__import__("sys").path)
    builder = load_network("plug_ins:fits")
    assert __import__("sys").path == before
    images, labels = toy(32)
    results = [train_classifier(images, labels, (images, labels), QUICK, n_classes=2, seed=1, network=builder) for _ in range(2)]
    assert isinstance(results[0].network, nn.Sequential)
    # Its dropout draws from torch's global generator, which the seed sets too.
    assert results[0].history.equals(results[1].history)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("plug_ins", "package.module:function"),
        ("plug_ins.py:fits", "No module named|not a package"),
        ("../plug_ins:fits", "package.module:function"),
        (":fits", "package.module:function"),
        ("there_is_no_such:fits", "there_is_no_such cannot be imported"),
        ("needs_more:fits", "a_package_that_nobody_has"),
        ("plug_ins:missing", "has no 'missing'"),
        ("plug_ins:number", "no function but int"),
    ],
)
def test_what_cannot_be_loaded_is_told(plug_ins, path, told):
    with pytest.raises(UsageError, match=told):
        load_network(path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("three", r"gives \(2, 3\); it must give logits \(2, 2\)"),
        ("narrow", r"fails on images \(2, 1, 20, 24\)"),
        ("empty", "nothing to learn"),
        ("broken", "no such depth"),
        ("text", "not str"),
    ],
)
def test_a_network_that_does_not_fit_is_told(plug_ins, name, told):
    with pytest.raises(UsageError, match=told):
        build_network(load_network(f"plug_ins:{name}"), SHAPE, 2)


# Training


@pytest.mark.parametrize("shape", [SHAPE, (12, 14, 16)])
def test_it_learns_what_can_be_separated(shape):
    images, labels = toy(64, seed=1, shape=shape)
    unseen, truth = toy(40, seed=2, shape=shape)
    settings = ClassifierSettings(epochs=15, learning_rate=1e-2, batch_size=16, device="cpu")
    result = train_classifier(images, labels, toy(16, seed=3, shape=shape), settings, n_classes=2, seed=0)
    probabilities = predict_probabilities(result.network, unseen)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(40))
    assert (probabilities.argmax(dim=1) == truth).all()
    assert result.history["train_loss"].iloc[-1] < 0.3 * result.history["train_loss"].iloc[0]


def test_the_seed_decides_everything_and_nothing_global_moves():
    images, labels = toy(40, contrast=0.05)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002

    def trained(seed: int):
        return train_classifier(images, labels, (images[:8], labels[:8]), QUICK, n_classes=2, seed=seed, augmentation=classical)

    first = trained(1)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    torch.rand(7)  # what the global generator is at does not matter
    again, other = trained(1), trained(2)
    assert first.history.equals(again.history)
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    assert not first.history["train_loss"].equals(other.history["train_loss"])


def test_no_map_is_one_voxel_wide_where_bf16_is_chosen():
    """There oneDNN's weight gradients are in part uninitialised memory."""
    for side in [*range(28, 64), 80, 96, 97, 127, 176, 256]:
        map_ = torch.empty(2, 1, side, side, device="meta")
        for layer in CNN((side, side), 2).to("meta").blocks:
            assert map_.shape[-1] > 1 or not isinstance(layer, nn.Conv2d), side
            map_ = layer(map_)


@pytest.mark.parametrize(("shape", "bf16"), [((28, 32), True), ((27, 32), False), ((32, 32, 28), True), ((32, 20, 32), False)])
def test_bf16_is_chosen_where_the_processor_has_it_and_computes_it_rightly(monkeypatch, shape, bf16):
    monkeypatch.setattr("tinycohort.classifiers.training.computes_in_bf16", lambda device: True)
    seen: list[bool] = []
    images, labels = toy(4, shape=shape)

    def watched(shape: tuple[int, ...], n_classes: int) -> nn.Module:
        network = CNN(shape, n_classes)
        network.blocks[0].register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype == torch.bfloat16))
        return network

    for builder, expected in ((watched, False), (CNN, bf16)):  # what a user's network does inside cannot be known
        monkeypatch.setattr("tinycohort.classifiers.training.CNN", watched if builder is CNN else CNN)
        settings = ClassifierSettings(epochs=1, device="cpu")
        seen.clear()
        train_classifier(images, labels, (images, labels), settings, n_classes=2, seed=1, network=watched)
        # The first step is training; validation and the look at the logits' shape are in float32.
        assert seen == [False, expected, False]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_augmentation_is_drawn_and_applied_in_float32(precision):
    images, labels = toy(8, shape=(32, 36))
    seen: list[Tensor] = []

    seeds: set[int] = set()

    def kept(batch: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seeds.add(generator.initial_seed())
        moved, same = classical(batch, labels, generator)
        assert torch.equal(moved, changed(batch, torch.Generator().manual_seed(generator.initial_seed())))
        assert same is labels
        seen.append(moved)
        return moved, same

    settings = ClassifierSettings(epochs=2, batch_size=4, precision=precision, device="cpu")
    train_classifier(images, labels, (images, labels), settings, n_classes=2, seed=1, augmentation=kept)
    assert seen[0].dtype == torch.float32
    assert len(seeds) == len(seen) == 4  # each step of each epoch has its own


def test_bf16_learns_what_float32_learns():
    images, labels = toy(48, shape=(32, 36), contrast=0.1)
    losses = [
        train_classifier(
            images, labels, (images, labels), ClassifierSettings(epochs=4, precision=precision, device="cpu"), n_classes=2, seed=1
        ).history["train_loss"]
        for precision in ("bf16", "fp32")
    ]
    assert losses[0].to_numpy() == pytest.approx(losses[1].to_numpy(), rel=0.02)
    assert not losses[0].equals(losses[1])


def test_the_order_of_the_images_is_drawn_anew_at_each_epoch():
    images, labels = toy(48)
    seen: list[Tensor] = []

    def watch(batch: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seen.append(batch.flatten(1).sum(dim=1))
        return batch, labels

    train_classifier(images, labels, (images, labels), QUICK, n_classes=2, seed=1, augmentation=watch)
    epochs = [torch.cat(seen[start : start + 3]) for start in (0, 3, 6)]
    assert all(torch.equal(epoch.sort().values, epochs[0].sort().values) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_batches_are_of_nearly_equal_size():
    images, labels = toy(33)
    sizes: list[int] = []

    def watch(batch: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sizes.append(len(batch))
        return batch, labels

    train_classifier(images, labels, (images, labels), QUICK, n_classes=2, seed=1, augmentation=watch)
    assert sizes == [11] * 9  # and not 16, 16, 1


def test_class_weights_move_the_decision():
    images, labels = toy(60, contrast=0.02)
    shares = []
    for weights in (torch.tensor([9.0, 1.0]), None, torch.tensor([1.0, 9.0])):
        result = train_classifier(images, labels, (images, labels), QUICK, n_classes=2, seed=1, class_weights=weights)
        shares.append(float(predict_probabilities(result.network, images)[:, 0].mean()))
    assert shares[0] > shares[1] + 0.1 > shares[2] + 0.2


def test_the_loss_is_the_weighted_mean_over_images():
    images, labels = toy(24)
    weights = torch.tensor([3.0, 1.0])
    settings = ClassifierSettings(epochs=1, batch_size=9, precision="fp32", device="cpu")
    result = train_classifier(images, labels, (images[:7], labels[:7]), settings, n_classes=2, seed=1, class_weights=weights)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(result.network(images[:7]), labels[:7], weight=weights)
    assert result.history["validation_loss"].iloc[0] == pytest.approx(float(expected), rel=1e-5)


def test_balancing_weights_let_every_class_count_alike():
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2])
    weights = balancing_weights(labels, 3)
    torch.testing.assert_close(weights, torch.tensor([8 / 18, 0.0, 8 / 6]))


class Staged(nn.Module):
    """A network whose say on validation is written down epoch by epoch; it learns nothing but counts the epochs."""

    def __init__(self, margins: list[list[float]]):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.margins = margins
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.epoch += 1
            return torch.zeros(len(x), 2) + self.weight * torch.tensor([1.0, 0.0])
        margin = torch.tensor(self.margins[min(int(self.epoch), len(self.margins)) - 1])[: len(x)]
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


@pytest.mark.parametrize(
    ("margins", "best"),
    [
        # The truth is 0, 0, 0, 1. The second epoch is the most balanced; the first is as accurate, and the third has the lowest loss.
        ([[-0.1, -0.1, -0.1, -0.1], [0.1, -0.1, -0.1, 0.1], [-9.0, -9.0, -9.0, -0.1]], 2),
        # All alike balanced: the lowest loss, which is neither the first nor the last.
        ([[-1.0, -1.0, -1.0, 1.0], [-3.0, -3.0, -3.0, 3.0], [-2.0, -2.0, -2.0, 2.0]], 2),
        # Alike in both: the first.
        ([[-1.0, -1.0, -1.0, 1.0], [-1.0, -1.0, -1.0, 1.0], [-1.0, -1.0, -1.0, 1.0]], 1),
    ],
)
def test_the_best_balanced_accuracy_is_kept_and_of_ties_the_lowest_loss(margins, best):
    images = torch.rand(4, 1, *SHAPE)
    labels = torch.tensor([0, 0, 0, 1])
    result = train_classifier(images, labels, (images, labels), QUICK, n_classes=2, seed=1, network=lambda shape, n: Staged(margins))
    assert result.best_epoch == best
    assert int(result.network.get_buffer("epoch")) == best  # the weights are that epoch's too
    scores = result.history["validation_balanced_accuracy"]
    assert scores[best - 1] == scores.max()


def test_the_learning_rate_is_halved_when_validation_stalls():
    images = torch.rand(4, 1, *SHAPE)
    labels = torch.tensor([0, 0, 0, 1])
    settings = ClassifierSettings(epochs=9, patience=2, learning_rate=1e-3, device="cpu")
    stalled = train_classifier(
        images, labels, (images, labels), settings, n_classes=2, seed=1, network=lambda shape, n: Staged([[0.0] * 4])
    )
    assert stalled.history["learning_rate"].tolist() == pytest.approx([1e-3] * 4 + [5e-4] * 3 + [2.5e-4] * 2)


def test_the_training_loss_is_the_epochs_own():
    images = torch.rand(4, 1, *SHAPE)
    labels = torch.tensor([0, 0, 0, 1])
    settings = ClassifierSettings(epochs=2, learning_rate=0.5, device="cpu")
    result = train_classifier(images, labels, (images, labels), settings, n_classes=2, seed=1, network=lambda shape, n: Staged([[0.0] * 4]))
    # Adam's first step is the learning rate: the logits of class 0 are 0, then 0.5.
    second = 3 / 4 * math.log1p(math.exp(-0.5)) + 1 / 4 * math.log1p(math.exp(0.5))
    assert result.history["train_loss"].tolist() == pytest.approx([math.log(2), second], rel=1e-5)


def test_an_epoch_of_several_passes_is_as_many_epochs_and_one_look_at_validation():
    images, labels = torch.rand(6, 1, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 1, 1, 1])
    settings = ClassifierSettings(epochs=3, batch_size=2, learning_rate=1e-3, precision="fp32", device="cpu")
    each, together = (
        train_classifier(images, labels, (images, labels), some, n_classes=2, seed=1).history
        for some in (settings, replace(settings, epochs=1, passes=3))
    )
    assert (len(each), len(together)) == (3, 1)
    assert together["train_loss"][0] == pytest.approx(each["train_loss"].mean(), rel=1e-6)
    assert together["validation_loss"][0] == pytest.approx(each["validation_loss"][2], rel=1e-6)
    with pytest.raises(UsageError, match="passes over its images once an epoch or more often, not 0 times"):
        replace(settings, passes=0)


def test_the_defaults_are_the_papers():
    paper = ClassifierSettings()
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.patience) == (50, 200, 1e-4, 5)


# Steps as a GPU would replay them.


@pytest.mark.parametrize(
    ("network", "steps", "precision"),
    [("cnn", None, "fp32"), ("cnn", 12, "bf16"), ("cnn", 12, "fp32"), ("resnet", None, "bf16"), ("resnet", 12, "fp32")],
)
def test_replayed_steps_learn_what_steps_learn(monkeypatch, network, steps, precision):
    """With a rate that changes at every step or epoch, weights of the classes, changes of the batches, and two sizes of them."""
    images, labels = toy(33, shape=(32, 32))
    settings = replace(QUICK, steps=steps, precision=precision, epochs=5, patience=1)
    options = {
        "n_classes": 2,
        "seed": 0,
        "augmentation": classical,
        "network": network_of(network),
        "class_weights": torch.tensor([1.0, 2.0]),
    }
    plain = train_classifier(images, labels, (images, labels), settings, **options)
    recorder = CountingRecorder()
    monkeypatch.setattr("tinycohort.classifiers.loop.replayed", lambda step, device: Replayed(step, recorder))
    recorded = train_classifier(images, labels, (images, labels), settings, **options)
    assert recorder.recorded > 0
    pd.testing.assert_frame_equal(recorded.history, plain.history, rtol=1e-6)
    for one, other in zip(recorded.network.state_dict().values(), plain.network.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_users_network_is_replayed_if_it_allows_it(monkeypatch, allowed):
    """Its forward may draw from Python's numbers, which a graph would repeat."""
    images, labels = toy(8)
    recorder = CountingRecorder()
    monkeypatch.setattr("tinycohort.classifiers.loop.replayed", lambda step, device: Replayed(step, recorder))

    def build(shape, n_classes):
        network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), n_classes))
        if allowed:
            network.replayable = True
        return network

    train_classifier(images, labels, None, replace(QUICK, steps=5), n_classes=2, seed=0, network=build)
    assert recorder.as_it_is == (3 if allowed else 0)


def test_a_training_leaves_nothing_behind(monkeypatch):
    """Studies train hundreds of classifiers, and a cycle is freed when Python likes."""
    alive = []

    class Watched(loop.Stepping):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.append(weakref.ref(self))

    monkeypatch.setattr(loop, "Stepping", Watched)
    images, labels = toy(8)
    monkeypatch.setattr("tinycohort.classifiers.loop.replayed", lambda step, device: Replayed(step, CountingRecorder()))
    train_classifier(images, labels, None, replace(QUICK, steps=5), n_classes=2, seed=0)  # torch's first optimizer keeps who made it
    alive.clear()
    gc.disable()
    try:
        for settings in (QUICK, replace(QUICK, steps=5)):
            train_classifier(images, labels, (images, labels), settings, n_classes=2, seed=0)
        assert [reference() for reference in alive] == [None, None]
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", ["cnn", "resnet", "densenet121"])
@pytest.mark.parametrize("steps", [None, 40], ids=["epochs", "fixed"])
def test_on_a_gpu_replayed_steps_learn_what_steps_learn(monkeypatch, network, steps):
    images, labels = toy(33, shape=(32, 32))
    settings = replace(QUICK, steps=steps, epochs=15, device="gpu", precision="fp32")
    options = {"n_classes": 2, "seed": 0, "augmentation": classical, "network": network_of(network)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # that a step could not be recorded
        recorded = train_classifier(images, labels, (images, labels), settings, **options)
    monkeypatch.setattr("tinycohort.classifiers.loop.replayed", lambda step, device: step)
    plain = train_classifier(images, labels, (images, labels), settings, **options)
    np.testing.assert_allclose(recorded.history["train_loss"], plain.history["train_loss"], rtol=0.05, atol=0.01)


FIXED = ClassifierSettings(steps=40, learning_rate=5e-3, batch_size=16, device="cpu")


@pytest.mark.parametrize("shape", [SHAPE, (12, 14, 16)])
def test_training_of_fixed_length_learns_without_validation(shape):
    images, labels = toy(33, seed=1, shape=shape)
    unseen, truth = toy(40, seed=2, shape=shape)
    first, again = (train_classifier(images, labels, None, FIXED, n_classes=2, seed=0) for _ in range(2))
    assert (predict_probabilities(first.network, unseen).argmax(dim=1) == truth).all()
    assert first.best_epoch is None
    pd.testing.assert_frame_equal(first.history, again.history, check_exact=True)
    assert all(torch.equal(value, again.network.state_dict()[name]) for name, value in first.network.state_dict().items())
    # Validation that is there is not looked at.
    looked = train_classifier(images, labels, (unseen[:4], 1 - truth[:4]), FIXED, n_classes=2, seed=0)
    pd.testing.assert_frame_equal(first.history, looked.history, check_exact=True)


@pytest.mark.parametrize(("n", "sizes"), [(33, [11] * 7), (10, [10] * 7)])
def test_training_of_fixed_length_goes_through_all_images_round_by_round(n, sizes):
    images, labels = toy(n)
    seen: list[Tensor] = []

    def watch(batch: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seen.append(batch.flatten(1).sum(dim=1))
        return batch, labels

    train_classifier(images, labels, None, replace(FIXED, steps=7), n_classes=2, seed=1, augmentation=watch)
    assert [len(batch) for batch in seen] == sizes
    a_round = -(-n // 16)
    rounds = [torch.cat(seen[start : start + a_round]) for start in (0, a_round)]
    assert torch.equal(rounds[0].sort().values, rounds[1].sort().values)
    assert len(rounds[0].unique()) == n
    assert not torch.equal(rounds[0], rounds[1])


@pytest.mark.parametrize("steps", [1, 2, 20, 21, 100])
def test_the_learning_rate_of_fixed_length_goes_up_shortly_and_down_to_nothing(steps):
    images, labels = toy(8)
    settings = replace(FIXED, steps=steps, learning_rate=1e-2)
    history = train_classifier(images, labels, None, settings, n_classes=2, seed=1, network=lambda shape, n: Staged([[0.0] * 8])).history
    assert list(history.columns) == ["step", "learning_rate", "train_loss"]
    assert history["step"].iloc[-1] == steps
    assert len(history) == min(steps, 20)
    assert history["learning_rate"].max() > 0.9e-2
    if steps == 100:
        assert history["learning_rate"].is_monotonic_decreasing  # the rows begin after the warm-up
        assert history["learning_rate"].iloc[-1] < 1e-5


class Counting(nn.Module):
    """Logits are a bias that falls by the learning rate a step (AdamW's first steps); a buffer counts the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.trail: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.trail.append(self.bias.detach().clone())
            self.steps += 1
            self.replaced = self.steps + 0  # another tensor
            self.count = self.count + 1
        return self.bias.expand(len(x), 2)


def test_the_weights_of_fixed_length_are_an_average_over_its_last_steps_and_buffers_too():
    images, labels = torch.rand(8, 1, *SHAPE), torch.zeros(8, dtype=torch.long)
    built: list[Counting] = []

    def build(shape: tuple[int, ...], n_classes: int) -> nn.Module:
        built.append(Counting())
        return built[-1]

    result = train_classifier(images, labels, None, replace(FIXED, steps=100), n_classes=2, seed=1, network=build)
    # Averaging over a tenth of 100 steps keeps 0.9 of what was: of the steps' numbers 1, 2, ..., 100 by hand.
    expected = 1.0
    for step in range(2, 101):
        expected = 0.9 * expected + 0.1 * step
    assert float(result.network.get_buffer("steps")) == pytest.approx(expected)
    assert float(result.network.get_buffer("replaced")) == pytest.approx(expected)
    assert int(result.network.get_buffer("count")) == 100
    bias, trail = result.network.get_parameter("bias"), torch.stack(built[0].trail)
    assert trail[80, 0] < bias[0] < trail[99, 0]


def test_a_loss_of_fixed_length_that_is_no_number_stops_the_training():
    images, labels = toy(16)
    images[3] = math.nan
    with pytest.raises(GateError, match="step 2"):
        train_classifier(images, labels, None, FIXED, n_classes=2, seed=1)


def test_without_validation_no_epoch_can_be_chosen():
    images, labels = toy(16)
    with pytest.raises(ValueError, match="validation"):
        train_classifier(images, labels, None, QUICK, n_classes=2, seed=1)


def test_validation_without_a_class_still_chooses():
    images, labels = toy(16)
    only = labels == 1
    settings = ClassifierSettings(epochs=1, device="cpu")
    result = train_classifier(
        images, labels, (images[only], labels[only]), settings, n_classes=2, seed=1, network=lambda shape, n: Staged([[1.0] * 16])
    )
    assert result.history["validation_balanced_accuracy"].tolist() == [1]


def test_a_loss_that_is_no_number_stops_the_training():
    images, labels = toy(16)
    images[3] = math.nan
    with pytest.raises(GateError, match="epoch 1"):
        train_classifier(images, labels, (images[:2], labels[:2]), QUICK, n_classes=2, seed=1)


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, -1, 0]), torch.tensor([0, 1])])
def test_labels_that_do_not_fit_are_refused(labels):
    images = torch.rand(4, 1, *SHAPE)
    with pytest.raises(ValueError, match="labels"):
        train_classifier(images, labels, (images, torch.tensor([0, 1, 0, 1])), QUICK, n_classes=2, seed=1)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"steps": 0}, {"learning_rate": 0.0}, {"batch_size": 0}, {"precision": "fp16"}, {"device": "tpu"}]
)
def test_settings_that_cannot_be_followed_are_told(wrong):
    with pytest.raises(UsageError):
        ClassifierSettings(**wrong)


def test_the_history_is_told_as_it_grows():
    images, labels = toy(16)
    told: list[dict[str, float]] = []
    result = train_classifier(images, labels, (images, labels), QUICK, n_classes=2, seed=1, on_record=told.append)
    assert result.history.to_dict("records") == told
    assert list(told[0]) == ["epoch", "learning_rate", "train_loss", "validation_loss", "validation_balanced_accuracy"]


def test_predictions_do_not_depend_on_the_company_and_leave_the_network_as_it_was():
    network = CNN(SHAPE, 3).train()
    images = torch.rand(70, 1, *SHAPE)  # more than are evaluated at a time
    before = {name: value.clone() for name, value in network.state_dict().items()}
    together = predict_probabilities(network, images)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(together, torch.cat([predict_probabilities(network, image[None]) for image in images]), rtol=1e-4, atol=1e-6)


# Augmentation


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0])])
def test_a_soft_label_that_is_sure_is_a_hard_one(weights):
    images, labels = toy(12)

    def soft(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return images, nn.functional.one_hot(labels, 2).float()

    hard, sure = (
        train_classifier(images, labels, (images, labels), QUICK, n_classes=2, seed=1, class_weights=weights, augmentation=change).history
        for change in (None, soft)
    )
    pd.testing.assert_frame_equal(hard, sure, rtol=1e-5)


def test_soft_labels_of_the_first_classes_alone_are_of_these():
    """A batch may lack the last classes."""
    images, labels = toy(12)
    weights = torch.tensor([0.5, 2.0, 1.0])

    def soft(width: int) -> Augmentation:
        return lambda images, labels, generator: (images, nn.functional.one_hot(labels, width).float())

    narrow, full = (
        train_classifier(images, labels, None, FIXED, n_classes=3, seed=1, class_weights=weights, augmentation=soft(width)).history
        for width in (2, 3)
    )
    pd.testing.assert_frame_equal(narrow, full, check_exact=True)
    with pytest.raises(RuntimeError, match="target"):
        train_classifier(images, labels, None, FIXED, n_classes=3, seed=1, augmentation=soft(4))


def test_labels_that_an_augmentation_makes_are_learnt():
    """Exchanged labels turn the classifier around."""
    images, labels = toy(64, seed=1)
    settings = ClassifierSettings(epochs=15, learning_rate=1e-2, batch_size=16, device="cpu")

    def exchanged(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return images, 1 - labels

    result = train_classifier(images, labels, (images, 1 - labels), settings, n_classes=2, seed=0, augmentation=exchanged)
    assert (predict_probabilities(result.network, images).argmax(dim=1) == 1 - labels).all()


def test_labels_stay_with_their_images():
    """With labels and images out of step nothing could be learnt."""
    images, labels = toy(64, seed=1)
    settings = ClassifierSettings(epochs=12, learning_rate=1e-2, batch_size=16, device="cpu")
    result = train_classifier(images, labels, toy(16, seed=3), settings, n_classes=2, seed=0, augmentation=classical)
    unseen, truth = toy(40, seed=2)
    assert (predict_probabilities(result.network, unseen).argmax(dim=1) == truth).float().mean() > 0.95


def test_no_step_rests_on_a_single_image():
    """273 by 16 would leave one image over, of which batch norm makes nothing where the last map is one voxel."""
    images, labels = torch.rand(273, 1, 28, 28), torch.arange(273) % 2
    settings = ClassifierSettings(epochs=1, batch_size=16, device="cpu", precision="fp32")
    trained = train_classifier(images, labels, (images[:20], labels[:20]), settings, n_classes=2, seed=0)
    assert np.isfinite(trained.history["train_loss"]).all()

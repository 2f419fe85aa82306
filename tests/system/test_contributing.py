"""The examples in CONTRIBUTING.md are run as they stand there: what is printed, and one registry line, are known to every command."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from folders import ROOT
from PIL import Image

from tinycohort.augment import autoencoders
from tinycohort.augment.autoencoders import Autoencoder, build_autoencoder
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.networks import Architecture
from tinycohort.augment.samplers import registry
from tinycohort.augment.samplers.latents import Latents
from tinycohort.classifiers.training import ClassifierSettings
from tinycohort.datasets import readers
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.layouts import folder
from tinycohort.datasets.readers import Source
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.cell import run_cell
from tinycohort.experiments.augmentation_study.grid import cells_of
from tinycohort.experiments.augmentation_study.method import Source as MethodSource
from tinycohort.experiments.augmentation_study.methods import SOURCES
from tinycohort.experiments.augmentation_study.mode import DEFAULT_MODE
from tinycohort.experiments.augmentation_study.protocols import Protocols
from tinycohort.experiments.engine.study_folder import claim

PAGE = ROOT / "CONTRIBUTING.md"


def example(heading: str) -> tuple[SimpleNamespace, str]:
    """What the first example below a heading defines; and the second as it is printed, which registers it, or nothing."""
    section = re.search(rf"^## {heading}\n(.*?)^## ", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert section is not None
    code, *registered = re.findall(r"```python\n(.*?)```", section[1], re.DOTALL)
    scope: dict[str, Any] = {}
    exec(code, scope)
    return SimpleNamespace(**scope), "".join(registered)


@pytest.fixture
def dae(monkeypatch) -> type[Autoencoder]:
    """The example's class, registered as ``dae``."""
    model, _ = example("How to add a model")
    monkeypatch.setitem(autoencoders.AUTOENCODERS, "dae", model.DenoisingAE)
    return model.DenoisingAE


@pytest.fixture
def smote(monkeypatch) -> SimpleNamespace:
    """The example's sampler, registered as it is printed below it."""
    module, registered = example("How to add a sampler")
    scope: dict[str, Any] = {"fits": module, "Entry": registry.Entry}
    exec(registered, scope)
    monkeypatch.setitem(registry.SAMPLERS, "smote", scope["SAMPLERS"]["smote"])
    return module


@pytest.fixture
def named(monkeypatch) -> SimpleNamespace:
    """The example's reader, registered as it is printed below it: before the layout that takes any folder."""
    module, registered = example("How to add a reader")
    scope: dict[str, Any] = {"named": module, "folder": folder, "Layout": readers.Layout}
    exec(registered, scope)
    *_, layout, last = scope["LAYOUTS"]
    assert last == readers.LAYOUTS[-1]
    monkeypatch.setattr(readers, "LAYOUTS", (*readers.LAYOUTS[:-1], layout, last))
    return module


@pytest.fixture
def undersampled(monkeypatch) -> SimpleNamespace:
    """The example's source of images, registered as it is printed below it."""
    module, registered = example("How to add a method of `evaluate`")
    scope: dict[str, Any] = {"undersampled": module.undersampled, "Source": MethodSource}
    exec(registered, scope)
    monkeypatch.setitem(SOURCES, "undersampled", scope["SOURCES"]["undersampled"])
    return module


def test_the_example_is_a_model_of_its_equation(dae):
    torch.manual_seed(0)
    model, x = build_autoencoder("dae", Architecture("conv", (16, 16), 3, channels=4), noise=0.0), torch.rand(5, 1, 16, 16)
    found = model.loss(x, torch.Generator().manual_seed(0))["loss"]
    assert torch.allclose(found, (x - model.reconstruct(x)).square().sum(dim=(1, 2, 3)).mean())
    with pytest.raises(UsageError, match="noise is 0 or more"):
        build_autoencoder("dae", Architecture("conv", (16, 16), 3, channels=4), noise=-1.0)


def test_the_example_is_fitted_and_sampled_at_the_command_line(dae, augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "study.npz")
    words = ("--model", "dae", "--set", "noise=0.2", "--latent-dim", 2, "--channels", 2, "--epochs", 2)
    assert augment("fit", "--data", data, "--class", "AD", "--out", tmp_path / "models", *words).code == 0
    assert augment("generate", "--models", tmp_path / "models", "--sampler", "gmm", "-n", 3, "--out", tmp_path / "made").code == 0
    refused = augment("generate", "--models", tmp_path / "models", "--sampler", "riemannian", "-n", 3, "--out", tmp_path / "not")
    assert refused.code == 2
    assert "Gaussian posterior" in refused.err
    assert "Vincent" in augment("models").words


def test_the_sampler_of_the_example_draws_between_neighbours(smote):
    codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0], [9.0, 1.0]])  # two pairs, far from each other
    sampler = registry.fit_sampler("smote", Latents(codes, autoencoder_of_two()), n_neighbours=1)
    z, diagnostics = sampler.sample(4000, torch.Generator().manual_seed(0))
    first = z[z[:, 0] < 5]
    assert (first[:, 1] == 0).all()  # on the segment from (0, 0) to (1, 0), uniformly
    assert abs(len(first) - 2000) < 4 * 1000**0.5  # half of the draws, within four standard errors
    assert first[:, 0].mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / len(first)) ** 0.5)
    assert first[:, 0].aminmax() == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    assert z[z[:, 0] > 5][:, 0].eq(9).all()
    assert (diagnostics.sampler, diagnostics.n_samples) == ("smote", 4000)


def test_the_settings_of_the_example_are_read_off_its_fit(smote):
    latents = Latents(torch.rand(4, 2), autoencoder_of_two())
    with pytest.raises(UsageError, match="from 1 to 3 neighbours among 4 codes, not 4"):
        registry.fit_sampler("smote", latents, n_neighbours=4)
    with pytest.raises(UsageError, match="has no setting width; it takes n_neighbours"):
        registry.fit_sampler("smote", latents, width=1)


def test_the_sampler_of_the_example_is_known_at_the_command_line(smote, augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "study.npz")
    words = ("--latent-dim", 2, "--channels", 2, "--epochs", 2)
    assert augment("fit", "--data", data, "--class", "AD", "--out", tmp_path / "models", *words).code == 0
    assert (
        augment(
            "generate",
            "--models",
            tmp_path / "models",
            "--sampler",
            "smote",
            "--set",
            "n_neighbours=2",
            "-n",
            3,
            "--out",
            tmp_path / "made",
        ).code
        == 0
    )
    assert "Chawla" in augment("models").words


def test_the_reader_of_the_example_reads_the_class_off_a_name(named, augment, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "study").mkdir()
    for label, n in (("AD", 12), ("CN", 15)):
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / f"study/{label[0]}{i:03}={label}.png")
    cohort = readers.read_cohort(tmp_path / "study")
    assert cohort.counts() == {"AD": 12, "CN": 15}
    assert sorted(cohort.table["participant_id"])[0] == "A000"
    assert augment("check", tmp_path / "study").code == 0
    (tmp_path / "study/participants.tsv").write_text("participant_id\tdiagnosis\n")
    assert not named.recognises(tmp_path / "study")  # a table says more


def test_the_source_of_the_example_leaves_out_at_random(undersampled):
    labels = torch.tensor([0] * 30 + [1] * 4 + [2] * 9)
    images = torch.arange(43.0).reshape(43, 1, 1, 1)
    found = [undersampled.undersampled(run_of(images, labels, seed)) for seed in (0, 0, 1)]
    assert torch.bincount(found[0].labels).tolist() == [4, 4, 4]
    assert (labels[found[0].images.flatten().long()] == found[0].labels).all()
    assert len(found[0].images.unique()) == 12
    assert torch.equal(found[0].images, found[1].images)
    assert not torch.equal(found[0].images, found[2].images)


def run_of(images: torch.Tensor, labels: torch.Tensor, seed: int) -> Any:
    return SimpleNamespace(train=SimpleNamespace(images=images, labels=labels), seed=seed)


def test_the_source_of_the_example_is_studied_with_any_change(undersampled, augment, fakes, tmp_path):
    request = evaluate.EvaluationRequest(
        source=Source(str(fakes.study(tmp_path / "study.npz"))),
        test_source=None,
        methods=("resampled", "undersampled+classical"),
        modes=(DEFAULT_MODE,),
        runs=1,
        protocols=Protocols(least_steps=0),
        fit=FitSettings(channels=2),
        classifier=ClassifierSettings(epochs=2),
        seed=0,
    )
    config = evaluate.configuration_of(request)
    claim(tmp_path / "study", config)
    # Workers would not know what only this process has registered.
    results = {key["method"]: run_cell(key, 0, tmp_path / "study") for key in cells_of(config.grid)}
    counts = results["undersampled+classical"]["notes"]["n_train"]
    assert len(set(counts.values())) == 1
    assert sum(counts.values()) < sum(results["resampled"]["notes"]["n_train"].values())
    assert "undersampled" in augment("methods").words


def autoencoder_of_two() -> Autoencoder:
    """A model with a latent space of two dimensions."""
    return build_autoencoder("ae", Architecture("conv", (16, 16), 2, channels=2))

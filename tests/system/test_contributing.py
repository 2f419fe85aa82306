"""The example in CONTRIBUTING.md is run as it stands there: one class and one registry line are a model of every command."""

import re

import pytest
import torch
from folders import ROOT

from tinycohort.augment import autoencoders
from tinycohort.augment.autoencoders import Autoencoder, build_autoencoder
from tinycohort.augment.networks import Architecture
from tinycohort.datasets.common.errors import UsageError

PAGE = ROOT / "CONTRIBUTING.md"


@pytest.fixture
def dae(monkeypatch) -> type[Autoencoder]:
    """The example's class, registered as ``dae``."""
    found = re.search(r"^## How to add a model\n.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    scope: dict = {}
    exec(found[1], scope)
    monkeypatch.setitem(autoencoders.AUTOENCODERS, "dae", scope["DenoisingAE"])
    return scope["DenoisingAE"]


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

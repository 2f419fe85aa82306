"""All settings of a fit, and the presets that choose them."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ...datasets.transforms import Preparation
from ..networks import Architecture, default_channels
from .model_config import MetricSettings
from .training import TrainingSettings

# By itself: docs/results/benchmarks-length.md says what each of these is worth. Published studies have other settings, and name them all.
DEFAULT_TRAINING = TrainingSettings(learning_rate=3e-3, average=0.98, even=True)


@dataclass(frozen=True)
class FitSettings:
    """All settings of a fit; what ``--preset`` chooses and options change."""

    model: str = "vae"
    model_settings: dict[str, Any] = field(default_factory=dict)
    arch: str = "light"
    latent_dim: int = 64
    channels: int | None = None
    preparation: Preparation = field(default_factory=Preparation)
    training: TrainingSettings = DEFAULT_TRAINING
    metric: MetricSettings = field(default_factory=MetricSettings)
    seed: int = 0

    def architecture(self, shape: tuple[int, ...]) -> Architecture:
        """Architecture of the networks for images of a shape."""
        return Architecture(self.arch, shape, self.latent_dim, self.channels)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, by which two fits are told apart; the width is written out, so that a default and its number are the same fit."""
        channels = default_channels(self.arch) if self.channels is None else self.channels
        return asdict(self) | {"channels": channels, "preparation": self.preparation.content()}


def _benchmark(arch: str, latent_dim: int, beta: float, *, lam: float = 0.01, epochs: int = 100, rate: float = 1e-3) -> FitSettings:
    """Appendix D and Table 4 on an image benchmark; beta and lambda are the released code's."""
    return FitSettings(
        model_settings={"beta": beta, "likelihood": "fixed"},
        arch=arch,
        latent_dim=latent_dim,
        preparation=Preparation(scaling="none"),
        training=TrainingSettings(epochs=epochs, learning_rate=rate, batch_size=100, patience=5, jitter=0.0),
        metric=MetricSettings(lam=lam),
    )


PRESETS: dict[str, FitSettings] = {
    # Chosen on real slices: see the README's results.
    "default": FitSettings(),
    # Appendix D and Table 4; the log-variance through tanh, k = 50 and lambda = 1 are the released OASIS code's.
    "paper-oasis": FitSettings(
        model_settings={"beta": 1.0, "likelihood": "fixed", "bounded_log_var": True},
        arch="paper-oasis",
        latent_dim=16,
        preparation=Preparation(size=(208, 176), scaling="minmax"),
        training=TrainingSettings(epochs=1000, learning_rate=1e-4, batch_size=100, patience=20, jitter=0.0),
        metric=MetricSettings(n_centroids=50, selection="first", lam=1.0),
    ),
    "paper-mnist": _benchmark("paper-mnist", 16, 0.01),
    "paper-cifar10": _benchmark("paper-mnist", 32, 0.001, lam=0.1, epochs=200, rate=5e-4),
    "paper-svhn": _benchmark("paper-svhn", 16, 0.01),
    "paper-celeba": _benchmark("paper-celeba", 64, 0.05, lam=1.0),
}

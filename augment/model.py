"""A fitted model: an autoencoder, the latents of its training images, its metric, and where all of it came from.

On disk it is a folder of safetensors and JSON; nothing in it is ever unpickled or run.
"""

import hashlib
import json
import math
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..datasets.errors import DataError, TinycohortError, UsageError
from ..datasets.seeds import derived_seed
from ..datasets.transforms import ImageSpace, Preparation
from .autoencoders import Autoencoder, GaussianAutoencoder, build_autoencoder
from .centroids import choose_centroids
from .metric import RiemannianMetric
from .networks import Architecture
from .posterior import Posterior
from .samplers import Latents
from .training import TrainingSettings

FORMAT = 2
READABLE = (1, FORMAT)
# What the commands read of a model's records; its absence is told when the model is loaded.
READ_LATER = {
    "data": ("name", "read_as", "counts", "n_train"),
    "diagnostics": (
        "best_epoch",
        "explained_train",
        "explained_validation",
        "held_out_nearest_median",
        "held_out_decoded_nearest_median",
    ),
}
DAMAGES = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class MetricSettings:
    """How the metric is built (``RiemannianMetric.from_posterior``); what cannot be is refused before hours of training."""

    n_centroids: int | None = None
    selection: str = "k-medoids"
    lam: float = 0.01
    tau: float = 0.0
    rho: float | None = None
    rho_scale: float = 1.0

    def __post_init__(self) -> None:
        # Any means show whether the number and the choice can be followed.
        choose_centroids([[0.0], [1.0]], 2 if self.n_centroids is None else self.n_centroids, method=self.selection)
        scales = (self.lam, self.rho_scale, *([] if self.rho is None else [self.rho]))
        if not (all(0 < value < math.inf for value in scales) and 0 <= self.tau < math.inf):
            raise UsageError("--lambda and --rho must be above 0, --tau at least 0, and all of them finite.")
        if self.n_centroids == 1 and self.rho is None:
            raise UsageError("One centroid has no nearest other one to set rho by; give --rho, or more --centroids.")


def build_metric(posterior: Posterior, settings: MetricSettings, *, seed: int, label: str) -> RiemannianMetric:
    """The metric of a class's training images, in a fit that has this seed."""
    return RiemannianMetric.from_posterior(posterior, **asdict(settings), seed=derived_seed(seed, label, "centroids"))


@dataclass(frozen=True)
class Participants:
    """Who a model has seen, as salted hashes: enough to find a known participant again, not to list unknown ones.

    It is a pseudonym, no protection: whoever holds the model can try every id.
    """

    salt: str
    train: tuple[str, ...]
    validation: tuple[str, ...]

    @classmethod
    def record(cls, train: Iterable[str], validation: Iterable[str]) -> "Participants":
        """Hash the participant ids of both sides under a fresh salt."""
        salt = secrets.token_hex(16)
        hashed = [tuple(sorted({_hash(salt, participant) for participant in side})) for side in (train, validation)]
        return cls(salt, *hashed)

    def trained_on(self, participant: str) -> bool:
        """Whether the weights were fitted on images of this participant."""
        return _hash(self.salt, participant) in self.train

    def seen(self, participant: str) -> bool:
        """Whether the model was trained on this participant or selected by it."""
        return self.trained_on(participant) or _hash(self.salt, participant) in self.validation


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a model but its numbers; ``config.json``.

    Parameters
    ----------
    label : str
        The class it was fitted on.
    model, model_settings
        Name of the autoencoder, and what it was built with.
    architecture, preparation, space, training, metric
        The parts' own settings.
    seed : int
        Of everything random in the fit.
    data : dict
        ``name``, ``source``, ``licence``, ``synthetic``, the options it was read with, and ``counts``: training images per class.
    split : dict
        ``digest`` and ``seed`` of the split.
    plan : str
        Digest of what makes two fits the same fit (``fitting.plan_digest``).
    participants : Participants
        Who was seen.
    diagnostics : dict
        What the fit reports.
    versions, command
        With what, and how, it was made.
    """

    label: str
    model: str
    architecture: Architecture
    preparation: Preparation
    space: ImageSpace
    training: TrainingSettings
    metric: MetricSettings
    participants: Participants
    seed: int
    model_settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    plan: str = ""
    diagnostics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "ModelConfig":
        """Rebuild from ``as_json``, of any format in ``READABLE``.

        Unknown, missing or ill-typed entries raise ``KeyError``, ``TypeError`` or ``ValueError``.
        """
        parts: dict[str, Any] = {
            "architecture": Architecture,
            "preparation": Preparation,
            "space": ImageSpace,
            "training": TrainingSettings,
            "metric": MetricSettings,
            "participants": Participants,
        }
        given = {key: value for key, value in content.items() if key != "format"}
        for f in fields(cls):
            kind = f.type if f.type in (str, int) else dict
            if not isinstance(given.get(f.name), kind):
                raise TypeError(f"{f.name} in config.json is not of type {kind.__name__}")
        lacking = [f"{part}: {key}" for part, keys in READ_LATER.items() for key in keys if key not in given[part]]
        if lacking:
            raise ValueError(f"config.json lacks {', '.join(lacking)}")
        if content["format"] == 1 and given["architecture"].get("name") == "paper-oasis":
            # Format 1 wrote the channels of conv beside networks that had one width.
            given["architecture"] = given["architecture"] | {"channels": None}
        for name, part in parts.items():
            given[name] = part(**{key: _tuples(value) for key, value in given[name].items()})
        return cls(**given)

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A trained autoencoder with what its samplers need.

    Parameters
    ----------
    config : ModelConfig
        Where it came from.
    autoencoder : Autoencoder
        In evaluation mode, on the CPU.
    codes : torch.Tensor
        ``(n, D)``: codes of the training images (posterior means, if the posterior is Gaussian and no flow follows it).
    posterior, metric
        Of the training images; ``None`` for a model without Gaussian posterior.
    history : pandas.DataFrame
        One row an epoch.
    """

    config: ModelConfig
    autoencoder: Autoencoder
    codes: Tensor
    posterior: Posterior | None
    metric: RiemannianMetric | None
    history: pd.DataFrame

    def __post_init__(self) -> None:
        """Raise a ``ValueError`` if the parts do not belong together."""
        if self.config.space.shape != self.config.architecture.shape:
            raise ValueError(f"images of {self.config.space.shape} do not go with networks for {self.config.architecture.shape}")
        dim = self.config.architecture.latent_dim
        latents = [("codes", self.codes)]
        if self.posterior is not None:
            latents += [("mean", self.posterior.mean), ("log_var", self.posterior.log_var)]
        for name, values in latents:
            if values.ndim != 2 or values.shape[1] != dim or len(values) == 0 or not values.isfinite().all():
                raise ValueError(f"{name} of shape {tuple(values.shape)} are not finite latents of dimension {dim}")
        gaussian = isinstance(self.autoencoder, GaussianAutoencoder)
        if gaussian != (self.posterior is not None) or gaussian != (self.metric is not None):
            raise ValueError(f"the model '{self.config.model}' does not go with the latents and the metric that are there")
        if self.metric is not None and self.metric.dim != dim:
            raise ValueError(f"the metric has {self.metric.dim} dimensions and the latents have {dim}")
        if not all(value.isfinite().all() for value in self.autoencoder.state_dict().values()):
            raise ValueError("the weights are not finite")

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, by name and value."""
        digest = hashlib.sha256()
        for name, value in sorted(self.autoencoder.state_dict().items()):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def with_metric(self, settings: MetricSettings) -> "FittedModel":
        """The same model with another metric of its posterior; raise a ``UsageError`` if it has none."""
        if self.posterior is None:
            raise UsageError(f"The model '{self.config.model}' has no Gaussian posterior, and so no metric.")
        metric = build_metric(self.posterior, settings, seed=self.config.seed, label=self.config.label)
        return replace(self, config=replace(self.config, metric=settings), metric=metric)

    @property
    def latents(self) -> Latents:
        """What samplers are fitted from."""
        return Latents(self.codes, self.autoencoder, self.posterior, self.metric)

    def save(self, folder: Path) -> None:
        """Write the model's files into ``folder``, which exists (``files.whole_folder`` makes the writing whole)."""
        save_file({name: value.contiguous() for name, value in self.autoencoder.state_dict().items()}, folder / "model.safetensors")
        latents = {"codes": self.codes}
        if self.posterior is not None:
            latents["log_var"] = self.posterior.log_var
            if not torch.equal(self.posterior.mean, self.codes):
                latents["mean"] = self.posterior.mean
        save_file({name: value.contiguous() for name, value in latents.items()}, folder / "latents.safetensors")
        if self.metric is not None:
            values = {"rho": repr(self.metric.rho), "lam": repr(self.metric.lam), "tau": repr(self.metric.tau)}
            arrays = {"centroids": self.metric.centroids.contiguous(), "precisions": self.metric.precisions.contiguous()}
            save_file(arrays, folder / "metric.safetensors", metadata=values)
        self.history.to_csv(folder / "history.csv", index=False)
        (folder / "config.json").write_text(json.dumps(self.config.as_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "FittedModel":
        """Read a model folder.

        Raises
        ------
        DataError
            If it is none, or one of its files is missing, altered in shape, or of a newer format.
        """
        try:
            content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(
                f"{folder} is no model folder: its config.json cannot be read ({error}); fit a model with `augment fit`."
            ) from error
        if not isinstance(content, dict) or content.get("format") not in READABLE:
            known = " or ".join(map(str, READABLE))
            raise DataError(f"{folder}/config.json is not of format {known}; use the version of tinycohort that wrote it.")
        try:
            config = ModelConfig.from_json(content)
            with torch.random.fork_rng(devices=[]):  # the weights that are replaced at once draw from torch's global generator
                autoencoder = build_autoencoder(config.model, config.architecture, **config.model_settings)
            autoencoder.load_state_dict(load_file(folder / "model.safetensors"))
            latents = load_file(folder / "latents.safetensors")
            posterior = Posterior(latents.get("mean", latents["codes"]), latents["log_var"]) if "log_var" in latents else None
            metric = None if posterior is None else _load_metric(folder / "metric.safetensors")
            history = pd.read_csv(folder / "history.csv")
            if not {"epoch", "train_loss", "validation_loss"} <= set(history.columns):
                raise ValueError("history.csv lacks a column")
            return cls(config, autoencoder.eval(), latents["codes"], posterior, metric, history)
        except (*DAMAGES, SafetensorError, TinycohortError) as error:
            raise DataError(f"{folder} is damaged or is no model folder ({_first_line(error)}); fit it anew, or restore it.") from error


@torch.no_grad()
def encode(autoencoder: Autoencoder, images: Tensor, batch_size: int = 64) -> Tensor:
    """Codes ``(n, D)`` of images, in float32."""
    return torch.cat([autoencoder.encode(batch) for batch in images.split(batch_size)])


@torch.no_grad()
def decode(autoencoder: Autoencoder, z: Tensor, batch_size: int = 64) -> Tensor:
    """Images ``(n, 1, ...)`` of latents ``(n, D)``, in float32."""
    return torch.cat([autoencoder.decode(batch) for batch in z.split(batch_size)])


def _load_metric(path: Path) -> RiemannianMetric:
    with safe_open(path, framework="pt") as file:
        values = file.metadata()
        return RiemannianMetric(
            file.get_tensor("centroids"), file.get_tensor("precisions"), float(values["rho"]), float(values["lam"]), float(values["tau"])
        )


def _hash(salt: str, participant: str) -> str:
    return hashlib.sha256(f"{salt}/{participant}".encode()).hexdigest()


def _plain(value: Any) -> Any:
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
    return f"there is no {line}" if isinstance(error, KeyError) else line

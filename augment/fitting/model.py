"""A fitted model: an autoencoder, the latents of its training images, its metric, and where all of it came from.

On disk it is a folder of safetensors and JSON; nothing in it is ever unpickled or run.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ...datasets.common.batches import in_batches
from ...datasets.common.compute import exactly
from ...datasets.common.custody import is_inside, require_intact, seal
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.seeds import derived_seed
from ...datasets.common.untrusted import read_text
from ..autoencoders import Autoencoder, GaussianAutoencoder, build_autoencoder
from ..geometry.metric import RiemannianMetric
from ..posterior import Posterior
from ..samplers.latents import Latents
from ..samplers.law_scores import LawScores, score_laws
from .model_config import DAMAGES, MetricSettings, ModelConfig, damaged
from .tensors import write_tensors

_TENSORS = ("model.safetensors", "latents.safetensors", "metric.safetensors")


def build_metric(posterior: Posterior, settings: MetricSettings, *, seed: int, label: str, draw: int | None = None) -> RiemannianMetric:
    """The metric of a class's training images, in a fit that has this seed; ``draw`` numbers other choices of the centroids by chance."""
    drawn = derived_seed(seed, label, "centroids", *([] if draw is None else [draw]))
    return RiemannianMetric.from_posterior(posterior, **asdict(settings), seed=drawn)


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
        Posteriors and metric of the training images; ``None`` for a model without Gaussian posterior.
    history : pandas.DataFrame
        One row an epoch.
    person : torch.Tensor, optional
        ``(n,)`` whole numbers: training images with the same one are of the same person. Without it each is somebody else's.
    """

    config: ModelConfig
    autoencoder: Autoencoder
    codes: Tensor
    posterior: Posterior | None
    metric: RiemannianMetric | None
    history: pd.DataFrame
    person: Tensor | None = None

    def __post_init__(self) -> None:
        """Raise a ``ValueError`` if the parts do not belong together."""
        if self.config.space.shape != self.config.architecture.shape:
            raise ValueError(f"images of {self.config.space.shape} do not go with networks for {self.config.architecture.shape}")
        if self.config.preparation.size not in (None, self.config.space.shape):
            raise ValueError(f"images of {self.config.space.shape} were not prepared to {self.config.preparation.size}")
        dim = self.config.architecture.latent_dim
        latents = [("codes", self.codes)]
        if self.posterior is not None:
            latents += [("mean", self.posterior.mean), ("log_var", self.posterior.log_var)]
        for name, values in latents:
            if values.ndim != 2 or values.shape[1] != dim or len(values) == 0 or not values.isfinite().all():
                raise ValueError(f"{name} of shape {tuple(values.shape)} are not finite latents of dimension {dim}")
        if self.person is not None and (self.person.shape != self.codes.shape[:1] or self.person.dtype != torch.int64):
            raise ValueError(f"{tuple(self.person.shape)} numbers of people do not say whose the {len(self.codes)} codes are")
        gaussian = isinstance(self.autoencoder, GaussianAutoencoder)
        if gaussian != (self.posterior is not None) or gaussian != (self.metric is not None):
            raise ValueError(f"the model '{self.config.model}' does not go with the latents and the metric that are there")
        if self.metric is not None and self.metric.dim != dim:
            raise ValueError(f"the metric has {self.metric.dim} dimensions and the latents have {dim}")
        if not all(value.isfinite().all() for value in self.autoencoder.state_dict().values()):
            raise ValueError("the weights are not finite")
        if self.config.laws:
            LawScores.from_json(self.config.laws).check_for(type(self.autoencoder), *self.codes.shape)

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, by name and value."""
        digest = hashlib.sha256()
        for name, value in sorted(self.autoencoder.state_dict().items()):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def order_of_training(self, images: Tensor) -> Tensor:
        """Which of the images ``(n, channels, ...)`` each code is of, ``(n,)``: a table may have been sorted since.

        Raises
        ------
        DataError
            If they are not those that the model was trained on: it knows their codes.
        """
        shape = (self.config.architecture.image_channels, *self.config.architecture.shape)
        if images.shape == (len(self.codes), *shape) and images.isfinite().all():
            found = encode(self.autoencoder, images)
            # Another processor rounds otherwise.
            tolerance = 0.02 * (self.codes.std(0, correction=0) + self.codes.abs())

            def fits(order: Tensor) -> bool:
                return bool(((found[order] - self.codes).abs() <= tolerance).all())

            if fits(order := torch.arange(len(found))):
                return order
            nearest = torch.cat([torch.cdist(codes, found).argmin(1) for codes in self.codes.split(1024)])
            if fits(nearest) and fits(order := _each_once(nearest, self.codes, found)):
                return order
        raise DataError(f"these are not the images that the model of {self.config.label} was trained on")

    def with_metric(self, settings: MetricSettings, draw: int | None = None) -> "FittedModel":
        """The same model with another metric of its posterior, centroids by chance drawn anew if ``draw`` is a number.

        Raises
        ------
        UsageError
            If it has no Gaussian posterior.
        """
        if self.posterior is None:
            raise UsageError(f"The model '{self.config.model}' has no Gaussian posterior, and so no metric.")
        metric = build_metric(self.posterior, settings, seed=self.config.seed, label=self.config.label, draw=draw)
        # Its laws are to be looked at anew: the manifold has other centroids.
        return replace(self, config=replace(self.config, metric=settings, laws={}), metric=metric)

    @cached_property
    def law_scores(self) -> LawScores:
        """How probable each latent law makes people left out, as the fit has it; of a model that does not say so, computed now."""
        if self.config.laws:
            return LawScores.from_json(self.config.laws)
        return score_laws(self._unscored.to(place_of(self.autoencoder)))

    @cached_property
    def latents(self) -> Latents:
        """What samplers are fitted from."""
        return replace(self._unscored, chosen=LawScores.from_json(self.config.laws).settings) if self.config.laws else self._unscored

    @property
    def _unscored(self) -> Latents:
        # By `riemannian`, a fit that was asked for a rho of its own is drawn from with it; `auto` is not.
        asked = self.config.metric
        reach = None if asked.rho is None and asked.rho_scale == 1 else asked.rho_scale
        return Latents(self.codes, self.autoencoder, self.posterior, self.metric, self.person, reach)

    def scored(self, validation: Latents) -> "FittedModel":
        """The same model, whose configuration says how probable its laws make people left out, and those of ``validation``; computed
        where the weights are."""
        place, seed = place_of(self.autoencoder), derived_seed(self.config.seed, self.config.label, "laws")
        laws = score_laws(self._unscored.to(place), validation.to(place), seed=seed)
        return replace(self, config=replace(self.config, laws=laws.as_json()))

    def save(self, folder: Path) -> None:
        """Write the model's files into ``folder``, which exists, and seal it with what is there already.

        ``files.whole_folder`` makes the writing whole.
        """
        write_tensors(folder / "model.safetensors", self.autoencoder.state_dict())
        latents = {"codes": self.codes}
        if self.posterior is not None:
            latents["log_var"] = self.posterior.log_var
            if not torch.equal(self.posterior.mean, self.codes):
                latents["mean"] = self.posterior.mean
        if self.person is not None:
            latents["person"] = self.person
        write_tensors(folder / "latents.safetensors", latents)
        if self.metric is not None:
            values = {"rho": repr(self.metric.rho), "lam": repr(self.metric.lam), "tau": repr(self.metric.tau)}
            arrays = {"centroids": self.metric.centroids, "precisions": self.metric.precisions}
            write_tensors(folder / "metric.safetensors", arrays, values)
        self.history.to_csv(folder / "history.csv", index=False)
        (folder / "config.json").write_text(json.dumps(self.config.as_json(), indent=2) + "\n", encoding="utf-8")
        seal(folder)

    @classmethod
    def load(cls, folder: Path) -> "FittedModel":
        """Read a model folder.

        Raises
        ------
        DataError
            If it is none, or one of its files is missing, altered, or of a newer format.
        """
        config = ModelConfig.read(folder)
        try:
            _require_room(config, folder)
            require_intact(folder)
            with torch.random.fork_rng(devices=[]):  # the weights that are replaced at once draw from torch's global generator
                autoencoder = build_autoencoder(config.model, config.architecture, **config.model_settings)
            autoencoder.load_state_dict(load_file(folder / "model.safetensors"))
            latents = load_file(folder / "latents.safetensors")
            posterior = Posterior(latents.get("mean", latents["codes"]), latents["log_var"]) if "log_var" in latents else None
            metric = None if posterior is None else _load_metric(folder / "metric.safetensors")
            history = pd.read_csv(io.StringIO(read_text(folder / "history.csv")))
            if not {"epoch", "train_loss", "validation_loss"} <= set(history.columns):
                raise ValueError("history.csv lacks a column")
            return cls(config, autoencoder.eval(), latents["codes"], posterior, metric, history, latents.get("person"))
        except (*DAMAGES, SafetensorError, UsageError) as error:
            raise damaged(folder, error) from error


@contextmanager
def placed(autoencoder: Autoencoder, device: torch.device) -> Iterator[None]:
    """With the weights on ``device``, which computes as exactly as it can, and on the CPU afterwards."""
    try:
        with exactly(device):
            autoencoder.to(device)
            yield
    finally:
        autoencoder.cpu()


@torch.no_grad()
def encode(autoencoder: Autoencoder, images: Tensor, batch_size: int = 64) -> Tensor:
    """Codes ``(n, D)`` of images, in float32; computed where the weights are, and put where the images are."""
    place = place_of(autoencoder)
    return torch.cat(in_batches(lambda batch: autoencoder.encode(batch.to(place)).to(images.device), images, batch_size))


@torch.no_grad()
def decode(autoencoder: Autoencoder, z: Tensor, batch_size: int = 64) -> Tensor:
    """Images ``(n, 1, ...)`` of latents ``(n, D)``, in float32; computed where the weights are, and put where the latents are."""
    place = place_of(autoencoder)
    return torch.cat(in_batches(lambda batch: autoencoder.decode(batch.to(place)).to(z.device), z, batch_size))


def place_of(autoencoder: Autoencoder) -> torch.device:
    """Where the weights are."""
    return next(autoencoder.parameters()).device


def _each_once(nearest: Tensor, codes: Tensor, found: Tensor) -> Tensor:
    """For each of ``codes`` its ``nearest`` of those that were found, or where that is taken already the nearest that is not."""
    order, taken = nearest.clone(), torch.zeros(len(found), dtype=torch.bool)
    for row, place in enumerate(nearest.tolist()):
        if taken[place]:
            order[row] = (found - codes[row]).norm(dim=1).masked_fill(taken, torch.inf).argmin()
        taken[order[row]] = True
    return order


def _require_room(config: ModelConfig, folder: Path) -> None:
    """Raise a ``ValueError`` if the weights are not those of the model that is described; nothing is allocated for it.

    A description can claim any size: what it claims must be in the file before memory is taken.
    """
    for name in ("config.json", *_TENSORS, "history.csv"):
        if (folder / name).exists() and not (is_inside(folder / name, folder) and (folder / name).is_file()):
            raise ValueError(f"{name} is no file of this folder")
    with torch.device("meta"):
        claimed = build_autoencoder(config.model, config.architecture, **config.model_settings).state_dict()
    with safe_open(folder / _TENSORS[0], framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    differing = [name for name in claimed | shapes if name not in claimed or shapes.get(name) != tuple(claimed[name].shape)]
    if differing:
        made = config.versions.get("tinycohort", "an unknown version")
        raise ValueError(
            f"the weights are not those of the model '{config.model}' of tinycohort {version('tinycohort')}: {differing[0]} differs; it is "
            f"of {made}"
        )


def _load_metric(path: Path) -> RiemannianMetric:
    with safe_open(path, framework="pt") as file:
        values = file.metadata()
        return RiemannianMetric(
            file.get_tensor("centroids"), file.get_tensor("precisions"), float(values["rho"]), float(values["lam"]), float(values["tau"])
        )

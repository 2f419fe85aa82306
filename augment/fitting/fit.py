"""From the images of one class to a fitted model: train, encode, build the metric, and say how well it went."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ...datasets.cohort import Cohort
from ...datasets.common.batches import in_batches
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import write_json
from ...datasets.common.seeds import derived_seed
from ...datasets.spaces import ImageSpace
from ...datasets.splits import Split
from ...datasets.transforms import Images, Preparation, prepare, space_of
from ..autoencoders import Autoencoder, GaussianAutoencoder, build_autoencoder
from ..networks import Architecture, default_channels
from ..posterior import Posterior
from ..samplers.latents import Latents
from .model import FittedModel, build_metric, decode, encode
from .model_config import EXPLAINS_LITTLE, MetricSettings, ModelConfig, Participants, installed_versions, poor_fit_warnings
from .nearest import explained_variance, nearest_images
from .training import Record, TrainingSettings, train

FEWEST_IMAGES = 10  # of a class, before the split: 7 to train on, 1 to select by
EXPLAINS_NOTHING = 0.05


# By itself: docs/benchmarks-length.md says what each of these is worth. Published studies have other settings, and name them all.
DEFAULT_TRAINING = TrainingSettings(learning_rate=3e-3, average=0.98, even=True)


@dataclass(frozen=True)
class FitSettings:
    """All settings of a fit; what ``--preset`` chooses and options change."""

    model: str = "vae"
    model_settings: dict[str, Any] = field(default_factory=dict)
    arch: str = "light"
    latent_dim: int = 16
    channels: int | None = None
    preparation: Preparation = field(default_factory=Preparation)
    training: TrainingSettings = DEFAULT_TRAINING
    metric: MetricSettings = field(default_factory=MetricSettings)
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, by which two fits are told apart; the width is written out, so that a default and its number are the same fit."""
        return asdict(self) | {"channels": default_channels(self.arch) if self.channels is None else self.channels}


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
        preparation=Preparation(size=(208, 176), scaling="minmax"),
        training=TrainingSettings(epochs=1000, learning_rate=1e-4, batch_size=100, patience=20, jitter=0.0),
        metric=MetricSettings(n_centroids=50, selection="first", lam=1.0),
    ),
    "paper-mnist": _benchmark("paper-mnist", 16, 0.01),
    "paper-cifar10": _benchmark("paper-mnist", 32, 0.001, lam=0.1, epochs=200, rate=5e-4),
    "paper-svhn": _benchmark("paper-svhn", 16, 0.01),
    "paper-celeba": _benchmark("paper-celeba", 64, 0.05, lam=1.0),
}


@dataclass(frozen=True)
class Hooks:
    """Where a fit tells how far it is; silent by default."""

    on_image: Callable[[], None] = lambda: None
    on_epoch: Callable[[Record], None] = lambda record: None
    on_warning: Callable[[str], None] = lambda message: None


def plan_digest(settings: FitSettings, label: str, data_digest: str, split: Split) -> str:
    """What makes two fits the same fit, on whatever device: settings, class, images, split. Only the same plan takes up a resume point."""
    content = settings.as_dict()
    content["training"].pop("device")
    plan = {"settings": content, "label": label, "data": data_digest, "split": split.digest, "version": version("tinycohort")}
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def fit_class(
    cohort: Cohort,
    split: Split,
    label: str,
    settings: FitSettings,
    *,
    data_digest: str = "",
    read_as: dict[str, Any] | None = None,
    resume_folder: Path | None = None,
    command: str = "",
    hooks: Hooks | None = None,
) -> FittedModel:
    """Fit a model on one class's training side; its validation side selects the weights, of its test side at most the grid is read.

    Parameters
    ----------
    cohort : Cohort
        Sound, with all its classes.
    split : Split
        Of its participants.
    label : str
        The class.
    settings : FitSettings
        How.
    data_digest : str
        Of the cohort's content (``check.Examination.digest``).
    read_as : dict, optional
        Arguments with which the cohort can be read again, recorded in the model.
    resume_folder : Path, optional
        Where the state of training is kept, and taken up if there is one of the same plan.
    command : str
        Recorded in the model.
    hooks : Hooks, optional
        Progress.

    Raises
    ------
    UsageError
        If ``resume_folder`` holds the state of another plan.
    DataError
        If the class has too few images.
    GateError
        If training diverges.
    """
    hooks = hooks or Hooks()
    members = cohort.of_class(label)
    if len(members) < FEWEST_IMAGES:
        raise DataError(f"The class {label} of {cohort.name} has {len(members)} images; a model needs {FEWEST_IMAGES} or more.")
    sides = training_sides(members, split, label)
    plan = plan_digest(settings, label, data_digest, split)
    if resume_folder is not None:
        _claim(resume_folder, plan)

    # One grid for all classes, whichever of them are fitted.
    like = space_of(cohort, settings.preparation)
    images = _prepare_together(sides, settings.preparation, like, hooks)
    architecture = Architecture(settings.arch, images["train"].space.shape, settings.latent_dim, settings.channels)
    autoencoder = _initialise(settings, architecture, label)

    seed = derived_seed(settings.seed, label, "training")
    result = train(
        autoencoder,
        images["train"].pixels,
        images["validation"].pixels,
        settings.training,
        seed=seed,
        resume_folder=resume_folder,
        on_epoch=hooks.on_epoch,
    )

    codes = encode(autoencoder, images["train"].pixels)
    posterior = posterior_of(autoencoder, images["train"].pixels) if isinstance(autoencoder, GaussianAutoencoder) else None
    metric = None
    if posterior is not None:
        metric = build_metric(posterior, settings.metric, seed=settings.seed, label=label)
    diagnostics = assess(autoencoder, images["train"], images["validation"], posterior) | {"best_epoch": result.best_epoch}
    for message in fit_warnings(diagnostics, settings):
        hooks.on_warning(f"{label}: {message}")
    config = ModelConfig(
        label=label,
        model=settings.model,
        model_settings=settings.model_settings,
        architecture=architecture,
        preparation=replace(settings.preparation, size=images["train"].space.shape),
        space=images["train"].space,
        training=settings.training,
        metric=settings.metric,
        participants=Participants.record(sides["train"].table["participant_id"], sides["validation"].table["participant_id"]),
        seed=settings.seed,
        data={
            "name": cohort.name,
            "source": cohort.source,
            "read_as": read_as or {"data": cohort.source},
            "licence": cohort.licence,
            "label_column": cohort.label_column,
            **({} if cohort.skull_stripped is None else {"skull_stripped": cohort.skull_stripped}),
            "synthetic": cohort.synthetic,
            "digest": data_digest,
            "counts": split.side(cohort, "train").counts(),
            "n_train": len(sides["train"]),
            "n_validation": len(sides["validation"]),
        },
        split={"digest": split.digest, "seed": split.seed},
        plan=plan,
        diagnostics=diagnostics,
        versions=installed_versions(),
        command=command,
        threads=torch.get_num_threads(),
    )
    model = FittedModel(config, autoencoder, codes, posterior, metric, result.history, _whose(sides["train"]))
    return model.scored(_latents_of(autoencoder, images["validation"].pixels))


def training_sides(cohort: Cohort, split: Split, label: str) -> dict[str, Cohort]:
    """The images of a class to train on and to select by.

    Raises
    ------
    DataError
        If the split leaves one of the two without an image.
    """
    members = cohort.of_class(label)
    sides = {name: split.side(members, name) for name in ("train", "validation")}
    empty = [name for name, side in sides.items() if len(side) == 0]
    if empty:
        raise DataError(f"The split leaves no {' and no '.join(empty)} image of class {label}; draw another split, or add participants.")
    return sides


def count_parameters(settings: FitSettings, shape: tuple[int, ...]) -> int:
    """Number of weights of the model that ``settings`` ask for on images of ``shape``; nothing is computed or allocated.

    Raises
    ------
    UsageError
        If there is no such model.
    """
    with torch.device("meta"):
        autoencoder = build_autoencoder(
            settings.model, Architecture(settings.arch, shape, settings.latent_dim, settings.channels), **settings.model_settings
        )
    return sum(parameter.numel() for parameter in autoencoder.parameters())


@torch.no_grad()
def posterior_of(autoencoder: GaussianAutoencoder, images: Tensor, batch_size: int = 64) -> Posterior:
    """q(z|x) of images ``(n, 1, ...)``, in float32."""
    parts = in_batches(autoencoder.posterior, images, batch_size)
    return Posterior(torch.cat([part.mean for part in parts]), torch.cat([part.log_var for part in parts]))


def assess(autoencoder: Autoencoder, train_images: Images, validation_images: Images, posterior: Posterior | None) -> dict[str, Any]:
    """What every fit reports: explained variance, use of the latent units, and how far held-out images are from training images.

    Distances are root-mean-square differences over voxels of images in [0, 1]: the yardstick for those of samples.
    """
    mean_image = train_images.pixels.mean(dim=0)
    found: dict[str, Any] = {}
    for side, images in (("train", train_images), ("validation", validation_images)):
        reconstructions = decode(autoencoder, encode(autoencoder, images.pixels))
        found[f"explained_{side}"] = explained_variance(images.pixels, reconstructions, mean_image)
    distances, _ = nearest_images(validation_images.pixels, train_images.pixels)
    found["held_out_nearest_median"] = float(np.median(distances))
    found["held_out_nearest_smallest"] = float(distances.min())
    # A decoded image is smooth, hence nearer to everything than a real one: the yardstick for samples is what held-out images decode to.
    distances, _ = nearest_images(reconstructions, train_images.pixels)
    found["held_out_decoded_nearest_median"] = float(np.median(distances))
    if posterior is not None:
        kl = posterior.kl().mean(dim=0)
        found |= {
            "active_units": int(posterior.active_units().sum()),
            "kl": float(kl.sum()),
            "kl_per_unit": [round(float(value), 4) for value in kl],
            "posterior_std_median": float(posterior.std.median()),
        }
    return found


def fit_warnings(diagnostics: dict[str, Any], settings: FitSettings) -> list[str]:
    """What a user must know before using the model, in plain words; empty if all is well."""
    found = poor_fit_warnings(diagnostics)
    if diagnostics.get("active_units", 1) == 0:
        calibrated = settings.model_settings.get("likelihood", "calibrated") == "calibrated"
        mend = "Train for more --steps, or lower --beta." if calibrated else "Lower --beta, or use --likelihood calibrated."
        found.append(f"the posterior has collapsed (no latent unit depends on the image): every sample will be the same mean image. {mend}")
    elif diagnostics["explained_train"] < EXPLAINS_NOTHING:
        share = diagnostics["explained_train"]
        than = (
            f"are no better than their mean image ({share:.0%} of the variance explained)"
            if share <= 0
            else f"explain {share:.0%} of the variance"
        )
        found.append(f"reconstructions of the training images {than}. Train for more --steps, raise --learning-rate, or lower --beta.")
    elif found and diagnostics["explained_train"] >= 2 * EXPLAINS_LITTLE:
        more = "" if settings.training.jitter else ", train with --jitter 1"
        found.append(
            f"of the training images' variance it explains {diagnostics['explained_train']:.0%}: the model has learnt its images by heart, "
            f"and samples may be close to them. Add images, lower --latent-dim{more}."
        )
    return found


def _whose(cohort: Cohort) -> Tensor | None:
    """A number for the person of each image ``(n,)``, where somebody has several."""
    people = cohort.table["participant_id"]
    return torch.from_numpy(pd.factorize(people)[0].astype("int64")) if people.duplicated().any() else None


def _latents_of(autoencoder: Autoencoder, images: Tensor) -> Latents:
    """Codes of images, and their posteriors where there are some."""
    posterior = posterior_of(autoencoder, images) if isinstance(autoencoder, GaussianAutoencoder) else None
    return Latents(encode(autoencoder, images), autoencoder, posterior)


def _prepare_together(sides: dict[str, Cohort], preparation: Preparation, like: ImageSpace, hooks: Hooks) -> dict[str, Images]:
    """Both sides in one pass, so that a user is warned once."""
    both = replace(sides["train"], table=pd.concat([side.table for side in sides.values()], ignore_index=True))
    images = prepare(both, preparation, like=like, on_image=hooks.on_image, on_warning=hooks.on_warning)
    n = len(sides["train"])
    return {"train": images[:n], "validation": images[n:]}


def _initialise(settings: FitSettings, architecture: Architecture, label: str) -> Autoencoder:
    """Fresh weights from the seed; torch's global state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(settings.seed, label, "weights"))
        return build_autoencoder(settings.model, architecture, **settings.model_settings)


def _claim(resume_folder: Path, plan: str) -> None:
    """Make the folder of the resume point, or see that what it holds is of this very plan."""
    marker = resume_folder / "plan.json"
    if marker.exists():
        if json.loads(marker.read_text(encoding="utf-8")).get("plan") != plan:
            raise UsageError(
                f"{resume_folder} holds an unfinished fit with other settings, data, split or version of tinycohort; "
                "repeat those settings, or leave out --resume to start anew."
            )
        return
    write_json(marker, {"plan": plan})

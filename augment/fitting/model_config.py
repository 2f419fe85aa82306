"""Everything about a fitted model but its numbers: what it is, how and on whom it was fitted; its ``config.json``."""

import hashlib
import os
import platform
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...datasets.common.custody import is_sealed
from ...datasets.common.errors import DataError, TinycohortError, UsageError
from ...datasets.common.files import MANIFEST, expanded
from ...datasets.common.untrusted import read_json
from ...datasets.readers import Source
from ...datasets.spaces import ImageSpace
from ...datasets.transforms import Preparation
from ..geometry.centroids import choose_centroids
from ..geometry.metric import LEAST_GIVEN, MOST_GIVEN
from ..networks import Architecture
from .training import TrainingSettings

FORMAT = 4
READABLE = (1, 2, 3, FORMAT)
UNSEALED = (1, 2)  # formats from before there was a manifest
SINCE_SEALED = {"laws", "threads"}  # entries that they had not
# What the commands read of a model's records, and its type: told when the model is loaded, and not when it is needed.
READ_LATER: dict[str, dict[str, type]] = {
    "data": {"name": str, "read_as": dict, "counts": dict, "n_train": int},
    "diagnostics": {
        "best_epoch": int,
        "explained_train": float,
        "explained_validation": float,
        "held_out_nearest_median": float,
        "held_out_decoded_nearest_median": float,
    },
}
READ_IF_THERE: dict[str, dict[str, type]] = {
    "data": {"licence": str, "digest": str, "alike": str, "label_column": str, "skull_stripped": bool},
    "split": {"digest": str, "tested": str},
}
REPORTED_VERSIONS = ("tinycohort", "torch", "monai", "numpy", "nibabel", "scikit-learn")
EXPLAINS_LITTLE = 0.1  # of the variance of images that a model was not fitted on
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
        if not (all(LEAST_GIVEN < value < MOST_GIVEN for value in scales) and 0 <= self.tau < MOST_GIVEN):
            raise UsageError(
                f"--lambda, --rho and --rho-scale lie between {LEAST_GIVEN:g} and {MOST_GIVEN:g}, and --tau from 0 to {MOST_GIVEN:g}."
            )
        if self.n_centroids == 1 and self.rho is None:
            raise UsageError("One centroid has no nearest other one to set rho by; give --rho, or more --centroids.")


@dataclass(frozen=True)
class Participants:
    """Who a model has seen, as salted hashes: enough to find a known participant again, not to list unknown ones.

    It is a pseudonym, no protection: whoever holds the model can try every id.
    """

    salt: str
    train: tuple[str, ...]
    validation: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.salt, *self.train, *self.validation)):
            raise TypeError("participants are told by texts")

    @classmethod
    def record(cls, train: Iterable[str], validation: Iterable[str]) -> "Participants":
        """Hash the participant ids of both sides under a fresh salt."""
        salt = secrets.token_hex(16)
        hashed = [tuple(sorted({_hash(salt, participant) for participant in side})) for side in (train, validation)]
        return cls(salt, *hashed)

    @property
    def digest(self) -> str:
        """SHA-256 of the record: what a cohort can tell of it, in which nobody can be looked up."""
        return hashlib.sha256("\n".join((self.salt, *self.train, "", *self.validation)).encode()).hexdigest()

    def trained_on(self, participant: str) -> bool:
        """Whether the weights were fitted on images of this participant."""
        return _hash(self.salt, participant) in self._train

    def seen(self, participant: str) -> bool:
        """Whether the model was trained on this participant or selected by it."""
        return _hash(self.salt, participant) in self._seen

    @cached_property
    def _train(self) -> frozenset[str]:
        return frozenset(self.train)

    @cached_property
    def _seen(self) -> frozenset[str]:
        return frozenset((*self.train, *self.validation))


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
        Seed of everything random in the fit.
    data : dict
        ``name``, ``source``, ``licence``, ``synthetic``, the options it was read with, ``counts``: training images per class, and
        ``alike``: the digest of who may be one person, if anybody has looked.
    split : dict
        ``digest`` and ``seed`` of the split, and ``tested``, the digest of who is on its test side and who is not.
    plan : str
        Digest of what makes two fits the same fit (``plan.FitPlan.digest``).
    participants : Participants
        Who was seen.
    diagnostics : dict
        What the fit reports.
    versions, command, threads
        With what, and how, it was made; formats before 4 do not say the threads.
    laws : dict
        How probable each latent law makes people left out (``law_scores.LawScores``); empty where nobody has looked yet.
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
    threads: int | None = None
    laws: dict[str, Any] = field(default_factory=dict)

    def source(self, moved: Mapping[str, Any]) -> Source:
        """How the images are read again that the model was fitted on; ``moved`` as for ``Source.moved``."""
        return Source(**self.data["read_as"]).moved(moved)

    def places(self, moved: Mapping[str, Any]) -> list[str]:
        """Where the images are that the model was fitted on, as far as they are there: nothing is written into them."""
        place = moved.get("data", self.data["read_as"].get("data"))
        return [place] if isinstance(place, str) and os.path.lexists(expanded(place)) else []

    @classmethod
    def read(cls, folder: Path) -> "ModelConfig":
        """Read the configuration of a model folder, without its numbers.

        Raises
        ------
        DataError
            If the folder is none, or its ``config.json`` is damaged or of a newer format.
        """
        try:
            content = read_json(folder / "config.json", within=folder)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder} is no model folder: its config.json cannot be read ({error}); fit a model with `augment fit`."
            ) from error
        if not isinstance(content, dict) or type(content.get("format")) is not int or content["format"] not in READABLE:
            known = " or ".join(map(str, READABLE))
            raise DataError(f"{folder}/config.json is not of format {known}; use the version of tinycohort that wrote it.")
        # Format 4 brought these, and its models have a manifest, whatever format is written in its place.
        sealed = content["format"] not in UNSEALED or not SINCE_SEALED.isdisjoint(content)
        if sealed and not is_sealed(folder):
            raise DataError(f"{folder} has lost its {MANIFEST}, so nobody knows whether it was altered; restore it, or fit it anew.")
        try:
            return cls.from_json(content)
        except (*DAMAGES, TinycohortError) as error:
            raise damaged(folder, error) from error

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "ModelConfig":
        """Rebuild from ``as_json``, of any format in ``READABLE``.

        Unknown, missing or ill-typed entries raise ``KeyError``, ``TypeError`` or ``ValueError``.
        """
        parts: dict[str, Any] = {
            "architecture": Architecture,
            "space": ImageSpace,
            "training": TrainingSettings,
            "metric": MetricSettings,
            "participants": Participants,
        }
        # Up to format 3 nobody scored the laws.
        given: dict[str, Any] = {"laws": {}} | {key: value for key, value in content.items() if key != "format"}
        for f in fields(cls):
            kind = f.type if isinstance(f.type, type) and f.type in (str, int) else dict
            if f.name != "threads":
                _require_type(given.get(f.name), kind, f.name)
            elif given.get(f.name) is not None:
                _require_type(given[f.name], int, f.name)
        lacking = [f"{part}: {key}" for part, keys in READ_LATER.items() for key in keys if key not in given[part]]
        if lacking:
            raise ValueError(f"config.json lacks {', '.join(lacking)}")
        for part, keys in (*READ_LATER.items(), *READ_IF_THERE.items()):
            for key, kind in keys.items():
                if key in given[part]:
                    _require_type(given[part][key], kind, f"{part}: {key}")
        for label, count in given["data"]["counts"].items():
            _require_type(count, int, f"data: counts: {label}")
        if content["format"] == 1 and given["architecture"].get("name") == "paper-oasis":
            # Format 1 wrote the channels of conv beside networks that had one width.
            given["architecture"] = given["architecture"] | {"channels": None}
        given["preparation"] = Preparation.of(given["preparation"])
        for name, part in parts.items():
            given[name] = part(**{key: _tuples(value) for key, value in given[name].items()})
        return cls(**given)

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _require_type(value: Any, kind: type, name: str) -> None:
    """Raise a ``TypeError`` if a value of ``config.json`` is not of a type; a number may be whole, and true and false are none."""
    kinds = (int, float) if kind is float else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} in config.json is not of type {kind.__name__}")


def poor_fit_warnings(diagnostics: Mapping[str, Any]) -> list[str]:
    """What whoever uses a model must know of its fit, by the fit's ``explained_validation``: a sentence, or nothing if that is enough."""
    share = diagnostics["explained_validation"]
    if share >= EXPLAINS_LITTLE:
        return []
    explained = f"{share:.0%}" if share > 0 else f"none ({share:.0%})"
    return [
        f"the model hardly knows its class: its reconstructions explain {explained} of the variance of images that it was not fitted on, "
        "so what it draws says little of how people differ. Fit it on more images, for more --steps, or with other settings."
    ]


def installed_versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {name: version(name) for name in REPORTED_VERSIONS} | {"python": platform.python_version()}


def damaged(folder: Path, error: Exception) -> DataError:
    """The error of a model folder in which something is not as it was saved."""
    return DataError(f"{folder} is damaged or is no model folder ({_first_line(error)}); fit it anew, or restore it.")


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
    return f"there is no {line}" if isinstance(error, KeyError) else line


def _hash(salt: str, participant: str) -> str:
    return hashlib.sha256(f"{salt}/{participant}".encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Preparation):
        return value.content()
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value

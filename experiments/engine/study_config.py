"""A study's configuration: read once from its ``config.toml``, handed on as one value, and written back with the same bytes.

Studies of all kinds have a seed, data and settings of generators in common. What is ``None`` is not written: a setting that is new
leaves the digests of older studies as they were. The device is no part of it, because each start says its own (``RunContext``).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from ...augment.fitting.model_config import MetricSettings
from ...augment.fitting.settings import FitSettings
from ...augment.fitting.training import TrainingSettings
from ...augment.networks import default_channels
from ...datasets.common.compute import Device
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import expanded
from ...datasets.common.untrusted import read_toml
from ...datasets.transforms import Preparation
from .data_config import DataConfig
from .study_folder import CONFIG, as_toml, canonical, read_config


@dataclass(frozen=True)
class Where:
    """Where the rest of what a study needs lies, and the command that began it: nothing that a score depends on.

    Parameters
    ----------
    weights : str, optional
        File of a network's weights: InceptionV3's, where features of it are scored by, or those that a classifier begins with.
    command : str, optional
        As it was typed.
    generators : str, optional
        Folder of models that were fitted before.
    """

    weights: str | None = None
    command: str | None = None
    generators: str | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Where":
        """From the table ``where``."""
        return cls(content.get("weights"), content.get("command"), content.get("generators"))

    def moved(self, here: Mapping[str, str]) -> "Where":
        """With ``weights`` and ``generators`` where they lie by now; a ``UsageError`` if the study uses none."""
        changes = {name: here[name] for name in ("generators", "weights") if name in here}
        for name in changes:
            if getattr(self, name) is None:
                raise UsageError(f"The study uses no {name}: leave out --{name}.")
        return replace(self, **{name: str(expanded(place).resolve()) for name, place in changes.items()})


@dataclass(frozen=True)
class StudyConfig(ABC):
    """What studies of every kind have in common.

    Parameters
    ----------
    seed : int
        From which all others derive.
    data : DataConfig
    where : Where
    fit : FitSettings
        Of the generators, before a system changes them.
    """

    TABLES: ClassVar[tuple[str, ...]]
    """Names of the tables that ``config.toml`` has at least."""

    seed: int
    data: DataConfig
    where: Where
    fit: FitSettings

    @classmethod
    @abstractmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """From what a ``config.toml`` holds; a ``UsageError`` if a setting cannot be, any other error if it is not that."""

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """What ``config.toml`` holds: ``written`` with the tables that are the study's own."""

    def written(self, **own: Any) -> dict[str, Any]:
        """As TOML holds it."""
        where = vars(self.where) | self.data.places()
        return as_toml({"seed": self.seed, "data": self.data.content(), "where": where, **own})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The configuration of the study in a folder; a ``DataError`` if it holds none of this kind."""
        return cls._parsed(folder / CONFIG, read_config(folder))

    @classmethod
    def read(cls, path: Path, here: Mapping[str, str]) -> Self:
        """A configuration from a file, such as the ``config.toml`` of another study.

        Parameters
        ----------
        path : Path
        here : mapping
            Of ``data``, ``table`` and ``root`` (as ``Source.moved``), ``test_data``, ``generators`` and ``weights`` those that lie
            elsewhere here.

        Raises
        ------
        DataError
            If it cannot be read, or is no configuration of a study of this kind.
        UsageError
            If a setting cannot be, or the study has nothing that ``here`` says the place of.
        """
        try:
            content = read_toml(path)
            canonical(content)
        except (OSError, TypeError, ValueError) as error:
            raise DataError(f"{path} is no study's configuration ({error}); give the config.toml of a study.") from error
        config = cls._parsed(path, content)
        return replace(config, data=config.data.moved(here), where=config.where.moved(here))

    @classmethod
    def _parsed(cls, path: Path, content: Mapping[str, Any]) -> Self:
        lacking = [name for name in ("seed", *cls.TABLES) if name not in content]
        if lacking:
            raise DataError(f"{path} lacks {', '.join(lacking)}; give the config.toml of a study.")
        if not isinstance(content["seed"], int):
            raise DataError(f"{path} has the seed '{content['seed']}', which is no whole number.")
        try:
            return cls.of(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} is no configuration of such a study ({error}); give the config.toml of one.") from error


Config = TypeVar("Config", bound=StudyConfig, covariant=True)


@dataclass(frozen=True, eq=False)
class RunContext(Generic[Config]):
    """What a process computes a study with: two are equal where it makes no difference which is taken.

    Parameters
    ----------
    folder : Path
        Of the study.
    config : StudyConfig
    device : {"auto", "cpu", "gpu"}
        Where networks compute: each start says its own, so that a study goes on on another machine, or on several at a time.
    """

    folder: Path
    config: Config
    device: Device = "auto"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunContext) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def _key(self) -> tuple[Path, str, str]:
        return self.folder, canonical(self.config.content()), self.device

    def fit_settings(self) -> FitSettings:
        """The generators' settings on images that are prepared already: nothing more is done to them."""
        fit = self.config.fit
        preparation = Preparation(size=fit.preparation.size, scaling="none")
        return replace(fit, preparation=preparation, training=replace(fit.training, device=self.device))


def settled(fit: FitSettings, preparation: Preparation) -> FitSettings:
    """The settings with the width written out, which a system of another architecture keeps."""
    return replace(fit, preparation=preparation, channels=default_channels(fit.arch) if fit.channels is None else fit.channels)


def fit_of(content: Mapping[str, Any]) -> FitSettings:
    """The generators' settings, from the table ``fit``."""
    parts = {
        "preparation": Preparation.of(content["preparation"]),
        "training": TrainingSettings(**content["training"]),
        "metric": MetricSettings(**content["metric"]),
    }
    return FitSettings(**{**content, **parts})


def content_of_fit(fit: FitSettings) -> dict[str, Any]:
    """The table ``fit``."""
    content = fit.as_dict()
    return content | {"training": without_device(content["training"])}


def without_device(content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a configuration holds them."""
    return {name: value for name, value in content.items() if name != "device"}

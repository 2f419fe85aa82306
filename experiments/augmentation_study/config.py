"""The configuration of an augmentation study."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...classifiers.training import ClassifierSettings
from ...datasets.common.errors import UsageError
from ..engine.data_config import DataConfig
from ..engine.study_config import StudyConfig, Where, content_of_fit, fit_of, without_device
from .protocols import MODES, Protocols, require_consistent


@dataclass(frozen=True)
class Grid:
    """Which cells there are.

    Parameters
    ----------
    methods : tuple of str
        As ``methods.method_of`` knows them.
    modes : tuple of str
        Of ``MODES``, for those methods that generate.
    runs : int
        Repetitions.
    """

    methods: tuple[str, ...]
    modes: tuple[str, ...]
    runs: int

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise UsageError(f"The number of runs must be 1 or more, not {self.runs}.")
        for mode in self.modes:
            if mode not in MODES:
                raise UsageError(f"--mode is {', '.join(MODES[:-1])} or {MODES[-1]}, not '{mode}'.")

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Grid":
        """From the table ``grid``."""
        return cls(**{**content, "methods": tuple(content["methods"]), "modes": tuple(content["modes"])})


@dataclass(frozen=True)
class GivenGenerators:
    """Generators that were fitted before, by their digests: of their split, and of each class's model."""

    split: str
    models: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AugmentationConfig(StudyConfig):
    """The configuration of an augmentation study.

    Parameters
    ----------
    seed, data, where, fit
        As of every study.
    protocols : Protocols
    classifier : ClassifierSettings
    grid : Grid
    network : str, optional
        A user's own classifier, ``"package.module:function"``.
    generators : GivenGenerators, optional
        Instead of those that are fitted in each run; ``where`` says the place of their folder.
    """

    TABLES = ("data", "where", "protocols", "fit", "classifier", "grid")

    protocols: Protocols
    classifier: ClassifierSettings
    grid: Grid
    network: str | None = None
    generators: GivenGenerators | None = None

    def __post_init__(self) -> None:
        require_consistent(self.protocols, external=self.data.tests is not None, generators=self.generators is not None)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "AugmentationConfig":
        """From what a ``config.toml`` holds."""
        return cls(
            seed=content["seed"],
            data=DataConfig.of(content),
            where=Where.of(content["where"]),
            protocols=Protocols(**content["protocols"]),
            fit=fit_of(content["fit"]),
            classifier=ClassifierSettings(**content["classifier"]),
            network=content.get("network"),
            generators=GivenGenerators(**content["generators"]) if "generators" in content else None,
            grid=Grid.of(content["grid"]),
        )

    def content(self) -> dict[str, Any]:
        """What ``config.toml`` holds."""
        return self.written(
            protocols=asdict(self.protocols),
            fit=content_of_fit(self.fit),
            classifier=without_device(vars(self.classifier)),
            network=self.network,
            generators=None if self.generators is None else vars(self.generators),
            grid=vars(self.grid),
        )

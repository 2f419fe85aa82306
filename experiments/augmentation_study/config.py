"""The configuration of an augmentation study."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...classifiers.training import ClassifierSettings
from ...datasets.common.errors import UsageError
from ..engine.data_config import DataConfig
from ..engine.study_config import StudyConfig, Where, content_of_fit, fit_of, without_device
from .arm import Primary
from .mode import Mode
from .protocols import Protocols, require_consistent, require_size

_LATER = ("sizes", "networks")


@dataclass(frozen=True)
class Grid:
    """Which cells there are.

    Parameters
    ----------
    methods : tuple of str
        As ``methods.method_of`` knows them.
    modes : tuple of str
        As ``Mode.parse`` reads them, for those methods that generate.
    runs : int
        Repetitions.
    sizes : tuple of str
        How many people of the smallest class are learnt from, or ``all``; none of a study of the whole training side.
    networks : tuple of str
        Of ``networks.NETWORKS``, or a user's own; none of a study of Table 5's alone, and ``""`` for that one where others came later: its
        cells name no network.
    """

    methods: tuple[str, ...]
    modes: tuple[str, ...]
    runs: int
    sizes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise UsageError(f"The number of runs must be 1 or more, not {self.runs}.")
        for mode in self.modes:
            Mode.parse(mode)
        for size in self.sizes:
            require_size(size)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Grid":
        """From the table ``grid``."""
        return cls(**{**content, **{name: tuple(content.get(name, ())) for name in ("methods", "modes", *_LATER)}})

    def content(self) -> dict[str, Any]:
        """What ``of`` reads: without sizes and networks where none are named, as in studies from before they could be."""
        return {name: value for name, value in vars(self).items() if name not in _LATER or value}


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
    generators : GivenGenerators, optional
        Instead of those that are fitted in each run; ``where`` says the place of their folder.
    weights : str, optional
        SHA-256 of the file that networks begin with; ``where`` says its place.
    primary : Primary, optional
        The comparison that counts; none of studies from before there was one, and where there is nothing to compare.
    planned : tuple of Grid
        What was planned before there was a result, and at later starts, for which verdicts are corrected too; of studies from before it was
        kept, nothing.
    """

    TABLES = ("data", "where", "protocols", "fit", "classifier", "grid")

    protocols: Protocols
    classifier: ClassifierSettings
    grid: Grid
    generators: GivenGenerators | None = None
    weights: str | None = None
    primary: Primary | None = None
    planned: tuple[Grid, ...] = ()

    def __post_init__(self) -> None:
        require_consistent(
            self.protocols,
            external=self.data.tests is not None,
            generators=self.generators is not None,
            sizes=bool(self.grid.sizes),
        )

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "AugmentationConfig":
        """From what a ``config.toml`` holds."""
        if "network" in content:
            raise ValueError("its network stands outside of the grid, as before version 0.2; begin the study anew with --network")
        return cls(
            seed=content["seed"],
            data=DataConfig.of(content),
            where=Where.of(content["where"]),
            protocols=Protocols(**content["protocols"]),
            fit=fit_of(content["fit"]),
            classifier=ClassifierSettings(**content["classifier"]),
            generators=GivenGenerators(**content["generators"]) if "generators" in content else None,
            grid=Grid.of(content["grid"]),
            weights=content.get("weights"),
            primary=Primary.of(content["primary"]) if "primary" in content else None,
            planned=tuple(Grid.of(grid) for grid in content.get("planned", ())),
        )

    def content(self) -> dict[str, Any]:
        """What ``config.toml`` holds."""
        return self.written(
            protocols=asdict(self.protocols),
            fit=content_of_fit(self.fit),
            classifier=without_device(vars(self.classifier)),
            generators=None if self.generators is None else vars(self.generators),
            grid=self.grid.content(),
            weights=self.weights,
            primary=None if self.primary is None else self.primary.content(),
            planned=[grid.content() for grid in self.planned] or None,
        )

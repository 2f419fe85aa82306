"""The configuration of a study of fidelity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...datasets.common.errors import UsageError
from ..engine.data_config import DataConfig
from ..engine.study_config import StudyConfig, Where, content_of_fit, fit_of
from ..fidelity.scores import MEASURES
from .plans import TEST, systems_of

FEWEST_SAMPLES = 20
EXAMINED = tuple(name for name in MEASURES if name != "ms-ssim")  # what looks at features


@dataclass(frozen=True)
class Scoring:
    """What is measured of each system.

    Parameters
    ----------
    n_samples : int
        Images drawn of each class (the paper: 10,000); fewer where the real sides have fewer.
    measures : tuple of str
        Of ``EXAMINED``.
    features : tuple of str
        Of ``data.FEATURES``.
    sides : tuple of str
        References: ``test``; ``validation``, where settings are chosen; ``reconstructions``.
    per_class : True or None
        One generator a class, and scores of each.
    weights : str, optional
        SHA-256 of InceptionV3's file.
    """

    n_samples: int = 10_000
    measures: tuple[str, ...] = ("frechet", "kid", "prd")
    features: tuple[str, ...] = ("cohort",)
    sides: tuple[str, ...] = (TEST,)
    per_class: bool | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.measures if name not in EXAMINED]
        if unknown:
            raise UsageError(f"A study has no measure '{unknown[0]}'; choose among: {', '.join(EXAMINED)}.")
        if self.n_samples < FEWEST_SAMPLES:
            raise UsageError(f"--samples is {FEWEST_SAMPLES} or more, not {self.n_samples}.")

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Scoring":
        """From the table ``scoring``."""
        kept: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
        return cls(**kept)


@dataclass(frozen=True)
class Grid:
    """Which cells there are.

    Parameters
    ----------
    plan : str
        Of ``plans.PLANS``.
    sizes : tuple of int
        Training participants; 0 for all.
    runs : int
        Repetitions.
    rows : mapping
        From a row's title to its systems.
    """

    plan: str
    sizes: tuple[int, ...]
    runs: int
    rows: Mapping[str, Sequence[str]]

    @property
    def systems(self) -> list[str]:
        """The systems of all rows, each once."""
        return systems_of(self.rows)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Grid":
        """From the table ``grid``."""
        rows = {title: tuple(members) for title, members in content["rows"].items()}
        return cls(**{**content, "sizes": tuple(content["sizes"]), "rows": rows})


@dataclass(frozen=True)
class FidelityConfig(StudyConfig):
    """The configuration of a study of fidelity.

    Parameters
    ----------
    seed, data, where, fit
        As of every study.
    scoring : Scoring
    grid : Grid
    """

    TABLES = ("data", "where", "scoring", "fit", "grid")

    scoring: Scoring
    grid: Grid

    @property
    def n_train(self) -> int:
        """Participants of the whole training side."""
        assert self.data.n_train is not None
        return self.data.n_train

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "FidelityConfig":
        """From what a ``config.toml`` holds."""
        return cls(
            seed=content["seed"],
            data=replace(DataConfig.of(content), n_train=content["data"]["n_train"]),
            where=Where.of(content["where"]),
            scoring=Scoring.of(content["scoring"]),
            fit=fit_of(content["fit"]),
            grid=Grid.of(content["grid"]),
        )

    def content(self) -> dict[str, Any]:
        """What ``config.toml`` holds."""
        return self.written(scoring=vars(self.scoring), fit=content_of_fit(self.fit), grid=vars(self.grid))

"""What an augmentation study compares, and on whom: its methods, modes and protocol, the grid of its cells, and the split of each run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any, Literal, get_args

import numpy as np

from ...augment.autoencoders import AUTOENCODERS
from ...augment.fitting.settings import FitSettings
from ...augment.samplers.registry import SAMPLERS
from ...classifiers.training import ClassifierSettings
from ...datasets.cohort import Cohort
from ...datasets.common.errors import UsageError
from ...datasets.splits import Split, sides_of_rows, split_cohort
from ...datasets.training_sizes import LEFT_OUT
from ..engine.generators import split_of_given
from ..engine.study_folder import seed_of
from ..engine.study_images import TEST, without_places
from ..engine.study_settings import content_of_classifier, content_of_fit
from ..engine.systems import System

BASELINES = ("original", "resampled", "weighted", "classical", "covariates")
REAL = "real"  # the mode of a method that generates nothing
DEFAULT_METHODS = ("original", "resampled", "weighted", "classical", "vae:posterior", "vae:auto")

Mode = Literal["resampled+synthetic", "real+synthetic", "synthetic-only"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_MODE: Mode = "resampled+synthetic"
Protocol = Literal["resampled", "paper"]


@dataclass(frozen=True)
class Protocols:
    """What is compared, and how.

    Parameters
    ----------
    protocol : {"resampled", "paper"}
        A new split and new generators in every run, or one of each for all runs.
    n_synthetic : int
        Images per class of ``synthetic-only`` (the paper: 2,000).
    enlarge : float
        Where real images are part, each class gets this many times the images of the largest class of the real training set.
    limit : dict
        From class to how many of its training participants are kept; validation and test are left alone.
    least_steps : int
        Every CNN gets at least so many optimisation steps, by more epochs where its training set is small: the paper's 50 epochs are 100
        steps on 200 real images and 1,000 on 4,000 synthetic ones, and a comparison of the two would reward the longer training. 0 for
        the paper's way.
    stratum : str
        Also score the test participants for whom this holds, such as ``age>=60``; empty for none.
    external_only : True or None
        Test on the external cohort alone: who would be on the test side is trained on. ``None`` is no, because a configuration leaves it
        out: studies from before there was a choice stay what they are.
    """

    protocol: Protocol = "resampled"
    n_synthetic: int = 2000
    enlarge: float = 2.0
    limit: dict[str, int] = field(default_factory=dict)
    least_steps: int = 1000
    stratum: str = ""
    external_only: Literal[True] | None = None

    def __post_init__(self) -> None:
        if self.protocol not in ("resampled", "paper"):
            raise UsageError(f"--protocol is resampled or paper, not '{self.protocol}'.")
        if self.external_only not in (None, True):
            raise UsageError(f"external_only is true or is left out, not {self.external_only}.")
        if self.n_synthetic < 1 or not 1 <= self.enlarge < math.inf or min(self.limit.values(), default=1) < 1:
            raise UsageError("A study needs at least 1 synthetic image, 1 participant in each limit, and may not shrink the training set.")


def check_method(method: str) -> None:
    """Raise a ``UsageError`` if there is no such method."""
    if method in BASELINES:
        return
    if ":" not in method:
        raise UsageError(
            f"There is no method '{method}'; choose of {', '.join(BASELINES)}, or model:sampler with a model of "
            f"{', '.join(AUTOENCODERS)} and a sampler of {', '.join(SAMPLERS)}."
        )
    System.parse(method)


def cells_of(methods: Sequence[str], modes: Sequence[str], runs: int) -> list[dict[str, Any]]:
    """Keys of the grid, run by run: a method that generates has one cell a mode, another has one cell.

    Raises
    ------
    UsageError
        If there is no such method or mode, or there are no runs.
    """
    if runs < 1:
        raise UsageError(f"The number of runs must be 1 or more, not {runs}.")
    for mode in modes:
        if mode not in MODES:
            raise UsageError(f"--mode is {', '.join(MODES[:-1])} or {MODES[-1]}, not '{mode}'.")
    for method in methods:
        check_method(method)
    of_a_run = [{"method": method, "mode": mode} for method in methods for mode in (modes if ":" in method else (REAL,))]
    return [{"run": run, **cell} for run in range(runs) for cell in of_a_run]


def staggered(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The cells, every run's begun at another of them.

    Where runs share their generators, those that are computed at the same time would otherwise all fit the same one.
    """
    golden = (math.sqrt(5) - 1) / 2  # whose multiples, taken modulo 1, lie far apart however many there are
    runs = [list(part) for _, part in groupby(cells, key=lambda key: key["run"])]
    starts = [int(len(part) * (place * golden % 1)) for place, part in enumerate(runs)]
    return [key for part, start in zip(runs, starts, strict=True) for key in (*part[start:], *part[:start])]


def require_splits(cohort: Cohort, protocols: Protocols) -> None:
    """Raise a ``UsageError`` if runs shall have new splits, and the cohort has official sides.

    A new split would train on the published test side. With one split for all, runs tell of the seeds alone: that is the paper's protocol,
    and it gives no verdict.
    """
    if protocols.protocol == "resampled" and sides_of_rows(cohort) is not None:
        raise UsageError(f"{cohort.name} has official sides, so no run may have a split of its own; give --protocol paper (no verdict).")


def split_of_run(cohort: Cohort, config: Mapping[str, Any], run: int) -> Split:
    """The split of a run of a study: drawn for it, or that of the generators that were given."""
    given = split_of_given(cohort, config) if config.get("generators") else None
    return split_of(cohort, Protocols(**config["protocols"]), seed_of(config["seed"], {"run": run, "of": "split"}), given)


def split_of(cohort: Cohort, protocols: Protocols, seed: int, given: Split | None = None) -> Split:
    """The split of a run, drawn unless it is given.

    Training participants beyond a class's limit are on a side of their own; where only an external cohort is tested, the test side is
    trained on.

    Raises
    ------
    UsageError
        If every run shall have a new split, and the cohort has official sides.
    """
    require_splits(cohort, protocols)
    split = given or split_cohort(cohort, seed=seed)
    sides, fractions = dict(split.sides), dict(split.fractions)
    if protocols.external_only:
        sides = {who: "train" if side == TEST else side for who, side in sides.items()}
        fractions["train"] += fractions.pop(TEST, 0.0)
    label_of = dict(zip(cohort.table["participant_id"], cohort.table["label"], strict=True))
    for label, limit in protocols.limit.items():
        people = sorted(who for who, side in sides.items() if side == "train" and label_of[who] == label)
        order = np.random.default_rng(seed).permutation(len(people))
        sides |= {people[i]: LEFT_OUT for i in order[limit:]}
    return replace(split, sides=sides, fractions={**fractions, LEFT_OUT: 0.0})


def study_config(
    data: Mapping[str, Any],
    protocols: Protocols,
    fit: FitSettings,
    classifier: ClassifierSettings,
    *,
    seed: int,
    network: str | None,
    methods: Sequence[str],
    modes: Sequence[str],
    runs: int,
    command: str = "",
    generators: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The resolved configuration of a study, as its ``config.toml`` keeps it.

    The data are known by their digests; where they lie stands apart, so that a study can go on where they lie elsewhere, and so does
    the command line, which may differ in how many jobs there are.
    """
    bound, places = without_places(data)
    where: dict[str, Any] = {"command": command or None}
    if generators is not None:
        generators, where["generators"] = generators["digests"], generators["folder"]
    where |= places
    return {
        "seed": seed,
        "data": bound,
        "where": where,
        "protocols": asdict(protocols),
        "fit": content_of_fit(fit),
        "classifier": content_of_classifier(classifier),
        "network": network,
        "generators": generators,
        "grid": {"methods": list(methods), "modes": list(modes), "runs": runs},
    }

"""How many runs, or people, it takes to see a difference: told before anything is trained, from pilot runs or from stated spreads."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ...augment.settings import read_settings, settings_of
from ...datasets.check import require_sound
from ...datasets.cohort import Cohort
from ...datasets.common.errors import UsageError
from ...datasets.readers import read_cohort
from ..engine.components import Components, plan
from ..engine.pairs import paired
from ..engine.statistics import LEAST_RUNS
from ..engine.study_folder import all_runs, is_study, planned_runs
from ..engine.study_images import TEST, Prepared
from .cell import count_people, split_of_run
from .config import AugmentationConfig
from .effects import LEVEL, PRIMARY_SCORE, at, n_primary, of_arm
from .grid import AXES, axes_of, cells_of, told_cells, told_table
from .predictions import tidy_predictions
from .protocols import people_drawn

DIFFERENCES = (0.02, 0.05, 0.1)
AS_PLANNED, TO_DETECT = "as planned", "to detect"


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the difference of two methods, where no run tells them.

    Parameters
    ----------
    people : float
        Of a person's value in the score, from person to person: 0.3 where the two rank people rather differently, 0.1 where nearly alike.
    runs : float
        Of the difference that any number of people would show, from run to run.
    both : float
        Of one person's value from run to run, beyond these.
    """

    people: float = 0.1
    runs: float = 0.02
    both: float = 0.15

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return " ".join(f"{name}={value:g}" for name, value in vars(self).items())

    @classmethod
    def of(cls, components: Components) -> "Spread":
        """What pilot runs tell, of all classes together, to two digits."""
        people, both = (math.fsum(variances.values()) / len(variances) for variances in (components.people, components.both))
        return cls(*(float(f"{math.sqrt(variance):.2g}") for variance in (people, components.runs, both)))

    @classmethod
    def parse(cls, text: str) -> "Spread":
        """Read ``people=0.1 runs=0.02 both=0.15``, of which any may be left out."""
        found = cls(**read_settings(settings_of(cls), text.replace(",", " ").split(), "--spread"))
        if not all(0 <= value < math.inf for value in vars(found).values()) or not any(vars(found).values()):
            raise UsageError(f"--spread has standard deviations, 0 or more and not all 0, not '{text}'.")
        return found


@dataclass(frozen=True, eq=False)
class Plan:
    """What the primary comparison of a study needs.

    Parameters
    ----------
    told : str
        From what it was reckoned.
    table : pandas.DataFrame
        As text, place by place, by ``design``: what the study as planned sees, and a row a difference to detect: ``runs`` that it takes
        with these people, and ``people CLASS`` that it takes with these runs.
    spreads : dict
        Place by place, what the runs of a pilot spread by; empty where none told it.
    """

    told: str
    table: pd.DataFrame
    spreads: dict[str, Spread]


def planned(config: AugmentationConfig, folder: Path, spread: Spread | None) -> Plan:
    """What the primary comparison of a study needs, place by place.

    Parameters
    ----------
    config : AugmentationConfig
    folder : Path
        Of the study: its runs are the pilot, if there are any.
    spread : Spread, optional
        Instead of them.

    Raises
    ------
    UsageError
        If there is nothing to compare, or neither a pilot nor a spread.
    """
    if config.primary is None:
        raise UsageError("A plan is for a comparison: give --methods of which two can be compared.")
    if config.protocols.protocol == "paper" or config.protocols.external_only:
        raise UsageError(
            "A plan is for runs that draw who is learnt from, and test others: leave out --protocol paper, and --external-only."
        )
    if config.grid.runs < LEAST_RUNS:
        raise UsageError(f"A verdict takes {LEAST_RUNS} runs: plan --runs {LEAST_RUNS} or more, not {config.grid.runs}.")
    found = _of_pilot(config, folder) if spread is None and is_study(folder) else []
    told, spreads = f"from the runs in {folder}", {_told(place): Spread.of(components) for place, components in found}
    if not found:
        told = f"from stated spreads ({spread or Spread()})"
        # What is planned may never be begun: nobody's images are prepared, and the folder is left as it is.
        cohort = read_cohort(config.data.cohort.source)
        cohort = require_sound(cohort, sized=True, minimum=1)
        found = [(place, _stated(config, cohort, place, spread or Spread())) for place in _places(config)]
    level = LEVEL / n_primary(config)  # as ``judged`` corrects the comparison that counts
    tables = []
    for place, components in found:
        as_planned = replace(components, n_runs=config.grid.runs)
        own = pd.DataFrame([{"difference": as_planned.detectable(level), "runs": config.grid.runs}])
        own = own.assign(**{f"people {label}": round(n) for label, n in components.n_people.items()})
        needed = plan(as_planned, DIFFERENCES, level=level)
        tables += [own.assign(design=AS_PLANNED, **place), needed.assign(design=TO_DETECT, **place)]
    table = pd.concat(tables, ignore_index=True)
    axes = [name for name in AXES if name in table]
    table["difference"] = [f"{100 * value:.1f} points" for value in table["difference"]]
    numbers = [name for name in table if name not in (*axes, "design", "difference")]
    table[numbers] = table[numbers].map(lambda number: "too many" if pd.isna(number) else f"{number:.0f}")
    return Plan(told, table[[*axes, "design", "difference", *numbers]], spreads)


def _places(config: AugmentationConfig) -> list[dict[str, str]]:
    keys = [{name: key[name] for name in axes_of(config.grid)} for key in told_cells(config.grid)]
    return [key for place, key in enumerate(keys) if key not in keys[:place]]


def _told(place: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in place.items())


def _of_pilot(config: AugmentationConfig, folder: Path) -> list[tuple[dict[str, str], Components]]:
    assert config.primary is not None
    runs, _ = planned_runs(all_runs(folder), cells_of(config.grid))
    if not runs:
        return []
    data = Prepared.load(folder, config.data)
    predictions, found = told_table(tidy_predictions(runs, folder, data), config.grid), []
    for place in _places(config):
        here = at(predictions, {**place, "test_set": TEST})
        ours, theirs = (of_arm(here, arm) for arm in (config.primary.arm, config.primary.against))
        components = paired(ours, theirs, config.data.classes, PRIMARY_SCORE).components if len(ours) and len(theirs) else None
        # Two that say the same of everybody tell nothing of how much others would differ; nor does one person of a class.
        if components is None or components.n_runs < 2 or min(components.n_people.values()) < 2 or not components.variance_is_known:
            continue
        found.append((place, components.of_cohort(people_drawn(data.cohort))))
    return found


def _stated(config: AugmentationConfig, cohort: Cohort, place: dict[str, str], spread: Spread) -> Components:
    split = split_of_run(cohort, config, 0, place.get("size"))
    tested = count_people(split.side(cohort, TEST).table, cohort.alike, config.data.classes)
    return Components.stated(**vars(spread), n_people=people_drawn(cohort), n_tested=tested, n_runs=config.grid.runs)

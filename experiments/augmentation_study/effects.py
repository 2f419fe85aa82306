"""What each arm of a study is worth against its reference, with intervals, and what the study could have seen.

Where the predictions are there, by people and runs (``pairs``); of a study that was published without, by its runs alone (``statistics``).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype

from ...datasets.common.errors import DataError
from ..engine.pairs import paired
from ..engine.results_file import EFFECTS, RESULTS
from ..engine.statistics import (
    LEAST_RUNS,
    MeanTest,
    corrected_t_test,
    detectable_difference,
    half_width,
    holm,
    paired_differences,
    two_sided_p,
)
from ..engine.study_images import EXTERNAL, TEST
from ..engine.wording import points, sentence, title
from .arm import Arm
from .config import AugmentationConfig
from .grid import AXES, REFERENCES, arms_of, axes_of, grids_of, networks_of
from .protocols import ALL, people_of_size

SCORES = ("roc_auc", "balanced_accuracy")
PRIMARY_SCORE = SCORES[0]
PEOPLE_AND_RUNS, RUNS = "people and runs", "runs"  # what a test knows
LEARNT = "n_train_"  # before a class: its people who were learnt from
TESTED = "n_tested_"  # before a class: its people who were tested in some run
FINISHED = "finished"  # runs whose cells of both arms are there, with a score or without; files from before it was told lack it
NUMBERS = ("n", "unpaired", "difference", "se", "df")
LEVEL, POWER = 0.05, 0.8
Place = dict[str, str]  # a value of each axis, and a test set


def places_of(table: pd.DataFrame, config: AugmentationConfig) -> list[Place]:
    """Where arms are compared: every combination of size, network and test set that a table has, in the order of the grid."""
    columns = [*(name for name in AXES if name in table), "test_set"]
    found = [dict(zip(columns, map(str, row), strict=True)) for row in table[columns].drop_duplicates().itertuples(index=False)]
    sizes = sorted(config.grid.sizes, key=people_of_size)
    planned = {"size": sizes, "network": networks_of(config.grid), "test_set": tuple(dict.fromkeys(table["test_set"]))}

    def order(place: Place) -> list[int]:
        return [planned[name].index(value) if value in planned[name] else len(planned[name]) for name, value in place.items()]

    return sorted(found, key=order)


def at(table: pd.DataFrame, place: Place) -> pd.DataFrame:
    """The rows of a place."""
    return table[np.logical_and.reduce([table[name] == value for name, value in place.items()])]


def reference_of(config: AugmentationConfig) -> Arm | None:
    """What all arms are compared with: the primary comparison's, or the first of ``REFERENCES`` that there is."""
    if config.primary is not None:
        return config.primary.against
    arms = {arm.method: arm for arm in arms_of(config.grid)}
    return next((arms[name] for name in REFERENCES if name in arms), None)


def effects_of_predictions(
    predictions: pd.DataFrame, config: AugmentationConfig, drawn: Mapping[str | None, float] | None = None
) -> pd.DataFrame:
    """The differences of all arms to the reference, from the rows of ``predictions.csv`` and of its strata; ``judged`` takes them.

    Nothing where all runs share a split: they differ by the classifiers' seeds alone, which says nothing of other people. ``drawn`` is
    the share of a class that a run of each size, if there are sizes, learns from (``shares_drawn``); without it there is no verdict on
    people of another cohort.
    """
    reference, rows = reference_of(config), []
    if reference is None or config.protocols.protocol == "paper":
        return pd.DataFrame()
    for place in places_of(predictions, config):
        here = at(predictions, place)
        of_arms = {arm: of_arm(here, arm) for arm in arms_in_order(config, here)}
        if reference not in of_arms:
            continue
        theirs = of_arms.pop(reference)
        share = (drawn or {}).get(place.get("size"), math.nan) if place["test_set"].startswith(EXTERNAL) else None
        for arm in of_arms:
            for score in SCORES:
                effect = paired(of_arms[arm], theirs, config.data.classes, score, share)  # type: ignore[arg-type]
                counted = {"n": effect.n_runs, "unpaired": effect.unpaired, FINISHED: _finished(predictions, place, arm, reference)}
                counted |= {f"{TESTED}{label}": n for label, n in effect.n_people.items()}
                numbers = {"difference": effect.estimate, "se": effect.se, "df": effect.df, "why": effect.why_untested}
                rows.append({**place, **_named(arm, reference), "score": score, "test": PEOPLE_AND_RUNS, **counted, **numbers})
    return pd.DataFrame(rows)


def shares_drawn(results: pd.DataFrame, n_people: Mapping[str, int]) -> dict[str | None, float]:
    """The share of a class that a run learns from, by size, of ``results.csv`` and who can be drawn; none of runs that counted nobody.

    It is that of the class of which it is largest: as much as the people of any class does who is drawn of it part two runs.
    """
    columns = {f"{LEARNT}{label}": n for label, n in n_people.items() if f"{LEARNT}{label}" in results}
    shares = (results[list(columns)] / pd.Series(columns)).max(axis=1).dropna()
    sizes = results.loc[shares.index, "size"].astype(str).to_list() if "size" in results else [None] * len(shares)
    return {size: max(share for of, share in zip(sizes, shares, strict=True) if of == size) for size in dict.fromkeys(sizes)}


def effects_of_results(results: pd.DataFrame, config: AugmentationConfig) -> pd.DataFrame:
    """The same from the rows of ``results.csv``, by the corrected resampled t-test."""
    reference, rows = reference_of(config), []
    if reference is None:
        return pd.DataFrame()
    for place in places_of(results, config):
        here = at(results, place)
        here = here.assign(method=[str(Arm(method, mode)) for method, mode in zip(here["method"], here["mode"], strict=True)])
        if str(reference) not in set(here["method"]):
            continue
        ratio = _overlap(results, place, config)
        for score in SCORES:
            differences = paired_differences(here, score, str(reference))
            for arm in (arm for arm in arms_of(config.grid) if str(arm) in differences):
                found = corrected_t_test(differences[str(arm)], ratio)
                why = _why_not(found, ratio)
                counted = {"n": found.n, "unpaired": len(differences) - found.n, FINISHED: _finished(results, place, arm, reference)}
                se = math.nan if why else found.se
                numbers = {"difference": found.mean, "se": se, "df": float(found.n - 1), "why": why}
                rows.append({**place, **_named(arm, reference), "score": score, "test": RUNS, **counted, **numbers})
    return pd.DataFrame(rows)


def judged(effects: pd.DataFrame, config: AugmentationConfig) -> pd.DataFrame:
    """With the interval ``low`` to ``high``, ``p``, ``p_holm``, the difference ``seen`` with 80 % power, ``primary``, and a ``verdict``,
    which claims nothing while it is ``interim``: of fewer finished runs than were planned.

    The primary comparison is corrected for the sizes and networks that it is made at; the secondary ones, place by place and score by
    score, for one another. So is what is ``seen``. What was planned at an earlier start counts, though it was left out since.
    """
    if effects.empty:
        return effects
    found = effects.assign(primary=_is_primary(effects, config), interim=effects.get(FINISHED, effects["n"]) < config.grid.runs)
    reach = half_width(found["se"], found["df"], LEVEL)
    found["low"], found["high"] = (found["difference"] - reach).clip(-1, 1), (found["difference"] + reach).clip(-1, 1)
    found["p"] = two_sided_p(found["difference"], found["se"], found["df"])
    found["p_holm"] = found["p"]
    for _, family in found.groupby(_families(found), sort=False):
        n = max(len(family), n_primary(config) if family["primary"].all() else _n_secondary(family, _main_test(found), config))
        found.loc[family.index, "p_holm"] = holm(family["p"], n)
        # What is corrected sees less: at the level of Holm's first step.
        found.loc[family.index, "seen"] = [_seen(se, df, LEVEL / n) for se, df in zip(family["se"], family["df"], strict=True)]
    return found.assign(verdict=[_verdict(row) for row in found.to_dict("records")])


def n_primary(config: AugmentationConfig) -> int:
    """At how many sizes and networks the primary comparison is made, or was planned to be at an earlier start."""
    return len({(size, network) for grid in grids_of(config) for size in grid.sizes or ("",) for network in networks_of(grid)})


def _n_secondary(family: pd.DataFrame, main_test: str, config: AugmentationConfig) -> int:
    """How many other comparisons were planned at the place of some of them, and of their score."""
    arms = {arm for grid in grids_of(config) for arm in arms_of(grid)} - {reference_of(config)}
    beside_primary = (family["score"] == PRIMARY_SCORE).all() and (family["test_set"] == main_test).all()
    return len(arms - {config.primary.arm} if config.primary is not None and beside_primary else arms)


def headlines(found: pd.DataFrame, config: AugmentationConfig) -> list[str]:
    """What ``judged`` says of the comparison that was named before the study began, a sentence a size and network."""
    if config.primary is None or found.empty:
        return []
    told = []
    for row in preferred(found[found["primary"]]).to_dict("records"):
        where = [_axis(name, str(row[name])) for name in AXES if name in row]
        told.append(f"{', '.join([*where, str(config.primary.arm)])}: {row['verdict']}.")
    return told


def how_tested(found: pd.DataFrame) -> str:
    """What the verdicts of ``judged`` know, in a sentence; empty where there are none."""
    if found.empty or (found["why"] != "").all():
        return ""
    corrected = "the secondary ones of each table and score are corrected by Holm's method"
    if (found["test"] == PEOPLE_AND_RUNS).any():
        return f"Differences are tested over people and runs, and beside it over runs alone (corrected resampled t-test); {corrected}."
    return f"Differences are tested over runs alone (corrected resampled t-test), because predictions are not there; {corrected}."


def _axis(name: str, value: str) -> str:
    return f"{value} of the smallest class" if name == "size" and value != ALL else value


def told_effects(found: pd.DataFrame) -> pd.DataFrame:
    """A place's rows of ``judged`` for people: one row an arm."""
    rows = []
    arms = dict.fromkeys(Arm(*row) for row in found[["method", "mode"]].itertuples(index=False, name=None)) if len(found) else {}
    for arm in arms:
        here = of_arm(found, arm)
        cells = {"method": str(arm) + (" (primary)" if here["primary"].any() else "")}
        for score in SCORES:
            of_score = here[here["score"] == score]
            if of_score.empty:
                continue
            row = preferred(of_score).iloc[0]
            interval = "" if math.isnan(row["low"]) else f" [{points(row['low'])}, {points(row['high'])}]"
            cells[f"Δ {title(score)}"] = f"{points(row['difference'])}{interval}"
            cells["p" if score == PRIMARY_SCORE else f"p, {title(score)}"] = _p(row["p_holm"])
            if score == PRIMARY_SCORE:
                cells["seen from"] = "–" if math.isnan(row["seen"]) else f"{100 * row['seen']:.1f}"
                by_runs = of_score[of_score["test"] == RUNS]
                cells["p, by runs alone"] = _p(by_runs["p_holm"].iloc[0]) if len(by_runs) and not row["why"] else "–"
                cells["verdict"] = _claim(row)
        rows.append(cells)
    return pd.DataFrame(rows)


def preferred(rows: pd.DataFrame) -> pd.DataFrame:
    """By people and runs, where that is there."""
    better = rows[rows["test"] == PEOPLE_AND_RUNS]
    return better if len(better) else rows


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _claim(row: pd.Series) -> str:
    if row["why"]:
        return f"none: {row['why']}"
    if row["interim"]:
        return "interim"
    return "no difference seen" if row["p_holm"] > LEVEL else "helps" if row["difference"] > 0 else "hurts"


def read_effects(folder: Path, results: pd.DataFrame, config: AugmentationConfig) -> pd.DataFrame:
    """``effects.csv`` of a published study, or what its ``results.csv`` says of it; a ``DataError`` if it is damaged or another study's."""
    path = folder / EFFECTS
    if not path.is_file():
        return effects_of_results(results, config)
    columns = [*axes_of(config.grid), "test_set", "method", "mode", "against", "against_mode"]
    try:
        found = pd.read_csv(
            path, dtype=dict.fromkeys([*columns, "score", "test", "why", "configuration"], str), keep_default_na=False, na_values=[""]
        )
        found["why"] = found["why"].fillna("")
        wrong = [name for name in NUMBERS if not is_numeric_dtype(found[name])]
        wrong += [name for name in (*columns, "score", "test") if found[name].isna().any()]
        tested = found[found["why"] == ""]
        wrong += [name for name in ("se", "df") if name not in wrong and not (tested[name] > 0).all()]
        wrong += [name for name in map(str, found) if name.startswith(TESTED) and not is_numeric_dtype(found[name])]
        wrong += [FINISHED] if FINISHED in found and not is_integer_dtype(found[FINISHED]) else []
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it.") from error
    if wrong:
        raise DataError(f"{path} is damaged in its columns {', '.join(wrong)}; restore it.")
    if "configuration" in found and set(found["configuration"]) != set(results.get("configuration", ())):
        raise DataError(f"{path} is of another configuration than the {RESULTS} beside it; restore the one that was changed.")
    return found


def _is_primary(effects: pd.DataFrame, config: AugmentationConfig) -> pd.Series:
    if config.primary is None:
        return pd.Series(data=False, index=effects.index)
    of_arm = (effects["method"] == config.primary.arm.method) & (effects["mode"] == config.primary.arm.mode)
    return of_arm & (effects["score"] == PRIMARY_SCORE) & (effects["test_set"] == _main_test(effects))


def _main_test(table: pd.DataFrame) -> str:
    """The test set of the verdicts that count: everybody of the cohort's own test sides, where there are some."""
    names = list(table["test_set"])
    return TEST if TEST in names else names[0]


def _families(found: pd.DataFrame) -> list[str]:
    """Of each row the name of those that it is corrected with: of a test, the primary ones, and the others of a place and score."""
    columns = [*(name for name in AXES if name in found), "test_set", "score"]
    places = [", ".join(map(str, row)) for row in found[columns].itertuples(index=False, name=None)]
    own = ["primary" if primary else place for primary, place in zip(found["primary"], places, strict=True)]
    return [f"{test}: {family}" for test, family in zip(found["test"], own, strict=True)]


def _seen(se: float, df: float, level: float) -> float:
    return math.nan if math.isnan(se) else detectable_difference(se, df, level=level, power=POWER)


def _verdict(row: Mapping[Any, Any]) -> str:
    if row["why"]:
        return f"no verdict: {row['why']}"
    told = sentence(
        row["difference"],
        (row["low"], row["high"]),
        p=row["p_holm"],
        corrected=row["p_holm"] != row["p"],
        detectable=row["seen"],
        score=row["score"],
        against=str(Arm(row["against"], row["against_mode"])),
        n=", ".join([f"{row['n']} runs", *_without_score(row), *_tested(row)]),
        level=LEVEL,
        power=POWER,
    )
    # Who looks until there is a difference finds one.
    return f"interim, no verdict yet: {told.partition(': ')[2]}" if row["interim"] else told


def _without_score(row: Mapping[Any, Any]) -> list[str]:
    """How many finished runs have no score of one of the two, as where nobody of a class is tested."""
    more = row.get(FINISHED, row["n"]) - row["n"]
    return [f"{more} more without a score"] if more else []


def _tested(row: Mapping[Any, Any]) -> list[str]:
    """How many people of each class were tested in some run, where that is known."""
    counts = {str(name).removeprefix(TESTED): n for name, n in row.items() if str(name).startswith(TESTED) and not math.isnan(n)}
    return [f"{' and '.join(f'{n:.0f} {label}' for label, n in counts.items())} tested"] if counts else []


def _finished(table: pd.DataFrame, place: Place, arm: Arm, reference: Arm) -> int:
    """How many runs have both arms on any test set: in a stratum of which nobody is tested a run has no rows."""
    for name in AXES:
        table = table[table[name] == place[name]] if name in place else table
    return len(set(of_arm(table, arm)["run"]) & set(of_arm(table, reference)["run"]))


def _named(arm: Arm, reference: Arm) -> dict[str, str]:
    return {**vars(arm), "against": reference.method, "against_mode": reference.mode}


def _overlap(results: pd.DataFrame, place: Place, config: AugmentationConfig) -> float | None:
    """n_test / n_train in participants, by which the runs' splits overlap: for a stratum too it is that of the whole test side.

    ``None`` where runs do not draw who is tested.
    """
    if config.protocols.protocol == "paper" or place["test_set"].startswith(EXTERNAL):
        return None
    sides = at(results, {**place, "test_set": TEST})
    tested, learnt = ([f"n_{side}_{label}" for label in config.data.classes] for side in ("test", "train"))
    if tested and {*tested, *learnt} <= set(sides) and bool(sides[[*tested, *learnt]].notna().all(axis=None)):
        return float((sides[tested].sum(axis=1) / sides[learnt].sum(axis=1)).mean())
    # Runs from before people were counted know their images alone.
    return float((sides["n_test"] / sides["n_fitted_on"]).mean())


def _why_not(found: MeanTest, ratio: float | None) -> str:
    if ratio is None:
        return "the runs do not draw who is tested"
    if found.n < LEAST_RUNS:
        return f"it takes {LEAST_RUNS} runs, and there {'is 1' if found.n == 1 else f'are {found.n}'}"
    return "all runs differ alike, which tells no spread" if math.isnan(found.se) else ""


def of_arm(table: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    """The rows of an arm."""
    return table[(table["method"] == arm.method) & (table["mode"] == arm.mode)]


def arms_in_order(config: AugmentationConfig, table: pd.DataFrame) -> Sequence[Arm]:
    """The arms that a table has, in the order of the grid; those of an earlier start come last."""
    found = dict.fromkeys(Arm(method, mode) for method, mode in zip(table["method"], table["mode"], strict=True))
    planned = [arm for arm in arms_of(config.grid) if arm in found]
    return [*planned, *(arm for arm in found if arm not in planned)]

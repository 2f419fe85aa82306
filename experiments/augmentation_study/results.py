"""A study's finished runs as tables: one row a run, and Table 2 for each test set, size and network."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...augment.fitting.model_config import EXPLAINS_LITTLE
from ...datasets.common.errors import DataError
from ..engine.results_file import RESULTS, provenance, read_results
from .arm import Arm
from .config import AugmentationConfig
from .effects import Place, arms_in_order, at, places_of
from .grid import arms_of, axes_of, networks_of, told_cells
from .protocols import ALL

MAIN = "balanced_accuracy"
VALIDATION = "validation_balanced_accuracy"
EXPLAINED = "explained_validation_"  # before a class: of its generator
TUNED = "balanced_accuracy_tuned"
POOR_FIT = "†"  # behind a method whose generators hardly know their classes
PER_CLASS = ("f1", "precision", "recall")


@dataclass(frozen=True, eq=False)
class Section:
    """The results of one place: on one test set, of one size and network where a study has several.

    Parameters
    ----------
    place : dict
        A value of each axis, and the test set.
    table : pandas.DataFrame
        Rows of ``tidy_results``, with their ``arm``.
    layout : pandas.DataFrame
        Table 2: mean and standard deviation in percent, as text, one row an arm.
    effects : pandas.DataFrame
        Rows of ``effects.judged``; empty where there is one arm alone.
    """

    place: Place
    table: pd.DataFrame
    layout: pd.DataFrame
    effects: pd.DataFrame

    @property
    def title(self) -> str:
        """For people."""
        size = self.place.get("size")
        of_size = "" if size is None else "usual splits, " if size == ALL else f"{size} of the smallest class, "
        network = f"{self.place['network']}, " if "network" in self.place else ""
        return f"{of_size}{network}{self.place['test_set']}"

    @property
    def reference(self) -> str:
        """What the others are compared with; empty where nothing is."""
        rows = self.effects[["against", "against_mode"]].head(1).itertuples(index=False) if len(self.effects) else ()
        return next((str(Arm(*row)) for row in rows), "")

    @property
    def people(self) -> str:
        """How many are learnt from, validated by and tested: the mean over runs, class by class; empty where it is not known."""
        told = []
        for verb, side in (("learnt from", "train"), ("validated by", "validation"), ("tested on", "test")):
            counts = {
                str(name).removeprefix(f"n_{side}_"): self.table[name].mean() for name in self.table if str(name).startswith(f"n_{side}_")
            }
            if counts:
                told.append(f"{verb} {' and '.join(f'{count:.0f} {label}' for label, count in counts.items())}")
        sentence = "; ".join(told)
        return sentence[:1].upper() + sentence[1:]


def tidy_results(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run and test set: its key, ``test_set``, ``n_test``, ``n_fitted_on``, the scores that are numbers, how much the generators
    explain of held-out images, and with what it was computed."""
    rows = []
    for run in runs:
        for test_set, found in run["result"]["scores"].items():
            numbers = {name: value for name, value in found.items() if value is None or isinstance(value, int | float)}
            counts = {"n_test": run["result"]["n_test"][test_set], "n_fitted_on": run["result"]["n_fitted_on"], **_people(run, test_set)}
            drawn = run["result"]["notes"].get("generators", {}).items()
            fits = {EXPLAINED + label: notes["explained_validation"] for label, notes in drawn if "explained_validation" in notes}
            told = {**counts, **numbers, VALIDATION: _on_validation(run["result"]), **fits, **provenance(run)}
            rows.append({**run["key"], "test_set": test_set, **told})
    return pd.DataFrame(rows)


def _people(run: Mapping[str, Any], test_set: str) -> dict[str, int]:
    """Of each class, how many participants are learnt from, validated by and tested; of runs from before they were counted, nothing."""
    sides = run["result"].get("people", {})
    sides = {**sides, "test": sides.get(test_set, {})}
    return {f"n_{side}_{label}": count for side in ("train", "validation", "test") for label, count in sides.get(side, {}).items()}


def _on_validation(result: Mapping[str, Any]) -> float | None:
    """Of the epoch whose weights were kept; ``None`` where nothing was selected."""
    kept = [epoch[VALIDATION] for epoch in result["history"] if epoch.get("epoch", -1) == result["notes"]["best_epoch"]]
    return kept[0] if kept else None


def read_tidy_results(folder: Path, config: AugmentationConfig) -> pd.DataFrame:
    """``tidy_results`` of a published study, from its ``results.csv``; a ``DataError`` if it is not that."""
    scores = [MAIN, VALIDATION, "roc_auc", *(f"{name}_{label}" for label in config.data.classes for name in PER_CLASS)]
    numbers = ("run", "n_test", "n_fitted_on", *scores)
    texts = ("method", "mode", "test_set", *axes_of(config.grid))
    results = read_results(folder, texts=texts, numbers=numbers, measured=EXPLAINED)
    twice = results[results.duplicated(["run", *texts])]
    for run, method, mode, test_set in twice[["run", "method", "mode", "test_set"]].itertuples(index=False, name=None):
        raise DataError(f"{folder / RESULTS} has run {run} of {Arm(method, mode)} twice on {test_set}; restore it.")
    return results


def explained(results: pd.DataFrame, methods: Collection[str]) -> dict[str, set[float]]:
    """How much of held-out images' variance the fits of methods explain, by method and class; a fit that runs share has one number."""
    columns = [column for column in map(str, results.columns) if column.startswith(EXPLAINED)]
    found = {}
    for method, rows in results[results["method"].isin(methods)].groupby("method", sort=False):
        for column in columns:
            if shares := set(rows[column].dropna().astype(float)):
                found[f"{method} of {column.removeprefix(EXPLAINED)}"] = shares
    return found


def poorly_fitted(results: pd.DataFrame) -> set[str]:
    """The methods of whose generators a fit hardly explains held-out images."""
    columns = [column for column in map(str, results.columns) if column.startswith(EXPLAINED)]
    if not columns:
        return set()
    return set(results.loc[(results[columns].astype(float) < EXPLAINS_LITTLE).any(axis=1), "method"])


def reservations(results: pd.DataFrame, config: AugmentationConfig) -> list[str]:
    """What a reader must know before the tables, a sentence each: what is missing, and which verdicts and scores there cannot be."""
    protocols, planned = config.protocols, told_cells(config.grid)
    names = list(planned[0])
    there = set(results[names].itertuples(index=False, name=None))
    finished = sum(tuple(key.values()) in there for key in planned)
    told = []
    if finished < len(planned):
        told.append(
            f"Unfinished: {finished} of {len(planned)} cells are there; all that follows is preliminary, and verdicts count when all are "
            "there."
        )
    if protocols.protocol == "paper":
        told.append(
            "No verdicts: all runs have one split and one set of generators, so that they differ by the classifiers' seeds alone, "
            "which says nothing of other people."
        )
    if primary := config.primary:
        lacking = [str(arm) for arm in (primary.arm, primary.against) if arm not in arms_of(config.grid)]
        told += [f"The comparison that counts, {primary}, is not there: {lacking[0]} is no longer part of the study."] if lacking else []
    told += _changes(config)
    scored = results.groupby("test_set", sort=False)[MAIN].count()
    return told + [f"No balanced accuracy on {name}: a class is missing there in every run." for name in scored.index[scored == 0]]


def _changes(config: AugmentationConfig) -> list[str]:
    """What was left out once there were results, and another number of runs, in a sentence; none where nothing was."""
    now, changed = config.grid, []
    for name in ("methods", "modes", "sizes", "networks"):
        ever, kept = (
            [networks_of(grid) if name == "networks" else getattr(grid, name) for grid in grids] for grids in (config.planned, [now])
        )
        if gone := [value for value in dict.fromkeys(value for values in ever for value in values) if value not in kept[0]]:
            changed.append(f"{name} left out: {', '.join(gone)}")
    if config.planned and config.planned[0].runs != now.runs:
        changed.append(f"runs: {config.planned[0].runs} were planned, {now.runs} are now")
    if not changed:
        return []
    return [
        f"Changed when there were results ({'; '.join(changed)}). Verdicts are corrected for all that was ever planned; who changes the "
        "number of runs after a look at them errs more often than a verdict says."
    ]


def sections_of(results: pd.DataFrame, effects: pd.DataFrame, config: AugmentationConfig) -> list[Section]:
    """The tables of ``tidy_results``, place by place, with what ``effects.judged`` says there."""
    results = results[results[MAIN].notna()]
    sections = []
    for place in places_of(results, config):
        here = at(results, place)
        order = {str(arm): number for number, arm in enumerate(arms_in_order(config, here))}
        here = here.assign(arm=[str(Arm(method, mode)) for method, mode in zip(here["method"], here["mode"], strict=True)])
        here = here.sort_values(["arm", "run"], key=lambda column, order=order: column.map(order) if column.name == "arm" else column)
        found = at(effects, place) if len(effects) else effects
        sections.append(Section(place, here, _layout(here, config.data.classes, poorly_fitted(here)), found))
    return sections


def _layout(table: pd.DataFrame, classes: Sequence[str], poor: Collection[str]) -> pd.DataFrame:
    columns = {
        "ROC AUC": "roc_auc",
        "balanced accuracy": MAIN,
        "at a chosen threshold": TUNED,
        "Brier": "brier",
        "on validation": VALIDATION,
    }
    columns |= {f"{name} {label}": f"{name}_{label}" for label in classes for name in PER_CLASS}
    rows = []
    for arm, group in table.groupby("arm", sort=False):
        mark = f" {POOR_FIT}" if group["method"].iloc[0] in poor else ""
        cells = {"method": f"{arm}{mark}", "runs": str(len(group))}
        for title, column in columns.items():
            if column not in table or table[column].isna().all():
                continue
            values = 100 * group[column].dropna().astype(float)
            spread = f" ± {values.std():.1f}" if len(values) > 1 else ""
            cells[title] = f"{values.mean():.1f}{spread}" if len(values) else "–"
        rows.append(cells)
    return pd.DataFrame(rows)

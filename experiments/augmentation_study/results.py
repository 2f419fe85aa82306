"""A study's finished runs as tables: one row a run, and Table 2 with its comparisons for each test set and mode."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..engine.results_file import provenance, read_results
from ..engine.statistics import compare
from ..engine.study_images import EXTERNAL, TEST
from .config import AugmentationConfig
from .grid import cells_of
from .mode import REAL

MAIN = "balanced_accuracy"
VALIDATION = "validation_balanced_accuracy"
EXPLAINED = "explained_validation_"  # before a class: of its generator
REFERENCES = ("original", "resampled")
PER_CLASS = ("f1", "precision", "recall")


@dataclass(frozen=True, eq=False)
class Section:
    """The results on one test set in one mode.

    Parameters
    ----------
    title : str
        For people.
    table : pandas.DataFrame
        Rows of ``tidy_results``: the baselines, and what was generated in this mode.
    layout : pandas.DataFrame
        Table 2: mean and standard deviation in percent, as text, one row a method.
    comparisons : dict
        From reference to what ``statistics.compare`` says; empty where there is one method alone.
    """

    title: str
    table: pd.DataFrame
    layout: pd.DataFrame
    comparisons: dict[str, pd.DataFrame]


def tidy_results(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run and test set: its key, ``test_set``, ``n_test``, ``n_fitted_on``, the scores that are numbers, how much the generators
    explain of held-out images, and with what it was computed."""
    rows = []
    for run in runs:
        for test_set, found in run["result"]["scores"].items():
            numbers = {name: value for name, value in found.items() if value is None or isinstance(value, int | float)}
            counts = {"n_test": run["result"]["n_test"][test_set], "n_fitted_on": run["result"]["n_fitted_on"]}
            drawn = run["result"]["notes"].get("generators", {}).items()
            fits = {EXPLAINED + label: notes["explained_validation"] for label, notes in drawn if "explained_validation" in notes}
            told = {**counts, **numbers, VALIDATION: _on_validation(run["result"]), **fits, **provenance(run)}
            rows.append({**run["key"], "test_set": test_set, **told})
    return pd.DataFrame(rows)


def _on_validation(result: Mapping[str, Any]) -> float | None:
    """Of the epoch whose weights were kept; ``None`` where nothing was selected."""
    kept = [epoch[VALIDATION] for epoch in result["history"] if epoch["epoch"] == result["notes"]["best_epoch"]]
    return kept[0] if kept else None


def read_tidy_results(folder: Path, classes: Sequence[str]) -> pd.DataFrame:
    """``tidy_results`` of a published study, from its ``results.csv``; a ``DataError`` if it is not that."""
    scores = [MAIN, VALIDATION, "roc_auc", *(f"{name}_{label}" for label in classes for name in PER_CLASS)]
    numbers = ("run", "n_test", "n_fitted_on", *scores)
    return read_results(folder, texts=("method", "mode", "test_set"), numbers=numbers, measured=EXPLAINED)


def explained(results: pd.DataFrame, methods: Collection[str]) -> dict[str, set[float]]:
    """How much of held-out images' variance the fits of methods explain, by method and class; a fit that runs share has one number."""
    columns = [column for column in map(str, results.columns) if column.startswith(EXPLAINED)]
    found = {}
    for method, rows in results[results["method"].isin(methods)].groupby("method", sort=False):
        for column in columns:
            if shares := set(rows[column].dropna().astype(float)):
                found[f"{method} of {column.removeprefix(EXPLAINED)}"] = shares
    return found


def reservations(results: pd.DataFrame, config: AugmentationConfig) -> list[str]:
    """What a reader must know before the tables, a sentence each: what is missing, and which verdicts and scores there cannot be."""
    protocols, planned = config.protocols, cells_of(config.grid)
    there = set(results[["run", "method", "mode"]].itertuples(index=False, name=None))
    finished = sum((key["run"], key["method"], key["mode"]) in there for key in planned)
    told = []
    if finished < len(planned):
        told.append(f"Unfinished: {finished} of {len(planned)} cells are there; all that follows is preliminary.")
    if protocols.protocol == "paper":
        told.append(
            "No verdicts: all runs have one split and one set of generators, so that they differ by the classifiers' seeds alone, "
            "which says nothing of other people."
        )
    elif external := [name for name in dict.fromkeys(results["test_set"]) if name.startswith(EXTERNAL)]:
        instead = "; without --external-only the cohort's own test sides give some" if protocols.external_only else ""
        told.append(
            f"No verdicts on {' and '.join(external)}: all runs are tested on the same people, so that they differ by who was trained on, "
            f"which says nothing of other people to test on{instead}."
        )
    scored = results.groupby("test_set", sort=False)[MAIN].count()
    return told + [f"No balanced accuracy on {name}: a class is missing there in every run." for name in scored.index[scored == 0]]


def sections_of(results: pd.DataFrame, config: AugmentationConfig) -> list[Section]:
    """The tables and verdicts of ``tidy_results``, by test set and mode."""
    order = {method: place for place, method in enumerate(config.grid.methods)}
    found = set(results["mode"])
    # A study that was started again with fewer modes keeps its results of the others.
    modes = [mode for mode in dict.fromkeys([*config.grid.modes, *sorted(found - {REAL})]) if mode in found] or [REAL]
    sections = []
    for test_set in dict.fromkeys(results["test_set"]):
        for mode in modes:
            table = results[(results["test_set"] == test_set) & results["mode"].isin([REAL, mode])]
            table = table.sort_values(["method", "run"], key=lambda column: column.map(order) if column.name == "method" else column)
            table = table[table[MAIN].notna()]
            if table.empty:
                continue
            ratio = None if config.protocols.protocol == "paper" or test_set.startswith(EXTERNAL) else _overlap(results)
            methods = set(table["method"])
            comparisons = {
                name: compare(table, MAIN, reference=name, ratio=ratio) for name in REFERENCES if name in methods and len(methods) > 1
            }
            title = test_set if mode == REAL else f"{test_set}: {mode}"
            sections.append(Section(title, table, _layout(table, config.data.classes), comparisons))
    return sections


def _overlap(results: pd.DataFrame) -> float:
    """n_test / n_train, by which the runs' splits overlap: for a stratum too it is that of the whole test side."""
    sides = results[results["test_set"] == TEST]
    return float((sides["n_test"] / sides["n_fitted_on"]).mean())


def _layout(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    columns = {"balanced accuracy": MAIN, "on validation": VALIDATION, "ROC AUC": "roc_auc"} | {
        f"{name} {label}": f"{name}_{label}" for label in classes for name in PER_CLASS
    }
    rows = []
    for method, group in table.groupby("method", sort=False):
        cells = {"method": method, "runs": str(len(group))}
        for title, column in columns.items():
            values = 100 * group[column].dropna().astype(float)
            spread = f" ± {values.std():.1f}" if len(values) > 1 else ""
            cells[title] = f"{values.mean():.1f}{spread}" if len(values) else "–"
        rows.append(cells)
    return pd.DataFrame(rows)

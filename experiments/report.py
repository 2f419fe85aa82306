"""A study's results for people: ``results.csv``, ``predictions.csv``, ``table.md`` in the layout of the paper's Table 2, and
``report.html`` in one file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..augment.console import warn
from ..augment.figures import SheetRow, contact_sheet
from ..augment.model import FittedModel
from ..augment.nearest import nearest_images
from ..datasets.errors import DataError, TinycohortError
from ..datasets.files import whole_file
from ..datasets.transforms import Images
from .augmentation import cells_of, seed_of_samples, split_of_run
from .generators import given_generator, place_of_fitted
from .page import STYLE, as_data, markdown_table, render, with_what
from .prepared import EXTERNAL, TEST, Prepared
from .statistics import compare, paired_differences
from .study import all_runs, collect_failures, read_config
from .systems import System

MAIN = "balanced_accuracy"
VALIDATION = "validation_balanced_accuracy"
REFERENCES = ("original", "resampled")
PER_CLASS = ("f1", "precision", "recall")
REAL = "real"


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
        From reference to what ``statistics.compare`` says.
    """

    title: str
    table: pd.DataFrame
    layout: pd.DataFrame
    comparisons: dict[str, pd.DataFrame]


def write_report(folder: Path) -> pd.DataFrame:
    """Write the four files into a study's folder, from the runs that are finished; without its images no ``predictions.csv``.

    Returns
    -------
    pandas.DataFrame
        ``results.csv``: one row a run, mode and test set.
    """
    config = read_config(folder)
    runs = all_runs(folder)
    if not runs:
        raise DataError(f"{folder} has no finished run yet; start it with `augment evaluate --out {folder}`.")
    results = tidy_results(runs)
    sections = _sections(results, config)
    planned = len(cells_of(**config["grid"]))
    missing = f"Unfinished: {len(runs)} of {planned} cells are there, and all verdicts are preliminary." if len(runs) < planned else ""
    data = _prepared(folder, config)
    texts = {
        "results.csv": lambda: results.to_csv(index=False),
        "table.md": lambda: _markdown(sections, folder, config, missing),
        "report.html": lambda: _html(sections, runs, folder, config, missing, data),
    }
    if data is not None:
        texts["predictions.csv"] = lambda: tidy_predictions(runs, data).to_csv(index=False)
    for name, text in texts.items():
        with whole_file(folder / name) as temporary:
            temporary.write_text(text(), encoding="utf-8")
    return results


def tidy_results(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run and test set: its key, ``test_set``, ``n_test``, ``n_fitted_on``, and the scores that are numbers."""
    rows = []
    for run in runs:
        for test_set, found in run["result"]["scores"].items():
            numbers = {name: value for name, value in found.items() if value is None or isinstance(value, int | float)}
            counts = {"n_test": run["result"]["n_test"][test_set], "n_fitted_on": run["result"]["n_fitted_on"]}
            rows.append({**run["key"], "test_set": test_set, **counts, **numbers, VALIDATION: _on_validation(run["result"])})
    return pd.DataFrame(rows)


def _on_validation(result: Mapping[str, Any]) -> float | None:
    """Of the epoch whose weights were kept; ``None`` where nothing was selected."""
    kept = [epoch[VALIDATION] for epoch in result["history"] if epoch["epoch"] == result["notes"]["best_epoch"]]
    return kept[0] if kept else None


def tidy_predictions(runs: Sequence[Mapping[str, Any]], data: Prepared) -> pd.DataFrame:
    """One row a run, test set and participant: the run's key, ``test_set``, ``participant_id``, the true ``label``, ``n_images``, and
    the mean over these of each class's probability, ``p_<class>``. Runs know images alone, and whose they are is the cohort's to say."""
    tables = {TEST: data.cohort.table, **{name: part.table for name, part in data.external.items()}}
    people = {name: table.set_index("image_id")[["participant_id", "label"]] for name, table in tables.items()}
    columns = [f"p_{label}" for label in data.classes]
    parts = []
    for run in runs:
        for test_set, predictions in run["result"]["predictions"].items():
            images = pd.DataFrame.from_dict(predictions, orient="index", columns=columns).join(people[test_set])
            means = images.groupby(["participant_id", "label"], as_index=False).agg(
                n_images=(columns[0], "size"), **{column: (column, "mean") for column in columns}
            )
            parts.append(means.assign(**run["key"], test_set=test_set))
    found = pd.concat(parts, ignore_index=True).round(4)
    return found[[*runs[0]["key"], "test_set", "participant_id", "label", "n_images", *columns]]


def _prepared(folder: Path, config: Mapping[str, Any]) -> Prepared | None:
    """The study's images; ``None``, with a warning, where they are not: a finished study can be read without them."""
    try:
        return Prepared.load(folder, config)
    except (TinycohortError, OSError) as error:
        warn(f"The report has no contact sheets, and predictions.csv is not written: {error}")
        return None


def _sections(results: pd.DataFrame, config: Mapping[str, Any]) -> list[Section]:
    order = {method: place for place, method in enumerate(config["grid"]["methods"])}
    modes = [mode for mode in config["grid"]["modes"] if (results["mode"] == mode).any()] or [REAL]
    sections = []
    for test_set in dict.fromkeys(results["test_set"]):
        for mode in modes:
            table = results[(results["test_set"] == test_set) & results["mode"].isin([REAL, mode])]
            table = table.sort_values(["method", "run"], key=lambda column: column.map(order) if column.name == "method" else column)
            table = table[table[MAIN].notna()]
            if table.empty:
                continue
            ratio = _overlap(results, test_set) if config["protocols"]["protocol"] == "resampled" else None
            present = [name for name in REFERENCES if name in set(table["method"])]
            comparisons = {name: compare(table, MAIN, reference=name, ratio=ratio) for name in present}
            title = test_set if mode == REAL else f"{test_set}: {mode}"
            sections.append(Section(title, table, _layout(table, config["data"]["classes"]), comparisons))
    return sections


def _overlap(results: pd.DataFrame, test_set: str) -> float | None:
    """n_test / n_train, by which the runs' splits overlap: for a stratum that of its test side, for an external cohort none applies."""
    if test_set.startswith(EXTERNAL):
        return None
    sides = results[results["test_set"] == TEST]
    return float((sides["n_test"] / sides["n_fitted_on"]).mean())


def _layout(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    columns = {"balanced accuracy": MAIN, "on validation": VALIDATION} | {
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


def _comparison_rows(comparison: pd.DataFrame) -> list[tuple[str, str]]:
    return [(str(method), str(verdict)) for method, verdict in zip(comparison["method"], comparison["verdict"], strict=True)]


def _markdown(sections: Sequence[Section], folder: Path, config: Mapping[str, Any], missing: str) -> str:
    lines = [f"# {_title(config)}", "", f"Mean ± standard deviation over runs, in percent; protocol {config['protocols']['protocol']}.", ""]
    lines += [missing, ""] if missing else []
    for section in sections:
        lines += [f"## {section.title}", "", markdown_table(section.layout), ""]
        for reference, comparison in section.comparisons.items():
            lines += [f"Against `{reference}`:", ""]
            lines += [f"- `{method}`: {verdict}" for method, verdict in _comparison_rows(comparison)] + [""]
    failures = collect_failures(folder)
    if failures:
        lines += ["## Runs that failed", "", *(f"- {failure}" for failure in failures), ""]
    return "\n".join(lines)


def _html(
    sections: Sequence[Section],
    runs: Sequence[Mapping[str, Any]],
    folder: Path,
    config: Mapping[str, Any],
    missing: str,
    data: Prepared | None,
) -> str:
    return render(
        _PAGE,
        title=_title(config),
        style=STYLE,
        missing=missing,
        protocol=config["protocols"]["protocol"],
        sections=[
            {
                "title": section.title,
                "header": list(section.layout.columns),
                "rows": section.layout.to_numpy().tolist(),
                "plot": as_data(_plot_runs(section)),
                "comparisons": {name: _comparison_rows(found) for name, found in section.comparisons.items()},
            }
            for section in sections
        ],
        sheets=[(title, as_data(figure)) for title, figure in _sheets(folder, config, data)],
        curves=as_data(_plot_curves(runs)),
        sampling=_sampling_rows(runs),
        failures=[str(failure) for failure in collect_failures(folder)],
        command=config["where"].get("command", ""),
        config=json.dumps(config, indent=1, default=str),
        records=with_what(runs),
    )


def _title(config: Mapping[str, Any]) -> str:
    return f"Does it help? {Path(config['where']['source']['data']).name}, {config['grid']['runs']} runs"


def _plot_runs(section: Section) -> Figure:
    """All runs of each method, and their paired differences to the first reference."""
    methods = list(dict.fromkeys(section.table["method"]))
    reference = next(iter(section.comparisons), None)
    figure = Figure(figsize=(10, 0.42 * len(methods) + 1.2), dpi=110)
    axes = figure.subplots(1, 2 if reference else 1, squeeze=False)[0]
    for place, method in enumerate(methods):
        values = 100 * section.table.loc[section.table["method"] == method, MAIN].to_numpy(dtype=float)
        axes[0].plot(values, np.full(len(values), -place), "o", color="C0", alpha=0.4, markersize=4)
        axes[0].plot(values.mean(), -place, "|", color="black", markersize=14)
    axes[0].set_yticks([-place for place in range(len(methods))], methods)
    axes[0].set_xlabel("balanced accuracy, % (bar: mean)")
    if reference:
        differences = 100 * paired_differences(section.table, MAIN, reference)
        found = section.comparisons[reference].set_index("method")[["low", "high"]].astype(float)
        for place, method in enumerate(methods):
            if method == reference:
                continue
            values = differences[method].dropna().to_numpy(dtype=float)
            axes[1].plot(values, np.full(len(values), -place), "o", color="C1", alpha=0.4, markersize=4)
            axes[1].plot(100 * found.loc[[method]].to_numpy()[0], [-place, -place], color="black", linewidth=2)
        axes[1].axvline(0, color="0.5", linewidth=1)
        axes[1].set_yticks([-place for place in range(len(methods))], [""] * len(methods))
        axes[1].set_ylim(axes[0].get_ylim())
        axes[1].set_xlabel(f"paired difference to {reference}, points (bar: 95 % interval)")
    figure.tight_layout()
    return figure


def _plot_curves(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean training and validation loss of each method's classifiers."""
    figure = Figure(figsize=(10, 3.4), dpi=110)
    axes = figure.subplots(1, 2)
    histories: dict[str, list[pd.DataFrame]] = {}
    for run in runs:
        if run["result"]["history"]:
            name = run["key"]["method"] if run["key"]["mode"] == REAL else f"{run['key']['method']}, {run['key']['mode']}"
            histories.setdefault(name, []).append(pd.DataFrame(run["result"]["history"]).set_index("epoch"))
    for name, parts in histories.items():
        mean = pd.concat(parts).groupby(level=0).mean()
        for axis, column in zip(axes, ("train_loss", "validation_loss"), strict=True):
            axis.plot(mean.index, mean[column], label=name)
            axis.set_title(column.replace("_", " "), fontsize=9)
            axis.set_xlabel("epoch")
    axes[1].legend(fontsize=6, frameon=False)
    figure.tight_layout()
    return figure


def _sheets(folder: Path, config: Mapping[str, Any], data: Prepared | None) -> list[tuple[str, Figure]]:
    """Of the first run: real training images, and what each generating method makes, with the nearest real neighbours."""
    generating = [method for method in config["grid"]["methods"] if ":" in method]
    if not generating or data is None:
        return []
    try:
        train = data.side(split_of_run(data.cohort, config, 0), "train")
        models = {(method, label): _first_model(method, label, folder, config) for method in generating for label in data.classes}
    except TinycohortError as error:
        warn(f"The report has no contact sheets: {error}")
        return []
    sheets = []
    for index, label in enumerate(data.classes):
        real = train.images[train.labels == index]
        rows = []
        for method in generating:
            model, system = models[method, label], System.parse(method)
            if model is None:
                continue
            made = system.draw(model, 8, seed=seed_of_samples(config, 0, system)).images.pixels
            _, nearest = nearest_images(made, real)
            rows += [
                SheetRow(method, Images(made, data.space)),
                SheetRow("nearest\ntraining images", Images(real[nearest], data.space)),
            ]
        if rows:
            rows.insert(0, SheetRow("real", Images(real[:8], data.space)))
            sheets.append((f"{label}, run 0", contact_sheet(rows)))
    return sheets


def _first_model(method: str, label: str, folder: Path, config: Mapping[str, Any]) -> FittedModel | None:
    """The generator of a class in the first run, if it is fitted yet."""
    if config.get("generators"):
        return given_generator(label, config)
    place = place_of_fitted(folder, 0, System.parse(method), config["data"]["classes"].index(label))
    return FittedModel.load(place) if (place / "config.json").is_file() else None


def _sampling_rows(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Means over runs of what the samplers reported."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in runs:
        for label, notes in run["result"]["notes"].get("generators", {}).items():
            found.setdefault((run["key"]["method"], label), []).append({**notes["sampling"], **notes})
    columns = ("acceptance", "unmoved", "off_manifold", "nearest_median", "held_out_decoded_nearest_median", "explained_validation")
    rows = []
    for (method, label), parts in found.items():
        values = [[part[column] for part in parts if part.get(column) is not None] for column in columns]
        rows.append([method, label, *(f"{np.mean(value):.3f}" if value else "–" for value in values)])
    return rows


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>{{ style | safe }}</style></head><body>
<h1>{{ title }}</h1>
<p class="note">Protocol {{ protocol }}. Mean ± standard deviation over runs, in percent. Verdicts: corrected resampled t-test
(Nadeau and Bengio 2003) on paired differences, Holm's correction, 95 %. Synthetic images train classifiers only;
all tests are on real ones.</p>
{% if missing %}<p><b>{{ missing }}</b></p>{% endif %}
{% for section in sections %}
<h2>{{ section.title }}</h2>
<table><tr>{% for name in section.header %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in section.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% for reference, rows in section.comparisons.items() %}
<h3>Against {{ reference }}</h3>
<ul>{% for method, verdict in rows %}<li><b>{{ method }}</b>: {{ verdict }}</li>{% endfor %}</ul>
{% endfor %}
<img alt="All runs per method, and paired differences" src="{{ section.plot }}">
{% endfor %}
<h2>Learning curves</h2>
<img alt="Losses of the classifiers" src="{{ curves }}">
{% if sampling %}
<h2>Samplers</h2>
<table><tr><th>method</th><th>class</th><th>acceptance</th><th>unmoved</th><th>off the manifold</th><th>nearest training image</th>
<th>held out, decoded</th><th>held-out variance explained</th></tr>
{% for row in sampling %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
<p class="note">Means over runs. Distances are medians of the root-mean-square difference over voxels to the nearest training
image; those of held-out images, decoded, are what to compare with.</p>
{% endif %}
{% for name, sheet in sheets %}
<h2>{{ name }}: real and synthetic images</h2>
<img alt="Contact sheet of {{ name }}" src="{{ sheet }}">
{% endfor %}
{% if failures %}<h2>Runs that failed</h2><ul>{% for failure in failures %}<li>{{ failure }}</li>{% endfor %}</ul>{% endif %}
{% if command %}<h2>Command</h2>
<pre>{{ command }}</pre>
{% endif %}
<h2>Configuration</h2>
<pre>{{ config }}</pre>
<h2>Computed with</h2>
{% for record in records %}<pre>{{ record }}</pre>{% endfor %}
</body></html>
"""

"""A study's results for people: ``results.csv``, ``predictions.csv``, ``table.md`` in the layout of the paper's Table 2, and
``report.html`` in one file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...augment.console import warn
from ...augment.fitting.figures import SheetRow, contact_sheet
from ...augment.fitting.model import FittedModel
from ...augment.fitting.nearest import nearest_images
from ...datasets.common.errors import DataError, TinycohortError
from ...datasets.transforms import Images
from ..engine.page import STYLE, as_data, markdown_table, poor_fits, render, several_versions, with_what
from ..engine.results_file import RESULTS, TABLE, is_published, write_texts
from ..engine.statistics import paired_differences
from ..engine.study_folder import all_runs, collect_failures, planned_runs
from ..engine.study_images import Prepared
from ..engine.systems import System
from .cell import split_of_run
from .config import AugmentationConfig
from .generators import given_generator, place_of_fitted
from .grid import cells_of
from .methods import systems_of
from .mode import REAL
from .predictions import tidy_predictions
from .results import MAIN, Section, explained, read_tidy_results, reservations, sections_of, tidy_results
from .synthetic import seed_of_samples


def write_report(folder: Path) -> pd.DataFrame:
    """Write the four files into a study's folder, from the runs that are finished; without its images no ``predictions.csv``.

    Of a published study, which has no runs, ``table.md`` alone.

    Returns
    -------
    pandas.DataFrame
        ``results.csv``: one row a run, mode and test set.
    """
    config = AugmentationConfig.load(folder)
    if is_published(folder):
        results = read_tidy_results(folder, config.data.classes)
        write_texts(folder, {TABLE: table_of(results, config)})
        return results
    cells = cells_of(config.grid)
    runs, left_out = planned_runs(all_runs(folder), cells)
    results, data = results_table(folder, runs, config), _prepared(folder, config)
    failures = [str(failure) for failure in collect_failures(folder, cells)]
    texts = {
        RESULTS: results.to_csv(index=False),
        TABLE: table_of(results, config, left_out, failures),
        "report.html": _html(results, runs, folder, config, left_out, failures, data),
    }
    write_texts(folder, texts | _predictions(runs, folder, data))
    return results


def results_table(folder: Path, runs: Sequence[dict[str, Any]], config: AugmentationConfig) -> pd.DataFrame:
    """``results.csv``, of those runs that are of the grid; a ``DataError`` if there is none yet."""
    planned, _ = planned_runs(runs, cells_of(config.grid))
    if not planned:
        raise DataError(f"{folder} has no finished run yet; start it with `augment evaluate --out {folder}`.")
    return tidy_results(planned)


def table_of(results: pd.DataFrame, config: AugmentationConfig, left_out: Sequence[str] = (), failures: Sequence[str] = ()) -> str:
    """``table.md``, from the rows of ``results.csv``; what was left out of them and which runs failed, they do not tell."""
    lines = [f"# {_title(config)}", "", f"Mean ± standard deviation over runs, in percent; protocol {config.protocols.protocol}.", ""]
    for line in _reserved(results, config, left_out):
        lines += [line, ""]
    for section in sections_of(results, config):
        lines += [f"## {section.title}", "", markdown_table(section.layout), "", *(f"{line}\n" for line in _poor_fits(section, results))]
        for reference, comparison in section.comparisons.items():
            lines += [f"Against `{reference}`:", ""]
            lines += [f"- `{method}`: {verdict}" for method, verdict in _comparison_rows(comparison)] + [""]
    if failures:
        lines += ["## Runs that failed", "", *(f"- {failure}" for failure in failures), ""]
    return "\n".join(lines)


def _reserved(results: pd.DataFrame, config: AugmentationConfig, left_out: Sequence[str]) -> list[str]:
    return [*left_out, *several_versions(results), *reservations(results, config)]


def _predictions(runs: Sequence[Mapping[str, Any]], folder: Path, data: Prepared | None) -> dict[str, str]:
    """``predictions.csv``; nothing, with a warning, where the images or the predictions of a run are not there."""
    if data is None:
        return {}
    try:
        return {"predictions.csv": tidy_predictions(runs, folder, data).to_csv(index=False)}
    except DataError as error:
        warn(f"predictions.csv is not written: {error}")
        return {}


def _prepared(folder: Path, config: AugmentationConfig) -> Prepared | None:
    """The study's images; ``None``, with a warning, where they are not: a finished study can be read without them."""
    try:
        return Prepared.load(folder, config.data)
    except (TinycohortError, OSError) as error:
        warn(f"The report has no contact sheets, and predictions.csv is not written: {error}")
        return None


def _comparison_rows(comparison: pd.DataFrame) -> list[tuple[str, str]]:
    return [(str(method), str(verdict)) for method, verdict in zip(comparison["method"], comparison["verdict"], strict=True)]


def _poor_fits(section: Section, results: pd.DataFrame) -> list[str]:
    return poor_fits(explained(results, set(section.table["method"])))


def _html(
    results: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
    folder: Path,
    config: AugmentationConfig,
    left_out: Sequence[str],
    failures: Sequence[str],
    data: Prepared | None,
) -> str:
    return render(
        _PAGE,
        title=_title(config),
        style=STYLE,
        reserved=_reserved(results, config, left_out),
        protocol=config.protocols.protocol,
        sections=[
            {
                "title": section.title,
                "header": list(section.layout.columns),
                "rows": section.layout.to_numpy().tolist(),
                "poor_fits": _poor_fits(section, results),
                "plot": as_data(_plot_runs(section)),
                "comparisons": {name: _comparison_rows(found) for name, found in section.comparisons.items()},
            }
            for section in sections_of(results, config)
        ],
        sheets=[(title, as_data(figure)) for title, figure in _sheets(folder, config, data)],
        curves=as_data(_plot_curves(runs)),
        sampling=_sampling_rows(runs),
        failures=failures,
        command=config.where.command,
        config=json.dumps(config.content(), indent=1, default=str),
        records=with_what(runs),
    )


def _title(config: AugmentationConfig) -> str:
    return f"Does it help? {Path(config.data.cohort.source.data).name}, {config.grid.runs} runs"


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
        bar = " (bar: 95 % interval)" if found.notna().any(axis=None) else ""
        axes[1].set_xlabel(f"paired difference to {reference}, points{bar}")
    figure.tight_layout()
    return figure


def _plot_curves(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean training and validation loss of each method's classifiers."""
    histories: dict[str, list[pd.DataFrame]] = {}
    for run in runs:
        if run["result"]["history"]:
            name = run["key"]["method"] if run["key"]["mode"] == REAL else f"{run['key']['method']}, {run['key']['mode']}"
            histories.setdefault(name, []).append(pd.DataFrame(run["result"]["history"]).set_index("epoch"))
    figure = Figure(figsize=(10, max(3.4, 0.16 * len(histories) + 0.6)), dpi=110)
    axes = figure.subplots(1, 2)
    for place, (name, parts) in enumerate(histories.items()):
        mean = pd.concat(parts).groupby(level=0).mean()
        for axis, column in zip(axes, ("train_loss", "validation_loss"), strict=True):
            # There are ten colours, and often more methods.
            axis.plot(mean.index, mean[column], color=f"C{place % 10}", linestyle=("-", "--", ":", "-.")[place // 10 % 4], label=name)
            axis.set_title(column.replace("_", " "), fontsize=9)
            axis.set_xlabel("epoch")
    figure.tight_layout()
    if histories:
        axes[1].legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _sheets(folder: Path, config: AugmentationConfig, data: Prepared | None) -> list[tuple[str, Figure]]:
    """Of the first run: real training images, and what each generator makes, with the nearest real neighbours."""
    systems = systems_of(config.grid.methods)
    if not systems or data is None:
        return []
    try:
        train = data.side(split_of_run(data.cohort, config, 0), "train")
        models = {
            (method, label): _first_model(system, label, folder, config) for method, system in systems.items() for label in data.classes
        }
    except TinycohortError as error:
        warn(f"The report has no contact sheets: {error}")
        return []
    sheets = []
    for index, label in enumerate(data.classes):
        training = train.of_class(index, data.space)
        real = training.images.pixels
        rows = []
        for method, system in systems.items():
            model = models[method, label]
            if model is None:
                continue
            made = system.draw(model, 8, training, seed=seed_of_samples(config.seed, 0, system)).images.pixels
            _, nearest = nearest_images(made, real)
            rows += [
                SheetRow(method, Images(made, data.space)),
                SheetRow("nearest\ntraining images", Images(real[nearest], data.space)),
            ]
        if rows:
            rows.insert(0, SheetRow("real", Images(real[:8], data.space)))
            sheets.append((f"{label}, run 0", contact_sheet(rows)))
    return sheets


def _first_model(system: System, label: str, folder: Path, config: AugmentationConfig) -> FittedModel | None:
    """The generator of a class in the first run, if it is fitted yet."""
    if config.generators is not None:
        return given_generator(label, config)
    place = place_of_fitted(folder, 0, system, config.data.classes.index(label))
    return FittedModel.load(place) if (place / "config.json").is_file() else None


def _sampling_rows(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Means over runs of what the samplers reported."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in runs:
        for label, notes in run["result"]["notes"].get("generators", {}).items():
            found.setdefault((run["key"]["method"], label), []).append({**notes.get("sampling", {}), **notes})
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
<p class="note">Protocol {{ protocol }}. Mean ± standard deviation over runs, in percent. {% if protocol == "resampled" %}
Verdicts: corrected resampled t-test (Nadeau and Bengio 2003) on paired differences; Holm's correction for the methods of each list, at
5 %; the 95 % intervals are of each method by itself. {% endif %}Synthetic images train classifiers only; all tests are on real ones.</p>
{% for line in reserved %}<p><b>{{ line }}</b></p>{% endfor %}
{% for section in sections %}
<h2>{{ section.title }}</h2>
<table><tr>{% for name in section.header %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in section.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% for line in section.poor_fits %}<p><b>{{ line }}</b></p>{% endfor %}
{% for reference, rows in section.comparisons.items() %}
<h3>Against {{ reference }}</h3>
<ul>{% for method, verdict in rows %}<li><b>{{ method }}</b>: {{ verdict | replace("`", "") }}</li>{% endfor %}</ul>
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

"""A study's results for people: ``results.csv``, ``effects.csv``, ``predictions.csv``, ``table.md`` in the layout of the paper's Table 2,
``figure.png``, and ``report.html`` in one file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...augment.console import warn
from ...augment.fitting.figures import SheetRow, contact_sheet, save_figure
from ...augment.fitting.model import FittedModel
from ...augment.fitting.nearest import nearest_images
from ...datasets.common.errors import DataError, TinycohortError
from ...datasets.transforms import Images
from ..engine.page import as_data, markdown_table, poor_fits, render, several_versions, with_what
from ..engine.results_file import EFFECTS, FIGURE, RESULTS, TABLE, drawn_again, is_published, write_texts
from ..engine.statistics import LEAST_RUNS
from ..engine.study_folder import all_runs, collect_failures, planned_runs
from ..engine.study_images import CACHE, Prepared
from ..engine.systems import System
from .cell import split_of_run
from .config import AugmentationConfig
from .effects import (
    RUNS,
    effects_of_predictions,
    effects_of_results,
    headlines,
    how_tested,
    judged,
    read_effects,
    shares_drawn,
    told_effects,
)
from .figures import differences, learning_curve, losses
from .generators import given_generator, place_of_fitted
from .grid import cells_of, told_table
from .methods import systems_of
from .predictions import of_whole_test_sets, tidy_predictions
from .protocols import people_drawn, people_of_size
from .results import POOR_FIT, Section, explained, read_tidy_results, reservations, sections_of, tidy_results
from .synthetic import seed_of_samples


def write_report(folder: Path) -> pd.DataFrame:
    """Write the six files into a study's folder, from the runs that are finished.

    Without its images there is no ``predictions.csv``, and an ``effects.csv`` of the same runs is kept: it would know runs alone.

    Of a published study, which has no runs, ``table.md`` and ``figure.png`` alone.

    Returns
    -------
    pandas.DataFrame
        ``results.csv``: one row a run, arm and test set.
    """
    config = AugmentationConfig.load(folder)
    if is_published(folder):
        results = read_tidy_results(folder, config)
        effects = read_effects(folder, results, config)
        with drawn_again(folder):
            write_texts(folder, {TABLE: table_of(results, effects, config)})
            _save_overview(sections_of(results, judged(effects, config), config), folder)
        return results
    cells = cells_of(config.grid)
    runs, left_out = planned_runs(all_runs(folder), cells)
    results = results_table(folder, runs, config)
    data, predictions, why = _people(runs, folder, config)
    effects = effects_table(results, predictions, data, config)
    kept = _kept_effects(folder, results, effects, config) if why else None
    if why:
        effects = effects if kept is None else kept
        lacking = "The report has no contact sheets, and predictions.csv" if data is None else "predictions.csv"
        warn(f"{lacking} is not written: {why} {_which_verdicts(effects, config)}".rstrip())
    failures = [str(failure) for failure in collect_failures(folder, cells)]
    found, reserved = judged(effects, config), _reserved(results, config, left_out)
    sections = sections_of(results, found, config)
    texts = {
        RESULTS: results.to_csv(index=False),
        **({EFFECTS: effects.to_csv(index=False)} if len(effects) and kept is None else {}),
        TABLE: table_of(results, effects, config, left_out, failures),
        "report.html": _html(found, sections, reserved, runs, folder, config, failures, data),
    }
    _save_overview(sections, folder)
    if predictions is not None and data is not None:
        texts["predictions.csv"] = of_whole_test_sets(predictions, data).to_csv(index=False)
    write_texts(folder, texts)
    return results


def _save_overview(sections: Sequence[Section], folder: Path) -> None:
    """The learning curve, or the differences on the first test set, as a picture of its own."""
    figure = learning_curve(sections) or (differences(sections[0]) if sections else None)
    if figure is not None:
        save_figure(figure, folder / FIGURE)


def results_table(folder: Path, runs: Sequence[dict[str, Any]], config: AugmentationConfig) -> pd.DataFrame:
    """``results.csv``, of those runs that are of the grid; a ``DataError`` if there is none yet."""
    planned, _ = planned_runs(runs, cells_of(config.grid))
    if not planned:
        raise DataError(f"{folder} has no finished run yet; start it with `augment evaluate --out {folder}`.")
    return told_table(tidy_results(planned), config.grid)


def tables_of(folder: Path, runs: Sequence[dict[str, Any]], config: AugmentationConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``results.csv`` and ``effects.csv``.

    Raises
    ------
    DataError
        If there is no run of the grid yet, or there are verdicts over people and not what they are made of.
    """
    results = results_table(folder, runs, config)
    planned, _ = planned_runs(runs, cells_of(config.grid))
    data, predictions, why = _people(planned, folder, config)
    effects = effects_table(results, predictions, data, config)
    # Fewer runs give no verdict, be it over people or over runs alone.
    if why and config.protocols.protocol != "paper" and len(effects) and (effects["n"] >= LEAST_RUNS).any():
        raise DataError(
            f"The verdicts of {folder} are over people, and cannot be made ({why}); publish it where its data and predictions are."
        )
    return results, effects


def effects_again(folder: Path, runs: Sequence[dict[str, Any]], config: AugmentationConfig) -> tuple[pd.DataFrame, str]:
    """``effects.csv`` as finished runs give it, and why it has none over people: no image is prepared for it."""
    results = results_table(folder, runs, config)
    planned, _ = planned_runs(runs, cells_of(config.grid))
    data, predictions, why = None, None, "the study has no prepared images"
    if (folder / CACHE).is_dir():
        data, predictions, why = _people(planned, folder, config)
    return effects_table(results, predictions, data, config), why


def table_again(folder: Path, runs: Sequence[dict[str, Any]], config: AugmentationConfig) -> str:
    """``table.md`` as finished runs and the ``effects.csv`` beside them give it."""
    cells, results = cells_of(config.grid), results_table(folder, runs, config)
    _, left_out = planned_runs(runs, cells)
    failures = [str(failure) for failure in collect_failures(folder, cells)]
    return table_of(results, read_effects(folder, results, config), config, left_out, failures)


def effects_table(
    results: pd.DataFrame, predictions: pd.DataFrame | None, data: Prepared | None, config: AugmentationConfig
) -> pd.DataFrame:
    """``effects.csv``: the differences of the arms to their reference, by people and runs where there are predictions, and by runs."""
    effects = effects_of_results(results, config)
    if predictions is not None and data is not None:
        drawn = shares_drawn(results, people_drawn(data.cohort, tested_too=config.protocols.external_only is True))
        by_people = effects_of_predictions(predictions, config, drawn)
        effects = pd.concat([by_people, effects], ignore_index=True) if len(by_people) else effects
    return effects.assign(configuration=results["configuration"].iloc[0]) if len(effects) else effects


def table_of(
    results: pd.DataFrame, effects: pd.DataFrame, config: AugmentationConfig, left_out: Sequence[str] = (), failures: Sequence[str] = ()
) -> str:
    """``table.md``, from the rows of ``results.csv`` and ``effects.csv``.

    What was left out of them, and which runs failed, they do not tell.
    """
    found = judged(effects, config)
    lines = [f"# {_title(config)}", ""]
    for line in [*headlines(found, config), *_reserved(results, config, left_out)]:
        lines += [line, ""]
    lines += [f"Mean ± standard deviation over runs, in percent; protocol {config.protocols.protocol}. {how_tested(found)}".rstrip(), ""]
    for section in sections_of(results, found, config):
        lines += [f"## {section.title}", ""]
        lines += [f"{section.people}.", ""] if section.people else []
        lines += [markdown_table(section.layout), "", *(f"{line}\n" for line in _poor_fits(section))]
        told = told_effects(section.effects)
        if len(told):
            lines += [f"Against `{section.reference}`, in points:", "", markdown_table(told), ""]
    if failures:
        lines += ["## Runs that failed", "", *(f"- {failure}" for failure in failures), ""]
    return "\n".join(lines)


def _reserved(results: pd.DataFrame, config: AugmentationConfig, left_out: Sequence[str]) -> list[str]:
    return [*left_out, *several_versions(results), *reservations(results, config)]


def _people(
    runs: Sequence[Mapping[str, Any]], folder: Path, config: AugmentationConfig
) -> tuple[Prepared | None, pd.DataFrame | None, str]:
    """The study's images, what is predicted of people, and why one of them is not there: a finished study can be read without them."""
    try:
        data = Prepared.load(folder, config.data)
    except (TinycohortError, OSError) as error:
        return None, None, str(error)
    try:
        return data, told_table(tidy_predictions(runs, folder, data, config.protocols.stratum), config.grid), ""
    except DataError as error:
        return data, None, str(error)


def _kept_effects(folder: Path, results: pd.DataFrame, by_runs: pd.DataFrame, config: AugmentationConfig) -> pd.DataFrame | None:
    """The effects over people of an earlier report, if they are of the runs that are finished; ``by_runs`` are those of now."""
    try:
        kept = read_effects(folder, results, config)
    except DataError:
        return None
    if kept.empty or (kept["test"] == RUNS).all():
        return None
    before = kept[kept["test"] == RUNS]
    # What an earlier version did not tell yet, it cannot be compared in.
    counted = [name for name in by_runs if name in kept and name not in ("difference", "se", "df", "why")]
    if before[counted].to_numpy().tolist() != by_runs[counted].to_numpy().tolist():
        return None
    return kept if np.allclose(before["difference"], by_runs["difference"], equal_nan=True) else None


def _which_verdicts(effects: pd.DataFrame, config: AugmentationConfig) -> str:
    """What the verdicts of a report without predictions know, in a sentence; empty where there are none."""
    if effects.empty or config.protocols.protocol == "paper":
        return ""
    if (effects["test"] == RUNS).all():
        return "Its verdicts are over runs alone, which see less."
    return f"Its verdicts over people are those of the {EFFECTS} that is there."


def _poor_fits(section: Section) -> list[str]:
    return [f"{POOR_FIT} {line}" for line in poor_fits(explained(section.table, set(section.table["method"])))]


def _html(
    found: pd.DataFrame,
    sections: Sequence[Section],
    reserved: Sequence[str],
    runs: Sequence[Mapping[str, Any]],
    folder: Path,
    config: AugmentationConfig,
    failures: Sequence[str],
    data: Prepared | None,
) -> str:
    curve, of_losses = learning_curve(sections), losses(runs)
    return render(
        _PAGE,
        title=_title(config),
        headlines=headlines(found, config),
        reserved=reserved,
        curve=None if curve is None else as_data(curve),
        sections=[
            {
                "title": section.title,
                "people": section.people,
                "reference": section.reference,
                "layout": _cells(section.layout),
                "effects": _cells(told_effects(section.effects)),
                "poor_fits": _poor_fits(section),
                "plot": as_data(differences(section)),
            }
            for section in sections
        ],
        tested=how_tested(found),
        sheets=[(title, as_data(figure)) for title, figure in _sheets(folder, config, data)],
        losses=None if of_losses is None else as_data(of_losses),
        sampling=_sampling_rows(runs),
        failures=failures,
        command=config.where.command,
        config=json.dumps(config.content(), indent=1, default=str),
        records=with_what(runs),
    )


def _cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    return [str(name) for name in table.columns], table.to_numpy().tolist()


def _title(config: AugmentationConfig) -> str:
    return f"Does it help? {Path(config.data.cohort.source.data).name}, {config.grid.runs} runs"


def _sheets(folder: Path, config: AugmentationConfig, data: Prepared | None) -> list[tuple[str, Figure]]:
    """Of the first run, of the largest size: real training images, and what each generator makes, with the nearest real neighbours."""
    systems = systems_of(config.grid.methods)
    if not systems or data is None:
        return []
    size = max(config.grid.sizes, key=people_of_size, default=None)
    try:
        train = data.side(split_of_run(data.cohort, config, 0, size), "train")
        models = {
            (method, label): _first_model(system, label, folder, config, size)
            for method, system in systems.items()
            for label in data.classes
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


def _first_model(system: System, label: str, folder: Path, config: AugmentationConfig, size: str | None) -> FittedModel | None:
    """The generator of a class in the first run, if it is fitted yet."""
    if config.generators is not None:
        return given_generator(label, config)
    place = place_of_fitted(folder, 0, system, config.data.classes.index(label), size)
    return FittedModel.load(place) if (place / "config.json").is_file() else None


def _sampling_rows(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Means over runs of what the samplers reported."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in runs:
        for label, notes in run["result"]["notes"].get("generators", {}).items():
            found.setdefault((run["key"]["method"], label), []).append({**notes.get("sampling", {}), **notes})
    columns = (
        "acceptance",
        "unmoved",
        "off_manifold",
        "nearest_median",
        "held_out_decoded_nearest_median",
        "explained_validation",
        "distinct",
    )
    rows = []
    for (method, label), parts in found.items():
        values = [[part[column] for part in parts if part.get(column) is not None] for column in columns]
        rows.append([method, label, *(f"{np.mean(value):.3g}" if value else "–" for value in values)])
    return rows


_PAGE = """{% extends "shell" %}
{% from "parts" import listed, picture, table %}
{% block body %}
{% for line in headlines %}<p class="headline">{{ line | replace("`", "") }}</p>{% endfor %}
{% for line in reserved %}<p><b>{{ line }}</b></p>{% endfor %}
{% if curve %}{{ picture("Score by number of people learnt from", curve) }}
<p class="note">The more the better. Bars: 95 % intervals of the difference to the reference, around each method's mean.</p>{% endif %}
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% if section.people %}<p>{{ section.people }}.</p>{% endif %}
{{ picture("All runs of each method, and differences", section.plot) }}
{% if section.effects[1] %}
<h3>Against {{ section.reference }}, in points</h3>
{{ table(section.effects[0], section.effects[1]) }}
{% endif %}
{{ table(section.layout[0], section.layout[1]) }}
{% for line in section.poor_fits %}<p><b>{{ line }}</b></p>{% endfor %}
{% endfor %}
<p class="note">Mean ± standard deviation over runs, in percent; of all scores but Brier's the more the better.
{{ tested }} Synthetic images train classifiers only; all tests are on real ones.</p>
{% for name, sheet in sheets %}
<h2>{{ name }}: real and synthetic images</h2>
{{ picture("Contact sheet of " ~ name, sheet) }}
{% endfor %}
{% if sampling %}
<h2>Samplers</h2>
{{ table(["method", "class", "acceptance", "unmoved", "off the manifold", "nearest training image", "held out, decoded",
"held-out variance explained", "distinct images"], sampling) }}
<p class="note">Means over runs. Distances are medians of the root-mean-square difference over voxels to the nearest training
image; those of held-out images, decoded, are what to compare with.</p>
{% endif %}
{% if losses %}<h2>Training of the classifiers</h2>
{{ picture("Losses of the classifiers", losses) }}{% endif %}
{{ listed("Runs that failed", failures) }}
{% endblock %}
{% block folded %}
{% if command %}<h2>Command</h2>
<pre>{{ command }}</pre>
{% endif %}
<h2>Configuration</h2>
<pre>{{ config }}</pre>
<h2>Computed with</h2>
{% for record in records %}<pre>{{ record }}</pre>{% endfor %}
{% endblock %}
"""

"""A study of fidelity for people: ``results.csv``, ``table.md``, ``figure.png``, ``samples-*.png``, and ``report.html`` in one file.

Scores of different passports stand in different tables, always: a distance between other features is another quantity.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...augment.fitting.figures import save_figure
from ...datasets.common.errors import DataError
from ..engine.page import as_data, markdown_table, poor_fits, render, several_versions, with_what
from ..engine.results_file import FIGURE, RESULTS, TABLE, drawn_again, is_published, write_texts
from ..engine.study_folder import all_runs, canonical, collect_failures, planned_runs
from ..engine.systems import System
from ..fidelity.features import Passport
from .cell import FLOOR_KEY, cells_of
from .config import FidelityConfig, Grid
from .data import EVERYTHING
from .figures import draw_samples, draw_scores
from .plans import TEST, VALIDATION, plan_of
from .results import EXPLAINED, FLOOR, ONE_SCORE, Results, ranks, read_scores, results_of, size_title, summary, tidy_scores


def write_report(folder: Path) -> pd.DataFrame:
    """Write the files into a study's folder, from the cells that are finished; of a published study, which has none, ``table.md`` and
    ``figure.png`` alone.

    Returns
    -------
    pandas.DataFrame
        ``results.csv``: one row a number.
    """
    config = FidelityConfig.load(folder)
    if is_published(folder):
        results = read_scores(folder)
        with drawn_again(folder):
            write_texts(folder, {TABLE: table_of(results, config)})
            save_figure(_figure(results, config), folder / FIGURE)
        return tidy_scores(results)
    grid = config.grid
    cells = cells_of(grid)
    runs, left_out = planned_runs(all_runs(folder), cells)
    failures = [str(failure) for failure in collect_failures(folder, cells)]
    results = _results(folder, runs, config)
    figure, table = _figure(results, config), tidy_scores(results)
    drawn = {n: draw_samples(folder, results, n, plan_of(grid.plan)) for n in grid.sizes}
    sheets = {n: sheet for n, sheet in drawn.items() if sheet is not None}
    texts = {
        RESULTS: table.to_csv(index=False),
        TABLE: table_of(results, config, left_out, failures),
        "report.html": _html(results, runs, config, left_out, failures, figure, sheets),
    }
    write_texts(folder, texts)
    save_figure(figure, folder / FIGURE)
    for n, sheet in sheets.items():
        save_figure(sheet, folder / f"samples-{n or 'all'}.png")
    return table


def results_table(folder: Path, runs: Sequence[dict[str, Any]], config: FidelityConfig) -> pd.DataFrame:
    """``results.csv``, of those runs that are of the grid; a ``DataError`` if there is none of a generator yet."""
    return tidy_scores(_results(folder, planned_runs(runs, cells_of(config.grid))[0], config))


def table_again(folder: Path, runs: Sequence[dict[str, Any]], config: FidelityConfig) -> str:
    """``table.md`` as finished runs give it."""
    cells = cells_of(config.grid)
    planned, left_out = planned_runs(runs, cells)
    failures = [str(failure) for failure in collect_failures(folder, cells)]
    return table_of(_results(folder, planned, config), config, left_out, failures)


def _results(folder: Path, runs: Sequence[Mapping[str, Any]], config: FidelityConfig) -> Results:
    results = results_of(runs, config.grid.rows)
    if results.scores.empty:
        raise DataError(f"{folder} has no finished run of a generator yet; the command that started it goes on with it.")
    return results


def table_of(results: Results, config: FidelityConfig, left_out: Sequence[str] = (), failures: Sequence[str] = ()) -> str:
    """``table.md``, from the rows of ``results.csv``; what was left out of them and which runs failed, they do not tell."""
    lines = [f"# {_title(config)}", "", *(f"{note}\n" for note in _notes(results, config, left_out))]
    for title, table in _tables(results, config.grid, config.n_train):
        lines += [f"## {title}", "", markdown_table(table), ""]
    if missing := _missing(results, config.grid):
        lines += [f"## Not there yet: {len(missing)} cells", "", *(f"- {cell}" for cell in missing), ""]
    if failures:
        lines += ["## Runs that failed", "", *(f"- {failure}" for failure in failures), ""]
    return "\n".join(lines)


def _figure(results: Results, config: FidelityConfig) -> Figure:
    return draw_scores(results, plan_of(config.grid.plan), config.n_train)


def _missing(results: Results, grid: Grid) -> list[str]:
    """The planned cells that have no result, in words."""
    there = {canonical(FLOOR_KEY)} if len(results.floor) else set()
    for run, n, text in results.scores[["run", "n", "system"]].drop_duplicates().itertuples(index=False, name=None):
        system = System.parse(text)
        there.add(canonical({"run": run, "n": n, "model": system.trained_as, "sampler": system.drawn_as}))
    return [", ".join(f"{name} {value}" for name, value in key.items()) for key in cells_of(grid) if canonical(key) not in there]


def _tables(results: Results, grid: Grid, n_train: int) -> list[tuple[str, pd.DataFrame]]:
    """For each kind of features, class and side: rows by measures where there is one size; else, for each measure, rows by sizes."""
    chosen, sizes = results.chosen(), list(grid.sizes)
    found = []
    for which, part in chosen[chosen["side"] != VALIDATION].groupby(ONE_SCORE[:4], sort=False):
        features, passport, label, side = map(str, which)
        floor = results.floor[(results.floor[ONE_SCORE[:4]] == list(which)).all(axis=1)] if side == TEST else None
        alone = chosen.loc[chosen["features"] == features, "passport"].nunique() == 1
        heading = f"features {features}{'' if alone else f' of passport {passport}'}"
        heading += "" if label == EVERYTHING else f", class {label}"
        heading += "" if side == TEST else f", against {side} of training images"
        # Fewer, where there are fewer to compare with: of training images, reconstructed.
        alike = part["images"].nunique() == 1
        heading += f": {_images(part)} images each" + ("" if alike else "; the fewer the images, the higher these distances are")
        parts = [
            (str(measure), scores, None if floor is None else floor[floor["measure"] == measure])
            for measure, scores in part.groupby("measure", sort=False)
        ]
        if len(sizes) == 1:
            title = f"{heading}, {size_title(sizes[0], n_train)} training images"
            found.append((title, _table(parts, grid.rows, results.passports[passport])))
            continue
        for measure, scores, real in parts:
            by_size = [(size_title(n, n_train), scores[scores["n"] == n]) for n in sizes]
            columns = [(title if alike or own.empty else f"{title} ({_images(own)} images)", own, real) for title, own in by_size]
            found.append((f"{measure}, {heading}", _table(columns, grid.rows, results.passports[passport])))
    return found


def _images(scores: pd.DataFrame) -> str:
    """How many images each score is of, for people: runs draw other people, who may have more images or fewer."""
    least, most = scores["images"].min(), scores["images"].max()
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _table(
    columns: Sequence[tuple[str, pd.DataFrame, pd.DataFrame | None]], rows: Mapping[str, Sequence[str]], passport: Passport
) -> pd.DataFrame:
    """Rows of a plan by columns of one number each, its rank in brackets; what was chosen, once or by column; last the floor."""
    lines: dict[str, dict[str, str]] = {title: {} for title in rows}
    chosen: dict[str, dict[str, str]] = {title: {} for title, systems in rows.items() if len(systems) > 1}
    last: dict[str, str] = {}
    for column, scores, real in columns:
        rank = ranks(scores, real, passport) if len(scores) else {}
        for title, line in lines.items():
            own = scores[scores["row"] == title]
            line[column] = f"{summary(own)} ({rank[title]})" if len(own) else "–"
            if title in chosen and len(own):
                chosen[title][column] = own["system"].iloc[0]
        if real is not None:
            last[column] = summary(real)
    if all(len(set(systems.values())) <= 1 for systems in chosen.values()):
        for title, systems in chosen.items():
            lines[title]["chosen"] = next(iter(systems.values()), "–")
    else:
        for title, systems in chosen.items():
            lines[title] |= {column: f"{lines[title][column]}: {system}" for column, system in systems.items()}
    table = [{"system": title, **line} for title, line in lines.items()]
    return pd.DataFrame([*table, {"system": FLOOR, **last}] if last else table).fillna("")


def _notes(results: Results, config: FidelityConfig, left_out: Sequence[str]) -> list[str]:
    """What a reader must know to read the tables."""
    if config.grid.runs > 1:
        spread = "Mean ± standard deviation over runs"
    else:
        spread = "One run, where there is one with its 95 % interval from disjoint blocks"
    names = ", ".join(
        f"{passport.frechet} of {passport.extractor} (weights {passport.weights[:12]})" for passport in results.passports.values()
    )
    return [
        *left_out,
        *several_versions(pd.concat([results.scores, results.floor])),
        *poor_fits(_explained(results, config.n_train)),
        f"{spread}; in brackets the rank: 1 more than the number of rows that are better in every run, beyond the noise of "
        "the blocks. Rows that share a rank are a tie.",
        "The last row is the floor: what as many real images score, of the validation side, which a limited training set leaves out. A row "
        "that is better than they are says that the official sides differ, or that the features overlook what it lacks.",
        f"Features: {names}. Numbers of different features are never compared; only 2,048 of InceptionV3 give what papers call FID.",
    ]


def _explained(results: Results, n_train: int) -> dict[str, set[float]]:
    """How much of held-out images' variance the fits explain, by model and size; a fit that cells share has one number."""
    found: dict[str, set[float]] = {}
    told = results.scores.dropna(subset=EXPLAINED)
    for text, n, share in told[["system", "n", EXPLAINED]].itertuples(index=False, name=None):
        found.setdefault(f"{System.parse(text).trained_as} at {size_title(n, n_train)}", set()).add(share)
    return dict(sorted(found.items()))


def _sampling(runs: Sequence[Mapping[str, Any]], results: Results, n_train: int) -> pd.DataFrame:
    """Means over runs and classes of what the fits and the samplers told."""
    rows: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for run in runs:
        for notes in run["result"].get("generators", {}).values():
            rows.setdefault((run["key"]["model"], run["key"]["sampler"], run["key"]["n"]), []).append({**notes, **notes["sampling"]})
    columns = {
        "acceptance": "acceptance",
        "r_hat": "r_hat",
        "unmoved": "unmoved",
        "off the manifold": "off_manifold",
        "nearest training image": "nearest_median",
        "held out, decoded": "held_out_decoded_nearest_median",
        "held-out variance explained": "explained_validation",
    }
    lines = []
    for (model, sampler, n), parts in sorted(rows.items(), key=lambda item: (item[0][2] == 0, item[0][2])):
        values = {title: [part[name] for part in parts if part.get(name) is not None] for title, name in columns.items()}
        cells = {title: f"{np.mean(found):.3f}" if found else "–" for title, found in values.items()}
        lines.append({"training images": size_title(n, n_train), "model": model, "sampler": sampler, **cells})
    return pd.DataFrame(lines)


def _title(config: FidelityConfig) -> str:
    plan = plan_of(config.grid.plan)
    runs = config.grid.runs
    return f"{plan.title} {Path(config.data.cohort.source.data).stem}, {runs} run{'s' if runs > 1 else ''} (after {plan.source})"


def _html(
    results: Results,
    runs: Sequence[Mapping[str, Any]],
    config: FidelityConfig,
    left_out: Sequence[str],
    failures: Sequence[str],
    figure: Figure,
    sheets: Mapping[int, Figure],
) -> str:
    n_train = config.n_train
    sampling = _sampling(runs, results, n_train)
    return render(
        _PAGE,
        title=_title(config),
        notes=_notes(results, config, left_out),
        missing=_missing(results, config.grid),
        tables=[(title, list(table.columns), table.to_numpy().tolist()) for title, table in _tables(results, config.grid, n_train)],
        figure=as_data(figure),
        sheets=[(size_title(n, n_train), as_data(sheet)) for n, sheet in sheets.items()],
        sampling=(list(sampling.columns), sampling.to_numpy().tolist()),
        classes=f"; of each class some: {', '.join(config.data.classes)}" if config.scoring.per_class else "",
        failures=failures,
        command=config.where.command,
        passports=json.dumps({name: asdict(passport) for name, passport in results.passports.items()}, indent=1),
        config=json.dumps(config.content(), indent=1, default=str),
        records=with_what(runs),
    )


_PAGE = """{% extends "shell" %}
{% from "parts" import listed, picture, table %}
{% block body %}
{% for note in notes %}<p class="note">{{ note }}</p>{% endfor %}
{% if missing %}<p><b>Preliminary: {{ missing | length }} cells are not there yet.</b></p>{% endif %}
{{ picture("Scores", figure) }}
{% for title, header, rows in tables %}
<h2>{{ title }}</h2>
{{ table(header, rows) }}
{% endfor %}
{% for title, sheet in sheets %}
<h2>Synthetic images, {{ title }} training images, first run{{ classes }}</h2>
{{ picture("Samples", sheet) }}
{% endfor %}
<h2>Fits and samplers</h2>
{{ table(sampling[0], sampling[1]) }}
<p class="note">Means over runs and classes. Distances are medians of the root-mean-square difference over voxels to the nearest training
image; those of held-out images, decoded, are what to compare with: samples that come much nearer are near copies. An r_hat far above 1
says that chains stay near the centroids that they start from.</p>
{{ listed("Not there yet", missing) }}
{{ listed("Runs that failed", failures) }}
{% endblock %}
{% block folded %}
{% if command %}<h2>Command</h2>
<pre>{{ command }}</pre>
{% endif %}
<h2>Features</h2>
<pre>{{ passports }}</pre>
<h2>Configuration</h2>
<pre>{{ config }}</pre>
<h2>Computed with</h2>
{% for record in records %}<pre>{{ record }}</pre>{% endfor %}
{% endblock %}
"""

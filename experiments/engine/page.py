"""What the reports of all studies share: one self-contained HTML page, Markdown tables, and with what the runs were computed."""

import base64
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from ...augment.fitting.model_config import EXPLAINS_LITTLE

_SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{ title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; margin-top: 2rem } .headline { font-size: 1.1rem; font-weight: 600 } .note { color: #555 }
table { border-spacing: 0; margin: .5rem 0; font-variant-numeric: tabular-nums; font-size: 13px } .wide { overflow-x: auto }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; white-space: nowrap }
th { white-space: normal; vertical-align: bottom } .words { text-align: left } td.words { white-space: normal; min-width: 14rem }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
td.name { white-space: normal; min-width: 11rem }
img { max-width: 100%; height: auto } summary { cursor: pointer; font-weight: 600; margin: 1rem 0 }
pre { background: #f6f6f6; padding: 1rem; font-size: 12px; white-space: pre-wrap; overflow-wrap: anywhere }
@media screen and (max-width: 700px) { .wide img { max-width: none; width: 720px } .headline { font-size: 1rem }
  th, td { padding: .25rem .4rem } td.name { min-width: 7rem } }
@media print { @page { size: A4; margin: 12mm } body { font-size: 10px; margin: 0; max-width: none } table { font-size: 8px }
  th, td { padding: .1rem .3rem; white-space: normal } img { max-height: 60mm } h2 { margin-top: .8rem } details { display: none }
  tr, img { break-inside: avoid } h2 { break-after: avoid } }
</style></head><body>
<h1>{{ title }}</h1>
{% block body %}{% endblock %}
<details><summary>{% block summary %}How it was computed{% endblock %}</summary>{% block folded %}{% endblock %}</details>
</body></html>
"""
_PARTS = """{% macro table(header, rows) %}
{% set words = [] %}
{% for row in rows %}{% for cell in row %}
{% if not loop.first and cell | string | length > 40 %}{% set _ = words.append(loop.index0) %}{% endif %}
{% endfor %}{% endfor %}
<div class="wide"><table><tr>
{% for name in header %}<th{% if loop.index0 in words %} class="words"{% endif %}>{{ name }}</th>{% endfor %}
</tr>
{% for row in rows %}<tr>
{% for cell in row %}{% set name = loop.first and cell | string | length > 20 %}
<td{% if name %} class="name"{% elif loop.index0 in words %} class="words"{% endif %}>{{ cell }}</td>{% endfor %}
</tr>
{% endfor %}</table></div>
{% endmacro %}
{% macro picture(shows, address) %}
<div class="wide"><img alt="{{ shows }}" src="{{ address }}"></div>
{% endmacro %}
{% macro listed(title, lines) %}
{% if lines %}<h2>{{ title }}</h2><ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
{% endmacro %}
"""


def render(page: str, **content: Any) -> str:
    """A page that ``extends "shell"``, filled in; every text is escaped, and a name that the content lacks is an error.

    The shell has the title, and puts what is ``folded`` behind a line to open; ``parts`` has the macros ``table``,
    ``picture`` and ``listed``. Tables, and pictures on a phone, are wider than the page and moved sideways, each by itself.
    """
    loader = jinja2.DictLoader({"shell": _SHELL, "parts": _PARTS, "page": page})
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("page").render(**content)


def markdown_table(table: pd.DataFrame) -> str:
    """The table, its texts as they are."""
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def as_data(figure: Figure) -> str:
    """A PNG of the figure as a ``data:`` address."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": "tinycohort"})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def several_versions(results: pd.DataFrame) -> list[str]:
    """A sentence for the reader where the runs of ``results.csv`` were computed with different versions of what computes them."""
    found: dict[str, set[str]] = {}
    for text in results.get("versions", pd.Series(dtype=str)).dropna().unique():
        for part in text.split("; "):
            name, _, version = part.partition(" ")
            found.setdefault(name, set()).add(version)
    mixed = [f"{name} {' and '.join(sorted(versions))}" for name, versions in sorted(found.items()) if len(versions) > 1]
    return [f"The runs were computed with different versions: {'; '.join(mixed)}."] if mixed else []


def poor_fits(shares: Mapping[str, Collection[float]]) -> list[str]:
    """A sentence on generators of which a fit hardly explains held-out images; ``shares`` are their fits' ``explained_validation``."""
    told = []
    for name, found in shares.items():
        poor = [share for share in found if share < EXPLAINS_LITTLE]
        if poor:
            told.append(f"{name} ({f'{len(poor)} of {len(found)} fits, ' if len(found) > 1 else ''}down to {min(poor):.0%})")
    if not told:
        return []
    return [
        f"Poor fits: reconstructions explain less than {EXPLAINS_LITTLE:.0%} of held-out images' variance, those of {', '.join(told)}. "
        "These models hardly know their classes, and their rows tell of that before anything else: fit them on more images, for more "
        "--steps, or with other settings."
    ]


def with_what(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """With what the runs were computed, each combination once."""
    kept = [{name: value for name, value in run["record"].items() if not re.search("second|start|finish|time|pid", name)} for run in runs]
    return sorted({json.dumps(record, sort_keys=True) for record in kept})

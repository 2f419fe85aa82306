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

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right } th:first-child, td:first-child { text-align: left }
img { max-width: 100% } pre { background: #f6f6f6; padding: 1rem; overflow: auto; font-size: 12px } .note { color: #666 }
"""


def render(page: str, **content: Any) -> str:
    """A Jinja template, filled in; every text is escaped, and a name that the content lacks is an error."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(page).render(**content)


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

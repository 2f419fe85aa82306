"""An audit for people: ``report.html`` in one file, ``table.md``, ``images.csv`` and ``audit.json``."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...augment.fitting.figures import SheetRow, contact_sheet
from ...augment.release.gate import Gate
from ...datasets.transforms import Images
from ..engine.page import as_data, markdown_table, render
from .audit import Finding
from .findings import AUTHENTIC, TOO_CLOSE, Measure
from .membership import Attack
from .verdict import Verdict

PAIRS = 8
LEVEL = 0.05  # of alarms, after the correction for the number of measures


def write_report(folder: Path, verdicts: Sequence[Verdict], gate: Gate, record: Mapping[str, Any]) -> None:
    """Write the four files into ``folder``, which exists; ``record`` is what the audit was of and made with."""
    (folder / "report.html").write_text(_html(verdicts, gate, record), encoding="utf-8")
    (folder / "table.md").write_text(_markdown(verdicts), encoding="utf-8")
    images = [finding.table.assign(cohort=verdict.cohort) for verdict in verdicts for finding in verdict.findings]
    pd.concat(images).to_csv(folder / "images.csv", index=False)
    content = {"Gate": gate.as_json(), **record, "Cohorts": [_as_json(verdict) for verdict in verdicts]}
    (folder / "audit.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def overview(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row a cohort and class: what decides, and how close the images come."""
    rows = []
    for verdict in verdicts:
        for finding, already in zip(verdict.findings, verdict.already, strict=True):
            found = {(measure.space, measure.name): measure.value for measure in finding.measures}
            rows.append(
                {
                    "cohort": verdict.cohort,
                    "class": finding.audited.label,
                    "images": len(finding.audited.synthetic.participants) + already,
                    "set aside": len(finding.copies) + already,
                    "too close to one patient": f"{found['image', TOO_CLOSE]:.0%}",
                    "authentic": f"{found['image', AUTHENTIC]:.0%}",
                    "repeated": f"{finding.repeated.mean():.0%}",
                    "membership AUC [95 %]": _area(finding.deciding),
                    "the cohort": "passes" if verdict.passed else "is refused",
                }
            )
    return pd.DataFrame(rows)


def measures_table(finding: Finding) -> pd.DataFrame:
    """Every measure beside what to expect of images that copy nobody; alarms are corrected for the number of measures (Holm)."""
    rows = [
        {
            "measure": f"{measure.space}: {measure.name}",
            "value": _number(measure.value) + _interval(measure),
            "to expect": _number(measure.expected) + ("" if math.isnan(measure.control) else f", up to {measure.control:.2f}"),
            "p": "–" if math.isnan(measure.p) else f"{measure.p:.3f}",
            "alarm": "–" if math.isnan(corrected) else "yes" if corrected <= LEVEL else "no",
        }
        for measure, corrected in zip(finding.measures, finding.corrected_p, strict=True)
    ]
    return pd.DataFrame(rows)


def power_table(finding: Finding) -> pd.DataFrame:
    """The share of planted copies that were found, by kind."""
    rows = [
        {
            "planted copies": power.kind,
            "number": power.planted,
            "searched for": "yes" if power.searched else "no",
            "found [95 %]": "{:.0%} [{:.0%}, {:.0%}]".format(power.found / power.planted, *power.interval),
            "right patient nearest": f"{power.right / power.planted:.0%}",
        }
        for power in finding.power
    ]
    return pd.DataFrame(rows)


def pairs(finding: Finding) -> tuple[Figure, list[float]]:
    """The synthetic images that are closest to one patient, that patient below, and the difference; and their ratios.

    Those that are set aside come first, beside the patient whom they copy: of several images of theirs, the nearest.
    """
    image, training = finding.views[0], finding.audited.training
    order = sorted(range(len(finding.repeated)), key=lambda row: (row not in finding.copies, image.closeness.ratio[row]))[:PAIRS]
    synthetic = finding.audited.synthetic.images[order]
    copied = finding.copied
    real = training.images[np.array([_image_of(copied.get(row), row, finding) for row in order])]
    difference = Images(((synthetic.pixels - real.pixels) / 2 + 0.5).clip(0, 1), synthetic.space)
    rows = [SheetRow("synthetic", synthetic), SheetRow("nearest\npatient", real), SheetRow("difference", difference)]
    return contact_sheet(rows, columns=len(order)), image.closeness.ratio[order].tolist()


def _image_of(patient: str | None, row: int, finding: Finding) -> int:
    """The training image that is nearest to a synthetic one, of a patient or, if none is named, of all."""
    image, training = finding.views[0], finding.audited.training
    nearest = int(image.nearest_image[row])
    if patient in (None, training.participants[nearest]):
        return nearest
    theirs = np.flatnonzero(np.array(training.participants) == patient)
    made, real = (image.space.embed(part.pixels) for part in (finding.audited.synthetic.images[[row]], training.images[theirs]))
    return int(theirs[image.space.between(made, real)[0].argmin()])


def histograms(finding: Finding) -> Figure:
    """Distances and ratios in every space, of the synthetic images and of held-out people."""
    figure = Figure(figsize=(3.4 * len(finding.measured), 4.6), dpi=110)
    axes = figure.subplots(2, len(finding.measured), squeeze=False)
    for column, view in zip(axes.T, finding.measured, strict=True):
        for axis, name in zip(column, ("distance", "ratio"), strict=True):
            parts = [("synthetic", getattr(view.closeness, name)), ("held-out people", getattr(view.held_out, name))]
            parts = [(title, values) for title, values in parts if len(values)]
            edges = np.histogram_bin_edges(np.concatenate([values for _, values in parts]), bins=24)
            for title, values in parts:
                axis.hist(values, bins=edges, density=True, alpha=0.5, label=title)
            axis.set_yticks([])
            axis.set_xlabel({"distance": "to the nearest patient", "ratio": "ratio to the second nearest"}[name], fontsize=8)
        column[0].set_title(view.space.name, fontsize=9)
    axes[0, 0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    return figure


def _html(verdicts: Sequence[Verdict], gate: Gate, record: Mapping[str, Any]) -> str:
    sections = []
    for verdict in verdicts:
        classes = []
        for finding in verdict.findings:
            figure, ratios = pairs(finding)
            audited = finding.audited
            classes.append(
                {
                    "label": audited.label,
                    "poor_fit": audited.poor_fit,
                    "n": len(audited.synthetic.participants),
                    "training": len(set(audited.training.participants)),
                    "held_out": len(set(audited.held_out.participants)),
                    "pairs": as_data(figure),
                    "ratios": ", ".join(f"{ratio:.2f}" for ratio in ratios),
                    "histograms": as_data(histograms(finding)),
                    "tables": [_cells(measures_table(finding)), _cells(power_table(finding))],
                    "alarms": "; ".join(f"{who}: {why}" for who, why in finding.false_alarms.items()),
                    "aside": [(audited.synthetic.participants[row], reason) for row, reason in sorted(finding.copies.items())],
                }
            )
        sections.append({"cohort": verdict.cohort, "sentence": verdict.sentence, "passed": verdict.passed, "classes": classes})
    return render(
        _PAGE,
        title=f"Audit of {', '.join(verdict.cohort for verdict in verdicts)}",
        overview=_cells(overview(verdicts)),
        sections=sections,
        gate=gate,
        limits=gate.limits(),
        record=json.dumps(record, indent=1, ensure_ascii=False),
    )


def _markdown(verdicts: Sequence[Verdict]) -> str:
    lines = ["# Audit", "", markdown_table(overview(verdicts)), ""]
    for verdict in verdicts:
        lines += [f"## {verdict.cohort}", "", verdict.sentence, ""]
        for finding in verdict.findings:
            lines += [f"### {finding.audited.label}", "", markdown_table(measures_table(finding)), ""]
            lines += [f"Poor fit: {warning}\n" for warning in finding.audited.poor_fit]
            lines += [markdown_table(power_table(finding)), ""]
    return "\n".join(lines)


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "Cohort": verdict.cohort,
        "Passed": verdict.passed,
        "Verdict": verdict.sentence,
        "Classes": [
            {
                "Class": finding.audited.label,
                "Model": None if finding.audited.model is None else finding.audited.model.digest,
                "Warnings": finding.audited.poor_fit,
                "Images": len(finding.audited.synthetic.participants),
                "TrainingParticipants": len(set(finding.audited.training.participants)),
                "HeldOutParticipants": len(set(finding.audited.held_out.participants)),
                "SetAsideBefore": already,
                "SetAside": {finding.audited.synthetic.participants[row]: why for row, why in sorted(finding.copies.items())},
                "FalseAlarms": finding.false_alarms,
                "DecidedBy": None if finding.deciding is None else {"Attack": finding.deciding[0], **asdict(finding.deciding[1])},
                "Measures": [
                    # JSON has no NaN.
                    {name: None if value != value else value for name, value in (asdict(measure) | {"p_holm": float(corrected)}).items()}
                    for measure, corrected in zip(finding.measures, finding.corrected_p, strict=True)
                ],
                "Power": [asdict(power) | {"interval": power.interval} for power in finding.power],
            }
            for finding, already in zip(verdict.findings, verdict.already, strict=True)
        ],
    }


def _area(named: tuple[str, Attack] | None) -> str:
    return "not asked" if named is None else f"{named[1].auc:.2f} [{named[1].low:.2f}, {named[1].high:.2f}] by {named[0]}"


def _cells(table: pd.DataFrame) -> dict[str, Any]:
    return {"header": list(table.columns), "rows": table.to_numpy().tolist()}


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _interval(measure: Measure) -> str:
    return "" if math.isnan(measure.low) else f" [{measure.low:.2f}, {measure.high:.2f}]"


_PAGE = """{% extends "shell" %}
{% from "parts" import picture, table %}
{% block body %}
<p><b>This page shows patients: keep it where their images are kept.</b></p>
{% for section in sections %}<p class="headline">{{ section.sentence }}</p>
{% endfor %}
{{ table(overview.header, overview.rows) }}
<p class="note">Copies are set aside: images closer to one patient, or to two, than new people come, at any of several scales, aligned or
not, or in a patch. Attacks rank people by their closest synthetic image. Told is the one that decides: by the images as they are, or
a stronger one that is seen to tell people apart; 0.5 is a guess.
Thresholds: {% for name, value in limits.items() %}{{ name }} {{ value }}{{ ", " if not loop.last }}{% endfor %}.
{% if gate.reason %}They were changed, because: {{ gate.reason }}{% endif %}</p>
{% for section in sections %}
{% for part in section.classes %}
<h2>{{ section.cohort }}: {{ part.label }}</h2>
<p>{{ part.n }} synthetic images; {{ part.training }} people were trained on, {{ part.held_out }} were not.</p>
{% for warning in part.poor_fit %}<p><b>Poor fit: {{ warning }}</b></p>{% endfor %}
{{ picture("The closest pairs", part.pairs) }}
<p class="note">The images closest to one patient, from the left; difference: grey where both are equal. Ratios of the distance to
this patient over that to the next: {{ part.ratios }}.</p>
{{ picture("Histograms of distances", part.histograms) }}
{% for content in part.tables %}{{ table(content.header, content.rows) }}{% endfor %}
<p class="note">To expect: what held-out people score in place of the synthetic images, or new people on average. p: of as much
memorisation where it does not matter who was trained on; alarms are corrected for the number of measures (Holm). Of an attack also how
far it goes by chance between two halves of those trained on, in 95 % of deals.
Reconstructed: what the model makes of a patient's own image, which is as near as its samples should come.</p>
{% if part.alarms %}<p class="note">Held-out people who would be called copies, by chance or because they are there twice:
{{ part.alarms }}.</p>{% endif %}
{% if part.aside %}<h3>Set aside</h3><ul>{% for name, reason in part.aside %}<li>{{ name }}: {{ reason }}</li>{% endfor %}</ul>{% endif %}
{% endfor %}
{% endfor %}
{% endblock %}
{% block summary %}Of what, and with what{% endblock %}
{% block folded %}
<pre>{{ record }}</pre>
{% endblock %}
"""

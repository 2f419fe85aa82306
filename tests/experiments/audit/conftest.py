"""What every test of an audit has."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from tinycohort.experiments.audit import alignment


@pytest.fixture
def pictures():
    """For a test that looks at them; drawing is what takes longest."""


@pytest.fixture
def quick(monkeypatch):
    """Few copies of a kind are planted, and people are aligned and learnt roughly, which takes longest and has tests of its own."""
    monkeypatch.setattr("tinycohort.experiments.audit.planted.MOST", 8)
    monkeypatch.setattr("tinycohort.experiments.audit.reidentification.STEPS", 20)
    for step in ("ROUGH", "WELL"):
        found = getattr(alignment, step)
        monkeypatch.setattr(alignment, step, replace(found, n_steps=3))


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    if "pictures" not in request.fixturenames:
        for name in ("contact_sheet", "histograms"):
            monkeypatch.setattr(f"tinycohort.experiments.audit.report.{name}", lambda *args, **options: Figure(figsize=(1, 1)))

"""The demo: the whole method on the embedded cohort, in minutes on two processor cores."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..augment import commands, console
from ..augment.fitting import PRESETS, FitSettings
from ..datasets.files import refuse_existing, whole_file
from ..datasets.readers import Source
from ..datasets.transforms import Preparation

SOURCE = Source("demo")
# A coronal slice through the ventricles and the hippocampi, which shrink in AD.
PREPARATION = Preparation(plane="coronal", position="-20mm")


def run_demo(out: Path, *, steps: int, force: bool) -> None:
    """Check the demo cohort, fit both classes on coronal slices, generate what balances it, and draw a contact sheet.

    Parameters
    ----------
    out : Path
        Gets ``models/``, ``synthetic/``, ``synthetic.audit.csv``, ``contact-sheet.png`` and ``summary.md``.
    steps : int
        Of the training of each model.
    force : bool
        Replace what ``out`` holds.
    """
    refuse_existing(out, force=force)
    commands.check(SOURCE, sized=False)
    settings = demo_settings(steps)
    models = commands.fit(SOURCE, [], settings, out / "models", force=force, command=f"augment demo --steps {steps}")
    generated = commands.generate(
        out / "models", [], out / "synthetic", balance=True, n=max(_counts(models).values()) + 30, force=force, command="augment demo"
    )
    commands.show(["demo", str(out / "synthetic")], SOURCE, PREPARATION, out / "contact-sheet.png", columns=8, labels=[], force=force)
    rows = [
        {
            "class": label,
            "real (training)": _counts(models)[label],
            "synthetic": next((len(part.images) for part in generated if part.label == label), 0),
            "explained, training": f"{model.config.diagnostics['explained_train']:.0%}",
            "explained, held out": f"{model.config.diagnostics['explained_validation']:.0%}",
            "active units": model.config.diagnostics["active_units"],
        }
        for label, model in models.items()
    ]
    with whole_file(out / "summary.md") as temporary:
        temporary.write_text(_markdown(pd.DataFrame(rows)), encoding="utf-8")
    console.say(
        f"The contact sheet is {out / 'contact-sheet.png'}, the summary {out / 'summary.md'}, the synthetic cohort {out / 'synthetic'}."
    )


def demo_settings(steps: int) -> FitSettings:
    """The default settings on coronal slices."""
    default = PRESETS["default"]
    return replace(default, preparation=PREPARATION, training=replace(default.training, steps=steps))


def _counts(models: dict) -> dict[str, int]:
    return next(iter(models.values())).config.data["counts"]


def _markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    return "# Demo\n\n" + "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"

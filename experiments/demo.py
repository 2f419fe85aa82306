"""The demo: the whole method on the embedded cohort, in minutes on two processor cores."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..augment import console
from ..augment.commands.check import check_cohort
from ..augment.commands.fit import FitRequest, fit_models
from ..augment.commands.generate import GenerationRequest, generate_cohort
from ..augment.commands.show import show_cohorts
from ..augment.fitting.model import FittedModel
from ..augment.fitting.settings import PRESETS, FitSettings
from ..classifiers.training import ClassifierSettings
from ..datasets.common.errors import DataError
from ..datasets.common.files import refuse_existing, whole_file
from ..datasets.output import output
from ..datasets.readers import Source
from ..datasets.transforms import Preparation
from .augmentation_study import command as evaluate
from .augmentation_study.config import AugmentationConfig
from .augmentation_study.mode import DEFAULT_MODE
from .augmentation_study.protocols import Protocols
from .engine.launch import HowToRun
from .engine.page import markdown_table

SOURCE = Source("demo")
# A coronal slice through the ventricles and the hippocampi, which shrink in AD.
PREPARATION = Preparation(plane="coronal", position="-20mm")
# What a study of the demo cohort has by default, so that it takes minutes.
STEPS = 1000
LEAST_STEPS = 250
# The demo's own study shows what a report looks like; so few runs and steps settle nothing.
STUDY_METHODS = ("original", "resampled+classical", "morph+classical", "vae:auto+classical detail=mosaic")
STUDY_RUNS = 2
STUDY_STEPS = 300
COMMAND = "augment demo"  # by which a later demo knows the study for its own


def run_demo(out: Path, *, steps: int | None, force: bool) -> None:
    """Check the demo cohort, fit both classes on coronal slices, generate what balances it, draw a contact sheet, and run a small study.

    Parameters
    ----------
    out : Path
        Gets ``models/``, ``synthetic/``, ``synthetic.audit.csv``, ``contact-sheet.png``, ``summary.md`` and ``study/``.
    steps : int, optional
        Steps of the training of each model, by default until it stops improving; those of the study have at most ``STUDY_STEPS``.
    force : bool
        Replace what ``out`` holds.
    """
    with output(out, console.say, out / "summary.md"):
        _run(out, steps, force)


def _run(out: Path, steps: int | None, force: bool) -> None:
    study = out / "study"
    refuse_existing(out, force=force)
    refuse_existing(study, force=force, ours=_is_a_demo_s)
    check_cohort(SOURCE, sized=False)
    settings = demo_settings(steps)
    models = fit_models(
        FitRequest(SOURCE, [], settings, command=COMMAND if steps is None else f"{COMMAND} --steps {steps}"), out / "models", force=force
    )
    generated = generate_cohort(
        GenerationRequest(out / "models", [], balance=True, n=wanted_images(models), command="augment demo"), out / "synthetic", force=force
    )
    show_cohorts(["demo", str(out / "synthetic")], SOURCE, PREPARATION, out / "contact-sheet.png", columns=8, labels=[], force=force)
    made = {part.label: part for part in generated}
    rows = [
        {
            "class": label,
            "real (training)": _counts(models)[label],
            "synthetic": len(made[label].images),
            "drawn": made[label].drawn,
            "explained, training": f"{model.config.diagnostics['explained_train']:.0%}",
            "explained, held out": f"{model.config.diagnostics['explained_validation']:.0%}",
            "active units": model.config.diagnostics["active_units"],
        }
        for label, model in models.items()
    ]
    with whole_file(out / "summary.md") as temporary:
        temporary.write_text(f"# Demo\n\n{markdown_table(pd.DataFrame(rows))}\n", encoding="utf-8")
    # One that is there would be taken up, and not replaced.
    with output(study, console.say):
        shutil.rmtree(study, ignore_errors=True)
    evaluate.evaluate(study_configuration(min(steps or STUDY_STEPS, STUDY_STEPS)), study, HowToRun(jobs=STUDY_RUNS))
    console.say(
        f"The contact sheet is {out / 'contact-sheet.png'}, the summary {out / 'summary.md'}, the synthetic cohort {out / 'synthetic'}, "
        f"and the report of a small study, whether it helps a classifier, {study / 'report.html'}."
    )


def demo_settings(steps: int | None) -> FitSettings:
    """The default settings on coronal slices."""
    default = PRESETS["default"]
    return replace(default, preparation=PREPARATION, training=replace(default.training, steps=steps))


def wanted_images(models: Mapping[str, FittedModel]) -> int:
    """Number of each class, real and synthetic together: so many that the largest class gets some too."""
    return max(_counts(models).values()) + 30


def study_configuration(steps: int) -> AugmentationConfig:
    """Settings of a small study on the demo's slices."""
    return evaluate.configuration_of(
        evaluate.EvaluationRequest(
            source=SOURCE,
            test_source=None,
            methods=STUDY_METHODS,
            modes=(DEFAULT_MODE,),
            runs=STUDY_RUNS,
            protocols=Protocols(least_steps=LEAST_STEPS),
            fit=demo_settings(steps),
            classifier=ClassifierSettings(),
            seed=0,
            command=COMMAND,
        )
    )


def _is_a_demo_s(study: Path) -> bool:
    """Whether a folder is the study of an earlier demo: nobody else's results are replaced."""
    try:
        return AugmentationConfig.load(study).where.command == COMMAND
    except DataError:
        return False


def _counts(models: Mapping[str, FittedModel]) -> dict[str, int]:
    return next(iter(models.values())).config.data["counts"]

"""The command ``augment study``: resolve a plan on a cohort, compute what is missing of it, and report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...augment import console
from ...augment.fitting.settings import FitSettings
from ...datasets.cohort import Cohort
from ...datasets.common.errors import UsageError
from ...datasets.common.files import expanded
from ...datasets.readers import Source, read_cohort
from ..engine import launch
from ..engine.launch import HERE, NOWHERE_ELSE, HowToRun
from ..engine.results_file import FIGURE, RESULTS, TABLE, told_written
from ..engine.runs import Study
from ..engine.study_config import RunContext, Where, settled
from ..engine.study_images import examined, require_classes
from ..engine.systems import RECONSTRUCTION, System
from .cell import cells_of, run_cell
from .config import FEWEST_SAMPLES, FidelityConfig, Grid, Scoring
from .data import (
    HELD_OUT,
    REFERENCE,
    StudyData,
    in_one_class,
    inception,
    load_extractor,
    real_sample,
    sizes_of,
    split_of_run,
    split_of_study,
)
from .plans import ALL, PLANS, VALIDATION, Plan, plan_of, systems_of
from .report import write_report

# Of Appendix D; what is not named here has the default preset.
PRESET_OF = {
    "mnist": "paper-mnist",
    "fashion-mnist": "paper-mnist",
    "cifar10": "paper-cifar10",
    "svhn": "paper-svhn",
    "celeba": "paper-celeba",
    "rings-and-discs": "paper-mnist",
}


@dataclass(frozen=True)
class StudyRequest:
    """What a user asked for; see the options of ``augment study``. What is ``None`` or empty is the plan's."""

    plan: str
    source: Source
    fit: FitSettings
    scoring: Scoring
    systems: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    runs: int | None = None
    seed: int = 0
    weights: str | None = None
    command: str = ""


def configuration_of(request: StudyRequest) -> FidelityConfig:
    """Check everything that can be checked before a run, and return the resolved configuration."""
    plan = plan_of(request.plan)
    if request.systems:
        plan = replace(plan, rows={system: (system,) for system in request.systems})
    systems = systems_of(plan.rows)
    for system in systems:
        System.parse(system)
    runs = plan.runs if request.runs is None else request.runs
    if runs < 1:
        raise UsageError(f"--runs is 1 or more, not {runs}.")
    if VALIDATION in plan.sides and "frechet" not in request.scoring.measures:
        raise UsageError(f"The study {request.plan} chooses settings by the Fréchet distance: leave frechet among the --measures.")
    scoring = replace(request.scoring, sides=plan.sides)
    weights = None if request.weights is None else str(expanded(request.weights).resolve())
    for name in scoring.features:
        if name != "cohort":
            scoring = replace(scoring, weights=inception(name, weights).passport.weights)
    cohort = read_cohort(request.source)
    if "cohort" in scoring.features:
        require_classes(cohort, "the features 'cohort'", "give --features inception-2048")
    data, cohort, _ = examined(
        request.source.resolved(), request.fit.preparation, progress=console.tracked("checking"), on_warning=console.warn
    )
    split = split_of_study(cohort, request.seed)
    fit, size = settled(request.fit, data.preparation), data.preparation.size
    assert size is not None
    for system in systems:
        System.parse(system).require_networks(fit, size)
    n_train = sum(side == "train" for side in split.sides.values())
    sizes = request.sizes or tuple(size for size in plan.sizes if size < n_train)
    splits = [split_of_run(split, cohort, size, run, request.seed) for run in range(runs) for size in sizes]
    scored = cohort if scoring.per_class else in_one_class(cohort)
    drawn = sizes_of(scored, split, scoring.n_samples)
    if any(System.parse(system).sampler == RECONSTRUCTION for system in systems):
        _require_reconstructions(drawn, [of_run.side(scored, "train") for of_run in splits])
    return FidelityConfig(
        seed=request.seed,
        data=replace(data, n_train=n_train),
        where=Where(weights=weights, command=request.command or None),
        scoring=scoring,
        fit=fit,
        grid=Grid(request.plan, tuple(sorted(sizes, key=lambda size: (size == ALL, size))), runs, plan.rows),
    )


def _require_reconstructions(drawn: Mapping[str, int], sides: Sequence[Cohort]) -> None:
    """Raise a ``UsageError`` if there are fewer training images than images to score: repeated, they would score as no sample does."""
    there = {label: min(int((side.table["label"] == label).sum()) for side in sides) for label in drawn}
    least = min(there.values())
    if any(n > there[label] for label, n in drawn.items()):
        mend = f"give --samples {least} or less" if least >= FEWEST_SAMPLES else "larger --sizes"
        raise UsageError(f"There are {least} training images to reconstruct, and more cannot be scored: {mend}.")


def read_configuration(path: Path, here: Mapping[str, str] = NOWHERE_ELSE) -> FidelityConfig:
    """A study's configuration from a file, such as the ``config.toml`` of another study; see ``StudyConfig.read`` for the errors."""
    config = FidelityConfig.read(path, here)
    plan_of(config.grid.plan)
    cells_of(config.grid)
    return config


def run(config: FidelityConfig, out: Path, how: HowToRun = HERE) -> None:
    """Run what is missing of a study, and write its report; see ``launch.start`` for the errors.

    Parameters
    ----------
    config : FidelityConfig
        Resolved.
    out : Path
        Folder of the study.
    how : HowToRun
    """
    launch.start(
        Study(out, run_cell, cells_of(config.grid), config, {"device": how.device}),
        how,
        command=["augment", "study"],
        report=report,
        prepare=lambda: prepare_real_side(RunContext(out, config, how.device)),
        # One process does what shares a model: another would train the same at the same time.
        together=("run", "n", "model"),
    )


def prepare_real_side(context: RunContext[FidelityConfig]) -> None:
    """Make what all cells share (images, classifier, features of the real sides) before there are several processes that would."""
    data, features = StudyData.load(context), context.config.scoring.features
    console.say(f"Features of the real images, once for all: {', '.join(features)}.")
    for name in features:
        extractor = load_extractor(name, context)
        for side in (REFERENCE, HELD_OUT):
            real_sample(side, extractor, data)


def show_plans() -> None:
    """List the plans."""
    console.show_table(
        "studies",
        "Studies (augment study NAME)",
        ("name", "asks", "after", "training images", "runs", "rows"),
        [
            (
                name,
                plan.title,
                plan.source,
                ", ".join("all" if size == ALL else f"{size:,}" for size in plan.sizes),
                plan.runs,
                _rows_in_words(plan),
            )
            for name, plan in PLANS.items()
        ],
    )


def _rows_in_words(plan: Plan) -> str:
    """What is compared: the settings of each panel, or else every row."""
    if plan.panels:
        panels = [(panel, dict.fromkeys(value for line in panel.lines.values() for value in line)) for panel in plan.panels]
        return "; ".join(
            f"{panel.title}: {', '.join(f'{value:g}' for value in values)} ({', '.join(panel.lines)})" for panel, values in panels
        )
    return "; ".join(title if len(systems) == 1 else f"{title} (best of {len(systems)})" for title, systems in plan.rows.items())


def report(folder: Path) -> None:
    """Write a study's table, figure and report, and show the table."""
    write_report(folder)
    console.say((folder / TABLE).read_text(encoding="utf-8"))
    console.say(told_written(folder, RESULTS, TABLE, FIGURE, "report.html"))

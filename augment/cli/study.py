"""Studies of how good samples are."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .groups import takes_groups
from .options import Data, HowToRunOptions, PreparationOptions, ReadingOptions, Seed, TrainingOptions, Weights
from .reading import changed, command_line, counted, given_places, parts_of, preset_settings, require_places

if TYPE_CHECKING:
    from ...experiments.fidelity_study.config import Scoring

app = typer.Typer()


@dataclass(frozen=True)
class GridOptions:
    """What is studied."""

    systems: Annotated[
        list[str] | None,
        typer.Option(
            "--systems",
            help="Instead of the study's own: model:sampler, as vae:riemannian, with settings after it, as 'vae:riemannian rho_scale=2'; "
            "several with commas, or given again.",
        ),
    ] = None
    sizes: Annotated[
        list[str] | None,
        typer.Option("--sizes", help="Training images, a fifth of which select, or all; several with commas. \\[default: the study's]"),
    ] = None
    runs: Annotated[int | None, typer.Option("--runs", help="Repetitions, with other training images. \\[default: the study's]")] = None
    seed: Seed = 0


@dataclass(frozen=True)
class ScoringOptions:
    """How samples are scored."""

    samples: Annotated[int, typer.Option("--samples", help="Images drawn (of each class); no more than each real side has.")] = 10_000
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features",
            help="cohort (a classifier trained on the training side), inception-2048 (FID), -768, -192 or -64 "
            "(inception-2048-bf16 and so on are quicker); several with commas. "
            "\\[default: cohort]",
        ),
    ] = None
    weights: Weights = None
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measures", help="Of frechet, kid, prd, precision-recall and density-coverage; several with commas. \\[default: the first 3]"
        ),
    ] = None
    per_class: Annotated[bool, typer.Option("--per-class", help="A generator for each class, and scores of each.")] = False

    def scoring(self) -> "Scoring":
        """The scoring with every option that was given."""
        from ...experiments.fidelity_study.config import Scoring

        asked = {"features": parts_of(self.features), "measures": parts_of(self.measures)}
        given = {name: parts for name, parts in asked.items() if parts}
        return replace(Scoring(self.samples, per_class=self.per_class or None), **given)


@dataclass(frozen=True)
class StudiedGenerators(TrainingOptions):
    """Generative models."""

    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="default, paper-mnist, paper-cifar10, paper-svhn, paper-celeba or paper-oasis; options change it. "
            "\\[default: the benchmark's]",
        ),
    ] = None


@app.command("study", epilog="Example: augment study low-data --data mnist --root mnist-files --channels 32 --jobs 2 --out studies/mnist")
@takes_groups
def study_command(
    context: typer.Context,
    grid: GridOptions,
    scored: ScoringOptions,
    reading: ReadingOptions,
    preparation: PreparationOptions,
    models: StudiedGenerators,
    how: HowToRunOptions,
    name: Annotated[str, typer.Argument(help="One of the studies that `augment studies` lists.")] = "low-data",
    data: Data = "mnist",
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the study; an existing one is continued.")] = None,
) -> None:
    """Measure how good samples are, over models, samplers, settings and training sizes: the paper's tables and figures, resumable."""
    require_places(data)
    from ...datasets.output import refuse_misplaced
    from ...experiments.fidelity_study import command as studies

    how_to_run = how.how()
    if how.config is not None:
        how.require_nothing_else(context)
        resolved = studies.read_configuration(how.config, given_places(context))
        place = out or Path("studies") / resolved.grid.plan
    else:
        place = out or Path("studies") / name
        settings = models.change(preset_settings(models.preset or studies.PRESET_OF.get(data, "default")))
        request = studies.StudyRequest(
            plan=name,
            source=reading.source(data),
            fit=changed(settings, preparation=preparation.changes(reading.plane)),
            scoring=scored.scoring(),
            systems=parts_of(grid.systems),
            sizes=tuple(_parse_training_size(text) for text in parts_of(grid.sizes)),
            runs=grid.runs,
            seed=grid.seed,
            weights=None if scored.weights is None else str(scored.weights),
            command=command_line(),
        )
        refuse_misplaced(place, [data])  # before all images are examined
        resolved = studies.configuration_of(request)
    studies.run(resolved, place, how_to_run)


@app.command("studies", epilog="Example: augment studies")
def studies_command() -> None:
    """List the studies of `augment study`: what each repeats, its systems and its sizes."""
    from ...experiments.fidelity_study import command as fidelity_command

    fidelity_command.show_plans()


def _parse_training_size(text: str) -> int:
    from ...datasets.common.errors import UsageError

    size = 0 if text == "all" else counted(text)
    if size is None:
        raise UsageError(f"--sizes are numbers of training images, 1 or more, or all, not '{text}'.")
    return size

"""Whether synthetic images help a classifier."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .groups import takes_groups
from .options import Data, GeneratorOptions, HowToRunOptions, PreparationOptions, ReadingOptions, Seed
from .reading import changed, command_line, given_options, given_places, parts_of, preset_settings

if TYPE_CHECKING:
    from ...classifiers.training import ClassifierSettings
    from ...experiments.augmentation_study.protocols import Protocols

OF_GENERATORS = {"preset", "steps", "latent_dim", "channels", "beta"}

app = typer.Typer()


@dataclass(frozen=True)
class MethodOptions:
    """What is compared."""

    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            help="Baselines that `augment methods` lists, and model:sampler such as vae:riemannian, which may have settings of its own: "
            "'vae:riemannian rho_scale=2 steps=500'; several with commas, or given again.",
        ),
    ] = None
    runs: Annotated[int, typer.Option("--runs", help="Repetitions of everything.")] = 20
    modes: Annotated[
        list[str] | None,
        typer.Option(
            "--mode",
            help="resampled+synthetic (real images resampled to balance, and as many synthetic ones in each class), real+synthetic (the "
            "real ones topped up) or synthetic-only (the paper's); several with commas, or given again. \\[default: resampled+synthetic]",
        ),
    ] = None
    n_synthetic: Annotated[int, typer.Option("--n-synthetic", help="Images per class of synthetic-only.")] = 2000
    enlarge: Annotated[
        float, typer.Option("--enlarge", help="With real images: each class gets this many times the images of the largest real one.")
    ] = 2.0
    seed: Seed = 0


@dataclass(frozen=True)
class ProtocolOptions:
    """Who is trained and tested on."""

    protocol: Annotated[
        str, typer.Option("--protocol", help="resampled: new split and generators in each run; paper: one of each, no verdict.")
    ] = "resampled"
    limit: Annotated[list[str] | None, typer.Option("--limit", help="Keep so many training participants of a class, as AD=22.")] = None
    stratum: Annotated[str, typer.Option("--stratum", help="Also score these test participants, as 'age>=60'.")] = ""
    test_data: Annotated[str | None, typer.Option("--test-data", help="Another cohort to test on as well.")] = None
    external_only: Annotated[
        bool, typer.Option("--external-only", help="Test on --test-data alone: the test side of the split is trained on.")
    ] = False

    def protocols(self, compared: MethodOptions, least_steps: int) -> "Protocols":
        """With how many images is compared, and trained for how long."""
        from ...experiments.augmentation_study.protocols import Protocols

        limits = _parse_limits(self.limit or [])
        external = self.external_only or None
        return Protocols(self.protocol, compared.n_synthetic, compared.enlarge, limits, least_steps, self.stratum, external)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ComparedGenerators(GeneratorOptions):
    """Generative models."""

    preset: Annotated[str, typer.Option("--preset", help="default or paper-oasis; options change it.")] = "default"
    generators: Annotated[
        Path | None,
        typer.Option("--generators", help="With --protocol paper: a folder of models, as augment fit writes it, and their split."),
    ] = None

    def require_nothing_else(self, context: typer.Context) -> None:
        """Raise a ``UsageError`` if beside ``--generators`` there are options that say how some are fitted."""
        from ...datasets.common.errors import UsageError

        unused = [option for name, option in given_options(context).items() if name in OF_GENERATORS] if self.generators else []
        if unused:
            raise UsageError(f"With --generators nothing is fitted: leave out {', '.join(unused)}.")


@dataclass(frozen=True)
class ClassifierOptions:
    """The classifier."""

    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the classifier's training images.")] = 50
    least_steps: Annotated[
        int,
        typer.Option(
            "--least-steps", help="More epochs for small training sets, until every classifier has so many steps; 0 for the paper's way."
        ),
    ] = 1000
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The classifier's learning rate.")] = 1e-4
    batch_size: Annotated[int, typer.Option("--batch-size", help="The classifier's images a step.")] = 200
    network: Annotated[
        str | None, typer.Option("--network", help="Your own classifier: package.module:function, called with shape and number of classes.")
    ] = None

    def settings(self) -> "ClassifierSettings":
        """How a classifier is trained."""
        from ...classifiers.training import ClassifierSettings

        return ClassifierSettings(epochs=self.epochs, learning_rate=self.learning_rate, batch_size=self.batch_size)


@app.command("evaluate", epilog="Example: augment evaluate --data my-bids-folder --runs 20 --jobs 2 --out studies/mine")
@takes_groups
def evaluate_command(
    context: typer.Context,
    compared: MethodOptions,
    protocol: ProtocolOptions,
    reading: ReadingOptions,
    preparation: PreparationOptions,
    models: ComparedGenerators,
    classifier: ClassifierOptions,
    how: HowToRunOptions,
    data: Data = "demo",
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; one that is there is taken up again.")] = Path(
        "studies/evaluation"
    ),
) -> None:
    """Measure whether synthetic images help a classifier: repeated runs, intervals, and a verdict per method.

    The demo cohort is studied, unless options say otherwise, on a coronal slice, with 1,000 steps of the generators and --least-steps 250.
    """
    from ...datasets.readers import Source
    from ...experiments.augmentation_study import command as evaluate
    from ...experiments.augmentation_study.protocols import DEFAULT_MODE

    how_to_run = how.how()
    if how.config is not None:
        how.require_nothing_else(context)
        evaluate.evaluate(evaluate.read_configuration(how.config, classifier.network, given_places(context)), out, how_to_run)
        return
    models.require_nothing_else(context)
    if data == "demo":
        reading, preparation, models, classifier = _for_the_demo(context, reading, preparation, models, classifier)
    request = evaluate.EvaluationRequest(
        source=reading.source(data),
        test_source=None if protocol.test_data is None else Source(protocol.test_data, None, reading.label, reading.plane, reading.suffix),
        methods=parts_of(compared.methods),
        modes=parts_of(compared.modes) or (DEFAULT_MODE,),
        runs=compared.runs,
        protocols=protocol.protocols(compared, classifier.least_steps),
        fit=changed(models.change(preset_settings(models.preset)), preparation=preparation.changes(reading.plane)),
        classifier=classifier.settings(),
        seed=compared.seed,
        network=classifier.network,
        command=command_line(),
        generators=models.generators,
    )
    evaluate.evaluate(evaluate.configuration_of(request), out, how_to_run)


@app.command("methods", epilog="Example: augment methods")
def methods_command() -> None:
    """List the methods of `augment evaluate`: the baselines, and what a generating method is called."""
    from ...experiments.augmentation_study import command as evaluate

    evaluate.show_methods()


def _for_the_demo(
    context: typer.Context,
    reading: ReadingOptions,
    preparation: PreparationOptions,
    models: ComparedGenerators,
    classifier: ClassifierOptions,
) -> tuple[ReadingOptions, PreparationOptions, ComparedGenerators, ClassifierOptions]:
    """Volumes at full length would take hours, which nobody wants who tries this out."""
    from ...experiments import demo

    given = given_options(context)
    if not given.keys() & {"size", "plane", "position"}:
        reading = replace(reading, plane=demo.PREPARATION.plane)
        preparation = replace(preparation, position=demo.PREPARATION.position)
    if not given.keys() & {"steps", "preset"}:
        models = replace(models, steps=demo.STEPS)
    if "least_steps" not in given:
        classifier = replace(classifier, least_steps=demo.LEAST_STEPS)
    return reading, preparation, models, classifier


def _parse_limits(texts: list[str]) -> dict[str, int]:
    from ...datasets.common.errors import UsageError

    limits = {}
    for text in texts:
        label, _, number = text.partition("=")
        if not label or not number.isdigit():
            raise UsageError(f"--limit is written as AD=22, not '{text}'.")
        limits[label] = int(number)
    return limits

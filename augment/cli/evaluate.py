"""Whether synthetic images help a classifier."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .groups import takes_groups
from .options import DataOptions, GeneratorOptions, HowToRunOptions, PreparationOptions, ReadingOptions, Seed
from .reading import changed, command_line, counted, given_options, given_places, parts_of, preset_settings, require_places

if TYPE_CHECKING:
    from ...classifiers.training import ClassifierSettings
    from ...experiments.augmentation_study.protocols import Protocols

DEFAULT_ENLARGE = 2.0
OF_GENERATORS = {"preset", "steps", "arch", "latent_dim", "channels", "beta"}

app = typer.Typer()


@dataclass(frozen=True)
class MethodOptions:
    """What is compared."""

    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            help="Sources of images and changes of them, as `augment methods` lists them: resampled+classical, morph+classical, or "
            "model:sampler with settings of its own, as 'vae:auto+classical detail=mosaic'; several with commas, or given again.",
        ),
    ] = None
    runs: Annotated[int, typer.Option("--runs", help="Repetitions of everything.")] = 20
    modes: Annotated[
        list[str] | None,
        typer.Option(
            "--mode",
            help="resampled+synthetic (real images resampled to balance, and as many synthetic ones in each class), real+synthetic (the "
            "real ones topped up) or synthetic-only (the paper's), which may have a size of its own: 'synthetic-only n=300', "
            "'real+synthetic enlarge=4'; several with commas, or given again. \\[default: resampled+synthetic]",
        ),
    ] = None
    n_synthetic: Annotated[int, typer.Option("--n-synthetic", help="Images per class of synthetic-only.")] = 2000
    enlarge: Annotated[
        list[str] | None,
        typer.Option(
            "--enlarge",
            help="With real images: each class gets this many times the images of the largest real one; several with commas, a curve. "
            "\\[default: 2]",
        ),
    ] = None
    primary: Annotated[
        str,
        typer.Option(
            "--primary",
            help="The one comparison that counts, named before the study begins: 'vae:auto+classical detail=mosaic synthetic-only'; all "
            "others are secondary. \\[default: the first generator]",
        ),
    ] = ""
    against: Annotated[
        str,
        typer.Option(
            "--against",
            help="What --primary is compared with. \\[default: the first baseline of the study, resampled+classical before all]",
        ),
    ] = ""
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Train nothing: tell how many runs or people it takes to see 2, 5 or 10 points, by the runs in --out if there are some.",
        ),
    ] = False
    spread: Annotated[
        str,
        typer.Option("--spread", help="With --plan: stated standard deviations instead, 'people=0.1 runs=0.02 both=0.15'."),
    ] = ""
    seed: Seed = 0

    def enlarged(self) -> tuple[float, ...]:
        """By how much the training sets are enlarged."""
        from ...datasets.common.errors import UsageError

        try:
            return tuple(float(part) for part in parts_of(self.enlarge)) or (DEFAULT_ENLARGE,)
        except ValueError:
            raise UsageError(f"--enlarge is one number or several with commas, not '{', '.join(self.enlarge or [])}'.") from None

    def only_plans(self) -> bool:
        """Whether nothing is run; raise a ``UsageError`` if spreads are stated of one that is not."""
        from ...datasets.common.errors import UsageError

        if self.spread and not self.plan:
            raise UsageError("--spread goes with --plan, which trains nothing.")
        return self.plan

    def all_modes(self) -> tuple[str, ...]:
        """The modes, each that has real images in every size that is asked for; none where nothing is asked for."""
        from ...experiments.augmentation_study.mode import DEFAULT_MODE, Mode

        modes = [Mode.parse(text) for text in parts_of(self.modes) or (DEFAULT_MODE,)]
        several = self.enlarged() if len(self.enlarged()) > 1 else (None,)
        if not parts_of(self.modes) and several == (None,):
            return ()
        curve = {
            str(
                replace(mode, enlarge=size) if size is not None and mode.mixing != "synthetic-only" and mode.enlarge is None else mode
            ): None
            for mode in modes
            for size in several
        }
        return tuple(curve)


@dataclass(frozen=True)
class ProtocolOptions:
    """Who is trained and tested on."""

    protocol: Annotated[
        str, typer.Option("--protocol", help="resampled: new split and generators in each run; paper: one of each, no verdict.")
    ] = "resampled"
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--sizes",
            help="A learning curve, as 10,20,50,all: so many people of the smallest class are learnt from (a fifth of them to validate "
            "by), the others in proportion, and everybody else is tested; all is the usual split.",
        ),
    ] = None
    proportion: Annotated[str | None, typer.Option("--proportion", help="With --sizes, 1:1: as many people of every class.")] = None
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
        return Protocols(
            self.protocol,  # type: ignore[arg-type]
            compared.n_synthetic,
            compared.enlarged()[0] if len(compared.enlarged()) == 1 else DEFAULT_ENLARGE,
            limits,
            least_steps,
            self.stratum,
            external,
            self.proportion,  # type: ignore[arg-type]
        )


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

    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the classifier's training images; not with --sizes.")] = 50
    least_steps: Annotated[
        int,
        typer.Option(
            "--least-steps",
            help="More passes an epoch over small training sets, until every classifier has so many steps; 0 for the paper's way.",
        ),
    ] = 1000
    fixed_steps: Annotated[
        int | None,
        typer.Option(
            "--fixed-steps",
            help="Every classifier has exactly so many steps, and averaged weights: no epoch is selected, of too few people to select by. "
            "\\[default with --sizes: 400, and then a learning rate of 5e-4 and 32 images a step]",
        ),
    ] = None
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="The classifier's. \\[default: 1e-4]")] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="The classifier's images a step. \\[default: 200]")] = None
    networks: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            help="cnn (the paper's), resnet, densenet121, or your own: package.module:function, called with shape and number of classes; "
            "several with commas, or given again, all on the same images; NAME+weights begins with --weights. \\[default: cnn]",
        ),
    ] = None
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="For --network NAME+weights: safetensors or a PyTorch state dict, MONAI's or torchvision's."),
    ] = None

    def settings(self, *, few: bool) -> "ClassifierSettings":
        """How a classifier is trained, by default of few people for a fixed length."""
        from ...classifiers.training import FIXED_LENGTH, ClassifierSettings

        steps = FIXED_LENGTH.steps if self.fixed_steps is None and few else self.fixed_steps
        default = ClassifierSettings() if steps is None else FIXED_LENGTH
        return ClassifierSettings(
            epochs=self.epochs,
            learning_rate=default.learning_rate if self.learning_rate is None else self.learning_rate,
            batch_size=default.batch_size if self.batch_size is None else self.batch_size,
            steps=steps,
        )


@app.command("evaluate", epilog="Example: augment evaluate my-bids-folder --runs 20 --jobs 2 --out studies/mine")
@takes_groups
def evaluate_command(
    context: typer.Context,
    data: DataOptions,
    compared: MethodOptions,
    protocol: ProtocolOptions,
    reading: ReadingOptions,
    preparation: PreparationOptions,
    models: ComparedGenerators,
    classifier: ClassifierOptions,
    how: HowToRunOptions,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; an existing one is continued.")] = Path("studies/evaluation"),
) -> None:
    """Measure whether synthetic images help a classifier: repeated runs, intervals, and a verdict per method.

    The demo cohort is studied, unless options say otherwise, on a coronal slice, with 1,000 steps of the generators and --least-steps 250.
    """
    named = data.named()
    require_places(protocol.test_data)
    from ...datasets.common.errors import UsageError
    from ...datasets.output import refuse_misplaced
    from ...datasets.readers import Source
    from ...experiments.augmentation_study import command as evaluate

    how_to_run = how.how()
    if how.config is not None:
        how.require_nothing_else(context)
        resolved = evaluate.read_configuration(how.config, parts_of(classifier.networks), given_places(context))
        if compared.only_plans():
            evaluate.show_plan(resolved, out, compared.spread)
        else:
            evaluate.evaluate(resolved, out, how_to_run)
        return
    models.require_nothing_else(context)
    if named == "demo":
        reading, preparation, models, classifier = _for_the_demo(context, reading, preparation, models, classifier)
    settings = classifier.settings(few=protocol.sizes is not None or evaluate.learns_from_few(out))
    unused = [option for name, option in given_options(context).items() if name in ("epochs", "least_steps")]
    if settings.steps is not None and unused:
        raise UsageError(f"Every classifier has {settings.steps} steps: leave out {', '.join(unused)}, or give other --fixed-steps.")
    source = reading.source(named)
    test = (
        None
        if protocol.test_data is None
        else Source(protocol.test_data, None, reading.label, reading.plane, reading.suffix, kept=source.kept)
    )
    request = evaluate.EvaluationRequest(
        source=source,
        test_source=test,
        methods=parts_of(compared.methods),
        modes=compared.all_modes(),
        runs=compared.runs,
        protocols=protocol.protocols(compared, classifier.least_steps),
        fit=changed(models.change(preset_settings(models.preset)), preparation=preparation.changes(reading.plane)),
        classifier=settings,
        seed=compared.seed,
        networks=parts_of(classifier.networks),
        weights=classifier.weights,
        command=command_line(),
        generators=models.generators,
        sizes=parts_of(protocol.sizes),
        primary=compared.primary,
        against=compared.against,
    )
    if compared.only_plans():
        evaluate.show_plan(request, out, compared.spread)
        return
    refuse_misplaced(out, [place for place in (named, protocol.test_data) if place is not None])  # before all images are examined
    evaluate.evaluate(request, out, how_to_run)


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
        label, _, spelled = text.partition("=")
        number = counted(spelled)
        if not label or number is None:
            raise UsageError(f"--limit is written as AD=22, with a number of 1 or more, not '{text}'.")
        limits[label] = number
    return limits

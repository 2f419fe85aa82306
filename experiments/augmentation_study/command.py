"""The command ``augment evaluate``: set up an augmentation study or take it up again, run what is missing, and report."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...augment import console
from ...augment.fitting.model_folders import load_models
from ...augment.fitting.settings import FitSettings
from ...classifiers.covariates import CATEGORICAL, NUMERIC
from ...classifiers.networks import BEGUN, DEFAULT_NETWORK, NETWORKS, network_of
from ...classifiers.training import ClassifierSettings
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import digest_of, expanded
from ...datasets.readers import Source, read_cohort
from ...datasets.splits import Split
from ..engine import launch
from ..engine.data_config import DataConfig
from ..engine.launch import HERE, NOWHERE_ELSE, HowToRun
from ..engine.results_file import EFFECTS, FIGURE, RESULTS, TABLE, told_written
from ..engine.runs import Study
from ..engine.statistics import LEAST_RUNS
from ..engine.study_config import Where, settled
from ..engine.study_folder import CONFIG, has_runs, is_study, require_claimable
from ..engine.study_images import TEST, Prepared, columns_of, describe, require_classes, stratum
from .cell import require_weights, run_cell
from .config import AugmentationConfig, Grid
from .effects import reference_of
from .generators import check_no_leakage, describe_given
from .grid import arms_of, cells_of, grids_of, networks_of, primary_of, staggered
from .methods import CHANGED, SHORT, SOURCES, default_methods, require_methods, systems_of
from .mode import DEFAULT_MODE
from .planning import Spread, planned
from .protocols import Protocols, require_consistent, require_splits, split_of
from .report import write_report
from .synthetic import GENERATED


@dataclass(frozen=True)
class EvaluationRequest:
    """What a user asks for; see the options of ``augment evaluate``, whose defaults these are.

    Parameters
    ----------
    source : Source
        The cohort.
    test_source : Source, optional
        Another cohort to test on.
    methods, modes : tuple of str
        What is compared (``methods.method_of``), by default all that the cohort has what it needs for, in ``DEFAULT_MODE``.
    runs : int
        Repetitions.
    protocols, fit, classifier
        How people are split and training sets made; settings of the generators and of the classifiers.
    seed : int
    networks : tuple of str
        Classifiers (``networks.NETWORKS``), or one's own, ``"package.module:function"``; by default Table 5's.
    command : str
        Recorded in the configuration.
    generators : Path, optional
        Folder of models that were fitted before.
    weights : Path, optional
        File of the weights that networks ``NAME+weights`` begin with.
    sizes : tuple of str
        How many people of the smallest class are learnt from, or ``all``: everybody else is tested.
    primary, against : str
        The comparison that counts (``grid.primary_of``).
    """

    source: Source
    test_source: Source | None = None
    methods: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    runs: int = 20
    protocols: Protocols = field(default_factory=Protocols)
    fit: FitSettings = field(default_factory=FitSettings)
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    seed: int = 0
    networks: tuple[str, ...] = ()
    command: str = ""
    generators: Path | None = None
    weights: Path | None = None
    sizes: tuple[str, ...] = ()
    primary: str = ""
    against: str = ""


def configuration_of(request: EvaluationRequest) -> AugmentationConfig:
    """Check everything that can be checked before a run, and return the resolved configuration."""
    modes = request.modes or (DEFAULT_MODE,)
    grid, protocols = Grid(request.methods, modes, request.runs, request.sizes, request.networks), request.protocols
    cells_of(grid)
    external, given = request.test_source is not None, request.generators is not None
    require_consistent(protocols, external=external, generators=given, sizes=bool(request.sizes))
    weights = None if request.weights is None else expanded(request.weights).resolve()
    for network in request.networks:
        network_of(network, weights)
    if weights is not None and not any(network.endswith(BEGUN) for network in request.networks):
        raise UsageError(f"--weights goes with --network NAME{BEGUN}, what begins with them.")
    cohort = read_cohort(request.source)
    require_classes(cohort, "classifiers", "give --label-column, or the images of another class")
    require_splits(cohort, protocols, request.sizes)
    require_methods(request.methods, cohort, ())
    grid = replace(grid, methods=request.methods or default_methods(cohort))
    foreign = set(protocols.limit) - set(cohort.labels)
    if foreign:
        raise UsageError(f"--limit names {', '.join(sorted(foreign))}, and the classes are {', '.join(cohort.labels)}.")
    external = read_cohort(request.test_source) if request.test_source else None
    tests = [cohort] if external is None else [cohort, external]
    for tested in tests:
        if protocols.stratum and not stratum(tested.table, protocols.stratum).any():
            raise UsageError(f"--stratum {protocols.stratum} holds for nobody in {tested.source}.")
    require_methods(grid.methods, cohort, tests)
    source, test_source = request.source.resolved(), request.test_source.resolved() if request.test_source else None
    # What splits, the classifier that sees no image, and strata read in the table.
    columns = dict.fromkeys(("split", *NUMERIC, *CATEGORICAL, *columns_of(protocols.stratum)))
    data = describe(
        source,
        request.fit.preparation,
        test_source,
        columns=list(columns),
        progress=console.tracked("checking"),
        on_warning=console.warn,
    )
    for network in request.networks:
        if network.endswith(BEGUN):
            _try_weights(network, weights, data)
    where, generators = Where(None if weights is None else str(weights), request.command or None), None
    if request.generators:
        generators = describe_given(request.generators, cohort, systems_of(grid.methods), data.preparation)
        where = replace(where, generators=str(request.generators.resolve()))
        _check_given(request.generators, cohort, external, protocols)
    fit, size = settled(request.fit, data.preparation), data.preparation.size
    assert size is not None
    if not request.generators:
        for system in systems_of(grid.methods).values():
            system.require_networks(fit, size)
    return AugmentationConfig(
        seed=request.seed,
        data=data,
        where=where,
        protocols=protocols,
        fit=fit,
        classifier=request.classifier,
        generators=generators,
        grid=grid,
        weights=None if weights is None else digest_of(weights),
        primary=primary_of(grid, request.primary, request.against),
    )


def _try_weights(network: str, weights: Path | None, data: DataConfig) -> None:
    """Load the weights once before anything is computed, and say what became of them; raise a ``DataError`` if they do not fit."""
    size = data.preparation.size
    assert size is not None
    network_of(network, weights, lambda loaded: console.say(f"{network}: {loaded}."))(size, len(data.classes))


def _check_given(folder: Path, cohort: Cohort, external: Cohort | None, protocols: Protocols) -> None:
    """Refuse given generators that have seen who is tested before anything is computed; each run looks again."""
    split = split_of(cohort, protocols, 0, Split.load(folder / "split.json", cohort))
    lacking = {"train", "validation", *([] if protocols.external_only else [TEST])} - set(split.sides.values())
    if lacking:
        raise DataError(f"{folder / 'split.json'} has nobody on the side {min(lacking)}; fit the models on a split with all sides.")
    for model in load_models(folder, cohort.labels).values():
        check_no_leakage(model, split, [] if external is None else external.table["participant_id"])


def read_configuration(path: Path, networks: Sequence[str], here: Mapping[str, str] = NOWHERE_ELSE) -> AugmentationConfig:
    """A study's configuration from a file, such as the ``config.toml`` of another study.

    Parameters
    ----------
    path : Path
    networks : sequence of str
        Those that the command line names.
    here : mapping
        Where things are here, as for ``StudyConfig.read``.

    Raises
    ------
    DataError
        If it cannot be read, or holds what is no setting of such a study.
    UsageError
        If a setting cannot be, or it names a network of a user's own that the command line does not: a file runs no code.
    """
    config = AugmentationConfig.read(path, here)
    cells_of(config.grid)
    _require_named(path, config.grid, networks)
    foreign = [network for network in networks if network not in networks_of(config.grid)]
    if foreign:
        raise UsageError(f"{path} does not use the network {foreign[0]}: with --config the study is what the file says; leave it out.")
    return config


def _require_named(path: Path, grid: Grid, networks: Sequence[str]) -> None:
    unnamed = [network for network in _own(networks_of(grid)) if network not in networks]
    if unnamed:
        raise UsageError(f"{path} uses the network {unnamed[0]}: give it as --network too, for a file runs no code by itself.")


def learns_from_few(folder: Path) -> bool:
    """Whether a study was begun in the folder, with sizes."""
    began = _began(folder)
    return began is not None and bool(began.grid.sizes)


def _began(folder: Path) -> AugmentationConfig | None:
    """What the study in the folder, if any, began with."""
    if is_study(folder):
        with suppress(DataError):  # that it is another study is told later
            return AugmentationConfig.load(folder)
    return None


def _going_on(request: EvaluationRequest, folder: Path) -> AugmentationConfig:
    """The resolved configuration, in which what a request leaves to the defaults is what the study in the folder, if any, began with."""
    began = _began(folder)
    if began is None:
        return configuration_of(request)
    if not request.networks:
        _require_named(folder / CONFIG, began.grid, ())
    left_open = {name: getattr(began.grid, name) for name in ("methods", "modes", "sizes") if not getattr(request, name)}
    # A study of the default network alone needs no name for it.
    networks = request.networks or (networks_of(began.grid) if any(began.grid.networks) else ())
    config = configuration_of(replace(request, **left_open, networks=networks))
    config = replace(config, data=config.data.like(began.data), grid=replace(config.grid, networks=_keyed(networks, began)))
    return config if request.primary or request.against else replace(config, primary=began.primary)


def _resolved(study: EvaluationRequest | AugmentationConfig, folder: Path) -> AugmentationConfig:
    return _with_plans(_going_on(study, folder) if isinstance(study, EvaluationRequest) else study, folder)


def _keyed(networks: Sequence[str], began: AugmentationConfig) -> tuple[str, ...]:
    """Networks as the cells of a study know them: the default one has no name there if it had none when it was begun."""
    known = (network for grid in grids_of(began) for network in grid.networks or ("",))
    key = next((network for network in known if network in ("", DEFAULT_NETWORK)), DEFAULT_NETWORK)
    keyed = tuple(key if network == DEFAULT_NETWORK else network for network in networks)
    return keyed if any(keyed) else ()


def _with_plans(config: AugmentationConfig, folder: Path) -> AugmentationConfig:
    """With what was planned before there was a result in the folder, and since: what was left out would else count no more."""
    if not has_runs(folder):
        return replace(config, planned=(config.grid,))
    with suppress(DataError):  # that it is another study is told later
        last = AugmentationConfig.load(folder)
        return replace(config, planned=tuple(dict.fromkeys([*last.planned, last.grid])))
    return config


def _own(networks: Sequence[str]) -> list[str]:
    """Those that are a user's own code."""
    return [network for network in networks if network.removesuffix(BEGUN) not in NETWORKS]


def evaluate(study: EvaluationRequest | AugmentationConfig, out: Path, how: HowToRun = HERE) -> None:
    """Run what is missing of a study, and write its report; see ``launch.start`` for the errors.

    Parameters
    ----------
    study : EvaluationRequest or AugmentationConfig
        A request is resolved first (``configuration_of``).
    out : Path
        Folder of the study.
    how : HowToRun
    """
    config = _resolved(study, out)
    cells = cells_of(config.grid)
    if config.primary is not None:
        console.say(f"The comparison that counts, named before anything is computed: {config.primary}.")
    compared = reference_of(config) is not None and len(arms_of(config.grid)) > 1
    if compared and config.protocols.protocol != "paper" and config.grid.runs < LEAST_RUNS:
        console.say(f"There will be no verdict: it takes {LEAST_RUNS} runs, not {config.grid.runs}; a larger --runs goes on with these.")
    launch.start(
        Study(out, run_cell, staggered(cells) if config.protocols.protocol == "paper" else cells, config, {"device": how.device}),
        how,
        command=["augment", "evaluate", *(word for network in _own(networks_of(config.grid)) for word in ("--network", network))],
        report=report,
        # Data that are not there, or not those of the study, are told once, and not by every run.
        prepare=lambda: (require_weights(config.where.weights, config.weights), Prepared.load(out, config.data)),
        together=("run", "size"),
    )


def show_plan(study: EvaluationRequest | AugmentationConfig, out: Path, spread: str = "") -> None:
    """Tell how many runs, or people, the comparison that counts would take; nothing is trained.

    Parameters
    ----------
    study : EvaluationRequest or AugmentationConfig
    out : Path
        Folder of the study, whose runs are the pilot if there are any.
    spread : str
        As ``Spread.parse`` reads it.
    """
    config = _resolved(study, out)
    require_claimable(out, config)
    plan = planned(config, out, Spread.parse(spread) if spread else None)
    rows = [[str(cell) for cell in row] for row in plan.table.to_numpy()]
    console.show_table("power", f"To see a difference with 80 % power, {plan.told}", [str(name) for name in plan.table.columns], rows)
    console.say(
        f"The comparison that counts: {config.primary}. Either so many runs, with the people that there are; or so many people in the "
        f"cohort, with {config.grid.runs} runs."
    )
    for place, found in plan.spreads.items():
        console.say(f"What these runs spread by{f', {place}' if place else ''}, to state for a study like it: --spread '{found}'.")


def show_methods() -> None:
    """List the methods."""
    rows = [*((name, source.title) for name, source in SOURCES.items()), ("model:sampler", GENERATED)]
    console.show_table("methods", "Methods (augment evaluate --methods)", ("name", "what a classifier is trained on"), rows)
    changes = [*((f"+{name}", title) for name, title in CHANGED.items()), *((name, f"short for {text}") for name, text in SHORT.items())]
    console.show_table("changes", "Changes of every batch, behind any of them (resampled+classical)", ("name", "what it does"), changes)


def report(folder: Path) -> None:
    """Write a study's table and report, and show the table."""
    write_report(folder)
    console.say((folder / TABLE).read_text(encoding="utf-8"))
    console.say(told_written(folder, RESULTS, EFFECTS, TABLE, FIGURE, "report.html"))

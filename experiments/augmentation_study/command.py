"""The command ``augment evaluate``: set up an augmentation study or take it up again, run what is missing, and report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...augment import console
from ...augment.fitting.model_folders import load_models
from ...augment.fitting.settings import FitSettings
from ...classifiers.covariates import CATEGORICAL, NUMERIC, available
from ...classifiers.network import load_network
from ...classifiers.training import ClassifierSettings
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, UsageError
from ...datasets.readers import Source, read_cohort
from ...datasets.splits import Split
from ..engine import launch as starting
from ..engine.generators import check_no_leakage, describe_given
from ..engine.launch import HERE, NOWHERE_ELSE, HowToRun
from ..engine.results_file import RESULTS, TABLE, told_written
from ..engine.runs import Study
from ..engine.study_images import TEST, Prepared, columns_of, describe, stratum
from ..engine.study_settings import classifier_settings_of, fit_settings_of
from .cell import run_cell
from .protocols import DEFAULT_METHODS, Protocols, cells_of, require_splits, split_of, staggered, study_config
from .report import write_report


@dataclass(frozen=True)
class Request:
    """What a user asked for; see the options of ``augment evaluate``."""

    source: Source
    test_source: Source | None
    methods: tuple[str, ...]
    modes: tuple[str, ...]
    runs: int
    protocols: Protocols
    fit: FitSettings
    classifier: ClassifierSettings
    seed: int
    network: str | None = None
    command: str = ""
    generators: Path | None = None


def configuration_of(request: Request) -> dict[str, Any]:
    """Check everything that can be checked before a run, and return the resolved configuration."""
    cells_of(request.methods, request.modes, request.runs)
    _check_protocols(request.protocols, external=request.test_source is not None, generators=request.generators is not None)
    if request.network:
        load_network(request.network)
    cohort = read_cohort(request.source)
    require_splits(cohort, request.protocols)
    has_covariates = bool(available(cohort.table))
    if "covariates" in request.methods and not has_covariates:
        raise DataError(f"{request.source.data} has neither age nor sex; leave out the method covariates.")
    methods = request.methods or (*DEFAULT_METHODS, *(["covariates"] if has_covariates else []))
    foreign = set(request.protocols.limit) - set(cohort.labels)
    if foreign:
        raise UsageError(f"--limit names {', '.join(sorted(foreign))}, and the classes are {', '.join(cohort.labels)}.")
    external = read_cohort(request.test_source) if request.test_source else None
    for tests in [cohort] if external is None else [cohort, external]:
        if request.protocols.stratum and not stratum(tests.table, request.protocols.stratum).any():
            raise UsageError(f"--stratum {request.protocols.stratum} holds for nobody in {tests.source}.")
        if "covariates" in methods and not set(available(cohort.table)) <= set(tests.table.columns):
            raise DataError(f"{tests.source} lacks {' or '.join(available(cohort.table))}; leave out the method covariates.")
    source, test_source = request.source.resolved(), request.test_source.resolved() if request.test_source else None
    # What splits, the classifier that sees no image, and strata read in the table.
    columns = dict.fromkeys(("split", *NUMERIC, *CATEGORICAL, *columns_of(request.protocols.stratum)))
    data = describe(source, request.fit.preparation, test_source, columns=list(columns), progress=console.tracked("checking"))
    settled = replace(request.fit.preparation, size=tuple(data["preparation"]["size"]))
    generators = None
    if request.generators:
        generators = describe_given(request.generators, cohort, methods, settled)
        _check_given(request.generators, cohort, external, request.protocols)
    return study_config(
        data,
        request.protocols,
        replace(request.fit, preparation=settled),
        request.classifier,
        seed=request.seed,
        network=request.network,
        methods=methods,
        modes=request.modes,
        runs=request.runs,
        command=request.command,
        generators=generators,
    )


def _check_protocols(protocols: Protocols, *, external: bool, generators: bool) -> None:
    """Refuse what does not go together, whether options ask for it or a configuration file."""
    if protocols.external_only and not external:
        raise UsageError("--external-only goes with --test-data, the cohort to test on.")
    if generators and protocols.protocol != "paper":
        raise UsageError("--generators goes with --protocol paper: new splits would test on participants that the models have seen.")
    if generators and protocols.limit:
        raise UsageError("--generators does not go with --limit: the models have seen the participants that it leaves out.")


def _check_given(folder: Path, cohort: Cohort, external: Cohort | None, protocols: Protocols) -> None:
    """Refuse given generators that have seen who is tested before anything is computed; each run looks again."""
    split = split_of(cohort, protocols, 0, Split.load(folder / "split.json", cohort))
    lacking = {"train", "validation", *([] if protocols.external_only else [TEST])} - set(split.sides.values())
    if lacking:
        raise DataError(f"{folder / 'split.json'} has nobody on the side {min(lacking)}; fit the models on a split with all sides.")
    for model in load_models(folder, cohort.labels).values():
        check_no_leakage(model, split, [] if external is None else external.table["participant_id"])


def read_configuration(path: Path, network: str | None, here: Mapping[str, str] = NOWHERE_ELSE) -> dict[str, Any]:
    """A study's configuration from a file, such as the ``config.toml`` of another study.

    Parameters
    ----------
    path : Path
    network : str or None
        That the command line names.
    here : mapping
        Where things are here, as for ``starting.moved``.

    Raises
    ------
    DataError
        If it cannot be read, or holds what is no setting of such a study.
    UsageError
        If a setting cannot be, or it names a network that the command line does not: a file runs no code.
    """
    config = starting.read_configuration(path, ("seed", "data", "where", "protocols", "fit", "classifier", "grid"))
    try:
        config = starting.moved(config, here)
        Source(**config["data"]["source"], **config["where"]["source"])
        fit_settings_of(config)
        classifier_settings_of(config)
        cells_of(**config["grid"])
        protocols = Protocols(**config["protocols"])
        _check_protocols(protocols, external="test_source" in config["data"], generators="generators" in config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no configuration of such a study ({error}); give the config.toml of one.") from error
    if config.get("network") != network:
        raise UsageError(f"{path} uses the network {config.get('network')}: give it as --network too, for a file runs no code by itself.")
    return config


def evaluate(config: Mapping[str, Any], out: Path, how: HowToRun = HERE) -> None:
    """Run what is missing of a study, and write its report; see ``starting.start`` for the errors.

    Parameters
    ----------
    config : mapping
        Resolved.
    out : Path
        Folder of the study.
    how : HowToRun
    """
    cells = cells_of(**config["grid"])
    starting.start(
        Study(out, run_cell, staggered(cells) if config["protocols"]["protocol"] == "paper" else cells, config, {"device": how.device}),
        how,
        command=["augment", "evaluate", *(["--network", config["network"]] if config.get("network") else [])],
        report=report,
        # Data that are not there, or not those of the study, are told once, and not by every run.
        prepare=lambda: Prepared.load(out, config),
        together=("run",),
    )


def report(folder: Path) -> None:
    """Write a study's table and report, and show the table."""
    write_report(folder)
    console.say((folder / TABLE).read_text(encoding="utf-8"))
    console.say(told_written(folder, RESULTS, TABLE, "report.html"))

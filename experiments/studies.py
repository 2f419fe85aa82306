"""Studies of every kind, where it makes no difference which."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .augmentation_study import report as augmentation_report
from .augmentation_study.config import AugmentationConfig
from .engine.results_file import EFFECTS, RESULTS
from .engine.study_folder import all_runs, read_config
from .fidelity_study import report as fidelity_report
from .fidelity_study.config import FidelityConfig


def config_of(folder: Path) -> AugmentationConfig | FidelityConfig:
    """The configuration of the study in a folder; a ``DataError`` if it holds none."""
    return (FidelityConfig if "scoring" in read_config(folder) else AugmentationConfig).load(folder)


def results_table(folder: Path, runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """``results.csv``, of those runs that are of the grid; a ``DataError`` if there is none."""
    config = config_of(folder)
    if isinstance(config, FidelityConfig):
        return fidelity_report.results_table(folder, runs, config)
    return augmentation_report.results_table(folder, runs, config)


def published_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """What is published of a study's runs, by the names of files; a ``DataError`` if it has none."""
    config, runs = config_of(folder), all_runs(folder)
    if isinstance(config, FidelityConfig):
        return {RESULTS: fidelity_report.results_table(folder, runs, config)}
    results, effects = augmentation_report.tables_of(folder, runs, config)
    return {RESULTS: results} | ({EFFECTS: effects} if len(effects) else {})


def write_report(folder: Path) -> pd.DataFrame:
    """Write a study's table and report from the runs that are finished; returns ``results.csv``."""
    return (fidelity_report if isinstance(config_of(folder), FidelityConfig) else augmentation_report).write_report(folder)

"""One small cohort and one small study of it, for all who only look at them."""

from pathlib import Path

import pytest
from tiny_studies import compute, request, write_cohort

from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.report import write_report


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("data") / "cohort", {"AD": 14, "CN": 30})


@pytest.fixture(scope="session")
def study(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "study"
    compute(folder, evaluate.configuration_of(request(cohort, modes=("real+synthetic", "synthetic-only"))))
    write_report(folder)
    return folder

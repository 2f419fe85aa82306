"""Studies whose test people are of another cohort."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_studies import compute, request, write_cohort

from tinycohort.datasets.common.errors import DataError, LeakageError, UsageError
from tinycohort.datasets.readers import Source
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.protocols import Protocols
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.augmentation_study.results import tidy_results
from tinycohort.experiments.engine.study_folder import all_runs


def test_an_external_test_cohort_is_scored_and_checked(cohort: Path, tmp_path: Path):
    other = write_cohort(tmp_path / "other", {"AD": 10, "CN": 12}, seed=9)
    asked = request(cohort, methods=("original",), runs=1, test_source=Source(str(other)))
    folder = tmp_path / "study"
    compute(folder, evaluate.configuration_of(asked))
    found = tidy_results(all_runs(folder))
    assert found.loc[found["test_set"].str.startswith("external"), "n_test"].max() == 22
    with pytest.raises(LeakageError):
        evaluate.configuration_of(replace(asked, test_source=Source(str(cohort))))


def test_an_external_test_cohort_with_the_same_images_under_other_names_is_refused(cohort: Path, tmp_path: Path):
    other = write_cohort(tmp_path / "other", {"AD": 14, "CN": 30}, seed=0)
    with np.load(other / "images.npz") as kept:
        arrays = dict(kept)
    arrays["participants"] = np.array([f"new-{i}" for i in range(44)])
    np.savez(other / "images.npz", **arrays)
    table = pd.read_csv(other / "participants.tsv", sep="\t").assign(participant_id=arrays["participants"])
    table.to_csv(other / "participants.tsv", sep="\t", index=False)
    with pytest.raises(LeakageError, match="under other names"):
        evaluate.configuration_of(request(cohort, test_source=Source(str(other))))


def test_an_external_cohort_can_be_the_only_test_set(cohort: Path, tmp_path: Path):
    other = write_cohort(tmp_path / "other", {"AD": 10, "CN": 12}, seed=9)
    protocols = Protocols(least_steps=0, external_only=True)
    methods = ("original", "covariates", "vae:posterior")
    config = evaluate.configuration_of(request(cohort, methods=methods, protocols=protocols, test_source=Source(str(other))))
    folder = tmp_path / "study"
    compute(folder, config)
    results = write_report(folder)
    assert results["test_set"].str.startswith("external: ").all()
    # 90 % of 44 are trained on: those of the test side too.
    assert set(results["n_fitted_on"]) == {44 - 4}
    assert set(results["n_test"]) == {22}
    assert "## external: " in (folder / "table.md").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="--test-data"):
        evaluate.configuration_of(request(cohort, protocols=protocols))


def test_a_synthetic_cohort_is_no_test_data(cohort: Path, tmp_path: Path):
    other = write_cohort(tmp_path / "other", {"AD": 10, "CN": 12}, seed=9)
    with np.load(other / "images.npz") as kept:
        np.savez(other / "images.npz", **kept, synthetic=np.array(True))
    with pytest.raises(DataError, match="synthetic"):
        evaluate.configuration_of(request(cohort, test_source=Source(str(other))))


@pytest.mark.parametrize(
    ("written", "refused"), [(["F", "M"], False), (["female", "male"], True), (["M", None], False), (["F", "f"], True)]
)
def test_covariates_of_another_cohort_are_spelled_alike(cohort: Path, tmp_path: Path, written: list[str], refused: bool):
    other = write_cohort(tmp_path / "other", {"AD": 10, "CN": 12}, seed=9)
    table = pd.read_csv(other / "participants.tsv", sep="\t").assign(sex=written * 11)
    table.to_csv(other / "participants.tsv", sep="\t", index=False)
    asked = request(cohort, methods=("original", "covariates"), test_source=Source(str(other)))
    if refused:
        with pytest.raises(DataError, match=f"other has {', '.join(written)} as sex, and .*cohort has F, M: write them alike"):
            evaluate.configuration_of(asked)
    else:
        assert evaluate.configuration_of(asked).data.tests is not None
    assert evaluate.configuration_of(replace(asked, methods=("original",))).data.tests is not None

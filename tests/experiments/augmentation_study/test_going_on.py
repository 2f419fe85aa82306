"""Studies that are begun again: with fewer runs, other data, another device; and their configuration as a file."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_studies import request, write_cohort

from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.cell import run_cell
from tinycohort.experiments.augmentation_study.config import AugmentationConfig
from tinycohort.experiments.augmentation_study.effects import n_primary
from tinycohort.experiments.augmentation_study.grid import cells_of, networks_of
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.engine.launch import HowToRun
from tinycohort.experiments.engine.runs import Outcome
from tinycohort.experiments.engine.study_folder import claim, configuration_digest, run_path, seed_of, write_run
from tinycohort.experiments.engine.study_images import Prepared


def test_what_was_ever_planned_counts_though_it_is_left_out_after_a_look(study: Path, tmp_path: Path, monkeypatch):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "*.html"))
    first = AugmentationConfig.load(copy)
    monkeypatch.setattr(evaluate.launch, "start", lambda study, *args, **how: claim(study.folder, study.config))
    evaluate.evaluate(first, tmp_path / "new")
    assert AugmentationConfig.load(tmp_path / "new").planned == (first.grid,)
    more = replace(first, grid=replace(first.grid, runs=3, methods=(*first.grid.methods[::-1], "morph")))
    less = replace(first, grid=replace(first.grid, methods=first.grid.methods[:-1]))
    for now, planned in ((more, [first]), (more, [first, more]), (less, [first, more]), (less, [first, more, less])):
        evaluate.evaluate(now, copy)
        kept = AugmentationConfig.load(copy)
        assert kept.grid == now.grid
        assert kept.planned == tuple(each.grid for each in planned)
    write_report(copy)
    lines = (copy / "table.md").read_text(encoding="utf-8").splitlines()
    (told,) = (line for line in lines if line.startswith("Changed when there were results"))
    gone = first.grid.methods[-1]
    assert told.startswith(
        f"Changed when there were results (methods left out: {gone}, morph). Verdicts are corrected for all that was ever"
    )
    # One that began to prepare its images before there was a result, and claims the folder now.
    claim(copy, replace(more, planned=(more.grid, replace(more.grid, runs=7))))
    kept = AugmentationConfig.load(copy)
    assert [grid.runs for grid in kept.planned] == [2, 3, 2, 7]
    evaluate.evaluate(more, copy)
    write_report(copy)
    told = (copy / "table.md").read_text(encoding="utf-8")
    assert "Changed when there were results (runs: 2 were planned, 3 are now). Verdicts" in told


def test_a_study_of_the_default_network_alone_keeps_its_cells_when_others_come(study: Path, cohort: Path, tmp_path: Path, monkeypatch):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "generators", "*.html"))
    began, started = AugmentationConfig.load(copy), []
    monkeypatch.setattr(evaluate.launch, "start", lambda study, *args, **how: started.append(study) or claim(study.folder, study.config))
    asked = request(cohort, modes=())
    for networks in ((), ("cnn",)):
        evaluate.evaluate(replace(asked, networks=networks), copy)
        assert started.pop().config == replace(began, planned=(began.grid,))
    evaluate.evaluate(replace(asked, networks=("resnet",)), copy)
    assert not any(run_path(copy, key).exists() for key in started.pop().cells)
    both = replace(asked, networks=("cnn", "resnet"))
    evaluate.evaluate(both, copy)
    cells, config = started.pop().cells, AugmentationConfig.load(copy)
    assert [key for key in cells if run_path(copy, key).exists()] == cells_of(began.grid)
    assert (len(cells), n_primary(config), networks_of(config.grid)) == (2 * len(cells_of(began.grid)), 2, ("cnn", "resnet"))
    key = next(key for key in cells if key.get("network") == "resnet")
    seed = seed_of(config.seed, key)
    answer = json.loads(json.dumps(run_cell(key, seed, copy)).replace("NaN", "null"))
    write_run(copy, configuration_digest(config.content()), key, seed, {"result": answer, "record": {"seconds": 1.0}})
    write_report(copy)
    assert pd.read_csv(copy / "results.csv")["network"].value_counts().to_dict() == {"cnn": 20, "resnet": 2}
    assert set(pd.read_csv(copy / "predictions.csv")["network"]) == {"cnn", "resnet"}
    table = (copy / "table.md").read_text(encoding="utf-8")
    assert "Unfinished: 11 of 20 cells" in table
    assert table.index("## cnn, test\n") < table.index("## resnet, test\n")
    assert "left out" not in table
    evaluate.read_configuration(copy / "config.toml", ("cnn", "resnet"))
    # What is left open then is both.
    evaluate.evaluate(asked, copy)
    assert started.pop().cells == cells


def test_going_on_runs_no_code_of_a_file_either(study: Path, cohort: Path, tmp_path: Path):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "generators", "*.html"))
    config = AugmentationConfig.load(copy)
    claim(copy, replace(config, grid=replace(config.grid, networks=("os:system",))))
    with pytest.raises(UsageError, match=r"uses the network os:system: give it as --network too"):
        evaluate.evaluate(request(cohort), copy)


def test_the_report_tells_the_command_and_is_no_other_study_for_it(study: Path, tmp_path: Path):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "generators"))
    config = evaluate.read_configuration(copy / "config.toml", ())
    before = claim(copy, config)
    config = replace(config, where=replace(config.where, command="augment evaluate --data 'a & b'"))
    assert claim(copy, config) == before
    write_report(copy)
    assert "augment evaluate --data &#39;a &amp; b&#39;" in (copy / "report.html").read_text(encoding="utf-8")


def test_images_stay_with_their_participants_when_the_table_is_sorted_or_changed(tmp_path: Path):
    cohort = write_cohort(tmp_path / "cohort", {"AD": 10, "CN": 12})
    config = evaluate.configuration_of(request(cohort, methods=("original",)))
    before = Prepared.load(tmp_path / "study", config.data)
    with np.load(cohort / "images.npz") as kept:
        arrays = {name: value[::-1] for name, value in kept.items()}
    np.savez(cohort / "images.npz", **arrays)
    after = Prepared.load(tmp_path / "study", config.data)
    assert list(after.cohort.table["participant_id"]) == list(before.cohort.table["participant_id"])[::-1]
    for who in ("p0-000", "p0-021"):
        pixels = [part.cohort.arrays[part.cohort.table.set_index("participant_id").loc[who, "image"]] for part in (before, after)]
        assert np.array_equal(*pixels)
    arrays["labels"] = np.where(arrays["labels"] == "AD", "CN", "AD")
    np.savez(cohort / "images.npz", **arrays)
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    table["diagnosis"] = np.where(table["diagnosis"] == "AD", "CN", "AD")
    table.to_csv(cohort / "participants.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match="changed"):
        Prepared.load(tmp_path / "study", config.data)


def test_a_study_goes_on_where_its_data_lie_elsewhere(cohort: Path, tmp_path: Path):
    here = evaluate.configuration_of(request(cohort))
    moved = shutil.copytree(cohort, tmp_path / "moved")
    there = evaluate.configuration_of(request(moved))
    assert here != there
    assert claim(tmp_path / "study", here) == claim(tmp_path / "study", there)
    other = evaluate.configuration_of(request(write_cohort(tmp_path / "other", {"AD": 10, "CN": 12}, seed=4)))
    with pytest.raises(UsageError, match="digest"):
        claim(tmp_path / "study", other)


@contextmanager
def without_data(study: Path) -> Iterator[None]:
    hidden = Path(AugmentationConfig.load(study).data.cohort.source.data)
    away = hidden.with_name("away")
    hidden.rename(away)
    try:
        yield
    finally:
        away.rename(hidden)


@pytest.mark.parametrize("lacking", [[], ["finished"]])
def test_a_report_is_redrawn_where_the_images_are_not(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture, lacking: list[str]):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("cache", "*.html", "table.md"))
    if lacking:  # as before it was told
        pd.read_csv(copy / "effects.csv").drop(columns=lacking).to_csv(copy / "effects.csv", index=False)
    before = {name: (copy / name).read_bytes() for name in ("config.toml", "effects.csv", "predictions.csv")}
    with without_data(copy):
        write_report(copy)
    assert "Against `weighted`" in (copy / "table.md").read_text(encoding="utf-8")
    assert (copy / "table.md").read_bytes() == (study / "table.md").read_bytes()
    assert before == {name: (copy / name).read_bytes() for name in before}
    assert "Its verdicts over people are those of the effects.csv that is there." in " ".join(capsys.readouterr().err.split())


def test_effects_of_fewer_runs_are_not_kept(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "*.html"))
    next((copy / "runs").glob("*method=vae*")).unlink()
    with without_data(copy):
        write_report(copy)
    assert set(pd.read_csv(copy / "effects.csv")["test"]) == {"runs"}
    assert "Its verdicts are over runs alone, which see less." in " ".join(capsys.readouterr().err.split())


def test_a_configuration_file_runs_no_code(study: Path, tmp_path: Path):
    path = tmp_path / "config.toml"
    text = (study / "config.toml").read_text(encoding="utf-8")
    path.write_text(text.replace("[grid]", '[grid]\nnetworks = ["os:system"]'), encoding="utf-8")
    with pytest.raises(UsageError, match="network"):
        evaluate.read_configuration(path, ())


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("protocol =", "protokol =", DataError, "protokol"),
        ("epochs = 3", 'epochs = "three"', DataError, "config.toml"),
        ("epochs = 3", "epochs = 0", UsageError, "at least 1 epoch"),
        ("latent_dim =", "latentdim =", DataError, "latentdim"),
        ("runs = 2", "", DataError, "runs"),
        ("runs = 2", 'runs = "2"', DataError, "config.toml"),
        ("runs = 2", "runs = 0", UsageError, "1 or more"),
        ('"synthetic-only"', '"half"', UsageError, "--mode is"),
        ('"original"', '"nothing"', UsageError, "no method 'nothing'"),
        ("seed = 0", 'seed = "x"', DataError, "no whole number"),
        ("seed = 0", "seed = 2020-02-02", DataError, "no study's configuration"),
        ('suffix = "T1w"', "suffix_ = 1", DataError, "suffix_"),
        ("[protocols]", "[protocols]\nexternal_only = true", UsageError, "--test-data"),
        ("[grid]", "[generators]\nsplit = 'x'\n\n[grid]", UsageError, "--protocol paper"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_before_anything_is_written(
    study: Path, tmp_path: Path, old: str, new: str, error: type[Exception], says: str
):
    text = (study / "config.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "config.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(error, match=says):
        evaluate.read_configuration(tmp_path / "config.toml", ())


def test_where_the_data_lie_is_written_when_they_are_there(study: Path, tmp_path: Path):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "*.html"))
    next((copy / "runs").iterdir()).unlink()
    before = (copy / "config.toml").read_bytes()
    with pytest.raises(DataError, match="nowhere"):
        evaluate.evaluate(evaluate.read_configuration(copy / "config.toml", (), {"data": str(tmp_path / "nowhere")}), copy)
    assert (copy / "config.toml").read_bytes() == before
    with pytest.raises(UsageError, match="leave out --test-data"):
        evaluate.read_configuration(copy / "config.toml", (), {"test_data": "x"})


def test_each_start_has_its_own_device(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(
        "tinycohort.experiments.engine.launch.run_study", lambda study, **how: told.append(study.options) or Outcome(0, 0, ())
    )
    evaluate.evaluate(AugmentationConfig.load(study), study, HowToRun(device="cpu"))
    assert told == [{"device": "cpu"}]
    assert "device" not in (study / "config.toml").read_text()
    with pytest.raises(UsageError, match="No GPU that torch can use"):
        HowToRun(device="gpu")
    HowToRun(device="gpu", slurm=2)  # for nodes that have one
    with pytest.raises(UsageError, match="auto, cpu or gpu, not 'tpu'"):
        HowToRun(device="tpu")


def test_data_that_are_gone_are_told_once(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "*.html"))
    config = evaluate.read_configuration(study / "config.toml", ())
    cohort = replace(config.data.cohort, source=replace(config.data.cohort.source, data=str(tmp_path / "nowhere")))
    config = replace(config, data=replace(config.data, cohort=cohort))
    # A finished study asks for nothing: its report is drawn without the images.
    evaluate.evaluate(config, copy)
    assert (copy / "report.html").is_file()
    monkeypatch.setattr("tinycohort.experiments.engine.launch.run_study", lambda *args, **options: pytest.fail("runs were begun"))
    next((copy / "runs").iterdir()).unlink()
    with pytest.raises(DataError, match="nowhere"):
        evaluate.evaluate(config, copy)


def test_a_grid_that_has_become_smaller_leaves_the_other_runs_out(study: Path, tmp_path: Path):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "generators"))
    config = evaluate.read_configuration(copy / "config.toml", ())
    claim(copy, replace(config, grid=replace(config.grid, runs=1, modes=("real+synthetic",))))
    table = write_report(copy)
    assert set(table["run"]) == {0}
    assert set(table["mode"]) == {"real", "real+synthetic"}
    assert "Left out: 6 finished cells of an earlier start" in (copy / "table.md").read_text()


@pytest.mark.parametrize("column", ["age", "split"])
def test_a_study_does_not_go_on_with_another_column_that_decides(cohort: Path, tmp_path: Path, column: str):
    folder = tmp_path / "study"
    mine = shutil.copytree(cohort, tmp_path / "cohort") if cohort.is_dir() else Path(shutil.copy(cohort, tmp_path / cohort.name))
    config = evaluate.configuration_of(request(mine, runs=1))
    claim(folder, config)
    assert len(Prepared.load(folder, config.data).cohort)
    table = next(mine.glob("*.[ct]sv"))
    content = pd.read_csv(table, sep=None, engine="python", dtype=str)
    content[column] = "train" if column == "split" else "99"
    content.to_csv(table, sep="\t" if table.suffix == ".tsv" else ",", index=False)
    with pytest.raises(DataError, match=f"The column {column} of .* has changed since the study began"):
        Prepared.load(folder, config.data)
    if column == "split":
        return  # the command itself would refuse to begin such a study
    with pytest.raises(DataError, match=rf"has other content \({column}\) than when the study began"):
        evaluate.evaluate(evaluate.configuration_of(request(mine, runs=1)), folder)

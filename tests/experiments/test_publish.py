"""What is published of a study tells the same as the study, works by itself, and names nobody."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from folders import ROOT, tree
from made_studies import PEOPLE, write_study

from tinycohort.datasets.common.custody import seal
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.common.files import MANIFEST
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.effects import RUNS
from tinycohort.experiments.augmentation_study.predictions import predictions_path, read_predictions
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.augmentation_study.results import EXPLAINED
from tinycohort.experiments.engine.results_file import PUBLISHED, is_published
from tinycohort.experiments.engine.study_folder import all_runs, claim, configuration_digest, read_config, run_path
from tinycohort.experiments.publish import publish
from tinycohort.experiments.studies import config_of
from tinycohort.experiments.verify import findings_of

RESULTS = ROOT / "docs/results"
STUDIES = sorted(path.name for path in RESULTS.iterdir() if path.is_dir())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")


@pytest.fixture
def published(study: Path, tmp_path: Path) -> Path:
    publish(study, tmp_path / "published")
    return tmp_path / "published"


def found(folder: Path) -> dict[str, bool | None]:
    return {finding.what: finding.matches for finding in findings_of(folder)}


@pytest.mark.parametrize("old", [False, True])
def test_what_is_published_tells_the_same_and_names_nobody(augment, tmp_path: Path, old: bool):
    study, out = write_study(tmp_path / "study", old=old), tmp_path / "published"
    augment("report", study)
    before = tree(study)
    answer = augment("publish", study, "--out", out)
    assert answer.code == 0, answer.err
    assert tree(study) == before
    assert set(tree(out)) == set(PUBLISHED)
    for name in tree(out):
        assert name in (MANIFEST, "results.csv") or (out / name).read_bytes() == (study / name).read_bytes(), name
        assert not re.search(r"P\d\d", (out / name).read_bytes().decode(errors="replace"))
    both = [pd.read_csv(folder / "results.csv", dtype=str, keep_default_na=False) for folder in (out, study)]
    pd.testing.assert_frame_equal(both[0].drop(columns="plan"), both[1])
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "vae:gmm of AD (3 of 3 fits" in table or "vae:gmm of AD (6 of 6 fits" in table
    assert found(out) == {"files": True, "runs": None, "results.csv": True, "effects.csv": True, "table.md": True, "data": None}


def test_a_published_study_is_reported_again(augment, published: Path):
    before = tree(published)
    (published / "table.md").unlink()
    (published / "figure.png").write_bytes(b"")
    answer = augment("report", published)
    assert answer.code == 0
    drawn = ", ".join(str(published / name) for name in ("table.md", "figure.png", MANIFEST))
    assert f"Wrote {drawn}. The runs are no longer in this study" in answer.words
    assert tree(published) == before


def test_what_was_not_sealed_is_not_sealed_by_a_report(augment, study: Path, published: Path, tmp_path: Path):
    """A study whose runs are elsewhere for now goes on when they are back; of what has lost its manifest nobody knows if it is sound."""
    write_report(study)
    (study / "runs").rename(tmp_path / "runs")
    assert augment("report", study).code == 0
    assert not (study / MANIFEST).exists()
    (published / MANIFEST).unlink()
    assert augment("report", published).code == 0
    assert not (published / MANIFEST).exists()
    assert found(published)["files"] is None


@pytest.mark.parametrize("file", ["README.md", "cache/images.npy"])
def test_no_other_file_is_sealed_by_a_report(augment, published: Path, file: str):
    (published / file).parent.mkdir(exist_ok=True)
    (published / file).touch()
    before = tree(published)
    answer = augment("report", published)
    assert (answer.code, f"{file} is not listed" in answer.words) == (3, True)
    assert tree(published) == before


def test_of_what_was_published_without_its_plan_the_configuration_stays(augment, published: Path):
    path = published / "results.csv"
    pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns="plan").to_csv(path, index=False)
    seal(published)
    assert augment("report", published).code == 0
    with (published / "config.toml").open("a") as stream:
        stream.write("# mine\n")
    answer = augment("report", published)
    assert (answer.code, "config.toml has another content" in answer.words) == (3, True)


def test_messages_of_failures_are_not_published(study: Path, tmp_path: Path):
    key = {"run": 0, "method": "original", "mode": "real"}
    run_path(study, key).unlink()
    (study / "failures").mkdir()
    content = '{"key": {"run": 0, "method": "original", "mode": "real"}, "error": {"type": "E", "message": "sub-P03 is dark"}}'
    (study / "failures/a.json").write_text(content)
    write_report(study)
    assert "sub-P03" in (study / "table.md").read_text(encoding="utf-8")
    publish(study, tmp_path / "published")
    table = (tmp_path / "published/table.md").read_text(encoding="utf-8")
    assert "sub-P03" not in table
    assert "Unfinished: 14 of 15 cells" in table


@pytest.mark.parametrize(
    ("name", "old", "new", "wrong"),
    [
        ("config.toml", "seed = 0", "seed = 1", ["results.csv"]),
        ("config.toml", "runs = 3", "runs = 2", ["results.csv"]),
        ("config.toml", 'methods = ["original", ', "methods = [", ["results.csv"]),
        ("results.csv", ",test,", ",tset,", ["effects.csv", "table.md"]),
        ("results.csv", "balanced_accuracy", "balanced", ["results.csv"]),
        ("results.csv", ",12,40,0.", ",12,40,x0.", ["results.csv"]),
        ("table.md", "±", "+-", ["table.md"]),
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_an_altered_one_is_found(augment, published: Path, name: str, old: str, new: str, wrong: list[str], sealed: bool):
    text = (published / name).read_text(encoding="utf-8")
    assert old in text
    (published / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    if not sealed:
        (published / MANIFEST).unlink()
    assert [what for what, matches in found(published).items() if matches is False] == ["files"] * sealed + wrong
    assert augment("verify", published).code == 3
    if name == "results.csv" or "results.csv" in wrong:
        assert augment("report", published).code == (3 if sealed or "results.csv" in wrong else 0)


def test_a_report_hides_no_alteration(augment, published: Path):
    """Of an altered difference and the table neither is called the one that is right, and the table is not made the altered one's."""
    assert "against which results.csv, effects.csv, figure.png could be compared" in augment("verify", published).words
    effects = pd.read_csv(published / "effects.csv")
    effects.assign(difference=0.3).to_csv(published / "effects.csv", index=False)
    before = tree(published)
    answer = augment("report", published)
    assert (answer.code, "effects.csv has another content" in answer.words) == (3, True)
    assert tree(published) == before
    assert {what for what, matches in found(published).items() if matches is False} == {"files", "effects.csv", "table.md"}
    answer = augment("verify", published)
    assert answer.code == 3
    assert "not what results.csv and effects.csv give; one of them was changed" in answer.words


def test_effects_over_runs_are_held_against_the_results_where_there_is_no_manifest(published: Path):
    """Whoever drew the table anew of altered effects, it is them that the results gainsay; a column that no table shows, too."""
    (published / MANIFEST).unlink()
    path = published / "effects.csv"
    sound = pd.read_csv(path)
    over_runs = sound["test"] == RUNS
    for column in ("difference", "se", "df"):
        sound.assign(**{column: sound[column].mask(over_runs, 0.3)}).to_csv(path, index=False)
        write_report(published)
        assert [what for what, matches in found(published).items() if matches is False] == ["effects.csv"], column


@pytest.mark.parametrize("file", ["figure.png", "effects.csv"])
def test_what_nothing_else_tells_is_held_against_the_manifest(augment, published: Path, file: str):
    with (published / file).open("ab") as stream:
        stream.write(b"\n")
    assert [what for what, matches in found(published).items() if matches is False] == ["files"]
    assert f"{file} has another content" in augment("verify", published).words


def test_paths_that_tell_too_much_may_be_named_otherwise(augment, published: Path):
    """The configuration is sealed again by a report, as ``publish`` says; its digest leaves paths out."""
    config, results = published / "config.toml", (published / "results.csv").read_bytes()
    text = config.read_text(encoding="utf-8")
    (path,) = re.findall(r'^data = "(.+)"$', text, re.MULTILINE)
    config.write_text(text.replace(path, "$MY_COHORT"), encoding="utf-8")
    assert found(published)["files"] is False
    assert augment("report", published).code == 0
    assert found(published)["files"] is True
    assert (published / "results.csv").read_bytes() == results


def test_a_share_of_variance_that_is_no_number_is_damage(augment, published: Path):
    path = published / "results.csv"
    results = pd.read_csv(path, dtype=str, keep_default_na=False)
    (column,) = [name for name in results if name.startswith(EXPLAINED)][:1]
    results.loc[results[column] != "", column] = "\0" + ".5"
    results.to_csv(path, index=False)
    answer = augment("report", published)
    assert answer.code == 3
    assert column in answer.err


@pytest.mark.parametrize("with_effects", [True, False])
def test_a_row_that_is_there_twice_is_damage(augment, published: Path, with_effects: bool):
    path = published / "results.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[-1]]) + "\n", encoding="utf-8")
    if not with_effects:
        (published / "effects.csv").unlink()
    answer = augment("report", published)
    assert answer.code == 3
    assert "has run 2 of vae:gmm synthetic-only twice" in answer.words
    assert found(published)["results.csv"] is False


def test_a_published_study_is_not_taken_up_again(augment, published: Path, study: Path, tmp_path: Path):
    before = tree(published)
    answer = augment("evaluate", "--config", published / "config.toml", "--out", published)
    assert (answer.code, "is published" in answer.words) == (2, True)
    assert tree(published) == before
    with pytest.raises(DataError, match="published already"):
        publish(published, tmp_path / "again")
    with pytest.raises(UsageError, match="exists"):
        publish(study, published)
    (published / ".DS_Store").touch()  # as macOS leaves it
    publish(study, published, force=True)
    assert tree(published) == before
    with pytest.raises(UsageError, match="nothing that this command makes"):
        publish(study, study, force=True)


def test_a_study_without_runs_is_not_published(study: Path, tmp_path: Path):
    shutil.rmtree(study / "runs")
    with pytest.raises(DataError, match="no finished run"):
        publish(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predictions_lie_beside_the_runs_and_can_be_left_out(study: Path):
    runs = all_runs(study)
    for run in runs:
        assert not re.search(r"P\d\d", run_path(study, run["key"]).read_text(encoding="utf-8"))
        assert set(read_predictions(study, run, ["AD", "CN"])["image_id"]) == {name for names in PEOPLE.values() for name in names}
    assert found(study)["predictions"] is True
    path = predictions_path(study, runs[0]["key"])
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace("0.", "0.0", 1), encoding="utf-8")
    assert found(study)["predictions"] is False
    path.unlink()
    assert found(study)["predictions"] is None
    shutil.rmtree(study / "predictions")
    assert False not in found(study).values()
    write_report(study)
    assert (study / "table.md").is_file()


def test_old_runs_and_new_ones_hold_the_same_predictions(tmp_path: Path):
    one, other = write_study(tmp_path / "new"), write_study(tmp_path / "old", old=True)
    assert not (other / "predictions").exists()
    for new, old in zip(all_runs(one), all_runs(other), strict=True):
        # Those in the runs have four digits.
        both = [read_predictions(folder, run, ["AD", "CN"]) for folder, run in ((one, new), (other, old))]
        pd.testing.assert_frame_equal(*both, atol=1e-4, rtol=0)
    assert write_report(one).drop(columns=[]).equals(write_report(other))


def test_force_replaces_nothing_but_a_published_study(augment, tmp_path: Path):
    study, lost = write_study(tmp_path / "study"), write_study(tmp_path / "lost")
    write_report(lost)
    shutil.rmtree(lost / "runs")
    (lost / "generators/0").mkdir(parents=True)
    (lost / "generators/0/model.safetensors").write_bytes(b"hours of training")
    before = tree(lost)
    answer = augment("publish", study, "--out", lost, "--force")
    assert answer.code == 2
    assert tree(lost) == before


# What this repository publishes.


@pytest.mark.parametrize("name", STUDIES)
def test_published_studies_verify_and_hold_nothing_else(name: str):
    folder = RESULTS / name
    assert is_published(folder)
    assert set(tree(folder)) <= set(PUBLISHED)
    answers = found(folder)
    assert answers.pop("effects.csv", None) is not False
    assert answers == {"files": True, "runs": None, "results.csv": True, "table.md": True, "data": None}


@pytest.mark.parametrize("name", [name for name in STUDIES if "protocols" in read_config(RESULTS / name)])
def test_published_results_stay_those_of_their_configuration(name: str, tmp_path: Path):
    folder = shutil.copytree(RESULTS / name, tmp_path / name)
    config = evaluate.read_configuration(folder / "config.toml", ())
    assert set(pd.read_csv(folder / "results.csv")["configuration"]) == {claim(folder, config)[:12]}


@pytest.mark.parametrize("name", STUDIES)
def test_a_published_configuration_is_written_as_it_was_read(name: str, tmp_path: Path):
    """An option that a study does not use leaves no trace, or its results would be those of another configuration."""
    config = config_of(RESULTS / name)
    assert claim(tmp_path / "again", config) == configuration_digest(read_config(RESULTS / name))
    assert (tmp_path / "again/config.toml").read_bytes() == (RESULTS / name / "config.toml").read_bytes()


def test_no_file_names_a_participant_of_oasis():
    """OASIS-1 counts to 457: whom tests make up is beyond 9000."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    paths = [ROOT / name for name in files if name] or [path for path in ROOT.rglob("*") if path.suffix in (".md", ".py", ".csv", ".toml")]
    named = re.compile(rb"OAS1_?[0-8]\d{3}(?!\d)")
    assert [str(path) for path in paths if path.is_file() and (named.search(path.read_bytes()) or named.search(path.name.encode()))] == []

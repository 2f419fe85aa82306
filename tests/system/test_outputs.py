"""What every command that writes does with a place that is not free: another command is at work on it, or it is a real cohort's."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
from folders import tree

from tinycohort.augment.fitting.model_config import ModelConfig
from tinycohort.augment.fitting.model_folders import model_folders
from tinycohort.datasets.common import locks
from tinycohort.datasets.common.custody import seal
from tinycohort.datasets.output import output, shared_output

QUICK = ("--epochs", "1", "--channels", "2", "--latent-dim", "2", "--batch-size", "5", "--precision", "fp32", "--device", "cpu")
GENERATE = ("generate", "--models", "{models}", "-n", "2", "--sampler", "normal")
# The words of a command that writes to {out}, and whether it has --force.
COMMANDS = {
    "fit": (("fit", "--data", "{data}", "--class", "AD", *QUICK, "--out", "{out}"), True),
    "generate": ((*GENERATE, "--out", "{out}"), True),
    "morph": (("generate", "--sampler", "morph", "--data", "{data}", "-n", "2", "--out", "{out}"), True),
    "prepare": (("prepare", "{data}", "--like", "{models}", "--out", "{out}"), True),
    "interpolate": (("interpolate", "{models}", "--class", "AD", "--out", "{out}"), True),
    "audit": (("audit", "{syn}", "--models", "{models}", "--out", "{out}"), True),
    "fidelity": (("fidelity", "{data}", "{syn}", "--out", "{out}"), True),
    "show": (("show", "{data}", "--out", "{out}"), True),
    "publish": (("publish", "{study}", "--out", "{out}"), True),
    "toy": (("toy", "--out", "{out}"), True),
    "demo": (("demo", "--out", "{out}"), True),
    "evaluate": (("evaluate", "--data", "{data}", "--methods", "original", "--runs", "1", "--out", "{out}"), False),
    "study": (("study", "low-data", "--data", "{many}", "--sizes", "40", "--runs", "1", "--samples", "20", "--out", "{out}"), False),
}
FORCED = [(name, force) for name, (_, forces) in COMMANDS.items() for force in ((False, True) if forces else (False,))]
posix = pytest.mark.skipif(sys.platform == "win32", reason="no locks")


@pytest.fixture(scope="module")
def places(fakes, studies, tmp_path_factory):
    """What commands are given to read."""
    root, study = tmp_path_factory.mktemp("places"), studies["volumes"]
    many = fakes.study(root / "many.npz", counts={"AD": 80, "CN": 80})
    (root / "syn").mkdir()
    return {"data": study.data, "models": study.models, "many": many, "syn": root / "syn", "study": root / "study"}


def words_of(name, places, out, force=False):
    words, _ = COMMANDS[name]
    return [*(word.format(**places, out=out) for word in words), *(["--force"] if force else [])]


@posix
@pytest.mark.parametrize(("name", "force"), FORCED)
def test_a_second_command_is_told_of_the_first(augment, places, tmp_path, monkeypatch, name, force):
    monkeypatch.setattr(locks, "_PATIENCE", 0)
    out = tmp_path / "out"
    with output(out / "AD" if name == "fit" else out, pytest.fail):
        before = tree(tmp_path)
        answer = augment(*words_of(name, places, out, force))
        assert tree(tmp_path) == before
    assert answer.code == 2, answer.words
    assert f"Another command is at work on {out}" in answer.words
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("force", [False, True])
def test_a_cohort_is_not_audited_while_another_command_is_at_work_on_it(augment, places, tmp_path, force):
    with output(tmp_path / "syn", pytest.fail):
        answer = augment("audit", tmp_path / "syn", "--models", places["models"], *(["--force"] if force else []))
    assert answer.code == 2
    assert f"Another command is at work on {tmp_path / 'syn'} (process" in answer.words
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("name", ["evaluate", "study"])
def test_a_study_is_shared_and_says_so(augment, places, tmp_path, name):
    out = tmp_path / "studies/mine"
    with shared_output(out, pytest.fail):
        answer = augment(*words_of(name, places, out), "--slurm", "3")
        assert answer.code == 0, answer.words
        assert f"Another process is at work in {out} too; what it computes is not computed here." in answer.words
    assert (out / "config.toml").is_file()


@pytest.mark.parametrize("name", ["fit", "generate", "interpolate", "morph", "audit", "fidelity", "show"])
def test_a_cohort_that_has_no_mark_but_that_it_is_read_is_not_written_into(augment, places, fakes, tmp_path, name):
    table = fakes.pictures(tmp_path / "pictures") / "participants.tsv"
    table.with_name("labels.csv").write_text(table.read_text().replace("\t", ","))
    table.unlink()
    shutil.copytree(places["models"], tmp_path / "models")
    for path in (tmp_path / "models").glob("*/config.json"):
        content = json.loads(path.read_text())
        content["data"]["read_as"]["data"] = str(tmp_path / "pictures")
        path.write_text(json.dumps(content))
        seal(path.parent)
    places = places | {"data": tmp_path / "pictures", "models": tmp_path / "models"}
    before = tree(tmp_path)
    answer = augment(*words_of(name, places, tmp_path / "pictures/out"))
    assert answer.code == 2, answer.words
    assert "a cohort of real people's images, nothing that this command makes; choose another --out" in answer.words
    assert tree(tmp_path) == before


def test_where_images_lay_that_are_elsewhere_now_may_be_written_into(places, tmp_path):
    (model, *_) = model_folders(places["models"])
    config = ModelConfig.read(model)
    lay = {**config.data, "read_as": {**config.data["read_as"], "data": str(tmp_path)}}
    assert replace(config, data=lay).places({}) == [str(tmp_path)]
    assert replace(config, data=lay).places({"data": str(places["data"])}) == [str(places["data"])]


@pytest.mark.parametrize(("name", "force"), FORCED)
@pytest.mark.parametrize("inside", ["", "out"])
def test_nothing_is_written_into_a_real_cohort(augment, places, studies, tmp_path, name, force, inside):
    shutil.copytree(studies["volumes"].data, tmp_path / "bids")
    before = tree(tmp_path)
    answer = augment(*words_of(name, places, tmp_path / "bids" / inside, force))
    assert answer.code == 2, answer.words
    assert "a cohort of real people's images, nothing that this command makes; choose another --out" in answer.words
    assert tree(tmp_path) == before

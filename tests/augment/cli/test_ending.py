"""How commands begin and end: the overview, the next step with the paths that were typed, and tables for machines."""

import json
import re
import shlex
import shutil
from importlib.metadata import version

import pytest
from typer.main import get_command

from tinycohort.augment import cli
from tinycohort.augment.cli.ending import WITH_TABLES
from tinycohort.augment.cli.next_steps import STEPS, Typed, next_step
from tinycohort.augment.commands import doctor

QUICK = ("--epochs", "2", "--channels", "2", "--latent-dim", "2", "--batch-size", "5", "--precision", "fp32", "--device", "cpu")
COMMANDS = get_command(cli.app).commands
NOTHING_FOLLOWS = {"verify"}


def next_of(answer):
    (line,) = re.findall(r"^Next: (.+)$", answer.err, flags=re.MULTILINE)
    return line


def test_alone_it_shows_the_steps_and_where_help_is(augment):
    answer = augment()
    assert answer.code == 0
    steps = re.findall(r"^  (\d)  augment (\w+)", answer.out, flags=re.MULTILINE)
    assert steps == [("1", "check"), ("2", "fit"), ("3", "generate"), ("4", "audit")]
    named = set(re.findall(r"augment (\w+)", answer.out))
    assert named <= set(COMMANDS)
    assert {"evaluate", "prepare", "demo", "doctor"} <= named
    assert "augment --help" in answer.out


def test_every_command_says_what_is_next():
    assert set(STEPS) == set(COMMANDS) - NOTHING_FOLLOWS


def test_what_is_next_can_be_typed_as_it_stands(augment, fakes, studies, tmp_path, monkeypatch):
    """From the check to prepared images by nothing but the line that each command ends with, in folders with spaces."""
    monkeypatch.chdir(tmp_path)
    fakes.study(tmp_path / "my study", (10, 12, 10))
    line = next_of(augment("check", "--data", "my study", "--plane", "coronal", "--label-column", "diagnosis"))
    assert line == "augment fit 'my study' --label-column diagnosis --plane coronal"
    followed = ["check"]
    for _ in range(5):
        command, *words = shlex.split(line, comments=True)[1:]
        words += {"fit": [*QUICK, "--out", "my models"], "generate": ["-n", "2", "--sampler", "normal", "--detail", "none"]}.get(
            command, []
        )
        if command == "audit":  # of two images it can say nothing: the line that it would end with
            break
        answer = augment(command, *words)
        assert answer.code == 0, answer.words
        followed.append(command)
        line = next_of(answer)
    assert followed == ["check", "fit", "generate"]
    assert line.startswith("augment audit synthetic --model 'my models'  #")
    prepared = next_of(augment("prepare", "my study", "--like", "my models"))
    assert prepared.startswith("augment show real-prepared synthetic  #")
    others = next_of(augment("prepare", "my study", "--like", studies["slices"].models, "--plane", "coronal", "--force"))
    assert others.startswith(f"augment generate --models {studies['slices'].models} --data 'my study' --plane coronal --out synthetic-2 ")
    one = next_of(augment("prepare", "my study", "--like", "my models/CN", "--force"))
    assert one.startswith("augment show real-prepared synthetic  #")
    (tmp_path / "synthetic-2").mkdir()
    (tmp_path / "synthetic-2/dataset_description.json").write_text("no JSON")
    (tmp_path / "synthetic-3.audit.csv").touch()
    description = tmp_path / "synthetic/dataset_description.json"
    content = description.read_text()
    description.write_text(content.replace('"n": 2', '"n": "x"'))
    damaged = augment("prepare", "my study", "--like", "my models", "--force")
    assert damaged.code == 0, damaged.words
    assert "--out synthetic-4 " in next_of(damaged)
    description.write_text(content)
    (tmp_path / "synthetic").rename("drawn")
    assert "augment generate --models 'my models' --out synthetic" in next_of(augment("prepare", "--like", "my models", "--force"))
    of_one = next_of(augment("models", "my models/CN"))
    assert of_one == "augment generate --models 'my models/CN'"
    (tmp_path / "my study").rename("moved")
    (tmp_path / "synthetic.audit.csv").unlink()
    moved = ("moved", "--plane", "coronal", "--like", "my models", "--format", "npz", "--dtype", "int16", "--white", 1000, "--force")
    line = next_of(augment("prepare", *moved))
    assert line.startswith(
        "augment generate --models 'my models' --data moved --plane coronal --format npz --dtype int16 --white 1000.0 --out"
    )
    answer = augment(*shlex.split(line, comments=True)[1:], "-n", 2, "--sampler", "normal", "--detail", "none")
    assert answer.code == 0, answer.words
    assert "the training images cannot be read" not in answer.words
    shutil.rmtree("synthetic")
    (tmp_path / "moved").rename("my study")
    shown = next_of(augment("prepare", "my study", "--like", "drawn", "--force"))
    assert shown.startswith("augment show real-prepared drawn  #")
    assert next_of(augment(*shlex.split(shown, comments=True)[1:])) == "look at sheet.png"


def test_after_an_audit_the_people_are_where_they_were_said_to_be():
    values = {"synthetic": ["syn"], "data": "my study", "model": "m/CN", "trained_on": None, "plane": "coronal"}
    given = {"data": "--data", "model": "--model", "plane": "--plane"}
    line = next_step("audit", Typed(values, given))
    assert line.startswith("augment prepare 'my study' --plane coronal --like m/CN --out real-prepared")


def test_a_dry_run_is_followed_by_the_fit_itself(augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "study.npz")
    answer = augment("fit", "--data", data, "--dry-run", "--class", "AD", *QUICK)
    assert next_of(answer) == shlex.join(["augment", "fit", "--data", str(data), "--class", "AD", *QUICK])


def test_what_fails_says_nothing_of_what_is_next(augment, fakes, tmp_path):
    fakes.study(tmp_path / "study.npz", counts={"AD": 3, "CN": 3})
    for answer in (augment("check", "--data", tmp_path / "study.npz"), augment("check", "--data", tmp_path / "nothing")):
        assert answer.code == 3
        assert "Next:" not in answer.err


def tables(answer):
    content = json.loads(answer.out)
    return {table["name"]: table["rows"] for table in content["tables"]}


def test_a_machine_gets_tables_as_json_and_nothing_else(augment, fakes, studies, tmp_path):
    study = studies["slices"]
    answer = augment("check", "--data", study.data, "--json")
    assert answer.code == 0
    assert tables(answer) == {
        "classes": [{"class": "AD", "participants": 10, "images": 10}, {"class": "CN", "participants": 14, "images": 14}]
    }
    assert "┃" not in answer.err
    words = ("generate", "--models", study.models, "-n", 2, "--sampler", "normal", "--out", tmp_path / "syn", "--json")
    assert [(row["class"], row["images"]) for row in tables(augment(*words))["drawn"]] == [("AD", 2), ("CN", 2)]
    verified = augment("verify", tmp_path / "syn", "--json")
    assert {row["verdict"] for row in tables(verified)["findings"]} == {"matches", "not compared"}
    assert "normal" in {row["law"] for row in tables(augment("models", study.models / "AD", "--json"))["laws"]}
    plan = augment("fit", "--data", study.data, "--plane", "coronal", "--out", tmp_path / "models", "--dry-run", "--json", *QUICK)
    assert [row["train"] for row in tables(plan)["plan"]] == [7, 10]


@pytest.mark.parametrize(
    ("words", "names"), [(("models",), ["models", "samplers"]), (("methods",), ["methods", "changes"]), (("studies",), ["studies"])]
)
def test_lists_are_tables_for_machines_too(augment, words, names):
    found = tables(augment(*words, "--json"))
    assert list(found) == names
    assert all(found.values())


def test_a_machine_is_told_of_problems_and_errors(augment, fakes, tmp_path):
    fakes.study(tmp_path / "study.npz", counts={"AD": 3, "CN": 30})
    answer = augment("check", "--data", tmp_path / "study.npz", "--json")
    assert answer.code == 3
    assert [row["participant"] for row in tables(answer)["problems"]] == ["class AD"]
    answer = augment("check", "--data", tmp_path / "nothing", "--json")
    assert answer.code == 3
    assert "There is no file or folder" in json.loads(answer.out)["error"]


def test_what_shows_tables_can_show_them_to_a_machine():
    """Every command below which a table is printed has --json, and the others do not claim to."""
    has = {name for name, command in COMMANDS.items() if any("--json" in parameter.opts for parameter in command.params)}
    assert has == WITH_TABLES


def test_doctor_looks_at_the_machine(augment, monkeypatch, tmp_path):
    monkeypatch.setenv("TINYCOHORT_CACHE", str(tmp_path / "cache"))
    answer = augment("doctor", "--json")
    assert answer.code == 0, answer.words
    found = tables(answer)
    packages = {row["package"]: row["version"] for row in found["packages"]}
    assert packages["torch"] == version("torch")
    assert packages["tinycohort"] == version("tinycohort")
    machine = {row["what"]: row["found"] for row in found["machine"]}
    assert {"memory", "threads", "device", "bf16", "this folder", "cache of the demo"} <= set(machine)
    assert str(tmp_path / "cache") in machine["cache of the demo"]
    assert {"test", "dev"} <= {row["extra"] for row in found["extras"]}


@pytest.mark.parametrize("what", ["missing", "broken", "full"])
def test_doctor_says_what_is_broken(augment, monkeypatch, what):
    def fail(name, *rest):
        raise ImportError("an undefined symbol")

    if what == "missing":
        monkeypatch.setattr(doctor, "requires", lambda name: ["nibabel>=5", "nowhere-to-be-found>=1"])
        told = "nowhere-to-be-found: it is not installed: pip install 'nowhere-to-be-found>=1'"
    elif what == "broken":
        monkeypatch.setattr(doctor.importlib, "import_module", fail)
        told = "it cannot be imported (ImportError: an undefined symbol); install it anew"
    else:
        monkeypatch.setattr(doctor, "LEAST_DISK", 2**80)
        told = "this folder: its disk is nearly full"
    answer = augment("doctor")
    assert answer.code == 3
    assert told in answer.words
    assert "Next:" not in answer.err

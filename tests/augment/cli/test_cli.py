"""The commands as a user meets them: what they write, and their help."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from folders import tree
from PIL import Image
from typer.main import get_command

from tinycohort.augment import cli
from tinycohort.augment.cli.evaluate import MethodOptions, ProtocolOptions
from tinycohort.augment.cli.options import HowToRunOptions
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.common.files import MANIFEST
from tinycohort.datasets.readers import read_cohort
from tinycohort.experiments.engine.launch import HowToRun

QUICK = ("--epochs", "2", "--channels", "2", "--latent-dim", "2", "--batch-size", "5", "--precision", "fp32", "--device", "cpu")
COMMANDS = list(get_command(cli.app).commands)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of this name, which a command looks for before it does anything."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()


def test_check_fit_generate_show(augment, fakes, tmp_path):
    data, models, out, sheet = fakes.study(tmp_path / "bids", (10, 12, 10)), tmp_path / "models", tmp_path / "syn", tmp_path / "sheet.png"
    answer = augment("check", "--data", data)
    assert answer.code == 0
    assert "Sound" in answer.words
    assert "24 of 10 x 12 x 10" in answer.words
    answer = augment("fit", "--data", data, "--out", models, *QUICK)
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in models.iterdir()) == ["AD", "CN", "split.json"]
    answer = augment("generate", "--models", models, "-n", 3, "--sampler", "riemannian", "--set", "n_iterations=5", "--out", out)
    assert answer.code == 0, answer.err
    assert read_cohort(out).counts() == {"AD": 3, "CN": 3}
    command = json.loads((out / "dataset_description.json").read_text())["GeneratedBy"][0]["Command"]
    assert command == f"augment generate --models {models} -n 3 --sampler riemannian --set n_iterations=5 --out {out}"
    assert f"augment fit --data {data} --out {models}" in (models / "AD/README.md").read_text()
    answer = augment("show", data, out, "--out", sheet, "-n", 2)
    assert answer.code == 0, answer.err
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    assert augment("check", "--data", out).code == 3, "3 images a class are too few to fit, and nothing else is wrong"


def test_a_benchmark_is_fitted_on_its_official_sides(augment, tmp_path, monkeypatch):
    monkeypatch.setattr("tinycohort.augment.samplers.left_out.FOLDS", 3)  # of 700 images twenty take ten seconds
    checked = augment("check", "--data", "rings-and-discs")
    assert checked.code == 0
    fitted = augment("fit", "--data", "rings-and-discs", "--class", "ring", "--out", tmp_path / "models", *QUICK)
    assert fitted.code == 0
    sides = json.loads((tmp_path / "models/split.json").read_text())["sides"]
    assert {name: len(people) for name, people in sides.items()} == {"train": 700, "validation": 100, "test": 200}
    generated = augment("generate", "--models", tmp_path / "models", "-n", "3", "--out", tmp_path / "synthetic")
    assert generated.code == 0
    # The training images were found again by name, for the distances to them.
    assert (tmp_path / "synthetic.audit.csv").is_file()
    assert augment("show", "rings-and-discs", tmp_path / "synthetic", "--class", "ring", "--out", tmp_path / "sheet.png").code == 0
    refused = augment("check", "--data", "svhn", "--root", tmp_path)
    assert refused.code == 3
    assert "has no train_32x32.mat; download it there" in refused.words
    assert augment("check", "--data", tmp_path, "--root", tmp_path).code == 2


def test_one_class_and_the_split_it_shares(augment, fakes, tmp_path):
    data, models = fakes.study(tmp_path / "study.npz"), tmp_path / "models"
    assert augment("fit", "--data", data, "--class", "AD", "--out", models, "--split-seed", 3, *QUICK).code == 0
    split = (models / "split.json").read_bytes()
    assert json.loads(split)["seed"] == 3
    assert augment("fit", "--data", data, "--class", "CN", "--out", models, *QUICK).code == 0
    assert (models / "split.json").read_bytes() == split
    digests = {json.loads((models / label / "config.json").read_text())["split"]["digest"] for label in ("AD", "CN")}
    assert len(digests) == 1
    before = tree(models)
    for other in (("--split-seed", 4), ("--split", tmp_path / "other.json")):
        if other[0] == "--split":
            sides = {person: side for side, people in json.loads(split)["sides"].items() for person in people}
            swapped = {"train": "test", "test": "train", "validation": "validation"}
            content = {name: [person for person, side in sides.items() if side == swapped[name]] for name in swapped}
            other[1].write_text(json.dumps({"sides": content}))
        answer = augment("fit", "--data", data, "--out", models, "--force", *other, *QUICK)
        assert answer.code == 2
        assert "share the split" in answer.words
    assert tree(models) == before


def test_a_preset_s_settings_of_another_model_are_left_out(augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "study.npz")
    answer = augment(
        "fit",
        "--data",
        data,
        "--preset",
        "paper-oasis",
        "--model",
        "ae",
        "--arch",
        "conv",
        "--size",
        "16x16",
        "--out",
        tmp_path / "models",
        *QUICK,
    )
    assert answer.code == 0, answer.err
    config = json.loads((tmp_path / "models/AD/config.json").read_text())
    assert config["model_settings"] == {}
    assert config["preparation"]["scaling"] == "minmax"


@pytest.mark.parametrize(
    ("words", "plane", "steps", "least_steps"),
    [
        ((), "coronal", 1000, 250),
        (("--size", "20x24x20", "--least-steps", "5"), None, 1000, 5),
        (("--plane", "axial", "--steps", "7"), "axial", 7, 250),
        (("--data", "mine"), None, None, 1000),
    ],
)
def test_a_study_of_the_demo_cohort_takes_minutes_by_default(augment, mine, monkeypatch, words, plane, steps, least_steps):
    asked = []
    monkeypatch.setattr("tinycohort.experiments.augmentation_study.command.evaluate", lambda request, *args: asked.append(request))
    assert augment("evaluate", *words).code == 0
    (request,) = asked
    assert (request.fit.preparation.plane, request.protocols.least_steps) == (plane, least_steps)
    assert request.fit.training.steps == steps
    assert request.command == " ".join(["augment evaluate", *words])


def test_the_version(augment):
    answer = augment("--version")
    assert (answer.code, answer.out) == (0, f"tinycohort {version('tinycohort')}\n")


@pytest.mark.parametrize(
    ("words", "arch", "channels", "epochs", "steps", "beta", "latent_dim"),
    [
        (("--data", "mnist"), "paper-mnist", None, 100, None, 0.01, 16),
        (("--data", "celeba", "--epochs", "3", "--channels", "8"), "paper-celeba", 8, 3, None, 0.05, 64),
        (("--data", "cifar10", "--steps", "50", "--beta", "1"), "paper-mnist", None, None, 50, 1.0, 32),
        (("--data", "mine", "--arch", "resnet"), "resnet", None, None, None, None, 64),
    ],
)
def test_a_study_has_the_paper_s_settings_of_a_benchmark(
    augment, mine, monkeypatch, words, arch, channels, epochs, steps, beta, latent_dim
):
    asked = []
    monkeypatch.setattr(
        "tinycohort.experiments.fidelity_study.command.configuration_of",
        lambda request: asked.append(request) or SimpleNamespace(grid=SimpleNamespace(plan="benchmark")),
    )
    monkeypatch.setattr("tinycohort.experiments.fidelity_study.command.run", lambda *args, **options: asked.append((args, options)))
    more = (
        "--systems",
        "vae:normal,ae:gmm",
        "--systems",
        "vae:riemannian rho_scale=2",
        "--sizes",
        "50,all",
        "--features",
        "cohort,inception-768",
    )
    assert augment("study", "benchmark", *words, *more, "--jobs", "2").code == 0
    request, ((_, folder, how), _) = asked
    assert request.plan == "benchmark"
    assert request.systems == ("vae:normal", "ae:gmm", "vae:riemannian rho_scale=2")
    assert request.sizes == (50, 0)
    assert (request.scoring.features, request.scoring.measures) == (("cohort", "inception-768"), ("frechet", "kid", "prd"))
    assert (folder, how) == (Path("studies/benchmark"), HowToRun(jobs=2))
    fit = request.fit
    assert (fit.arch, fit.channels, fit.training.epochs, fit.training.steps) == (arch, channels, epochs, steps)
    assert (fit.model_settings.get("beta"), fit.latent_dim) == (beta, latent_dim)
    assert (fit.training.jitter == 0) == (beta is not None)


def test_the_studies_are_listed(augment):
    answer = augment("studies")
    assert answer.code == 0
    assert all(name in answer.words for name in ("low-data", "benchmark", "ablation", "search", "plug-in", "neighbours"))
    assert "best of 10" in answer.words
    assert "lambda: 1e-06, 0.0001, 0.01, 0.1, 1 (exact, Algorithm 2, released)" in answer.words


@pytest.mark.parametrize("words", [("evaluate",), ("study", "low-data")])
def test_a_study_in_its_own_data_is_refused_before_these_are_examined(augment, fakes, tmp_path, words):
    data = fakes.study(tmp_path / "my-study", (10, 12, 10))
    answer = augment(words[0], *words[1:], "--data", data, "--out", data / "studies")
    assert answer.code == 2
    assert "studies would lie in" in answer.words
    assert "checking" not in answer.err
    assert not (data / "studies").exists()


def test_a_plan_writes_nothing_and_may_be_asked_for_anywhere(augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "my-study", (10, 12, 10))
    answer = augment("evaluate", "--data", data, "--plan", "--spread", "people=0.1 runs=0.02 both=0.15", "--out", data / "studies")
    assert answer.code == 0, answer.words
    assert not (data / "studies").exists()


@pytest.mark.parametrize("content", ["seed = 0\n[where]\ncommand = 'augment evaluate --data mine'\n", "lto = true", "= 3"])
def test_demo_replaces_nobody_else_s_study(augment, tmp_path, content):
    config = tmp_path / "demo/study/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(content)
    answer = augment("demo", "--out", tmp_path / "demo")
    assert (answer.code, "demo exists already" in answer.words) == (2, True)
    answer = augment("demo", "--out", tmp_path / "demo", "--force")
    assert answer.code == 2
    assert "study is nothing that this command makes, so --force does not replace it; choose another --out" in answer.words
    assert config.read_text() == content
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["study"]


def test_methods_may_have_spaces_after_their_commas(augment, monkeypatch):
    asked = []
    monkeypatch.setattr("tinycohort.experiments.augmentation_study.command.evaluate", lambda request, *args: asked.append(request))
    assert augment("evaluate", "--methods", "original, vae:riemannian rho_scale=2", "--methods", "weighted").code == 0
    assert asked[0].methods == ("original", "vae:riemannian rho_scale=2", "weighted")


@pytest.mark.slow
def test_demo_ends_with_the_report_of_a_study(augment, monkeypatch, tmp_path):
    monkeypatch.setattr("tinycohort.experiments.demo.LEAST_STEPS", 0)
    for _ in range(2):  # --force replaces the study too
        answer = augment("demo", "--steps", 2, "--out", tmp_path / "demo", "--force")
        assert answer.code == 0, answer.err
    assert f"{tmp_path / 'demo/study/report.html'}." in answer.err
    assert "Against `resampled+classical`" in (tmp_path / "demo/study/table.md").read_text()
    assert "vae:auto" in (tmp_path / "demo/study/report.html").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(augment, name):
    answer = augment(name, "--help")
    assert answer.code == 0
    text = re.sub(r"[\s│]+", " ", answer.out)
    assert f"Example: augment {name}" in text


def test_help_lists_every_command(augment):
    answer = augment("--help")
    assert answer.code == 0
    assert all(re.search(rf"\b{name}\b", answer.out) for name in COMMANDS)


@pytest.mark.parametrize("existing", [False, True])
def test_a_dry_run_writes_nothing(augment, fakes, tmp_path, existing):
    data = fakes.study(tmp_path / "study.npz")
    if existing:
        (tmp_path / "models").mkdir()
    before = tree(tmp_path)
    answer = augment("fit", "--data", data, "--out", tmp_path / "models", "--dry-run", *QUICK)
    assert answer.code == 0
    assert tree(tmp_path) == before
    assert "A dry run: nothing was trained or written" in answer.words
    assert re.search(r"AD ┃? ?7 1 2 2", answer.words.replace("┃", " ")), answer.words
    parameters = sum(p.numel() for p in fitted_parameters(augment, data, tmp_path))
    assert f"{parameters:,} parameters" in answer.words


def fitted_parameters(augment, data, tmp_path):
    assert augment("fit", "--data", data, "--class", "AD", "--out", tmp_path / "real", *QUICK).code == 0
    model = load_models(tmp_path / "real")["AD"]
    return list(model.autoencoder.parameters())


def test_interpolate(augment, studies, tmp_path):
    study = studies["slices"]
    words = ("interpolate", study.models, "--class", "CN", "--from", "010", "--to", "sub-011", "--steps", 3, "--curve", "affine")
    answer = augment(*words, "--out", tmp_path / "paths")
    assert answer.code == 0, answer.err
    assert (tmp_path / "paths/curves.csv").read_text().splitlines()[1].startswith("010,sub-011,1,affine,")
    assert len(list((tmp_path / "paths/images").glob("*.nii.gz"))) == 3


def test_the_latent_map_and_the_loss_curve(augment, studies, tmp_path):
    for name, what in (("pictures", "latent map"), ("ae", "loss curve")):
        answer = augment("show", studies[name].models / "AD", "--out", tmp_path / f"{name}.png")
        assert answer.code == 0
        assert what in answer.words
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_a_finished_fit_is_not_repeated_by_resume(augment, fakes, tmp_path):
    data, models = fakes.study(tmp_path / "study.npz"), tmp_path / "models"
    words = ("fit", "--data", data, "--class", "AD", "--out", models, *QUICK)
    assert augment(*words).code == 0
    before = tree(models)
    assert augment(*words).code == 2
    answer = augment(*words, "--resume")
    assert answer.code == 0
    assert "fitted already" in answer.words
    assert tree(models) == before
    # With other settings it is another fit.
    answer = augment(*words, "--resume", "--seed", 1)
    assert answer.code == 2
    assert tree(models) == before
    assert augment(*words, "--seed", 1, "--force").code == 0
    assert tree(models)["AD/model.safetensors"] != before["AD/model.safetensors"]


@pytest.mark.parametrize(
    ("command", "words", "epochs", "steps"),
    [
        ("fit", (), 100, None),
        ("fit", ("--steps", "7"), None, 7),
        ("fit", ("--epochs", "7"), 7, None),
        ("evaluate", ("--steps", "7"), None, 7),
        ("evaluate", ("--epochs", "7"), 100, None),  # there, of the classifier
    ],
)
def test_steps_are_as_many_as_asked_for_under_a_preset_of_epochs(augment, mine, monkeypatch, command, words, epochs, steps):
    asked = []
    monkeypatch.setattr("tinycohort.augment.commands.fit.fit_models", lambda request, out, **options: asked.append(request.settings))
    monkeypatch.setattr("tinycohort.experiments.augmentation_study.command.evaluate", lambda request, *args: asked.append(request.fit))
    assert augment(command, "--data", "mine", "--preset", "paper-mnist", *words).code == 0
    assert (asked[0].training.epochs, asked[0].training.steps) == (epochs, steps)


def test_where_the_training_images_are_may_be_said_in_part(augment, fakes, tmp_path):
    """What the model was fitted with stays."""
    data = fakes.study(tmp_path / "study.npz")
    with np.load(data) as content:
        people, labels = content["participants"], content["labels"]
    table = fakes.table(tmp_path / "people.tsv", {"participant_id": people, "stage": labels})
    fitted = augment(
        "fit", "--data", data, "--table", table, "--label-column", "stage", "--class", "AD", "--out", tmp_path / "models", *QUICK
    )
    assert fitted.code == 0, fitted.err
    moved = data.rename(tmp_path / "moved.npz")
    words = ("generate", "--models", tmp_path / "models", "-n", 2, "--sampler", "normal", "--force", "--out", tmp_path / "syn")
    assert "cannot be read again" in augment(*words).words
    assert augment(*words, "--data", moved).code == 0
    assert (tmp_path / "syn.audit.csv").is_file()
    assert "no column 'none'" in augment(*words, "--data", moved, "--label-column", "none").words
    # A table that has gone with the data is not looked for where it was; the labels are then the file's own.
    table.rename(tmp_path / "people-too.tsv")
    answer = augment(*words, "--data", moved, "--label-column", "labels")
    assert "cannot be read again" not in answer.words, answer.words


def test_a_folder_may_be_the_one_that_one_is_in(augment, studies, tmp_path, monkeypatch):
    (tmp_path / "syn").mkdir()
    monkeypatch.chdir(tmp_path / "syn")
    answer = augment("generate", "--models", studies["pictures"].models, "-n", 2, "--sampler", "normal", "--out", ".")
    assert answer.code == 0, answer.err
    assert read_cohort(tmp_path / "syn").counts() == {"AD": 2, "CN": 2}
    assert (tmp_path / "syn.audit.csv").is_file()


@pytest.mark.parametrize(
    ("words", "variable", "threads"), [((), None, 2), ((), "3", 3), ((), "3,1", 3), ((), "many", 2), (("--threads", 1), "3", 1)]
)
def test_a_command_computes_with_as_many_threads_as_it_is_told_whatever_the_machine(
    augment, fakes, studies, tmp_path, monkeypatch, words, variable, threads
):
    before = torch.get_num_threads()
    if variable is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    fitted = augment("fit", "--data", fakes.study(tmp_path / "study.npz"), "--class", "AD", "--out", tmp_path / "models", *QUICK, *words)
    assert fitted.code == 0, fitted.err
    assert json.loads((tmp_path / "models/AD/config.json").read_text())["threads"] == threads
    drawn = augment("generate", "--models", studies["pictures"].models, "-n", 2, "--sampler", "normal", "--out", tmp_path / "syn", *words)
    assert drawn.code == 0, drawn.err
    (made,) = json.loads((tmp_path / "syn/dataset_description.json").read_text())["GeneratedBy"]
    assert made["Threads"] == threads
    assert torch.get_num_threads() == before


def test_a_fit_ends_when_it_is_told_to(augment, fakes, tmp_path, monkeypatch):
    words = ("--class", "AD", *QUICK, "--epochs", "60", "--learning-rate", "0.1", "--stop-after", "3")
    answer = augment("fit", "--data", fakes.study(tmp_path / "study.npz"), "--out", tmp_path / "models", *words)
    assert answer.code == 0, answer.err
    history = pd.read_csv(tmp_path / "models/AD/history.csv")
    best = json.loads((tmp_path / "models/AD/config.json").read_text())["diagnostics"]["best_epoch"]
    assert len(history) == best + 3 < 60
    assert f"kept epoch {best} of {best + 3}" in answer.words


def test_the_same_seed_and_threads_give_the_same_bytes(fakes, tmp_path):
    """In processes of their own, as a user has it; the salt of the participants' hashes is another each time, and what seals it."""
    data = fakes.study(tmp_path / "study.npz")
    words = ["fit", "--data", str(data), "--class", "AD", "--threads", "2", "--out", "models", "--steps", "6", "--latent-dim", "2"]
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        code = f"import sys; sys.argv = {['augment', *words]}; from tinycohort.augment.cli import main; main()"
        environment = os.environ | {"PYTHONHASHSEED": name}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, cwd=tmp_path / name)
    one, two = tree(tmp_path / "1" / "models"), tree(tmp_path / "2" / "models")
    assert one.keys() == two.keys()
    assert "AD/metric.safetensors" in one
    assert {name for name in one if one[name] != two[name]} == {"AD/config.json", f"AD/{MANIFEST}"}
    configs = [json.loads((tmp_path / name / "models/AD/config.json").read_text()) for name in ("1", "2")]
    assert configs[0].pop("participants") != configs[1].pop("participants")
    assert configs[0] == configs[1]


@pytest.mark.parametrize(("given", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_before_torch_is_there(given, policy):
    """Unless the user says otherwise."""
    code = (
        "import atexit, os, sys; from tinycohort.augment.cli import main; sys.argv = ['augment', '--version']; "
        "atexit.register(lambda: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)); main()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    said = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True).stdout
    assert said.splitlines()[-1] == f"{policy} False"


@pytest.mark.parametrize(("asked", "threads", "jobs"), [("1", 1, 1), ("3", 1, 3), ("auto", 1, 6), ("auto", 4, 1), ("auto", 8, 1)])
def test_jobs_fill_the_processors(monkeypatch, asked: str, threads: int, jobs: int):
    monkeypatch.setattr("tinycohort.datasets.common.machine.available_processors", lambda: 6)
    assert HowToRunOptions(jobs=asked, threads=threads, device="cpu").how().jobs == jobs


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1.5", "", "²"])
def test_jobs_are_a_number_or_auto(asked: str):
    with pytest.raises(UsageError, match="--jobs is a number, 1 or more, or auto"):
        HowToRunOptions(jobs=asked).how()


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1.5", "", "²"])
def test_numbers_of_images_and_people_are_one_or_more(augment, tmp_path: Path, asked: str):
    answer = augment("study", "--data", "rings-and-discs", "--sizes", f"all,{asked}", "--out", tmp_path / "study")
    assert answer.code == 2
    assert f"--sizes are numbers of training images, 1 or more, or all, not '{asked}'" in answer.words
    with pytest.raises(UsageError, match=f"--limit is written as AD=22, with a number of 1 or more, not 'AD={asked}'"):
        ProtocolOptions(limit=[f"AD={asked}"]).protocols(MethodOptions(), 0)


def test_a_curve_over_sizes_is_a_mode_each():
    modes = ["synthetic-only n=5", "resampled+synthetic", "real+synthetic enlarge=3"]
    assert MethodOptions(modes=modes, enlarge=["1,2"]).all_modes() == (
        "synthetic-only n=5",
        "resampled+synthetic enlarge=1",
        "resampled+synthetic enlarge=2",
        "real+synthetic enlarge=3",
    )
    assert MethodOptions(modes=modes, enlarge=["4"]).all_modes() == tuple(modes)
    assert MethodOptions(enlarge=["4"]).enlarged() == (4.0,)
    # Every mode of a curve names its own, so that a curve can be extended.
    assert {ProtocolOptions().protocols(MethodOptions(enlarge=[text]), 0).enlarge for text in ("1,2", "2,4", "2")} == {2.0}
    with pytest.raises(UsageError, match="may not shrink"):
        MethodOptions(enlarge=["2,0"]).all_modes()
    with pytest.raises(UsageError, match="--enlarge is one number or several with commas, not 'much'"):
        MethodOptions(enlarge=["much"]).all_modes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--sizes", "5", "--epochs", "9"), "Every classifier has 400 steps: leave out --epochs, or give other --fixed-steps"),
        (("--fixed-steps", "7", "--least-steps", "9"), "Every classifier has 7 steps: leave out --least-steps"),
        (("--fixed-steps", "0"), "1 step or more, not 0"),
        (("--slurm", "2", "--jobs", "auto"), "--jobs auto counts the processors of this machine"),
    ],
)
def test_options_that_would_do_nothing_are_refused(augment, fakes, tmp_path: Path, words: tuple[str, ...], told: str):
    answer = augment("evaluate", "--data", fakes.study(tmp_path / "study.npz"), *words, "--out", tmp_path / "study")
    assert answer.code == 2
    assert told in answer.words
    assert not (tmp_path / "study").exists()

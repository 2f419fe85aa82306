"""What the commands refuse: the exit code, the one sentence, and that nothing is lost or half-written."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import tree

from tinycohort.datasets.readers import read_cohort

QUICK = ("--epochs", "2", "--channels", "2", "--latent-dim", "2", "--batch-size", "5", "--precision", "fp32", "--device", "cpu")


@pytest.fixture(scope="module")
def scene(tmp_path_factory, fakes, studies):
    """A folder with what commands are given; they must leave it as it is."""
    root = tmp_path_factory.mktemp("scene")
    study = fakes.study(root / "study.npz")
    fakes.study(root / "bids", (10, 12, 10))
    fakes.study(root / "few.npz", counts={"AD": 5, "CN": 14})
    broken = fakes.study(root / "broken", (10, 12, 10))
    (broken / "sub-001/anat/sub-001_T1w.nii.gz").unlink()
    damaged = broken / "sub-002/anat/sub-002_T1w.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:200])
    constant = broken / "sub-003/anat/sub-003_T1w.nii.gz"
    fakes.volume(constant, np.ones((10, 12, 10), dtype=np.float32))
    people = list(read_cohort(study).table["participant_id"])
    for name, sides in {
        "leak": {"train": people[:20], "validation": people[19:22], "test": people[22:]},
        "lacks": {"train": people[:10], "validation": people[10:12], "test": people[12:20]},
        "sideless": {"train": people[:20], "test": people[20:]},
        "lopsided": {"train": people[:8] + people[10:20], "validation": people[20:], "test": people[8:10]},
    }.items():
        (root / f"{name}.json").write_text(json.dumps({"sides": sides}))
    (root / "nosplit.json").write_text("{")
    (root / "nothing").mkdir()
    (root / "full").mkdir()
    (root / "full/mine.txt").write_text("mine")
    (root / "taken.png").write_text("mine")
    (root / "stale.audit.csv").write_text("mine")
    for name in ("pictures", "volumes", "ae"):
        shutil.copytree(studies[name].models, root / f"models-{name}")
    shutil.copytree(root / "models-pictures", root / "models-damaged")
    (root / "models-damaged/AD/model.safetensors").write_bytes(b"")
    return root


FIT = ("fit", "--data", "{study.npz}", "--out", "{out}", *QUICK)
FIT_VOLUMES = ("fit", "--data", "{bids}", "--out", "{out}", *QUICK)
OF_VOLUMES = ("generate", "--models", "{models-volumes}", "--out", "{out}")
OVER = ("fit", "--data", "{study.npz}", "--out", "{models-pictures}", *QUICK)
GENERATE = ("generate", "--models", "{models-pictures}", "--out", "{out}")
RIEMANNIAN = ("--sampler", "riemannian")
INTERPOLATE = ("interpolate", "{models-pictures}", "--class", "AD", "--out", "{out}")
# The command, its exit code, and what the sentence says. A word such as {bids} is a path in the scene.
REFUSED = {
    # Paths and cohorts.
    "check of nothing": (("check", "--data", "{none}"), 3, "There is no file or folder .*none"),
    "fit of nothing": (("fit", "--data", "{none}", "--out", "{out}"), 3, "There is no file or folder .*none"),
    "an empty folder": (("fit", "--data", "{nothing}", "--out", "{out}"), 3, "nothing"),
    "a table that is not there": ((*FIT, "--table", "{none.csv}"), 3, r"none\.csv"),
    "a column that is not there": ((*FIT_VOLUMES, "--label-column", "stage"), 3, "no column 'stage'"),
    "a suffix that is not there": ((*FIT_VOLUMES, "--suffix", "bold"), 3, "--suffix"),
    "a broken cohort": (
        ("fit", "--data", "{broken}", "--out", "{out}"),
        3,
        r"has 4 problems .*no image found.*unreadable.*constant.*9 images, fewer than 10",
    ),
    "check of a broken cohort": (
        ("check", "--data", "{broken}"),
        3,
        r"4 problems.*no image found.*unreadable.*constant.*9 images, fewer than 10",
    ),
    "too few images": (("fit", "--data", "{few.npz}", "--out", "{out}"), 3, "5 images, fewer than 10"),
    "check of too few images": (("check", "--data", "{few.npz}"), 3, "5 images, fewer than 10"),
    "an unknown class": ((*FIT, "--class", "MCI"), 2, "label 'MCI'; its labels are: AD, CN"),
    # Splits.
    "a participant on two sides": ((*FIT, "--split", "{leak.json}"), 4, r"participants on two sides: 019 \(train, validation\)"),
    "a split that lacks participants": ((*FIT, "--split", "{lacks.json}"), 3, "does not say on which side .* 020"),
    "a split without validation": ((*FIT, "--split", "{sideless.json}"), 2, "no side 'validation'"),
    "a split without validation of a class": ((*FIT, "--split", "{lopsided.json}"), 3, "leaves no validation image of class AD"),
    "a split that is none": ((*FIT, "--split", "{nosplit.json}"), 3, "is no split"),
    "a split that is not there": ((*FIT, "--split", "{none}"), 3, "cannot be read"),
    # Settings of a fit.
    "preset": ((*FIT, "--preset", "oasis"), 2, "no preset 'oasis'; choose one of: default, paper-oasis"),
    "model": ((*FIT, "--model", "gan"), 2, "no model 'gan'; choose one of: ae, vae"),
    "architecture": ((*FIT, "--arch", "unet"), 2, "no architecture 'unet'"),
    "a size in words": ((*FIT, "--size", "large"), 2, "--size is written as 80x96"),
    "a size of one number": ((*FIT, "--size", "80"), 2, "two numbers"),
    "a size too small": ((*FIT, "--size", "4x4"), 2, "8 or more"),
    "a size of volumes for pictures": ((*FIT, "--size", "16x16x16"), 2, "has 3 numbers"),
    "a size of pictures for volumes": ((*FIT_VOLUMES, "--size", "16x16"), 2, "has 2 numbers.*or --plane"),
    "the paper's size": ((*FIT, "--arch", "paper-oasis"), 2, "made for 208 x 176 slices, not 16 x 16"),
    "plane": ((*FIT_VOLUMES, "--plane", "oblique"), 2, "no plane 'oblique'"),
    "position": ((*FIT_VOLUMES, "--plane", "axial", "--position", "2"), 2, "--position takes a fraction"),
    "position out of reach": ((*FIT_VOLUMES, "--plane", "axial", "--position", "99mm"), 3, "no axial slice at 99 mm"),
    "way to the size": ((*FIT, "--resize", "squeeze"), 2, "--resize is"),
    "scaling": ((*FIT, "--scaling", "z"), 2, "--scaling is"),
    "no epochs": ((*FIT, "--epochs", "0"), 2, "at least 1 epoch"),
    "epochs in words": ((*FIT, "--epochs", "many"), 2, "--epochs"),
    "a learning rate of 0": ((*FIT, "--learning-rate", "0"), 2, "learning rate above 0"),
    "a batch of 0": ((*FIT, "--batch-size", "0"), 2, "1 image a batch"),
    "jitter": ((*FIT, "--jitter", "-1"), 2, "--jitter lies between"),
    "precision": ((*FIT, "--precision", "fp8"), 2, "--precision is"),
    "device": ((*FIT, "--device", "tpu"), 2, "--device is"),
    "beta": ((*FIT, "--beta", "-1"), 2, "beta must be 0 or more"),
    "beta of an autoencoder": ((*FIT, "--model", "ae", "--beta", "1"), 2, "'ae' has no setting beta"),
    "likelihood": ((*FIT, "--likelihood", "poisson"), 2, "'calibrated' or 'fixed'"),
    "latent dimension": ((*FIT, "--latent-dim", "0"), 2, "at least one latent dimension"),
    "channels": ((*FIT, "--channels", "0"), 2, "one channel"),
    "latent dimensions without end": ((*FIT, "--latent-dim", "1000000000"), 2, "at most 1,048,576 latent dimensions and channels"),
    "channels without end": ((*FIT, "--channels", "100000000"), 2, "at most 1,048,576 latent dimensions and channels"),
    "weights beyond the memory": (
        (*FIT, "--channels", "1000000"),
        2,
        r"To train a model of [\d,]+ weights this machine has no memory; choose a smaller --channels, --latent-dim or --size",
    ),
    "a size beyond the memory": (
        (*FIT, "--size", "16x100000000000"),
        2,
        "100000000000 x 16 this machine has no memory; choose a smaller --size",
    ),
    **{
        f"{option} {value}": ((*FIT, option, value), 2, "--lambda, --rho and --rho-scale lie between 1e-10 and 1e.10, and --tau from 0")
        for option, value in (
            *(("--rho", "1e-300"), ("--rho", "1e300"), ("--rho-scale", "1e300"), ("--rho-scale", "1e-300")),
            *(("--lambda", "1e-300"), ("--lambda", "1e300"), ("--tau", "1e300")),
        )
    },
    "centroids": ((*FIT, "--centroids", "0"), 2, "number of centroids"),
    "one centroid": ((*FIT, "--centroids", "1"), 2, "give --rho"),
    "selection": ((*FIT, "--selection", "best"), 2, "'best'"),
    "lambda": ((*FIT, "--lambda", "0"), 2, "--lambda"),
    "tau": ((*FIT, "--tau", "-1"), 2, "--tau"),
    "rho": ((*FIT, "--rho", "0"), 2, "--rho"),
    "a path that is no text": (
        ("fit", "--data", "{study.npz}", "--out", "m\udcff", *QUICK),
        2,
        r"'m\\udcff' is no text in UTF-8; rename it",
    ),
    "an option that is none": ((*FIT, "--colour", "red"), 2, "No such option"),
    "a command that is none": (("train",), 2, "No such command"),
    "a dry run of what cannot be": ((*FIT, "--beta", "-1", "--dry-run"), 2, "beta must be 0 or more"),
    # Models, samplers, output.
    "no models": (("generate", "--models", "{nothing}", "--out", "{out}"), 3, "no fitted model in .*nothing"),
    "models that are not there": (("generate", "--models", "{none}", "--out", "{out}"), 3, "no fitted model in .*none"),
    "a damaged model": (("generate", "--models", "{models-damaged}", "--out", "{out}"), 3, "models-damaged/AD is damaged"),
    "a class without a model": ((*GENERATE, "--class", "MCI"), 3, "no model of class MCI, only of AD, CN"),
    "sampler": ((*GENERATE, "--sampler", "hmc"), 2, "no sampler 'hmc'; choose one of: .*riemannian"),
    "a setting of no sampler": ((*GENERATE, "--sampler", "hmc", "--set", "reach=2"), 2, "no sampler 'hmc'; choose one of: .*riemannian"),
    "a setting without a value": ((*GENERATE, "--sampler", "gmm", "--set", "n_components"), 2, "written as name=value, not 'n_components'"),
    "a setting of another sampler": (
        (*GENERATE, "--sampler", "normal", "--set", "n_iterations=5"),
        2,
        "'normal' has no setting n_iter",
    ),
    "format": ((*GENERATE, "--format", "dicom"), 2, "--format is nifti, png or npz"),
    "volumes as PNG": (
        ("generate", "--models", "{models-volumes}", "--out", "{out}", "--format", "png"),
        2,
        "Volumes cannot be written as PNG",
    ),
    "n of 0": ((*GENERATE, "-n", "0"), 2, "1 or more"),
    "n beyond the memory": (
        (*GENERATE, "-n", "1000000000000"),
        2,
        "2000000000000 images of 16 x 16 this machine has no memory; give a smaller -n",
    ),
    "n in words": ((*GENERATE, "-n", "many"), 2, "-n"),
    "balance to fewer": ((*GENERATE, "--balance", "-n", "3"), 2, "--balance cannot bring"),
    "threshold of 1.5": ((*GENERATE, *RIEMANNIAN, "--threshold", "1.5"), 2, "threshold lies between 0 and 1"),
    "threshold of 0": ((*GENERATE, *RIEMANNIAN, "--threshold", "0"), 2, "threshold lies between 0 and 1"),
    "no iterations": ((*GENERATE, *RIEMANNIAN, "--set", "n_iterations=0"), 2, "at least 1 iteration"),
    "target acceptance": ((*GENERATE, *RIEMANNIAN, "--set", "target_acceptance=1"), 2, "target acceptance"),
    "step size": ((*GENERATE, "--sampler", "riemannian-paper", "--set", "step_size=-1"), 2, "step size above 0"),
    **{
        f"a reach of {reach or 'nothing'}": (
            (*GENERATE, *RIEMANNIAN, "--set", f"reach={reach}"),
            2,
            f"reach of the sampler 'riemannian' is auto, or a number between 1e-10 and 1e.10, not '{reach}'",
        )
        for reach in ("0", "-1", "nan", "inf", "far", "", "1e-300", "1e300")
    },
    "a chain at the reach auto": (
        (*GENERATE, *RIEMANNIAN, "--set", "reach=auto", "--set", "n_iterations=5"),
        2,
        "no chain to set n_iterations of; give a number as reach",
    ),
    "a share held at a reach": ((*GENERATE, *RIEMANNIAN, "--set", "reach=1", "--set", "holds=0.8"), 2, "a setting of the reach auto"),
    **{
        f"a share held of {share}": (
            (*GENERATE, *RIEMANNIAN, "--set", f"holds={share}"),
            2,
            "holds of the sampler 'riemannian' is a number between 0 and 1",
        )
        for share in ("0", "1", "-0.5", "nan")
    },
    **{
        f"{setting} with auto": (
            (*GENERATE, "--set", setting),
            2,
            f"auto chooses its settings, and takes no {setting.partition('=')[0]}; name the sampler",
        )
        for setting in ("reach=1", "holds=0.8", "n_iterations=5")
    },
    "components": ((*GENERATE, "--sampler", "gmm", "--set", "n_components=99"), 2, "components"),
    "generate on a device that is none": ((*GENERATE, "--device", "tpu"), 2, "--device is"),
    "an autoencoder and riemannian": (
        ("generate", "--models", "{models-ae}", "--out", "{out}", *RIEMANNIAN),
        2,
        r"'riemannian' needs a model with a Gaussian posterior, and the model AE has none; for it choose one of: gaussian, kde",
    ),
    # The gate.
    "a threshold without a reason": ((*GENERATE, "--gate", "ratio=0.4"), 2, "--gate and --reason go together"),
    "a threshold that generation has not": (
        (*GENERATE, "--gate", "copies=1", "--reason", "a trial"),
        2,
        "--gate changes level, ratio, not 'copies'",
    ),
    "an audit of real people": (("audit", "{bids}", "--model", "{models-pictures}", "--out", "{out}"), 2, "bids is no synthetic cohort"),
    "an audit of nothing": (("audit", "{nothing}", "--model", "{none}", "--out", "{out}"), 2, "nothing is no synthetic cohort"),
    "an audit's threshold beyond its bounds": (
        ("audit", "{nothing}", "--gate", "power=2", "--reason", "a trial"),
        2,
        "--gate power lies between 0 and 1, not at 2",
    ),
    # What is there already.
    "a model that is there": (
        ("fit", "--data", "{study.npz}", "--out", "{models-pictures}", "--class", "AD", *QUICK),
        2,
        "exists already.*--force",
    ),
    "a dry run over a model": (
        ("fit", "--data", "{study.npz}", "--out", "{models-pictures}", "--dry-run", *QUICK),
        2,
        "exists already.*--force",
    ),
    "a folder that is there": (("generate", "--models", "{models-pictures}", "--out", "{full}"), 2, "full exists already"),
    "an audit that is there": (("generate", "--models", "{models-pictures}", "--out", "{stale}"), 2, r"stale\.audit\.csv exists already"),
    "a sheet that is there": (("show", "{study.npz}", "--out", "{taken.png}"), 2, r"taken\.png exists already"),
    "a demo that is there": (("demo", "--out", "{full}"), 2, "full exists already"),
    "a file for a folder": (("fit", "--data", "{study.npz}", "--out", "{taken.png}", *QUICK), 3, r"taken\.png"),
    # Show.
    "show of nothing": (("show", "{none}", "--out", "{sheet.png}"), 3, "There is no file or folder"),
    "show of a class that is not there": (
        ("show", "{study.npz}", "--class", "MCI", "--out", "{sheet.png}"),
        2,
        "no image of class MCI; the classes are: AD, CN",
    ),
    "show of a class that is not there beside one that is": (
        ("show", "{study.npz}", "--class", "AD", "--class", "MCI", "--out", "{sheet.png}"),
        2,
        "no image of class MCI; the classes are: AD, CN",
    ),
    "show of no images": (("show", "{study.npz}", "-n", "0", "--out", "{sheet.png}"), 2, "-n"),
    "show of a folder of models": (
        ("show", "{models-ae}", "--out", "{sheet.png}"),
        2,
        "a folder of models; show one of them, as .*models-ae/AD",
    ),
    "show of a model among cohorts": (
        ("show", "{study.npz}", "{models-ae}/AD", "--out", "{sheet.png}"),
        2,
        "is a model; show it by itself",
    ),
    "show of a damaged model": (("show", "{models-damaged}/AD", "--out", "{sheet.png}"), 3, "is damaged"),
    # Evaluate.
    "a configuration and other options": (
        ("evaluate", "--config", "{none}", "--steps", "9", "--runs", "3", "--jobs", "2", "--out", "{out}"),
        2,
        "leave out --runs, --steps, or --config",
    ),
    "fitting options beside generators that are fitted": (
        ("evaluate", "--data", "{study.npz}", "--protocol", "paper", "--generators", "{models-pictures}", "--beta", "1", "--out", "{out}"),
        2,
        "With --generators nothing is fitted: leave out --beta",
    ),
    "an architecture that fits no size": (
        ("evaluate", "--data", "{study.npz}", "--arch", "paper-oasis", "--methods", "vae:gmm", "--runs", "1", "--out", "{out}"),
        2,
        "paper-oasis is made for 208 x 176 slices",
    ),
    "an architecture beside generators that are fitted": (
        (
            "evaluate",
            "--data",
            "{study.npz}",
            "--protocol",
            "paper",
            "--generators",
            "{models-pictures}",
            "--arch",
            "conv",
            "--out",
            "{out}",
        ),
        2,
        "With --generators nothing is fitted: leave out --arch",
    ),
    "generators and new splits": (
        ("evaluate", "--data", "{study.npz}", "--generators", "{models-pictures}", "--out", "{out}"),
        2,
        "--generators goes with --protocol paper",
    ),
    "an external test set that is not given": (
        ("evaluate", "--data", "{study.npz}", "--external-only", "--out", "{out}"),
        2,
        "--external-only goes with --test-data",
    ),
    "shards of a job array": (
        ("evaluate", "--data", "{study.npz}", "--slurm", "2", "--shard", "1/2", "--out", "{out}"),
        2,
        "--slurm makes the shards itself",
    ),
    "a job array of nothing": (("evaluate", "--data", "{study.npz}", "--slurm", "0", "--out", "{out}"), 2, "1 or more, not 0"),
    "no jobs": (("evaluate", "--data", "{study.npz}", "--jobs", "0", "--out", "{out}"), 2, "--jobs"),
    "interpolation without a metric": (
        ("interpolate", "{models-ae}", "--class", "AD", "--out", "{out}"),
        2,
        "'ae' has no Gaussian posterior.*--model vae, vamp, ",
    ),
    "interpolation of several classes": (("interpolate", "{models-pictures}", "--out", "{out}"), 2, "choose one with --class"),
    "interpolation of where no end is named": ((*INTERPOLATE, "--data", "{study.npz}"), 2, "goes with --from and --to"),
    "interpolation of no model": (("interpolate", "{nothing}", "--out", "{out}"), 3, "no fitted model"),
    "interpolation from nobody": ((*INTERPOLATE, "--from", "nobody", "--to", "001"), 2, "no participant or image 'nobody'"),
    "interpolation from here to nowhere": ((*INTERPOLATE, "--from", "001"), 2, "--from and --to go together"),
    "interpolation by a curve": ((*INTERPOLATE, "--curve", "round"), 2, "no curve 'round'; choose among: affine, geodesic, eq12"),
    "interpolation of too many pairs": ((*INTERPOLATE, "--pairs", "4"), 2, "from 1 to 3 pairs"),
    "interpolation in one step": ((*INTERPOLATE, "--steps", "1"), 2, "2 images or more"),
    "interpolation beyond the memory": (
        (*INTERPOLATE, "--steps", "1000000000000"),
        2,
        "16 x 16 this machine has no memory; give fewer --steps",
    ),
    "a mosaic finer than images": (
        (*GENERATE, "--detail", "mosaic pieces=1000000000000"),
        2,
        "pieces of the detail 'mosaic' is at most 1000",
    ),
    "interpolation as npz": ((*INTERPOLATE, "--format", "npz"), 2, "--format is nifti or png"),
    "interpolation of volumes as PNG": (
        ("interpolate", "{models-volumes}", "--class", "AD", "--format", "png", "--out", "{out}"),
        2,
        "Volumes cannot be written as PNG",
    ),
    "toy of no steps": (("toy", "--steps", "0", "--out", "{out}"), 2, "--steps"),
    # Studies.
    "a study that there is not": (("study", "table-1", "--data", "rings-and-discs", "--out", "{out}"), 2, "no study 'table-1'"),
    "a study of a configuration and other options": (
        ("study", "--config", "{none}", "--steps", "9", "--out", "{out}"),
        2,
        "leave out --steps, or --config",
    ),
    "a study of no configuration": (("study", "--config", "{none}", "--out", "{out}"), 3, "is no study's configuration"),
    "a study of both lengths": (("study", "--epochs", "1", "--steps", "9", "--out", "{out}"), 2, "give one of them"),
    "a study of a size that is no number": (("study", "--sizes", "many", "--out", "{out}"), 2, "--sizes are numbers .* not 'many'"),
    "a study without the weights of its features": (
        ("study", "--data", "rings-and-discs", "--features", "inception-2048", "--out", "{out}"),
        2,
        "need --weights",
    ),
    "a study of a preset that there is not": (("study", "--preset", "paper", "--out", "{out}"), 2, "There is no preset 'paper'"),
    "demo of no steps": (("demo", "--steps", "0", "--out", "{out}"), 2, "--steps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(augment, scene, name):
    words, code, says = REFUSED[name]
    before = tree(scene)
    answer = augment(*(re.sub(r"{(.*)}", lambda place: str(scene / place[1]), word) for word in words))
    assert answer.code == code, answer.err
    assert re.search(says, answer.words), answer.words
    assert "Traceback" not in answer.err
    assert "unforeseen" not in answer.err
    if "Usage:" not in answer.err and not name.startswith("check of") and "broken" not in name and "few" not in name:
        # One sentence, on one line, after whatever progress was shown.
        (line,) = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
        assert line.endswith("."), line
    assert tree(scene) == before


def test_every_problem_of_a_broken_cohort_is_in_one_report(augment, scene):
    for words in (("check", "--data", scene / "broken"), ("fit", "--data", scene / "broken", "--out", scene / "out")):
        answer = augment(*words)
        assert all(f"sub-{person}_T1w" in answer.err or f"{person} " in answer.err for person in ("001", "002", "003"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("words", [FIT, GENERATE], ids=["fit", "generate"])
def test_no_gpu(augment, scene, words):
    before = tree(scene)
    answer = augment(*(re.sub(r"{(.*)}", lambda place: str(scene / place[1]), word) for word in words), "--device", "gpu")
    assert answer.code == 2
    assert "No GPU that torch can use was found" in answer.words
    assert tree(scene) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_folder_that_may_not_be_written_to(augment, fakes, tmp_path):
    data, closed = fakes.study(tmp_path / "study.npz"), tmp_path / "closed"
    closed.mkdir(mode=0o500)
    answer = augment("fit", "--data", data, "--out", closed / "models", *QUICK)
    assert answer.code == 3
    assert "Permission denied" in answer.words


def test_a_diverging_fit_is_a_gate(augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "study.npz")
    answer = augment("fit", "--data", data, "--out", tmp_path / "models", *QUICK, "--learning-rate", "1e30", "--epochs", 4)
    assert answer.code == 5
    assert "no longer a finite number" in answer.words
    assert not (tmp_path / "models/AD").exists()


def test_a_defect_of_ours_goes_to_a_log(augment, tmp_path, monkeypatch):
    def broken(*args, **options):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("tinycohort.augment.commands.check.check_cohort", broken)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo [1]").mkdir()
    answer = augment("check", "--data", "demo [1]")
    assert answer.code == 1
    assert "Traceback" not in answer.err
    found = re.search(r"an unforeseen ZeroDivisionError \(by nought\); please report it with (\S+\.log)\.", answer.words)
    assert found
    log = Path(found[1]).read_text()
    assert log.startswith("augment check --data 'demo [1]'\n")
    assert "Traceback" in log
    assert "by nought" in log


def test_a_defect_is_told_where_there_is_no_folder_for_a_log_and_whatever_its_words(augment, monkeypatch, tmp_path):
    def broken(*args, **options):
        raise ZeroDivisionError("by [/AD] \udcff\x1b[2J")

    monkeypatch.setattr("tinycohort.augment.commands.check.check_cohort", broken)
    answer = augment("check", "--data", "demo")
    (log,) = re.findall(r"\S+\.log", answer.words)
    assert r"by [/AD] \udcff\x1b[2J" in Path(log).read_text(encoding="utf-8")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    answer = augment("check", "--data", "demo")
    assert answer.code == 1
    assert r"an unforeseen ZeroDivisionError (by [/AD] \udcff\x1b[2J); please report it with what stands above" in answer.words
    assert "augment check --data demo" in answer.err
    assert "Traceback" in answer.err
    assert "\x1b[2J" not in answer.err


@pytest.mark.parametrize("label", ["[/AD]", r"\[/x]", "[bold]", ":smile:"])
def test_names_are_no_markup_from_the_data_to_the_cohort(augment, fakes, tmp_path, label):
    data = fakes.study(tmp_path / f"{label.replace('/', '')}[1].npz", counts={label: 10, "CN": 14})
    for words in (
        ("check", "--data", data),
        ("fit", "--data", data, "--out", tmp_path / "models", *QUICK),
        ("generate", "--models", tmp_path / "models", "--out", tmp_path / "made", "-n", 2),
    ):
        answer = augment(*words)
        assert answer.code == 0, answer.err
        assert label in answer.err
    cohort = read_cohort(tmp_path / "made")
    assert set(cohort.labels) == {label, "CN"}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] can't allocate memory: you tried to allocate 8000 bytes.")])
def test_memory_that_runs_out_anywhere_is_no_defect(augment, monkeypatch, error):
    def hungry(*args, **options):
        raise error

    monkeypatch.setattr("tinycohort.augment.commands.check.check_cohort", hungry)
    answer = augment("check", "--data", "demo")
    assert answer.code == 3
    assert "Error: there is not enough memory (" in answer.words
    assert "unforeseen" not in answer.err

"""Fits that can be watched: every epoch is logged beside the model, and nothing but numbers is."""

from contextlib import contextmanager

import pandas as pd
import pytest

from tinycohort.augment import console
from tinycohort.augment.fitting import loggers
from tinycohort.augment.fitting.loggers import LOGGERS, logged, require_loggers
from tinycohort.datasets.common.errors import UsageError
from tinycohort.experiments.verify import verify

QUICK = ("--epochs", "3", "--channels", "2", "--latent-dim", "2", "--batch-size", "5", "--precision", "fp32", "--device", "cpu")


@pytest.fixture
def fake(monkeypatch):
    logs = []

    @contextmanager
    def logger(folder, label):
        logs.append([label, [], "failed"])
        yield lambda numbers, epoch: logs[-1][1].append((epoch, numbers))
        logs[-1][2] = "success"

    monkeypatch.setattr(loggers, "LOGGERS", {"csv": logger})
    return logs


def test_losses_are_logged_beside_the_model(augment, fakes, tmp_path):
    words = ("fit", "--data", fakes.study(tmp_path / "study.npz"), "--class", "AD", "--out", tmp_path / "models", "--logger", "csv")
    answer = augment(*words, *QUICK)
    assert answer.code == 0, answer.words
    assert f"losses were logged to {tmp_path / 'models/AD.logs'} (csv)" in answer.words
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["AD", "AD.logs", "split.json"]
    history = pd.read_csv(tmp_path / "models/AD/history.csv")
    logged_ = pd.read_csv(tmp_path / "models/AD.logs/version_0/metrics.csv")
    pd.testing.assert_frame_equal(logged_, history)
    assert verify(tmp_path / "models")
    # Another fit is logged beside the first.
    assert augment(*words, *QUICK, "--force").code == 0
    assert (tmp_path / "models/AD.logs/version_1/metrics.csv").is_file()
    assert augment("generate", "--models", tmp_path / "models", "-n", 2, "--sampler", "normal", "--out", tmp_path / "syn").code == 0


def test_a_fit_that_fails_is_logged_as_that(fake, tmp_path):
    with logged(["csv"], tmp_path, "AD") as log:
        log({"epoch": 1, "train_loss": 2.0})
    with pytest.raises(KeyboardInterrupt), logged(["csv"], tmp_path, "AD") as log:
        raise KeyboardInterrupt
    assert fake == [["AD", [(1, {"train_loss": 2.0})], "success"], ["AD", [], "failed"]]


def test_without_loggers_nothing_is_logged(tmp_path):
    with logged([], tmp_path / "AD.logs", "AD") as log:
        log({"epoch": 1, "train_loss": 2.0})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in LOGGERS if name != "csv"])
def test_a_package_that_is_missing_is_told_before_anything_is_read(augment, tmp_path, monkeypatch, name):
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    (tmp_path / "empty").mkdir()
    answer = augment("fit", "--data", tmp_path / "empty", "--logger", f"csv,{name}", "--out", tmp_path / "models")
    assert answer.code == 2
    assert f"--logger {name} needs a package that is not installed: pip install 'tinycohort[{name}]'" in answer.words
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_a_logger_that_there_is_not():
    with pytest.raises(UsageError, match="choose among: csv, tensorboard, mlflow, wandb"):
        require_loggers(["excel"])


def test_tensorboard_gets_curves(tmp_path):
    pytest.importorskip("tensorboard")
    with logged(["tensorboard"], tmp_path, "AD") as log:
        log({"epoch": 1, "train_loss": 2.0})
    assert list(tmp_path.glob("version_0/events.out.tfevents.*"))


def test_mlflow_is_not_told_who_runs_it(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    with logged(["mlflow"], tmp_path, "AD") as log:
        log({"epoch": 1, "train_loss": 2.0})
    with pytest.raises(KeyboardInterrupt), logged(["mlflow"], tmp_path, "AD"):
        raise KeyboardInterrupt
    run, failed = sorted(mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["1"]), key=lambda run: run.info.status)[
        ::-1
    ]
    assert (run.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert run.data.metrics == {"train_loss": 2.0}
    assert {run.data.tags["mlflow.user"], run.data.tags["mlflow.source.name"]} == {"tinycohort"}


def test_wandb_stays_on_this_disk(tmp_path):
    pytest.importorskip("wandb")
    with logged(["wandb"], tmp_path, "AD") as log:
        log({"epoch": 1, "train_loss": 2.0})
    assert not list(tmp_path.rglob("wandb-metadata.json"))
    assert list(tmp_path.glob("wandb/offline-run-*"))


def test_the_curve_beside_the_bar():
    assert console.curve([1.0]) == ""
    assert console.curve([3.0, 2.0, 1.0]) == "█▅▁"
    assert console.curve([1.0] * 100) == "▁" * 8
    falling = console.curve([float(100 - epoch) for epoch in range(97)])
    assert len(falling) == 8
    assert list(falling) == sorted(falling, reverse=True)

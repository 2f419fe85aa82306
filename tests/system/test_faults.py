"""What can go wrong around a command, done to processes of their own: docs/guide/faults.md lists all of it with its test.

Whatever happens: no half-written file is ever read, what was there stays, and the same command, started again, ends as if nothing had.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from folders import ROOT, assert_same_model, results_of, tree, visible
from torch import nn

from tinycohort.augment.autoencoders import VAE
from tinycohort.augment.commands import fit as fit_command
from tinycohort.augment.fitting.model import FittedModel, decode, encode
from tinycohort.augment.fitting.model_folders import model_folders
from tinycohort.classifiers.training import predict_probabilities
from tinycohort.datasets.common import batches
from tinycohort.datasets.common.batches import in_batches
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import Split
from tinycohort.experiments.engine import study_images as prepared
from tinycohort.experiments.engine.study_folder import all_runs
from tinycohort.experiments.verify import findings_of

posix = pytest.mark.skipif(sys.platform == "win32", reason="other signals, and no fork")
TRAIN = ("--channels", "2", "--latent-dim", "2", "--batch-size", "5", "--precision", "fp32", "--device", "cpu")

# One process imports everything, and forks for each command: what happens to a command does not wait for imports.
SHELL = """
import json, os, resource, signal, sys
from tinycohort.augment import cli
from tinycohort.augment.commands import fit, generate
from tinycohort.augment.fitting import training
from tinycohort.experiments.augmentation_study import command, report
from tinycohort.experiments.fidelity_study import command as studies
training.SECONDS_BETWEEN_RESUME_POINTS = 0
print("ready", flush=True)
for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        os.dup2(theirs, 1), os.dup2(theirs, 2), os.close(theirs)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if request["largest"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"],) * 2)
        if request["memory"]:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + request["memory"],) * 2)
        sys.argv = ["augment", *request["words"]]
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            print("Traceback", repr(error), file=sys.stderr)
            code = 99
        sys.stderr.flush()
        os._exit(code)
    os.close(theirs)
    print(pid, flush=True)
    with open(ours, "rb") as stream:
        said = stream.read().decode(errors="replace")
    sys.stdin.readline()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([status, said]), flush=True)
"""


def wait_for(something: Callable[[], bool]) -> None:
    patience = time.monotonic() + 120
    while not something() and time.monotonic() < patience:
        time.sleep(0.002)


class Shell:
    """Runs commands in processes of their own, one at a time."""

    def __init__(self):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.pid = 0
        assert self._line() == "ready\n"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def _tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def start(self, *words, largest: int = 0, memory: int = 0) -> None:
        self._tell(json.dumps({"words": list(map(str, words)), "largest": largest, "memory": memory}))
        self.pid = int(self._line())

    def end(self) -> tuple[int, str]:
        """Wait for the command and its workers; its exit code (of a signal, negative), and what it said."""
        self._tell("It may be waited for: until then, its number is no other's.")
        code, said = json.loads(self._line())
        self.pid = 0
        return code, re.sub(r"\s+", " ", said)

    def run(self, *words, **limits) -> tuple[int, str]:
        self.start(*words, **limits)
        return self.end()

    def send(self, number: int, after: float | Callable[[], bool]) -> tuple[int, str]:
        """Send a signal after a time, or when something is so."""
        if callable(after):
            wait_for(after)
        else:
            time.sleep(after)
        assert self.pid > 0  # 0 would be all of this process group
        os.kill(self.pid, number)
        return self.end()

    @contextmanager
    def halted(self, lock: Path, *words) -> Iterator[None]:
        """Start a command, and halt it while the block runs, once it has a lock and has signed it; then it goes on to its end."""
        self.start(*words)
        wait_for(lambda: lock.exists() and lock.stat().st_size > 0)
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)
        code, said = self.end()
        assert code == 0, said

    def leave(self) -> None:
        """End what a test that has failed has left running."""
        if self.pid:
            self.send(signal.SIGKILL, 0)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def opened():
    shells: list[Shell] = []
    yield shells
    for shell in shells:
        shell.close()


@pytest.fixture
def shells(opened):
    """Up to as many at a time as are asked for."""

    def shell(number: int = 0) -> Shell:
        while len(opened) <= number:
            opened.append(Shell())
        return opened[number]

    yield shell
    for one in opened:
        one.leave()


@pytest.fixture
def shell(shells):
    return shells()


def assert_whole(folder: Path) -> None:
    """All that is visible can be read: nothing is half there."""
    if (folder / "split.json").exists():
        Split.load(folder / "split.json")
    for model in model_folders(folder):
        FittedModel.load(model)
    if (folder / "config.toml").exists():
        all_runs(folder)
        for model in (*(folder / "generators").glob("*/[!.]*"), *(folder / "models").glob("[!.]*")):
            FittedModel.load(model)
    if (folder / "dataset_description.json").exists():
        assert read_cohort(folder).problems == ()
    for path in folder.rglob("*"):
        if path.suffix == ".json" and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            json.loads(path.read_text())


def kill_at_random(shell: Shell, words, *, kills: int, restart=(), seconds: float, seed: int, whole: Callable[[], None], fresh) -> int:
    """Kill a command at random moments, again and again, and then let it end; how often it was started."""
    moments, done, starts = random.Random(seed), 0, 0
    while True:
        shell.start(*words, *(restart if starts else ()))
        starts += 1
        code, said = shell.send(signal.SIGKILL, moments.uniform(0, seconds)) if done < kills else shell.end()
        assert code in (0, -signal.SIGKILL), said
        whole()
        if code == 0 and done >= kills:
            return starts
        done += code != 0
        if code == 0:  # it was quicker than the kill
            fresh()
            starts = 0


# kill -9.

KILLS = {"fit": 8, "generate": 8, "evaluate": 6, "study": 6}  # of each command in the slow suite, which docs/guide/faults.md tells


@posix
@pytest.mark.slow
def test_a_fit_that_is_killed_at_random_moments_ends_as_one_that_was_not(shell, fakes, tmp_path):
    data, models, whole = fakes.study(tmp_path / "study.npz"), tmp_path / "models", tmp_path / "whole"
    words = ("fit", "--data", data, *TRAIN, "--epochs", "60")
    clock = time.monotonic()
    assert shell.run(*words, "--out", whole)[0] == 0
    kill_at_random(
        shell,
        (*words, "--out", models),
        kills=KILLS["fit"],
        restart=("--resume",),
        seconds=time.monotonic() - clock,
        seed=KILLS["fit"],
        whole=lambda: assert_whole(models),
        fresh=lambda: shutil.rmtree(models),
    )
    for label in ("AD", "CN"):
        assert_same_model(models / label, whole / label)
    assert (models / "split.json").read_bytes() == (whole / "split.json").read_bytes()
    assert all(finding.matches is not False for finding in findings_of(models))
    assert visible(models) == ["AD", "CN", "split.json"]


@pytest.fixture
def one_thread():
    """As the processes have it: sums of floats depend on how they are shared out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@posix
def test_a_fit_that_is_killed_leaves_no_model_and_goes_on_where_it_was(shell, augment, fakes, tmp_path, monkeypatch, one_thread):
    data, models, whole = fakes.study(tmp_path / "study.npz"), tmp_path / "models", tmp_path / "whole"
    words = ("fit", "--data", data, "--class", "AD", *TRAIN, "--epochs", "100")
    shell.start(*words, "--out", models)
    code, said = shell.send(signal.SIGKILL, (models / ".fitting-AD/state.safetensors").exists)
    assert code == -signal.SIGKILL, said
    assert visible(models) == ["split.json"]
    assert augment("generate", "--models", models, "--out", tmp_path / "syn").code == 3
    steps = []
    loss = VAE.loss
    monkeypatch.setattr(VAE, "loss", lambda model, x, generator: (steps.append(model.training), loss(model, x, generator))[1])
    assert augment(*words, "--out", models, "--resume").code == 0
    resumed = sum(steps)
    assert augment(*words, "--out", whole).code == 0
    # It went on, and did not begin anew: 7 images in batches of 5 are 2 steps an epoch.
    assert sum(steps) - resumed == 2 * 100
    assert resumed < 2 * 100
    assert_same_model(models / "AD", whole / "AD")
    assert visible(models) == ["AD", "split.json"]
    assert not (models / ".fitting-AD").exists()


@posix
@pytest.mark.slow
@pytest.mark.parametrize(("form", "kills"), [("nifti", 2), ("png", KILLS["generate"] - 2)])
def test_a_generation_that_is_killed_at_random_moments_ends_as_one_that_was_not(shell, studies, tmp_path, form, kills):
    out, whole = tmp_path / "syn", tmp_path / "whole"
    words = ("generate", "--models", studies["slices"].models, "-n", "150", "--force")
    words = (*words, "--format", form, "--out", out)
    clock = time.monotonic()
    assert shell.run(*words)[0] == 0
    seconds = time.monotonic() - clock
    out.rename(whole)
    audit = (tmp_path / "syn.audit.csv").read_bytes()
    kill_at_random(
        shell,
        words,
        kills=kills,
        seconds=seconds,
        seed=0,
        whole=lambda: assert_whole(out) if out.exists() else None,
        fresh=lambda: None,
    )
    assert tree(out) == tree(whole)
    assert (tmp_path / "syn.audit.csv").read_bytes() == audit
    assert sorted(path.name for path in tmp_path.iterdir()) == ["syn", "syn.audit.csv", "whole"]


EVALUATE = ("--runs", "2", "--epochs", "2", "--least-steps", "0", "--steps", "10", "--channels", "2", "--latent-dim", "2")
EVALUATE = ("evaluate", *EVALUATE, "--methods", "original,vae:posterior", "--jobs", "2")
STUDY = ("--sizes", "40", "--runs", "2", "--samples", "20", "--steps", "200", "--arch", "conv", "--channels", "2", "--latent-dim", "2")
STUDY = ("study", "low-data", *STUDY, "--systems", "vae:normal,vae:posterior,ae:gmm n_components=2", "--measures", "frechet", "--jobs", "2")


@posix
@pytest.mark.slow
@pytest.mark.parametrize("command", [EVALUATE, STUDY], ids=lambda command: command[0])
def test_a_study_that_is_killed_at_random_moments_ends_as_one_that_was_not(shell, fakes, tmp_path, command):
    data, study, whole = fakes.study(tmp_path / "study.npz", counts={"AD": 80, "CN": 80}), tmp_path / "study", tmp_path / "whole"
    words = (*command, "--data", data)
    clock = time.monotonic()
    assert shell.run(*words, "--out", whole)[0] == 0
    kill_at_random(
        shell,
        (*words, "--out", study),
        kills=KILLS[command[0]],
        seconds=time.monotonic() - clock,
        seed=0,
        whole=lambda: assert_whole(study) if study.exists() else None,
        fresh=lambda: shutil.rmtree(study),
    )
    pd.testing.assert_frame_equal(results_of(study), results_of(whole), check_exact=True)
    assert (study / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    assert all(finding.matches is not False for finding in findings_of(study))


# Ctrl-C.


@posix
@pytest.mark.parametrize("times", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_an_interrupted_fit_says_how_to_go_on_and_goes_on(shell, fakes, tmp_path, times):
    data, models, whole = fakes.study(tmp_path / "study.npz"), tmp_path / "models", tmp_path / "whole"
    words = ("fit", "--data", data, "--class", "AD", *TRAIN, "--epochs", "60")
    clock = time.monotonic()
    assert shell.run(*words, "--out", whole)[0] == 0
    moments = random.Random(times)
    for _ in range(times):
        shell.start(*words, "--out", models, "--resume")
        code, said = shell.send(signal.SIGINT, moments.uniform(0.2, 0.9) * (time.monotonic() - clock) / (times + 1))
        assert code in (0, 130), said
        assert "Traceback" not in said
        assert code == 0 or "Interrupted. With --resume the same command goes on with it." in said
        assert_whole(models)
    assert shell.run(*words, "--out", models, "--resume")[0] == 0
    assert_same_model(models / "AD", whole / "AD")


@posix
def test_an_interrupted_generation_leaves_nothing(shell, studies, tmp_path):
    out = tmp_path / "syn"
    words = ("generate", "--models", studies["pictures"].models, "--sampler", "normal", "--detail", "none", "--format", "png")
    shell.start(*words, "-n", "3000", "--out", out)
    code, said = shell.send(signal.SIGINT, lambda: len(list(tmp_path.glob(".writing-syn-*/images/*.png"))) > 20)
    assert code == 130
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.slow
def test_an_interrupted_study_goes_on_with_the_same_command(shell, fakes, tmp_path):
    data, study, whole = fakes.study(tmp_path / "study.npz", counts={"AD": 20, "CN": 20}), tmp_path / "study", tmp_path / "whole"
    words = (*EVALUATE, "--data", data)
    shell.start(*words, "--out", study)
    code, said = shell.send(signal.SIGINT, lambda: any((study / "runs").glob("*.json")))
    assert code == 130
    assert "Interrupted. The same command goes on with it." in said
    assert "Traceback" not in said
    assert 0 < len(all_runs(study)) < 4
    for folder in (study, whole):
        assert shell.run(*words, "--out", folder)[0] == 0
    pd.testing.assert_frame_equal(results_of(study), results_of(whole), check_exact=True)


# A full disk, and a folder that nothing can be written to.


@posix
@pytest.mark.parametrize("largest", [50, 8_000, *(pytest.param(size, marks=pytest.mark.slow) for size in (3_000, 25_000))])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half(shell, fakes, tmp_path, largest):
    """No file may be larger than so many bytes: the first that is cannot be written, as on a full disk."""
    data, models, whole = fakes.study(tmp_path / "study.npz"), tmp_path / "models", tmp_path / "whole"
    words = ("fit", "--data", data, "--class", "AD", *TRAIN, "--epochs", "4")
    code, said = shell.run(*words, "--out", models, largest=largest)
    assert code == 3, said
    assert "File too large; mend that and repeat the command" in said
    assert "unforeseen" not in said
    assert set(visible(models)) <= {"split.json"}
    assert shell.run(*words, "--out", models, "--resume")[0] == 0
    assert shell.run(*words, "--out", whole)[0] == 0
    assert_same_model(models / "AD", whole / "AD")


@posix
@pytest.mark.parametrize(
    ("form", "largest"),
    [("png", 1_000), ("npz", 5_000), *(pytest.param(*each, marks=pytest.mark.slow) for each in (("png", 80), ("nifti", 150)))],
)
def test_a_full_disk_leaves_no_half_cohort(shell, studies, tmp_path, form, largest):
    out = tmp_path / "syn"
    words = ("generate", "--models", studies["slices"].models, "-n", "40", "--sampler", "posterior", "--format", form, "--out", out)
    code, said = shell.run(*words, largest=largest)
    assert code == 3, said
    assert "File too large; mend that and repeat the command" in said
    assert list(tmp_path.iterdir()) == []
    assert shell.run(*words)[0] == 0
    assert read_cohort(out).counts() == {"AD": 40, "CN": 40}


@posix
@pytest.mark.slow
def test_a_study_on_a_full_disk_goes_on_when_there_is_room(shell, fakes, tmp_path):
    data, study = fakes.study(tmp_path / "study.npz", counts={"AD": 20, "CN": 20}), tmp_path / "study"
    words = (*EVALUATE, "--data", data, "--out", study)
    for largest in (500, 4_000, 20_000):
        code, said = shell.run(*words, largest=largest)
        assert code in (3, 5), said
        assert "unforeseen" not in said
        assert_whole(study)
    assert shell.run(*words)[0] == 0
    assert len(all_runs(study)) == 4


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder that nobody can write to")
@pytest.mark.parametrize("words", [("fit", "--data", "{data}", *TRAIN, "--epochs", "1"), ("generate", "--models", "{models}", "-n", "1")])
def test_an_output_folder_that_is_read_only_is_one_sentence(augment, studies, words):
    """Not even by root, who may write to a folder without the right to."""
    study = studies["pictures"]
    words = [word.format(data=study.data, models=study.models) for word in words]
    answer = augment(*words, "--out", "/sys/kernel/tinycohort/out")
    assert answer.code == 3
    assert re.search(r"(Operation not permitted|Permission denied|Read-only file system); mend that", answer.words)


# Two processes.


@posix
def test_two_fits_into_one_folder_make_one_model(shells, fakes, tmp_path):
    data, models, whole = fakes.study(tmp_path / "study.npz"), tmp_path / "models", tmp_path / "whole"
    words = ("fit", "--data", data, "--class", "AD", *TRAIN, "--epochs", "120")  # long enough to be halted by a busy machine too
    assert shells(0).run(*words, "--out", whole)[0] == 0
    with shells(0).halted(models / ".AD.lock", *words, "--out", models):
        for more in ((), ("--force",), ("--resume",)):
            code, said = shells(1).run(*words, "--out", models, *more)
            assert code == 2, said
            assert f"Another command is at work on {models / 'AD'} (process " in said
    assert_same_model(models / "AD", whole / "AD")
    assert all(finding.matches is not False for finding in findings_of(models))


@posix
def test_two_generations_into_one_folder_make_one_cohort(shells, studies, tmp_path):
    out = tmp_path / "syn"
    words = ("generate", "--models", studies["pictures"].models, "-n", "30", "--sampler", "normal", "--format", "png", "--out", out)
    with shells(0).halted(tmp_path / ".syn.lock", *words):
        for more in ((), ("--force",)):
            code, said = shells(1).run(*words, *more)
            assert code == 2, said
            assert f"Another command is at work on {out} (process " in said
    assert read_cohort(out).counts() == {"AD": 30, "CN": 30}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["syn", "syn.audit.csv"]


@posix
def test_fits_of_two_classes_into_one_folder_share_a_split(shells, fakes, tmp_path):
    data, models = fakes.study(tmp_path / "study.npz"), tmp_path / "models"
    words = ("fit", "--data", data, *TRAIN, "--epochs", "20", "--out", models)
    for number, label in enumerate(("AD", "CN")):
        shells(number).start(*words, "--class", label)
    assert [shells(number).end()[0] for number in (0, 1)] == [0, 0]
    assert all(finding.matches is not False for finding in findings_of(models))
    assert sorted(path.name for path in models.iterdir()) == ["AD", "CN", "split.json"]


@posix
def test_what_a_killed_generation_has_left_is_removed_by_the_next(shell, studies, tmp_path):
    out = tmp_path / "syn"
    words = ("generate", "--models", studies["pictures"].models, "--sampler", "normal", "--detail", "none", "--format", "png")
    words = (*words, "--out", out)
    shell.start(*words, "-n", "3000")
    code, said = shell.send(signal.SIGKILL, lambda: len(list(tmp_path.glob(".writing-syn-*/images/*.png"))) > 20)
    assert code == -signal.SIGKILL, said
    code, said = shell.run(*words, "-n", "3")
    assert code == 0, said
    assert f"An earlier command was killed: what was left unfinished beside {out} is removed." in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["syn", "syn.audit.csv"]


# Memory.


def fails_above(rows: int, error: Exception):
    """A computation that has memory for so many rows."""
    sizes = []

    def compute(batch):
        sizes.append(len(batch))
        if len(batch) > rows:
            raise error
        return 2 * batch

    return compute, sizes


OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("could not create a primitive"),  # of oneDNN
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize(("rows", "sizes"), [(64, [16, 16, 5]), (5, [16, 8, 4] + [4] * 8 + [1]), (1, [16, 8, 4, 2, 1] + [1] * 36)])
def test_a_batch_for_which_there_is_no_memory_is_halved(error, rows, sizes):
    compute, seen = fails_above(rows, error)
    values = torch.arange(37)
    assert torch.equal(torch.cat(in_batches(compute, values, 16)), 2 * values)
    assert seen == sizes


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_no_memory_for_one_image_names_the_settings(error):
    compute, _ = fails_above(0, error)
    with pytest.raises(UsageError, match="no memory for a single image; lower --size or --channels"):
        in_batches(compute, torch.arange(3), 2)


def test_another_error_is_no_lack_of_memory():
    compute, sizes = fails_above(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        in_batches(compute, torch.arange(3), 2)
    assert sizes == [2]
    with pytest.raises(RuntimeError, match="shapes"), batches.told_by_batch_size(8):
        raise RuntimeError("shapes do not fit")


def test_models_and_classifiers_halve_their_batches(studies, monkeypatch):
    model = FittedModel.load(studies["pictures"].models / "AD")
    z, images = torch.randn(20, 2), torch.rand(20, 1, 16, 16)
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    expected = decode(model.autoencoder, z), encode(model.autoencoder, images), predict_probabilities(network, images)

    def scarce(compute):
        def computed(batch):
            if len(batch) > 3:
                raise MemoryError
            return compute(batch)

        return computed

    monkeypatch.setattr(model.autoencoder, "decode", scarce(model.autoencoder.decode))
    monkeypatch.setattr(model.autoencoder, "encode", scarce(model.autoencoder.encode))
    monkeypatch.setattr(network, "forward", scarce(network.forward))
    found = decode(model.autoencoder, z), encode(model.autoencoder, images), predict_probabilities(network, images)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no way to tell how much memory a process has")
@pytest.mark.slow
def test_memory_that_really_runs_out(shell, fakes, tmp_path):
    """Of a process that may take so much more than it has."""
    data, models, out = fakes.study(tmp_path / "study.npz", (384, 384)), tmp_path / "models", tmp_path / "syn"
    words = ("fit", "--data", data, "--class", "CN", "--size", "384x384", "--epochs", "1", "--channels", "32", "--latent-dim", "2")
    words = (*words, "--precision", "fp32", "--device", "cpu", "--jitter", "0", "--out", models)
    code, said = shell.run(*words, "--batch-size", "10", memory=600 * 2**20)
    assert code == 2, said
    assert "There is no memory to train on batches of 10 images; lower --batch-size, --channels or --size." in said
    assert shell.run(*words, "--batch-size", "1")[0] == 0
    words = ("generate", "--models", models, "-n", "64", "--sampler", "normal", "--detail", "none", "--format", "png")
    code, said = shell.run(*words, "--out", out, memory=1000 * 2**20)
    assert code == 0, said
    assert shell.run(*words, "--out", tmp_path / "plenty")[0] == 0
    for path in (out / "images").iterdir():
        # Sums over another number of rows differ in their last digits, which may round to the next grey.
        a, b = (np.asarray(cohort, dtype=int) for cohort in (read(path), read(tmp_path / "plenty/images" / path.name)))
        assert np.abs(a - b).max() <= 1


def read(path):
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture)


# What changes underneath.


def test_an_image_that_changes_after_the_check_is_refused(augment, fakes, tmp_path, monkeypatch):
    data = fakes.study(tmp_path / "bids", (10, 12, 10))
    split = fit_command._split

    def changing(*args):
        fakes.volume(data / "sub-003/anat/sub-003_T1w.nii.gz", fakes.voxels(99, (10, 12, 10)))
        return split(*args)

    monkeypatch.setattr(fit_command, "_split", changing)
    answer = augment("fit", "--data", data, "--out", tmp_path / "models", *TRAIN, "--epochs", "1")
    assert answer.code == 3
    assert "sub-003_T1w.nii.gz: changed since the cohort was checked" in answer.words
    assert visible(tmp_path / "models") == ["split.json"]
    monkeypatch.undo()


@pytest.fixture
def study_data(fakes, tmp_path):
    """What a study knows of its cohort, and the folder of the study."""
    from tinycohort.datasets.readers import Source
    from tinycohort.datasets.transforms import Preparation

    source = Source(str(fakes.study(tmp_path / "bids", (10, 12, 10))))
    return tmp_path, prepared.describe(source, Preparation(), None)


def test_a_study_notices_an_image_that_changes_while_it_is_prepared(study_data, fakes, monkeypatch):
    folder, config = study_data
    prepare = prepared.prepare

    def changing(cohort, *args):
        fakes.volume(Path(cohort.table["image"][2]), fakes.voxels(99, (10, 12, 10)))
        return prepare(cohort, *args)

    monkeypatch.setattr(prepared, "prepare", changing)
    with pytest.raises(DataError, match="changed since the cohort was checked"):
        prepared.Prepared.load(folder / "study", config)
    assert visible(folder / "study/cache") == []


@pytest.mark.parametrize("times", [1, 3, 50])
def test_a_cache_that_is_deleted_meanwhile_is_made_again(study_data, monkeypatch, times):
    folder, config = study_data
    make_once, deleted = prepared.make_once, []

    def deleting(place, write):
        make_once(place, write)
        if len(deleted) < times:
            deleted.append(place)
            shutil.rmtree(folder / "study/cache")

    expected = prepared.Prepared.load(folder / "other", config)
    monkeypatch.setattr(prepared, "make_once", deleting)
    if times == 50:
        with pytest.raises(DataError, match="is deleted as soon as it is made"):
            prepared.Prepared.load(folder / "study", config)
        return
    data = prepared.Prepared.load(folder / "study", config)
    assert len(deleted) == times
    assert np.array_equal(data.cohort.arrays, expected.cohort.arrays)
    # Pages that are mapped stay, whatever becomes of the file.
    shutil.rmtree(folder / "study/cache")
    assert np.array_equal(data.cohort.arrays, expected.cohort.arrays)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"rows": 1, "space": {}}', b"[]"])
def test_a_damaged_cache_says_that_it_can_be_deleted(study_data, damage):
    folder, config = study_data
    prepared.Prepared.load(folder / "study", config)
    (rows,) = (folder / "study/cache").glob("*/rows.json")
    rows.write_bytes(damage)
    with pytest.raises(DataError, match=r"is damaged .*; delete it, and it is made anew"):
        prepared.Prepared.load(folder / "study", config)


@posix
@pytest.mark.slow
def test_a_study_whose_cache_is_deleted_while_it_runs(shell, fakes, tmp_path):
    data, study, whole = fakes.study(tmp_path / "study.npz", counts={"AD": 20, "CN": 20}), tmp_path / "study", tmp_path / "whole"
    words = (*EVALUATE, "--data", data)
    ended = threading.Event()
    deleted = []

    def delete():
        while not ended.wait(1.0):
            if any((study / "cache").glob("*")):
                shutil.rmtree(study / "cache", ignore_errors=True)
                deleted.append(1)

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        code, said = shell.run(*words, "--out", study)
    finally:
        ended.set()
        thread.join()
    # A run whose cache was deleted while it was written has failed, and is computed by the next start.
    assert code in (0, 5), said
    assert deleted
    for folder in (study, whole):
        assert shell.run(*words, "--out", folder)[0] == 0
    pd.testing.assert_frame_equal(results_of(study), results_of(whole), check_exact=True)


# The table.


def test_every_row_of_the_table_of_faults_is_a_test_that_is_there():
    table = (ROOT / "docs/guide/faults.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file)]
            assert sum(f"def {test}(" in text for text in texts) == 1, f"not one {file} has {test}"
    told = f"kills {sum(KILLS.values())} commands at random moments: {KILLS['fit']} fits, {KILLS['generate']} generations, "
    assert f"{told}{KILLS['evaluate']} of `augment evaluate` and {KILLS['study']} of `augment study`" in table
    assert sum(KILLS.values()) >= 20

"""An output is one process's alone, is never without a name, and is nobody's work that is killed."""

import ctypes
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinycohort.augment.fitting.model_folders import model_folders
from tinycohort.datasets.common import files, locks
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.common.exchange import exchange
from tinycohort.datasets.common.files import hidden_by_a_kill, recover, whole_file, whole_folder
from tinycohort.datasets.output import output, refuse_misplaced, shared_output
from tinycohort.datasets.readers import read_cohort

posix = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL, and no locks")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no renameat2")

# Replaces a folder, and is killed before the n-th call to the file system from when the new one is whole; exits with 0 if it is not.
REPLACES = """
import os, signal, sys
from pathlib import Path
from tinycohort.datasets.common import files
path, nth, can_exchange = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
if not can_exchange:
    files.exchange = lambda one, other: False
calls = 0
def count(event, arguments):
    global calls
    if event.split(".")[0] in ("os", "shutil"):
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
with files.whole_folder(path, force=True) as folder:
    (folder / "new").touch()
    sys.addaudithook(count)
"""
# Has an output until it is killed.
HOLDS = """
import sys, time
from pathlib import Path
from tinycohort.datasets import output
from tinycohort.datasets.common.files import whole_folder
path = Path(sys.argv[2])
with getattr(output, sys.argv[1])(path, print), whole_folder(path / "in" if sys.argv[1] == "shared_output" else path, force=True):
    print("holds it", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def killed_at(nth, path, can_exchange=True):
    """Whether the process that replaces ``path`` was killed at its ``nth`` call."""
    code = subprocess.run([sys.executable, "-c", REPLACES, str(path), str(nth), str(can_exchange)], check=False).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def told_by(path, *beside, take=output):
    said = []
    with take(path, said.append, *beside):
        pass
    return said


@pytest.fixture
def holder():
    """Another process that has an output."""
    started = []

    def start(kind, path):
        process = subprocess.Popen([sys.executable, "-c", HOLDS, kind, str(path)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "holds it\n":
            assert line, "it has ended"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


# Kills.


@linux
def test_at_no_moment_is_a_folder_that_is_replaced_without_its_name(tmp_path):
    out, seen = tmp_path / "out", []
    (out / "in").mkdir(parents=True)
    for nth in range(1, 100):
        (out / "old").touch()
        if not killed_at(nth, out):
            break
        seen += names(out)
        assert told_by(out) == [f"An earlier command was killed: what was left unfinished beside {out} is removed."]
        assert names(tmp_path) == ["out"]
    assert nth > 3
    assert set(seen) == {"in", "old", "new"}  # killed before, and after
    assert names(tmp_path) == ["out"]
    assert names(out) == ["new"]


@posix
def test_where_names_cannot_be_exchanged_the_next_command_puts_the_old_folder_back(tmp_path):
    out, hidden = tmp_path / "syn", 0
    (out / "old").mkdir(parents=True)
    for nth in range(1, 100):
        if not killed_at(nth, out, can_exchange=False):
            break
        if not out.exists():
            hidden += 1
            with pytest.raises(DataError, match=r"syn lies in .*\.replaced-syn-\w{8}/syn, because a command was killed .* move it back"):
                read_cohort(out)
            for place in (out, tmp_path):
                with pytest.raises(DataError, match=r"A model lies in .*\.replaced-syn-\w{8}/syn, because a command was killed"):
                    model_folders(place)
            (said,) = told_by(out)
            assert said.startswith(f"An earlier command was killed: {out} is back in its place")
            assert names(out) == ["old"]
        else:
            told_by(out)
            assert names(out) in (["old"], ["new"])
        assert names(tmp_path) == ["syn"]
        if names(out) == ["new"]:
            (out / "new").rename(out / "old")
    assert hidden
    assert names(out) == ["new"]


def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path, monkeypatch):
    out, replace = tmp_path / "out", os.replace
    (out / "old").mkdir(parents=True)

    def refuse(source, target):
        if target == out and ".writing-" in str(source):
            raise OSError("no room")
        replace(source, target)

    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no room"), whole_folder(out, force=True):
        pass
    assert names(tmp_path) == ["out"]
    assert names(out) == ["old"]


@linux
def test_names_are_exchanged(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.write_text("a file")
    assert exchange(one, other)
    assert other.is_dir()
    assert one.read_text() == "a file"
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "none")


def test_of_what_was_left_nothing_is_touched_that_is_not_of_this_output(tmp_path):
    others = [".writing-syn-b-abcdefgh", ".writing-abcdefgh-syn-b", ".writing-syn", ".writing-syn-mine", "writing-syn-abcdefgh", ".syn"]
    others += [".writing-asyn-abcdefgh", ".replaced-syn-b-abcdefgh", ".fitting-syn"]
    ours = [".writing-syn-abcdefgh", ".replaced-syn-abcdefg_", ".writing-abcdefgh-syn", ".writing-abcdefgh-syn.audit.csv"]
    for name in (*others, *ours):
        (tmp_path / name).mkdir()
    assert told_by(tmp_path / "syn") == [f"An earlier command was killed: what was left unfinished beside {tmp_path / 'syn'} is removed."]
    assert names(tmp_path) == sorted([*others, ours[-1]])
    told_by(tmp_path / "syn", tmp_path / "syn.audit.csv")
    assert names(tmp_path) == sorted(others)
    assert hidden_by_a_kill(tmp_path / "syn") is None
    assert recover([tmp_path / "syn"]) == []


def test_what_is_left_has_the_names_that_are_looked_for(tmp_path):
    """Names are made by tempfile, in a form that it does not promise."""
    out = tmp_path / "out"
    with whole_file(out):
        assert len(files._left_beside(out)) == 1
    with whole_folder(tmp_path / "folder"):
        assert len(files._left_beside(tmp_path / "folder")) == 1


# Two processes.


@posix
def test_the_second_is_told_of_the_first_until_that_has_ended_however_it_ends(tmp_path, holder):
    out = tmp_path / "above/out"
    first = holder("output", out)
    (left,) = (tmp_path / "above").glob(".writing-out-*")
    with pytest.raises(UsageError, match=rf"Another command is at work on {out} \(process {first.pid} on .*\); wait until it has ended"):
        told_by(out)
    assert left.exists()
    told_by(tmp_path / "above/other")
    first.kill()
    first.wait()
    assert told_by(out) == [f"An earlier command was killed: what was left unfinished beside {out} is removed."]
    assert names(tmp_path / "above") == []


@posix
def test_whoever_has_patience_waits(tmp_path, holder):
    first = holder("output", tmp_path / "out")
    first.send_signal(signal.SIGTERM)
    with output(tmp_path / "out", lambda said: None, patience=60):
        assert first.wait() == -signal.SIGTERM


@posix
def test_processes_that_share_an_output_keep_others_out_and_clear_up_when_they_are_alone(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", 0)
    study = tmp_path / "study"
    first, second = holder("shared_output", study), holder("shared_output", study)
    left = sorted(study.glob(".writing-in-*"))
    assert len(left) == 2
    for _ in range(2):
        assert told_by(study, take=shared_output) == [
            f"Another process is at work in {study} too; what it computes is not computed here.",
        ]
        with pytest.raises(UsageError, match="Another command is at work on"):
            told_by(study)
        assert sorted(study.glob(".writing-in-*")) == left  # it may be the work of the one that is there
        if first.poll() is None:
            first.kill()
            first.wait()
    second.kill()
    second.wait()
    assert told_by(study, take=shared_output) == [f"An earlier command was killed: what was left unfinished in {study} is removed."]
    assert names(study) == []
    assert names(tmp_path) == ["study"]


@posix
def test_a_study_has_one_lock_by_whatever_name_it_goes(tmp_path, holder, monkeypatch):
    (tmp_path / "study").mkdir()
    (tmp_path / "link").symlink_to("study")
    holder("shared_output", tmp_path / "study")
    (said,) = told_by(tmp_path / "link", take=shared_output)
    assert said.startswith("Another process is at work in")


@posix
def test_many_that_begin_at_once_share_it(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom tinycohort.datasets.common import locks\n"
        "from tinycohort.datasets.output import shared_output\n"
        "locks._MOMENT = 0.001\nsys.stdin.readline()\n"
        "for _ in range(50):\n    with shared_output(Path(sys.argv[1]), lambda said: None):\n        pass\n"
    )
    all_of_them = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "study")], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate("\n", timeout=60)[1] for process in all_of_them] == [""] * 4
    assert [process.returncode for process in all_of_them] == [0] * 4
    assert names(tmp_path) == []


@posix
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["flock", "open"])
def test_where_there_are_no_locks_nobody_is_kept_out_nothing_is_cleared_and_it_is_said(tmp_path, monkeypatch, call, number):
    def lacking(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl if call == "flock" else locks.os, call, lacking)
    (tmp_path / ".writing-out-abcdefgh").mkdir()
    said = []
    with output(tmp_path / "out", said.append), output(tmp_path / "out", said.append), shared_output(tmp_path / "out", said.append):
        pass
    assert len(said) == 3
    assert all(f"The file system of {tmp_path} has no locks" in sentence for sentence in said)
    assert names(tmp_path) == [".writing-out-abcdefgh"]


@posix
def test_a_lock_that_another_machine_has_removed_is_made_again(tmp_path, monkeypatch):
    stat, stale = os.stat, [True, True]

    def forgets(path, **options):
        if str(path).endswith(".out.lock") and stale:
            stale.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return stat(path, **options)

    monkeypatch.setattr(locks.os, "stat", forgets)
    with output(tmp_path / "out", print):
        assert not stale
        assert (tmp_path / ".out.lock").is_file()


@posix
def test_a_lock_of_a_file_system_that_is_gone_refuses(tmp_path, monkeypatch):
    def gone(descriptor, kind):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(locks.fcntl, "flock", gone)
    with pytest.raises(OSError, match=r"Stale.*\.out\.lock"), output(tmp_path / "out", print):
        raise AssertionError("nobody has it")


@linux
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM], ids=errno.errorcode.get)
def test_where_names_cannot_be_exchanged_the_folder_is_replaced_all_the_same(tmp_path, monkeypatch, number):
    def lacking(*arguments):
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr("tinycohort.datasets.common.exchange._renameat2", lambda: lacking)
    (tmp_path / "out/old").mkdir(parents=True)
    with whole_folder(tmp_path / "out", force=True) as folder:
        (folder / "new").touch()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["new"]


@pytest.mark.parametrize("answered", [False, True], ids=["is not done", "is done, and the answer is lost"])
def test_of_a_rename_that_fails_the_old_folder_or_the_new_one_is_left(tmp_path, monkeypatch, answered):
    """As over a network, where a server that has done it may be asked again."""
    replace, out, ends = os.replace, tmp_path / "out", []
    for nth in range(1, 10):
        calls = []

        def fails(source, target, nth=nth, calls=calls):
            calls.append(source)
            if len(calls) != nth or answered:
                replace(source, target)
            if len(calls) == nth:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(source))

        with monkeypatch.context() as patched:
            (out / "old").mkdir(parents=True)
            patched.setattr(files, "exchange", lambda one, other: False)
            patched.setattr(os, "replace", fails)
            try:
                with whole_folder(out, force=True) as folder:
                    (folder / "new").touch()
            except OSError:
                assert len(calls) >= nth
        told_by(out)
        assert names(tmp_path) == ["out"]
        ends.append(names(out))
        (out / ends[-1][0]).rmdir() if ends[-1] == ["old"] else (out / "new").unlink()
        if len(calls) < nth:
            break
    assert ends[0] == ["old"]
    assert ends[-1] == ["new"]
    assert all(end in (["old"], ["new"]) for end in ends)


def test_a_file_system_without_rights_to_give_loses_no_result(tmp_path, monkeypatch):
    def no_rights(path, mode, **options):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(os, "chmod", no_rights)
    with whole_folder(tmp_path / "out") as folder, whole_file(folder / "file") as file:
        file.write_text("whole")
    assert (tmp_path / "out/file").read_text() == "whole"


@posix
@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_where_no_lock_can_be_made_nobody_is_kept_out_and_the_write_tells_of_it(tmp_path, monkeypatch, refusal):
    def closed(path, flags, *mode):
        if flags & os.O_CREAT:
            raise OSError(refusal, os.strerror(refusal), str(path))
        return opened(path, flags, *mode)

    opened = os.open
    monkeypatch.setattr(locks.os, "open", closed)
    with output(tmp_path / "out", print), output(tmp_path / "out", print), shared_output(tmp_path / "out", print):
        pass
    # What another user's killed command has left can be locked all the same.
    os.close(opened(tmp_path / ".out.lock", os.O_CREAT | os.O_WRONLY))
    with output(tmp_path / "out", print), pytest.raises(UsageError, match="Another command is at work on"):
        told_by(tmp_path / "out")


@posix
def test_a_folder_that_goes_away_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    made, times = Path.mkdir, []

    def mkdir(path, *args, **options):
        times.append(path)
        if len(times) == 1:
            raise FileExistsError(17, "File exists", str(path))
        return made(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with output(tmp_path / "a/out", print):
        assert (tmp_path / "a/.out.lock").is_file()
    assert len(times) >= 2


def test_the_whole_of_a_disk_is_no_output():
    with pytest.raises(UsageError, match="the whole of a disk; choose another --out"):
        refuse_misplaced(Path(Path.cwd().anchor))


@posix
def test_the_lock_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".out.lock").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"):
        told_by(tmp_path / "out")
    assert (tmp_path / "precious").read_text() == "mine"


@posix
def test_an_output_that_is_let_go_amid_a_race_for_it_is_had_by_one_at_a_time(tmp_path):
    """The file of the lock is removed and made again all the time; what is locked must be the one that is there."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom tinycohort.datasets.common import locks\n"
        "from tinycohort.datasets.output import output\n"
        "path = Path(sys.argv[1])\nlocks._MOMENT = 0.001\nsys.stdin.readline()\n"
        "for _ in range(150):\n"
        "    with output(path, print, patience=60):\n"
        "        os.close(os.open(path, os.O_CREAT | os.O_EXCL))\n"
        "        path.unlink()\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a/out")], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate("\n", timeout=120)[1] for process in both] == ["", ""]
    assert names(tmp_path) == []


# Where nothing is written.


def test_nothing_is_written_into_a_real_cohort_but_derivatives(fakes, tmp_path):
    fakes.bids(tmp_path / "bids")
    fakes.pictures(tmp_path / "pictures")
    for folder in (tmp_path / "bids", tmp_path / "pictures"):
        for path in (folder, folder / "models", folder / "deep/derivatives", folder / "sub-01/anat/out"):
            with pytest.raises(
                UsageError, match=r"a cohort of real people's images, nothing that this command makes; choose another --out"
            ):
                told_by(path)
            with pytest.raises(UsageError, match="real people's images"):
                told_by(path, take=shared_output)
        before = names(folder)
        told_by(folder / "derivatives/models")
        told_by(tmp_path / "models")
        assert names(folder) == before


def test_what_is_read_is_not_written_into(tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    (folder / "labels.csv").write_text("id,label\n1,AD\n")
    for path in (folder, folder / "models"):
        refuse_misplaced(path)
        with pytest.raises(UsageError, match="real people's images"):
            refuse_misplaced(path, [str(folder)])
        refuse_misplaced(path, [str(folder / "labels.csv")])  # the user's own table, which may lie where the user works
    refuse_misplaced(tmp_path / "models", [str(folder)])


def test_what_is_synthetic_or_has_a_table_of_another_kind_is_no_real_cohort(fakes, tmp_path):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    for name in ("sealed", "said"):
        fakes.bids(tmp_path / name)
    (tmp_path / "sealed" / files.MANIFEST).touch()
    (tmp_path / "said/dataset_description.json").write_text('{"Synthetic": true}')
    for name in ("models", "sealed", "said"):
        refuse_misplaced(tmp_path / name)
    with pytest.raises(UsageError, match="nothing may be added to"):
        refuse_misplaced(tmp_path / "sealed/out")

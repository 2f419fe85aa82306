"""Files and folders are there whole, or as they were."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.common.files import refuse_existing, whole_file, whole_folder, write_json


class Broken(Exception):
    pass


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_at_the_end(tmp_path):
    with whole_file(tmp_path / "deep" / "a.nii.gz") as temporary:
        assert temporary.name.endswith("a.nii.gz")
        temporary.write_text("new")
        assert not (tmp_path / "deep/a.nii.gz").exists()
    assert names(tmp_path / "deep") == ["a.nii.gz"]
    assert (tmp_path / "deep/a.nii.gz").read_text() == "new"


@pytest.mark.parametrize("old", [True, False])
def test_a_file_that_fails_leaves_what_was_there(tmp_path, old):
    def write():
        with whole_file(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise Broken

    if old:
        (tmp_path / "a").write_text("old")
    with pytest.raises(Broken):
        write()
    assert names(tmp_path) == (["a"] if old else [])
    assert not old or (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("old", ["nothing", "empty folder", "full folder", "file"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_folder_is_replaced_whole_or_not(tmp_path, old, force, fails):
    out = tmp_path / "out"
    if old == "file":
        out.write_text("old")
    elif old != "nothing":
        out.mkdir()
        if old == "full folder":
            (out / "a").write_text("old")
    refused = old in ("full folder", "file") and not force

    def write():
        with whole_folder(out, force=force) as folder:
            assert old in ("nothing", "empty folder") or (out.read_text() if out.is_file() else (out / "a").read_text()) == "old"
            (folder / "b").write_text("new")
            if fails:
                raise Broken

    if refused:
        with pytest.raises(UsageError, match=r"exists already; choose another --out, or give --force"):
            write()
    elif fails:
        with pytest.raises(Broken):
            write()
    else:
        write()
    if refused or fails:
        assert out.exists() == (old != "nothing")
        assert old != "full folder" or names(out) == ["a"]
    else:
        assert names(out) == ["b"]
    assert names(tmp_path) == ([] if not out.exists() else ["out"])


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_results_have_the_rights_that_any_new_file_would_have(tmp_path, mask):
    before = os.umask(mask)
    try:
        with whole_folder(tmp_path / "out") as folder:
            (folder / "in").mkdir(mode=0o700)
            (folder / "in" / "a").touch(mode=0o600)
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    for path in (tmp_path / "out", tmp_path / "out/in"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~mask
    for path in (tmp_path / "out/in/a", tmp_path / "a.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_json_is_readable(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1, None]}
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_an_empty_folder_is_nothing(tmp_path):
    refuse_existing(tmp_path, force=False)
    refuse_existing(tmp_path / "none", force=False)
    (tmp_path / ".hidden").touch()
    with pytest.raises(UsageError):
        refuse_existing(tmp_path, force=False)
    refuse_existing(tmp_path, force=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_while_writing_it_leaves_the_old_ones(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tinycohort.datasets.common.files import whole_file, whole_folder\n"
        "root = Path(sys.argv[1])\n"
        "with whole_file(root / 'a') as file, whole_folder(root / 'out', force=True) as folder:\n"
        "    file.write_text('half')\n"
        "    (folder / 'x').write_text('half')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "a", tmp_path / "out/x"):
        path.write_text("old")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (tmp_path / "a").read_text() == (tmp_path / "out/x").read_text() == "old"
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["a", "out"]

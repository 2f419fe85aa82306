"""The tutorials, run from the top to the bottom as a reader does: commands in a shell, Python in one session."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from folders import ROOT

TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
# What each leaves where it was run, the last of it.
LEAVES = {
    "first-cohort": "sheet.png",
    "bids-data": "my-study/derivatives/synthetic/participants.tsv",
    "does-it-help": "studies/demo/report.html",
    "safe-to-share": "audit-from-elsewhere/report.html",
    "monai": "",
}
CELL = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def cells(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of a page."""
    return CELL.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_block_is_one_that_a_notebook_runs(page):
    assert {language for language, _ in cells(page)} <= {"bash", "python"}
    assert cells(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = {"__name__": "__main__"}
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for language, text in cells(page):
        if language == "python":
            exec(compile(text, str(page), "exec"), session)
        else:
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], env=environment, capture_output=True, encoding="utf-8")
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / LEAVES[page.stem]).exists()
    if page.stem == "monai":
        assert session["found"].shape == (len(session["labels"]["test"]),)

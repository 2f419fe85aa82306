"""Benchmarks, which no other test runs, name what is there."""

import ast
import importlib
import sys

import pytest
from folders import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture
def script(request, monkeypatch):
    """A benchmark, imported as when it is run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", [f"benchmarks/{request.param}.py"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which some set for themselves
    return importlib.import_module(request.param)


@pytest.mark.parametrize("script", SCRIPTS, indirect=True)
def test_what_a_benchmark_imports_and_replaces_is_there(script):
    for node in ast.walk(ast.parse((FOLDER / f"{script.__name__}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("patch.object") and isinstance(node.args[1], ast.Constant):
            module = getattr(script, ast.unparse(node.args[0]), None)  # none where it is no name of the script's
            assert module is None or hasattr(module, node.args[1].value), f"{script.__name__}.py:{node.lineno} replaces what is not there"


@pytest.mark.parametrize("script", ["walks"], indirect=True)
def test_a_walk_runs_the_guide_s_own_code(script):
    for name, walk in script.WALKS.items():
        text = script.user_script(walk)
        compile(text, name, "exec")
        assert (".png" in text) == walk.pictures
        assert "LogisticRegression" not in text

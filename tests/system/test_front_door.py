"""``import tinycohort as tc``: what it offers, and that it costs nothing until it is used."""

import ast
import inspect
import json
import re
import subprocess
import sys
import tomllib

import pytest
from folders import ROOT

import tinycohort as tc

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs/guide").glob("*.md")))
HEAVY = {"torch", "monai", "sklearn", "scipy", "nibabel", "pandas", "numpy", "matplotlib", "nilearn", "typer", "rich"}


def test_importing_it_loads_nothing():
    code = "import json, sys, tinycohort; print(json.dumps([name for name in sys.modules]))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    loaded = set(json.loads(answer.stdout))
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert [name for name in loaded if name.startswith("tinycohort")] == ["tinycohort"]


@pytest.mark.parametrize("name", tc.__all__)
def test_every_name_is_there_and_documented(name):
    value = getattr(tc, name)
    assert inspect.getdoc(value), f"{name} says nothing of itself"
    assert name in dir(tc)
    if hasattr(value, "__name__"):
        assert value.__name__ == name
        assert value.__module__ == f"tinycohort.{tc._HOMES[name]}", "it is had from where it is defined"


def test_type_checkers_and_python_see_the_same_names():
    source = (ROOT / "tinycohort/__init__.py").read_text(encoding="utf-8")
    (block,) = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == tc._HOMES
    assert sorted(tc.__all__) == sorted(typed)
    assert (ROOT / "tinycohort/py.typed").is_file()
    assert (
        "py.typed"
        in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["tinycohort"]
    )


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tinycohort' has no attribute 'fit_clas'"):
        tc.fit_clas  # noqa: B018


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_use_names_that_there_are(page):
    used = set(re.findall(r"\btc\.(\w+)", page.read_text(encoding="utf-8")))
    assert used <= set(tc.__all__)

"""What the pages promise: their links lead somewhere, the files that they name are there, and the README stays short."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import ROOT

from tinycohort.augment.samplers.registry import SAMPLERS

MADE = ROOT / "docs" / "commands.md"  # by `make docs`
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path != MADE),
]
FOLDERS = ("augment", "benchmarks", "classifiers", "datasets", "experiments", "tests")
CODE = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
THEIRS = {"train.py"}  # a script of the reader's own
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())

BLOCK = re.compile(r"^( *)```.*?^\1```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", flags=re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its blocks of code, where brackets and hashes mean something else."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """File and anchor of each link of a page to another file, or to itself."""
    for target in LINK.findall(prose(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path if path else page), anchor


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page: lower case, no punctuation, hyphens for spaces."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(page))}


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    for path, anchor in links(page):
        assert path.exists(), f"{page.name} links to {path}, which is not there"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {path.name}#{anchor}; it has {sorted(anchors(path))}"


@each_page
def test_every_module_that_a_page_names_is_there(page):
    names = {path.name for path in CODE} | THEIRS
    for named in re.findall(r"(?<![\w/.-])[\w./-]+\.py\b", page.read_text(encoding="utf-8")):
        assert (ROOT / named).is_file() if "/" in named else named in names, f"{page.name} names {named}, which is not there"


def test_every_page_that_the_code_names_is_there():
    named = {(path.name, page) for path in CODE for page in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))}
    assert named
    missing = sorted(pair for pair in named if not (ROOT / pair[1]).is_file())
    assert not missing


def test_every_page_can_be_found_from_the_readme():
    found, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            waiting += [path.resolve() for path, _ in links(page) if path.suffix == ".md"]
    written = {page for page in PAGES if page.name != "table.md"}  # a study's table lies beside its data
    assert written <= found, f"nothing leads to {sorted(page.name for page in written - found)}"


def test_the_readme_is_read_in_five_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_guide_explains_every_setting_of_a_sampler():
    page = (ROOT / "docs/guide/fit-and-generate.md").read_text(encoding="utf-8")
    table = page.partition("### Settings of samplers")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))))
    assert told == {name for entry in SAMPLERS.values() for name in entry.settings}

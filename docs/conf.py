"""The documentation as a site: ``make docs``.

Sources are the Markdown pages that are read in the repository too, from its root, so that their links are the same. Two things are made
while it is built: the page of commands, of what ``--help`` says, and each tutorial as a notebook.
"""

import subprocess
import sys
from importlib.metadata import version as version_of
from pathlib import Path

import jupytext

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted(path.stem for path in (ROOT / "docs/tutorials").glob("*.md"))

project = "tinycohort"
author = copyright = "The tinycohort developers"
release = version = version_of("tinycohort")
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/**.md"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"tinycohort {release}"
html_show_sphinx = False
# What a terminal shows is not always a language; tables of studies are found from the results, and no chapters.
suppress_warnings = ["misc.highlighting_failure", "toc.not_included"]


def write_commands(_app):
    """``docs/commands.md``: the help of every command, as a terminal of 88 columns shows it."""
    import typer

    from tinycohort.augment.cli import app as commands

    names = [name for name, command in typer.main.get_command(commands).commands.items() if not command.hidden]
    parts = ["# Commands", "Made of what `augment COMMAND --help` says."]
    for name in names:
        call = [sys.executable, "-c", "from tinycohort.augment.cli import main; main()", name, "--help"]
        environment = {"COLUMNS": "88", "TERMINAL_WIDTH": "88", "NO_COLOR": "1", "PATH": ""}
        said = subprocess.run(call, env=environment, check=True, capture_output=True, encoding="utf-8").stdout
        told = said.strip().replace(f"-c {name}", f"augment {name}", 1)
        parts += [f"## augment {name}", f"```text\n{told}\n```"]
    (ROOT / "docs/commands.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def offer_notebook(_app, page, source):
    """A link to its notebook at the end of a tutorial."""
    name = Path(page).name
    if page.startswith("docs/tutorials/"):
        source[0] += f'\n\n<a href="{name}.ipynb" download>This page as a notebook</a>\n'


def write_notebooks(app, error):
    """The tutorials as notebooks, beside their pages."""
    if error is None and app.builder.format == "html":
        for name in TUTORIALS:
            notebook = jupytext.read(ROOT / f"docs/tutorials/{name}.md")
            jupytext.write(notebook, Path(app.outdir) / f"docs/tutorials/{name}.ipynb")


def setup(app):
    """Hooks of the build."""
    app.connect("builder-inited", write_commands)
    app.connect("source-read", offer_notebook)
    app.connect("build-finished", write_notebooks)

"""The command ``augment publish``: of a study what can be shown to everybody, and nothing that names a participant."""

import shlex
import shutil
from pathlib import Path

from ..augment import console
from ..datasets.common.custody import seal
from ..datasets.common.errors import DataError
from ..datasets.common.files import refuse_existing, whole_folder
from ..datasets.output import output
from .engine.results_file import PUBLISHED, RESULTS, is_published, with_plan
from .engine.study_folder import CONFIG
from .studies import published_tables, write_report


def publish(folder: Path, out: Path, *, force: bool = False) -> None:
    """Write a study's configuration, its scores by run, and the table and figure that they make, into a folder of their own.

    Messages of runs that failed are left out, because they may name whom they failed on, and so is what lies outside of the grid.

    Parameters
    ----------
    folder : Path
        Folder of a study with its runs.
    out : Path
    force : bool
        Replace what was published before.

    Raises
    ------
    DataError
        If the study has no finished run, is published already, or has verdicts over people whose data or predictions are not there.
    UsageError
        If ``out`` exists.
    """
    if is_published(folder):
        raise DataError(f"{folder} is published already: copy it as it is.")
    with output(out, console.say):
        refuse_existing(out, force=force, ours=_holds_nothing_else)
        tables = published_tables(folder)
        with whole_folder(out, force=force) as temporary:
            shutil.copyfile(folder / CONFIG, temporary / CONFIG)
            for name, table in tables.items():
                (with_plan(table, folder) if name == RESULTS else table).to_csv(temporary / name, index=False)
            write_report(temporary)
            seal(temporary)
        console.say(f"Wrote {', '.join(name for name in PUBLISHED if (out / name).is_file())} into {out}.")
        console.say(
            "Runs, predictions and messages were left out. Look through config.toml: write $NAMES in place of paths that tell too much, "
            f"and seal it again with `augment report {shlex.quote(str(out))}`."
        )


def _holds_nothing_else(folder: Path) -> bool:
    """Whether a folder is what this writes: a study that has lost its runs may still have generators, which nothing shall replace."""
    # What is hidden, as operating systems leave it, is no part of a folder (``custody.differences``).
    return is_published(folder) and {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= set(PUBLISHED)

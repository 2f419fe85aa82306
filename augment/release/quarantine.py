"""Images that a gate sets aside: out of the cohort, with their rows of the table, into a folder beside it that says why.

Beside it and not inside, so that the cohort can be handed on as it is: what is in quarantine may show a patient, and its reasons name
patients.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ...datasets.common.custody import seal
from ...datasets.common.errors import DataError
from ...datasets.common.files import write_json
from ...datasets.common.untrusted import read_json
from ...datasets.common.words import listed
from ...datasets.identity import participant_of
from .description import DESCRIPTION
from .image_files import move_images
from .participants_table import COLUMNS, PARTICIPANTS, REASON, load_table, save_table

_NOTE = (
    "Synthetic images that a gate has set aside because they may show a patient; participants.tsv has the reasons. Do not hand them on.\n"
)


def quarantine_of(cohort: Path) -> Path:
    """Where the images go that are set aside from ``cohort``."""
    return cohort.with_name(f"{cohort.name}.quarantine")


def set_aside(cohort: Path, quarantine: Path, reasons: Mapping[str, str]) -> None:
    """Move images with their rows out of a cohort's folder that nobody reads yet into a quarantine that nobody reads yet, and seal that.

    Parameters
    ----------
    cohort : Path
        As ``synthetic_cohort.write_cohort`` leaves it: NIfTI, PNG or ``images.npz``.
    quarantine : Path
        An empty folder, or one that has images in it already.
    reasons : mapping
        From participant, however spelled, to why it is set aside.

    Raises
    ------
    DataError
        If a participant has no row, or no image of its own, or what is moved or written would lie outside of the two folders.
    """
    # Ours has none, and what is written to a link's name goes to where it leads.
    if links := sorted(path.relative_to(quarantine).as_posix() for path in quarantine.rglob("*") if path.is_symlink()):
        raise DataError(f"The quarantine of the cohort has the link {links[0]}, which we did not write; remove the link.")
    table, reasons = load_table(cohort), {participant_of(who): why for who, why in reasons.items()}
    rows = {participant_of(spelled): row for row, spelled in enumerate(table["participant_id"])}
    unknown = [who for who in reasons if who not in rows]
    if unknown:
        raise DataError(f"The cohort's {PARTICIPANTS} has no row of {listed(unknown)}; restore it.")
    moved = np.zeros(len(table), dtype=bool)
    moved[[rows[who] for who in reasons]] = True
    move_images(cohort, quarantine, table["participant_id"][moved].tolist())
    aside = table[moved].assign(reason=[reasons[participant_of(spelled)] for spelled in table["participant_id"][moved]])
    if (quarantine / PARTICIPANTS).is_file():
        earlier = load_table(quarantine)
        aside = pd.concat([earlier[~earlier["participant_id"].isin(aside["participant_id"])], aside])
    save_table(quarantine, aside)
    save_table(cohort, table[~moved])
    shutil.copyfile(cohort / DESCRIPTION, quarantine / DESCRIPTION)
    columns = read_json(cohort / COLUMNS, within=cohort) if (cohort / COLUMNS).is_file() else {}
    write_json(quarantine / COLUMNS, columns | REASON)
    (quarantine / "README").write_text(_NOTE, encoding="utf-8")
    seal(quarantine)

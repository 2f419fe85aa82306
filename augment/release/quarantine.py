"""Images that a gate sets aside: out of the cohort, with their rows of the table, into a folder beside it that says why.

Beside it and not inside, so that the cohort can be handed on as it is: what is in quarantine may show a patient, and its reasons name
patients.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...datasets.common.custody import seal
from ...datasets.common.errors import DataError
from ...datasets.common.files import whole_folder, write_json
from ...datasets.identity import participant_of

DESCRIPTION, PARTICIPANTS, COLUMNS = "dataset_description.json", "participants.tsv", "participants.json"
PER_IMAGE = ("images", "labels", "participants")  # the arrays of an .npz that have a row an image
_NOTE = (
    "Synthetic images that a gate has set aside because they may show a patient; participants.tsv has the reasons. Do not hand them on.\n"
)


def quarantine_of(cohort: Path) -> Path:
    """Where the images go that are set aside from ``cohort``."""
    return cohort.with_name(f"{cohort.name}.quarantine")


def set_aside(cohort: Path, quarantine: Path, reasons: Mapping[str, str]) -> None:
    """Move images with their rows out of a cohort's folder that nobody reads yet into a quarantine that nobody reads yet.

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
        If a participant has no row, or no image of its own.
    """
    table, reasons = read_participants(cohort / PARTICIPANTS), {participant_of(who): why for who, why in reasons.items()}
    rows = {participant_of(spelled): row for row, spelled in enumerate(table["participant_id"])}
    unknown = [who for who in reasons if who not in rows]
    if unknown:
        raise DataError(f"The cohort's {PARTICIPANTS} has no row of {', '.join(unknown[:10])}; restore it.")
    moved = np.zeros(len(table), dtype=bool)
    moved[[rows[who] for who in reasons]] = True
    if (cohort / "images.npz").is_file():
        _move_arrays(cohort / "images.npz", quarantine / "images.npz", reasons)
    else:
        for spelled in table["participant_id"][moved]:
            _move_files(cohort, quarantine, spelled)
    aside = table[moved].assign(reason=[reasons[participant_of(spelled)] for spelled in table["participant_id"][moved]])
    if (quarantine / PARTICIPANTS).is_file():
        earlier = read_participants(quarantine / PARTICIPANTS)
        aside = pd.concat([earlier[~earlier["participant_id"].isin(aside["participant_id"])], aside])
    _write(aside, quarantine / PARTICIPANTS)
    _write(table[~moved], cohort / PARTICIPANTS)
    shutil.copyfile(cohort / DESCRIPTION, quarantine / DESCRIPTION)
    columns = json.loads((cohort / COLUMNS).read_text(encoding="utf-8")) if (cohort / COLUMNS).is_file() else {}
    write_json(quarantine / COLUMNS, columns | {"reason": {"Description": "Why the gate has set the image aside"}})
    (quarantine / "README").write_text(_NOTE, encoding="utf-8")
    seal(quarantine)


def record(cohort: Path, entry: Mapping[str, Any]) -> None:
    """Add what a gate found to ``Gates`` in a cohort's description, take what it set aside off the numbers of images, and seal it anew."""
    path = cohort / DESCRIPTION
    content = json.loads(path.read_text(encoding="utf-8"))
    for label, count in entry.get("SetAside", {}).items():
        if label in content.get("Classes", {}):
            content["Classes"][label]["n"] -= count
    write_json(path, content | {"Gates": [*content.get("Gates", []), dict(entry)]})
    seal(cohort)


def already_set_aside(cohort: Path, label: str) -> int:
    """How many images of a class gates have set aside before, as the cohort's description has it.

    What `augment generate` refuses while it draws never was in the cohort, and stands under other names (``Refused``).
    """
    content = json.loads((cohort / DESCRIPTION).read_text(encoding="utf-8"))
    return sum(entry.get("SetAside", {}).get(label, 0) for entry in content.get("Gates", []))


def apply_gate(cohort: Path, reasons: Mapping[str, str], entry: Mapping[str, Any]) -> None:
    """Set images of a finished cohort aside, and record it; both folders are whole at every moment, and no image is ever in neither."""
    quarantine = quarantine_of(cohort)
    with ExitStack() as stack:
        kept = stack.enter_context(whole_folder(cohort, force=True))
        shutil.copytree(cohort, kept, dirs_exist_ok=True)
        if reasons:
            aside = stack.enter_context(whole_folder(quarantine, force=True))
            if quarantine.is_dir():
                shutil.copytree(quarantine, aside, dirs_exist_ok=True)
            set_aside(kept, aside, reasons)
        record(kept, entry)


def _move_files(cohort: Path, quarantine: Path, spelled: str) -> None:
    """A participant's folder of NIfTI, or its picture."""
    found = [path for path in (cohort / spelled, cohort / "images" / f"{spelled}.png") if path.exists()]
    if not found:
        raise DataError(f"The cohort has neither {spelled}/ nor images/{spelled}.png, so it cannot be set aside; generate the cohort anew.")
    for path in found:
        target = quarantine / path.relative_to(cohort)
        # An earlier gate that was killed between its two folders has left it in both.
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def _move_arrays(source: Path, target: Path, reasons: Mapping[str, str]) -> None:
    content = _load(source)
    owners = content["participants"]
    per_image = [name for name in PER_IMAGE if name in content]
    moved = _owned_by(owners, reasons)
    aside = {name: content[name][moved] for name in per_image}
    if target.is_file():
        earlier = _load(target)
        others = ~_owned_by(earlier["participants"], reasons)
        aside = {name: np.concatenate([earlier[name][others], array]) for name, array in aside.items()}
    np.savez_compressed(target, **{**content, **aside})
    np.savez_compressed(source, **{**content, **{name: content[name][~moved] for name in per_image}})


def _owned_by(owners: np.ndarray, people: Mapping[str, str]) -> np.ndarray:
    return np.array([participant_of(str(owner)) in people for owner in owners], dtype=bool)


def _load(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_participants(path: Path) -> pd.DataFrame:
    """A cohort's ``participants.tsv`` as text, with the ids as they are spelled."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def _write(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, sep="\t", index=False)

"""The table of a prepared cohort: a row an image or a person, with the names of BIDS beside the source's, and all that the source tells."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ...datasets.cohort import REQUIRED_COLUMNS, SPELLED, Cohort
from ...datasets.common.files import write_json
from ...datasets.identity import participant_of, scan_of
from ...datasets.layouts.participants import SESSION_COLUMNS
from .participants_table import COLUMNS, OF_CLASS, bids_words, class_columns, save_table

SESSION, SOURCE_ID, SEEN = "session_id", "source_id", "seen_by_models"
TRAINED_ON, SELECTED_BY, UNSEEN = "train", "validation", "no"  # what a person was to the models
MEANINGS = {
    "participant_id": {"Description": "A real person"},
    SESSION: {"Description": "Which of the person's images"},
    "label": {"Description": "The class"},
    "synthetic": {"Description": "false: the image is of a real person"},
    SOURCE_ID: {"Description": "The person, or the scan, as the source spells it"},
    SEEN: {
        "Description": "What the person was to the models that synthetic images are drawn from: trained on, selected by, or neither, so "
        "that whoever is tested on beside synthetic images is one whom they do not know"
    },
}
_SESSION = re.compile(r"_ses-([A-Za-z0-9]+)")


def image_names(cohort: Cohort) -> list[str]:
    """The name of each image, as BIDS spells it: that of the person, and of a session where somebody has several images."""
    people = cohort.table["participant_id"]
    words = bids_words(dict.fromkeys(people), empty="person")
    names = [f"sub-{words[person]}" for person in people]
    if not people.duplicated().any():
        return names
    return [f"{name}_ses-{session}" for name, session in zip(names, _sessions(cohort.table), strict=True)]


def _sessions(table: pd.DataFrame) -> list[str]:
    """The session of each image, as the source tells it, where that tells the images of one person apart; else their number."""
    spelled = table.get(SPELLED, table["participant_id"])
    told = pd.Series([_told(*ids) for ids in zip(table["image_id"], spelled, strict=True)], index=table.index)
    clear = told.ne("") & ~pd.DataFrame({"who": table["participant_id"], "what": told.str.lower()}).duplicated(keep=False)
    numbers = (table.groupby("participant_id").cumcount() + 1).astype(str)
    all_clear = clear.groupby(table["participant_id"]).transform("all")
    return told.where(all_clear, numbers).tolist()


def _told(image_id: str, spelled: str) -> str:
    """The session that a file's name says, or the visit that an id says by a published scheme."""
    found = _SESSION.search(image_id) or _SESSION.search(spelled)
    return found[1] if found else re.sub("[^A-Za-z0-9]", "", scan_of(spelled).removeprefix(participant_of(spelled)))


def write_prepared_table(
    folder: Path, cohort: Cohort, names: Sequence[str], *, in_folders: bool, seen: Mapping[str, str] | None = None
) -> None:
    """Write the table, and what its columns mean.

    Parameters
    ----------
    folder : Path
    cohort : Cohort
        The images' own, row for row.
    names : sequence of str
        ``image_names`` of it.
    in_folders : bool
        Whether each image lies in the folder of its person: then a row is a person's, where all images of one agree. Else it is an image's.
    seen : mapping, optional
        From participant to what the models know of them, where that is known.
    """
    source = cohort.table
    of_class = class_columns([cohort.label_column])
    people = [name.partition("_ses-")[0] for name in names]
    table = pd.DataFrame({"participant_id": people if in_folders else list(names)})
    several = in_folders and len(set(people)) < len(people)
    if several:
        table[SESSION] = [name.partition("_ses-")[2] for name in names]
    for column in of_class:
        table[column] = list(source["label"])
    table["synthetic"] = "false"
    table[SOURCE_ID] = list(source.get(SPELLED, source["participant_id"]))
    if seen is not None:
        table[SEEN] = [seen[person] for person in source["participant_id"]]
    ours = {*REQUIRED_COLUMNS, *SESSION_COLUMNS, SPELLED, *table.columns}
    covariates = [column for column in source if column not in ours]
    for column in covariates:
        table[column] = list(source[column].convert_dtypes())  # 70, where a missing age beside it has made it 70.0
    if several:
        once = table.drop(columns=SESSION).drop_duplicates()
        if once["participant_id"].is_unique:
            table = once
    save_table(folder, table.astype(object).where(table.notna(), "n/a"))
    own = dict.fromkeys(of_class[1:], OF_CLASS) | {column: {"Description": "As in the source"} for column in covariates}
    write_json(folder / COLUMNS, {column: (MEANINGS | own)[column] for column in table})

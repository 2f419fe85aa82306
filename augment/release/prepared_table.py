"""The table of a prepared cohort: a row an image or a person, with the names of BIDS beside the source's, and all that the source tells."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ...datasets.cohort import REQUIRED_COLUMNS, SPELLED, Cohort
from ...datasets.common.files import write_json
from ...datasets.identity import participant_of, scan_of
from ...datasets.layouts.participants import ID_COLUMNS, IMAGE_COLUMNS, LABEL_COLUMNS, SESSION_COLUMNS
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
        "Description": "What the person was to the models that synthetic images are drawn from: trained on, selected by, or neither, as "
        "whoever may be one person with them was, so that whoever is tested on beside synthetic images is one whom they do not know; n/a "
        "of a class that no model was asked about"
    },
}
_READ = (*LABEL_COLUMNS, *ID_COLUMNS, *IMAGE_COLUMNS, *SESSION_COLUMNS)  # by readers, in any capitals
_SESSION = re.compile(r"_ses-([A-Za-z0-9]+)")


def image_names(cohort: Cohort) -> list[str]:
    """The name of each image, as BIDS spells it: that of the person or scan, and of a session where there are several images of one."""
    people = cohort.table["participant_id"]
    spelled = cohort.table.get(SPELLED, people).fillna(people)
    scans = [name.partition("_ses-")[0] for name in spelled]
    subjects = _subjects([scan_of(scan) for scan in scans], scans)
    # Without its signs an id may be read as another one: where the names do not tell the same people apart, they are made of the people.
    read = [participant_of(subject) for subject in subjects]
    if not len(set(zip(people, read, strict=True))) == people.nunique() == len(set(read)):
        subjects = _subjects(list(people), list(people))
    if len(set(subjects)) == len(subjects):
        return subjects
    sessions = _sessions(pd.DataFrame({"subject": subjects, "image_id": cohort.table["image_id"], "spelled": spelled}))
    return [f"{subject}_ses-{session}" for subject, session in zip(subjects, sessions, strict=True)]


def in_sessions(names: Sequence[str]) -> bool:
    """Whether images that are named so are sessions of people of whom there are several."""
    return any("_ses-" in name for name in names)


def _subjects(keys: Sequence[str], spelled: Sequence[str]) -> list[str]:
    """A name for each different key, as it is spelled at first."""
    first = dict(zip(reversed(keys), reversed(spelled), strict=True))
    words = bids_words((first[key].removeprefix("sub-") for key in dict.fromkeys(keys)), empty="person")
    return [f"sub-{words[first[key].removeprefix('sub-')]}" for key in keys]


def _sessions(images: pd.DataFrame) -> list[str]:
    """The session of each image, as its name or its id tells it, where that tells all images of one subject apart; else their number."""
    told = [_told(*names) for names in zip(images["image_id"], images["spelled"], strict=True)]
    images = images.assign(told=[text.lower() for text in told])
    clear = ~images.duplicated(["subject", "told"], keep=False) & images["told"].ne("")
    clear = clear.groupby(images["subject"]).transform("all")
    numbers = images.groupby("subject").cumcount() + 1
    return [text if known else str(number) for text, known, number in zip(told, clear, numbers, strict=True)]


def _told(image_id: str, spelled: str) -> str:
    found = _SESSION.search(image_id) or _SESSION.search(spelled)
    return found[1] if found else ""


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
    covariates = _names_in({*ours, *map(str, source)}, [str(column) for column in source if column not in ours])
    for column, name in covariates.items():
        table[name] = list(source[column].convert_dtypes())  # 70, where a missing age beside it has made it 70.0
    if several:
        once = table.drop(columns=SESSION).drop_duplicates()
        if once["participant_id"].is_unique:
            table = once
    save_table(folder, table.astype(object).where(table.notna(), "n/a"))
    told = {name: {"Description": "As in the source" + (f", as {column}" if name != column else "")} for column, name in covariates.items()}
    own = dict.fromkeys(of_class[1:], OF_CLASS) | told
    write_json(folder / COLUMNS, {column: (MEANINGS | own)[column] for column in map(str, table)})


def _names_in(taken: set[str], covariates: Sequence[str]) -> dict[str, str]:
    """What covariates are called here: others than the columns that readers take classes, people and images from, which ours say."""
    names = {}
    for column in covariates:
        name = column
        while name.lower() in _READ or (name != column and name in taken):
            name = f"source_{name}"
        names[column] = name
    return names

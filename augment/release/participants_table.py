"""The table of a synthetic cohort: a row an image, with the law and the model that it was drawn from, and what its columns mean."""

import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ...datasets.common.files import write_json
from ...datasets.common.untrusted import read_text
from ...datasets.layouts.participants import ID_COLUMNS, IMAGE_COLUMNS, SESSION_COLUMNS
from .generation import Generated
from .origin import Origin

PARTICIPANTS, COLUMNS = "participants.tsv", "participants.json"
DIGITS_OF_MODEL = 16  # of its digest, that the table has
NO_MODEL = "n/a"
MEANINGS = {
    "participant_id": {"Description": "Name of a synthetic image, which is of no one person"},
    "label": {"Description": "Class whose model the image was drawn from"},
    "synthetic": {"Description": "true: the image was generated; there is no such person"},
    "seed": {"Description": "Seed that the draw of this class derives from"},
    "sampler": {"Description": "Latent sampler"},
    "model": {"Description": "First 16 digits of the SHA-256 of the model's weights"},
    "nearest_training_distance": {
        "Description": "Root-mean-square difference over voxels, images in [0, 1], to the nearest image that the model was trained on"
    },
    "largest_donor_share": {
        "Description": "The largest share of the image's foreground whose detail is one training person's; n/a where detail is the model's"
    },
}
MEANINGS_WITHOUT_MODEL = {
    "label": {"Description": "Class of the two people whom the image was made of"},
    "sampler": {"Description": "How the image was made"},
    "model": {"Description": "n/a: there is none"},
    "nearest_training_distance": {
        "Description": "Root-mean-square difference over voxels, images in [0, 1], to the nearest image of those that the class was made of"
    },
    "largest_donor_share": {"Description": "The share of the image that is the one's of its two people who has more of it"},
}
OF_CLASS = {"Description": "The class, in the source's own column"}
REASON = {"reason": {"Description": "Why the gate has set the image aside"}}


def participant_ids(parts: Sequence[Generated]) -> dict[str, list[str]]:
    """From label to the ids of its images, in order, as BIDS spells them."""
    words = bids_words([part.label for part in parts])
    # One width for all: the class AD with 10001 images and the class AD1 would else share a name.
    digits = max(4, *(len(str(len(part.images))) for part in parts))
    return {part.label: [f"sub-syn{words[part.label]}{i + 1:0{digits}d}" for i in range(len(part.images))] for part in parts}


def write_table(folder: Path, parts: Sequence[Generated], origins: Sequence[Origin], ids: Mapping[str, Sequence[str]]) -> None:
    """Write the table of what was made of ``origins``, and the meaning of its columns."""
    columns_of_class = class_columns(origin.label_column for origin in origins)
    rows = []
    for part in parts:
        unknown = ["n/a"] * len(part.images)
        distances = unknown if part.nearest is None else [f"{distance:.6f}" for distance in part.nearest.distances]
        shares = unknown if part.detail is None else [f"{share:.3f}" for share in part.detail.shares.amax(1).tolist()]
        rows += [
            {
                "participant_id": name,
                **dict.fromkeys(columns_of_class, part.label),
                "synthetic": "true",
                "seed": part.seed,
                "sampler": part.diagnostics.sampler,
                "model": part.model_digest[:DIGITS_OF_MODEL] or NO_MODEL,
                "nearest_training_distance": distance,
                "largest_donor_share": share,
            }
            for name, distance, share in zip(ids[part.label], distances, shares, strict=True)
        ]
    save_table(folder, pd.DataFrame(rows))
    told = dict.fromkeys(columns_of_class[1:], OF_CLASS)
    without_model = {} if parts[0].model_digest else MEANINGS_WITHOUT_MODEL
    write_json(folder / COLUMNS, MEANINGS | without_model | told)


def nearest_table(parts: Sequence[Generated], ids: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """A row an image whose training images are known: how far the nearest is, whose, and whose detail it has. It names patients."""
    rows = [
        {"participant_id": name, "label": part.label, "distance": float(distance), "nearest_training_participant": patient} | donors
        for part in parts
        if part.nearest is not None
        for name, distance, patient, donors in zip(
            ids[part.label], part.nearest.distances, part.nearest.participants, _donors_told(part), strict=True
        )
    ]
    return pd.DataFrame(rows)


def _donors_told(part: Generated) -> list[dict[str, str]]:
    """Of each image, the people whose detail it has, and what share of its foreground: ``P07 0.38; P12 0.31``."""
    if part.detail is None:
        return [{} for _ in range(len(part.images))]
    rows = zip(part.detail.people, part.detail.shares.tolist(), strict=True)
    told = ("; ".join(f"{name} {share:.3f}" for name, share in zip(people, shares, strict=True)) for people, shares in rows)
    return [{"donors": text} for text in told]


def load_table(folder: Path) -> pd.DataFrame:
    """The table as text, with ids as they are spelled; a digest of digits alone would else be a number.

    Raises
    ------
    OSError, ValueError
        If there is none that can be read.
    """
    text = read_text(folder / PARTICIPANTS, within=folder)
    return pd.read_csv(io.StringIO(text), sep="\t", dtype=str, keep_default_na=False)


def save_table(folder: Path, table: pd.DataFrame) -> None:
    """Write a table as ``load_table`` reads it."""
    table.to_csv(folder / PARTICIPANTS, sep="\t", index=False)


def class_columns(names: Iterable[str]) -> list[str]:
    """``label``, and the source's own column of classes, if that is one for all and no other column of ours or of the readers."""
    names = set(names)
    taken = (*MEANINGS, *ID_COLUMNS, *IMAGE_COLUMNS, *SESSION_COLUMNS, "split", *REASON)
    return ["label", *(name for name in names if len(names) == 1 and name.lower() not in taken)]


def bids_words(texts: Iterable[str], empty: str = "class") -> dict[str, str]:
    """For each text what BIDS allows of it in a participant's name, told apart by x2, x3 where that is one word (AD+, AD-)."""
    words: dict[str, str] = {}
    taken: set[str] = set()
    for text in texts:
        plain = re.sub("[^A-Za-z0-9]", "", text) or empty
        # A file system may not tell capitals apart.
        candidates = (plain if i == 1 else f"{plain}x{i}" for i in itertools.count(1))
        words[text] = next(word for word in candidates if word.lower() not in taken)
        taken.add(words[text].lower())
    return words

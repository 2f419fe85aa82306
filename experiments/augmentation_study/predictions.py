"""What each classifier predicts of each image of its tests: beside the runs and not in them, because it names people.

    studies/NAME/     runs/KEY.json  predictions/KEY.csv

A run keeps the digest of its predictions, so that ``runs/`` can be handed on without them.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...augment.fitting.training_images import people_in
from ...datasets.common.errors import DataError
from ...datasets.common.files import whole_file
from ...datasets.together import Pairs
from ..engine.study_folder import run_path, slug
from ..engine.study_images import TEST, Part, Prepared, stratum


def predictions_path(folder: Path, key: Mapping[str, Any]) -> Path:
    """Where the predictions of a cell are: a row an image of a test set, with each class's probability to nine digits."""
    return folder / "predictions" / f"{slug(key)}.csv"


def keep_predictions(
    folder: Path, key: Mapping[str, Any], tests: Mapping[str, Part], probabilities: Mapping[str, np.ndarray], classes: Sequence[str]
) -> str:
    """Write the predictions of a cell, unless it has a result; returns the SHA-256 of the file."""
    rows = [
        [test_set, image, *(float(f"{value:.9g}") for value in row)]
        for test_set, part in tests.items()
        for image, row in zip(part.table["image_id"], probabilities[test_set], strict=True)
    ]
    table = pd.DataFrame(rows, columns=["test_set", "image_id", *_columns(classes)])
    content = table.to_csv(index=False, lineterminator="\n").encode()
    if not run_path(folder, key).exists():
        with whole_file(predictions_path(folder, key)) as temporary:
            temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def has_own_file(run: Mapping[str, Any]) -> bool:
    """Whether a run's predictions lie beside it; those of a study begun before this was so are in the run."""
    return isinstance(run["result"].get("predictions"), str)


def read_predictions(folder: Path, run: Mapping[str, Any], classes: Sequence[str]) -> pd.DataFrame:
    """The predictions of a run: ``test_set``, ``image_id``, and ``p_<class>``.

    Raises
    ------
    DataError
        If they are not there, or are not those that the run wrote.
    """
    columns = ["test_set", "image_id", *_columns(classes)]
    if not has_own_file(run):
        kept = run["result"]["predictions"]
        return pd.DataFrame([[name, image, *row] for name, found in kept.items() for image, row in found.items()], columns=columns)
    content = io.BytesIO(require_own_file(folder, run))
    return pd.read_csv(content, dtype={"test_set": str, "image_id": str}, keep_default_na=False)[columns]


def require_own_file(folder: Path, run: Mapping[str, Any]) -> bytes:
    """The content of the file of a run's predictions; a ``DataError`` if it is not there, or is not what the run wrote."""
    path = predictions_path(folder, run["key"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); copy it from where the study was computed.") from error
    if hashlib.sha256(content).hexdigest() != run["result"]["predictions"]:
        raise DataError(
            f"{path} is not what its run wrote; restore it, or delete {run_path(folder, run['key'])} to have both computed again."
        )
    return content


def tidy_predictions(runs: Sequence[Mapping[str, Any]], folder: Path, data: Prepared, condition: str = "") -> pd.DataFrame:
    """One row a run, test set and participant: the run's key, ``test_set``, ``participant_id``, the true ``label``, ``n_images``, and
    the mean over these of each class's probability, ``p_<class>``. Runs know images alone, and whose they are is the cohort's to say.

    Who may be one person is one: as two they would be told apart by chance alike, and a difference would look surer than it is.

    With a condition there are the strata of the test sets too, as test sets of their own: who has an image that fulfils it, by such images.
    """
    tested = {TEST: (data.cohort.table, data.cohort.alike), **{name: (part.table, part.alike) for name, part in data.external.items()}}
    people = [
        table.assign(
            participant_id=people_in(table, of_one_label(table, alike)),
            test_set=name,
            inside=stratum(table, condition) if condition else False,
        )
        for name, (table, alike) in tested.items()
    ]
    whose = pd.concat(people, ignore_index=True)[["test_set", "image_id", "participant_id", "label", "inside"]]
    columns = _columns(data.classes)
    parts = []
    for run in runs:
        images = read_predictions(folder, run, data.classes).merge(whose, on=["test_set", "image_id"], how="left")
        inside = images[images["inside"].eq(True)]
        strata = inside.assign(test_set=[in_stratum(name, condition) for name in inside["test_set"]])
        for test_set, part in pd.concat([images, strata], ignore_index=True).groupby("test_set", sort=False):
            means = part.groupby(["participant_id", "label"], as_index=False).agg(
                n_images=(columns[0], "size"), **{column: (column, "mean") for column in columns}
            )
            parts.append(means.assign(**run["key"], test_set=test_set))
    found = pd.concat(parts, ignore_index=True)
    keys = dict.fromkeys(name for run in runs for name in run["key"])  # those of one may be more than another's
    return found[[*keys, "test_set", "participant_id", "label", "n_images", *columns]]


def of_one_label(table: pd.DataFrame, alike: Pairs) -> list[tuple[str, str]]:
    """Those pairs of participants who may be one person that have one label: each person is tested as of one class."""
    labels = dict(zip(table["participant_id"], table["label"], strict=True))
    return [(one, other) for one, other in alike if labels.get(one) == labels.get(other)]


def of_whole_test_sets(predictions: pd.DataFrame, data: Prepared) -> pd.DataFrame:
    """The rows of ``tidy_predictions`` that are of no stratum."""
    return predictions[predictions["test_set"].isin([TEST, *data.external])]


def in_stratum(test_set: str, condition: str) -> str:
    """What the stratum of a test set is called."""
    return f"{test_set}, {condition}"


def _columns(classes: Sequence[str]) -> list[str]:
    return [f"p_{label}" for label in classes]

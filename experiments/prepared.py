"""A study's images, prepared once and shared by all its runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..augment.commands import Source
from ..datasets.check import Examination, require_sound
from ..datasets.cohort import Cohort
from ..datasets.errors import DataError, LeakageError, UsageError
from ..datasets.files import whole_file
from ..datasets.splits import Split, check_disjoint
from ..datasets.transforms import Preparation, prepare

FEWEST_IMAGES = 10  # of a class: 7 to train on, 1 to select by, 2 to test on
_CLAUSE = re.compile(r"\s*(\w+)\s*(>=|<=|==|!=|>|<)\s*([^\s&]+)\s*")


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a cohort: images ``(n, 1, ...)``, labels ``(n,)`` as indices of the classes, and the table's rows."""

    images: Tensor
    labels: Tensor
    table: pd.DataFrame

    def stratum(self, condition: str) -> np.ndarray:
        """Which rows fulfil a condition on columns of the table, such as ``age>=60`` or ``age>=60 & sex==F``: ``(n,)`` bool.

        A condition is compared, never evaluated: it may come from a configuration file.

        Raises
        ------
        UsageError
            If it is no condition, or names no column.
        """
        rows = np.ones(len(self.table), dtype=bool)
        for clause in condition.split("&"):
            match = _CLAUSE.fullmatch(clause)
            if match is None:
                raise UsageError(f"A stratum is written as age>=60 or as 'age>=60 & sex==F', not as '{condition}'.")
            column, operator, text = match.groups()
            if column not in self.table:
                raise UsageError(f"The stratum '{condition}' names no column of the cohort; it has: {', '.join(self.table.columns)}.")
            numbers = pd.to_numeric(self.table[column], errors="coerce")
            if numbers.notna().any():
                rows &= _COMPARE[operator](numbers.to_numpy(dtype=float), _number(text))
            else:
                rows &= _COMPARE[operator](self.table[column].astype(str).to_numpy(), text)
        return rows


_COMPARE: dict[str, Callable[[Any, Any], np.ndarray]] = {
    ">=": lambda values, bound: values >= bound,
    "<=": lambda values, bound: values <= bound,
    "==": lambda values, bound: values == bound,
    "!=": lambda values, bound: values != bound,
    ">": lambda values, bound: values > bound,
    "<": lambda values, bound: values < bound,
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A cohort whose images lie in memory, and external test cohorts.

    Parameters
    ----------
    cohort : Cohort
        Its ``arrays`` are the prepared images; ``image`` counts their rows.
    classes : tuple of str
        In the order of the classifier's outputs.
    external : dict
        From a test cohort's name to its images.
    """

    cohort: Cohort
    classes: tuple[str, ...]
    external: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, data: Mapping[str, Any]) -> "Prepared":
        """The cohorts of the study in ``folder``, from its cache, or from their source if that is gone."""
        cohort = _in_memory(folder, data["source"], data["preparation"], data["digest"])
        external = {}
        if "test_source" in data:
            tests = _in_memory(folder, data["test_source"], data["preparation"], data["test_digest"])
            external[f"external: {tests.name}"] = _part(tests, tuple(data["classes"]))
        return cls(cohort, tuple(data["classes"]), external)

    def side(self, split: Split, name: str) -> Part:
        """The images of one side of a split."""
        return _part(split.side(self.cohort, name), self.classes)

    def tests(self, split: Split) -> dict[str, Part]:
        """What a run is tested on: the test side, and the external cohorts."""
        return {"test": self.side(split, "test"), **self.external}


def describe(
    source: Source, preparation: Preparation, test_source: Source | None, *, progress: Callable[[Sequence[Any]], Any] = iter
) -> dict[str, Any]:
    """Check the cohorts of a study, and return what its configuration says of them, the size of the images settled.

    Raises
    ------
    CohortError
        If a cohort is not sound.
    LeakageError
        If the external test cohort shares a participant, or an image, with the cohort.
    """
    cohort, found = _sound(source, preparation, progress)
    if preparation.size is None:
        first = cohort.where(np.arange(len(cohort)) == 0)
        preparation = replace(preparation, size=prepare(first, preparation).space.shape)
    data = {"source": _as_dict(source), "preparation": _as_dict(preparation), "digest": found.digest, "classes": cohort.labels}
    if test_source is None:
        return data
    tests, its = _sound(test_source, preparation, progress)
    check_disjoint({"the cohort": cohort, "the test cohort": tests}, where=f"{source.data} and {test_source.data}")
    shared = set(found.digests) & set(its.digests)
    if shared:
        names = tests.table["image_id"][[digest in shared for digest in its.digests]]
        raise LeakageError(f"{test_source.data} holds images of {source.data} under other names: {', '.join(map(str, names[:10]))}.")
    unknown = set(tests.labels) - set(cohort.labels)
    if unknown:
        raise DataError(f"{test_source.data} has classes that {source.data} has not: {', '.join(sorted(unknown))}; give --label.")
    return data | {"test_source": _as_dict(test_source), "test_digest": its.digest}


def _sound(source: Source, preparation: Preparation, progress: Callable[[Sequence[Any]], Any]) -> tuple[Cohort, Examination]:
    cohort = source.read()
    return cohort, require_sound(cohort, sized=preparation.size is not None, minimum=FEWEST_IMAGES, progress=progress)


def _in_memory(folder: Path, source: Mapping[str, Any], preparation: Mapping[str, Any], digest: str) -> Cohort:
    """The cohort with its prepared images; they are kept as ``cache/<digest>.npy``, which may be deleted at any time."""
    cohort = Source(**source).read()
    cache = folder / "cache" / f"{digest[:16]}.npy"
    if not cache.exists():
        settings = {name: tuple(value) if isinstance(value, list) else value for name, value in preparation.items()}
        require_same = require_sound(cohort, sized="size" in preparation)
        if require_same.digest != digest:
            raise DataError(f"{cohort.source} has changed since the study was started; restore it, or start another study.")
        pixels = prepare(cohort, Preparation(**settings)).pixels[:, 0].numpy()
        with whole_file(cache) as temporary, temporary.open("wb") as file:
            np.save(file, pixels)
    arrays = np.load(cache, mmap_mode="r", allow_pickle=False)
    if len(arrays) != len(cohort):
        raise DataError(f"{cohort.source} has changed since the study was started; restore it, or start another study.")
    return replace(cohort, arrays=arrays, table=cohort.table.assign(image=range(len(cohort))))


def _part(cohort: Cohort, classes: tuple[str, ...]) -> Part:
    assert cohort.arrays is not None
    images = torch.from_numpy(np.array(cohort.arrays[cohort.table["image"].to_numpy(dtype=int)]))[:, None]
    labels = torch.tensor([classes.index(label) for label in cohort.table["label"]])
    return Part(images, labels, cohort.table)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"A stratum compares a column of numbers with a number, not with '{text}'.") from None


def _as_dict(settings: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(settings).items() if value is not None}

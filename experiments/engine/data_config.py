"""What a study's configuration says of its data: cohorts are known by their digests, and may be moved."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...datasets.common.errors import DataError, UsageError
from ...datasets.readers import Source
from ...datasets.transforms import Preparation

PLACES = ("data", "table", "root")  # what of a source says where a cohort lies


@dataclass(frozen=True)
class KnownCohort:
    """A cohort by its content, wherever it lies.

    Parameters
    ----------
    source : Source
        From where it is read.
    digest : str
        Of its participants, labels and scans.
    columns : mapping
        From a column of its table that results depend on to its digest; studies from before these were kept have none.
    alike : str, optional
        Digest of who may be one person (``Cohort.alike``), which splits and tests depend on; studies from before people were compared by
        their images, of test cohorts too, have none, and stay what they are.
    """

    source: Source
    digest: str
    columns: Mapping[str, str] = field(default_factory=dict)
    alike: str | None = None

    @property
    def place(self) -> dict[str, Any]:
        """What of the source says where the cohort lies."""
        return {name: getattr(self.source, name) for name in PLACES}

    @property
    def reading(self) -> dict[str, Any]:
        """What of the source says how it is read."""
        return {name: value for name, value in vars(self.source).items() if name not in PLACES}

    def moved(self, here: Mapping[str, str]) -> "KnownCohort":
        """The same cohort where it lies by now (``Source.moved``)."""
        return replace(self, source=self.source.moved(here).resolved()) if here else self


@dataclass(frozen=True)
class DataConfig:
    """The data of a study.

    Parameters
    ----------
    cohort : KnownCohort
    preparation : Preparation
        Of the images, its size settled.
    classes : tuple of str
        In the order of the classifier's outputs.
    tests : KnownCohort, optional
        An external cohort to test on.
    n_train : int, optional
        Participants of the training side, where the study says so.
    """

    cohort: KnownCohort
    preparation: Preparation
    classes: tuple[str, ...]
    tests: KnownCohort | None = None
    n_train: int | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "DataConfig":
        """From the tables ``data`` and ``where`` of a configuration."""
        data, where = content["data"], content["where"]

        def cohort(prefix: str) -> KnownCohort:
            source = Source(**data[f"{prefix}source"], **where[f"{prefix}source"])
            return KnownCohort(source, data[f"{prefix}digest"], data.get(f"{prefix}columns", {}), data.get(f"{prefix}alike"))

        tests = cohort("test_") if "test_source" in data else None
        return cls(cohort(""), Preparation.of(data["preparation"]), tuple(data["classes"]), tests, data.get("n_train"))

    def content(self) -> dict[str, Any]:
        """The table ``data``: what must not differ."""
        content = {
            "source": self.cohort.reading,
            "preparation": self.preparation.content(),
            "digest": self.cohort.digest,
            "classes": self.classes,
            "columns": self.cohort.columns or None,
            "alike": self.cohort.alike,
        }
        if self.tests is not None:
            known = self.tests
            content |= {"test_source": known.reading, "test_digest": known.digest, "test_columns": known.columns or None}
            content |= {"test_alike": known.alike}
        return content | {"n_train": self.n_train}

    def places(self) -> dict[str, Any]:
        """Their part of the table ``where``."""
        return {"source": self.cohort.place, "test_source": None if self.tests is None else self.tests.place}

    def moved(self, here: Mapping[str, str]) -> "DataConfig":
        """The same data where they lie by now: ``data``, ``table`` and ``root`` of the cohort, ``test_data`` of the external one."""
        moved = replace(self, cohort=self.cohort.moved({name: here[name] for name in PLACES if name in here}))
        if "test_data" not in here:
            return moved
        if self.tests is None:
            raise UsageError("The study has no test cohort of its own: leave out --test-data.")
        return replace(moved, tests=self.tests.moved({"data": here["test_data"]}))

    def like(self, began: "DataConfig") -> "DataConfig":
        """The same data, whose people are compared by their images only if the study was begun with that."""
        now = self if began.cohort.alike else replace(self, cohort=replace(self.cohort, alike=None))
        if now.tests is None or (began.tests is not None and began.tests.alike):
            return now
        return replace(now, tests=replace(now.tests, alike=None))

    def require_same(self, now: "DataConfig") -> None:
        """Raise a ``DataError`` if a study that was begun with these data shall go on with others."""
        for which, theirs, ours in (("cohort", self.cohort, now.cohort), ("test cohort", self.tests, now.tests)):
            if theirs is None or ours is None:
                continue
            other = [name for name in theirs.columns if ours.columns.get(name, theirs.columns[name]) != theirs.columns[name]]
            other = other if theirs.digest == ours.digest else ["images, labels or participants"]
            if other:
                raise DataError(
                    f"The {which} has other content ({', '.join(other)}) than when the study began; restore it, or choose another --out."
                )

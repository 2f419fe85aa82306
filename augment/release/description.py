"""The description of a synthetic cohort: what each class was drawn from and how, and what gates have found of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_origin

import torch

from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import MANIFEST, write_json
from ...datasets.common.untrusted import read_json
from ..fitting.model_config import installed_versions
from .form import Form
from .gate import AuditRecord, GateRecord
from .generation import Generated
from .origin import Origin

DESCRIPTION = "dataset_description.json"
US, FORM = "tinycohort", "Images"
FROM_MODELS = "Images drawn from one autoencoder per class"
FROM_PEOPLE = "Images between two people of a class each, registered and blended"


@dataclass(frozen=True)
class ClassRecord:
    """The record of one class: number of images, how they were drawn, and digests of the model, its people and its data.

    Parameters
    ----------
    n : int
        Number of images that are in the cohort.
    seed : int
        Seed that the draw derives from.
    model : str
        SHA-256 of the model's weights; empty where there is no model.
    trained_on : int
        Number of the images that it was fitted on or, without a model, that the images were made of.
    participants, split, tested, data : str
        Digests of these people, of their split, of who is on its test side and who is not, and of their data; empty where they are not
        known.
    model_seed, model_versions
        Seed and versions of the fit.
    sampling : dict
        The sampler's diagnostics, and why ``auto`` chose it.
    warnings : list of str
        Warnings of the fit and of the sampler.
    detail : dict
        How the images got what decoding loses, the largest share of one person in it, and the smallest Jacobian; empty for none.
    """

    n: int
    seed: int
    model: str
    trained_on: int = 0
    participants: str = ""
    split: str = ""
    tested: str = ""
    data: str = ""
    model_seed: int = 0
    model_versions: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, part: Generated, origin: Origin) -> "ClassRecord":
        """The record of images and what they were made of."""
        return cls(
            n=len(part.images),
            seed=part.seed,
            model=part.model_digest,
            trained_on=origin.n_train,
            participants=origin.participants,
            split=origin.split,
            tested=origin.tested,
            data=origin.data,
            model_seed=origin.seed,
            model_versions=dict(origin.versions),
            sampling=part.diagnostics.as_dict() | ({"auto": part.law} if part.law else {}),
            warnings=[*origin.warnings, *part.diagnostics.warnings()],
            detail={} if part.detail is None else part.detail.as_json(),
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "ClassRecord":
        """Rebuild what was read; raise a ``TypeError`` if it is no such record. Earlier versions recorded less."""
        known = {f.name: content[f.name] for f in fields(cls) if f.name in content}
        for f in fields(cls):
            kind: Any = get_origin(f.type) or f.type
            if f.name in known and (not isinstance(known[f.name], kind) or isinstance(known[f.name], bool)):
                raise TypeError(f"{f.name} of a class is no {kind.__name__}")
        return cls(**known)


@dataclass(frozen=True)
class Description:
    """The description of a synthetic cohort by itself.

    Parameters
    ----------
    content : mapping
        The whole as JSON, so that what another version recorded stays in it.
    classes : mapping
        From label to its record.
    set_aside : mapping
        Number of images of each class that gates have taken out since it was written.
    """

    content: Mapping[str, Any]
    classes: Mapping[str, ClassRecord]
    set_aside: Mapping[str, int]

    @classmethod
    def of(
        cls,
        parts: Sequence[Generated],
        origins: Mapping[str, Origin],
        command: str,
        found: Sequence[GateRecord],
        form: Form | None = None,
    ) -> "Description":
        """The description of images of ``origins``, by label, of what gates found as they were drawn, and of their form if it is known."""
        licences = sorted({origin.licence for origin in origins.values()} - {""})
        made = {
            "Name": US,
            "Version": version(US),
            "Versions": installed_versions(),
            "Threads": torch.get_num_threads(),
            "Description": f"{FROM_MODELS if parts[0].model_digest else FROM_PEOPLE}; no image is of a person",
            "Command": command,
        }
        content = {
            "Name": f"Synthetic cohort after {origins[parts[0].label].name}",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "Synthetic": True,
            "Manifest": MANIFEST,
            "License": ", ".join(licences) or "that of the source data, which states none",
            "GeneratedBy": [made],
            "SourceDatasets": [{"Name": name} for name in sorted({origin.name for origin in origins.values()})],
            "Classes": {part.label: asdict(ClassRecord.of(part, origins[part.label])) for part in parts},
        }
        content |= {} if form is None else {FORM: form.as_json()}
        return cls.from_json(content | ({"Gates": [record.as_json() for record in found]} if found else {}))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Description":
        """Understand a description; ``KeyError``, ``TypeError``, ``AttributeError`` or ``ValueError`` if it is none of ours."""
        classes = {label: ClassRecord.from_json(part) for label, part in content["Classes"].items()}
        set_aside: Counter[str] = Counter()
        for entry in content.get("Gates", []):
            # What generation refuses never was in the cohort, and stands under another name; only earlier versions set it aside.
            set_aside.update({label: int(count) for label, count in entry.get("SetAside", {}).items()})
        return cls(content, classes, set_aside)

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """Read the description in a cohort's folder.

        Raises
        ------
        DataError
            If it is not as we write it.
        """
        try:
            return cls.from_json(read_json(folder / DESCRIPTION, within=folder))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            told = f"there is no {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f"{folder / DESCRIPTION} is not what `augment generate` writes ({told}); restore it, or generate the cohort anew."
            ) from error

    def write(self, folder: Path) -> None:
        """Write it into the folder of the cohort."""
        write_json(folder / DESCRIPTION, self.content)

    def after(self, audit: AuditRecord) -> "Description":
        """The description after an audit: with its findings, without the images that it set aside."""
        left = {label: part | {"n": part["n"] - audit.set_aside.get(label, 0)} for label, part in self.content["Classes"].items()}
        gates = [*self.content.get("Gates", []), audit.as_json()]
        return Description.from_json({**self.content, "Classes": left, "Gates": gates})

    def form(self, folder: Path) -> Form:
        """The form of the images in the cohort's folder, by which others are brought to the same.

        Raises
        ------
        DataError
            If it says nothing of them, as earlier versions do, or what no version says.
        """
        if FORM not in self.content:
            raise DataError(f"{folder} does not say how its images were prepared; give its models in its place, or generate it anew.")
        try:
            return Form.from_json(self.content[FORM])
        except (LookupError, TypeError, AttributeError, ValueError, UsageError) as error:
            raise DataError(f"{folder / DESCRIPTION} does not tell the form of its images ({error}); generate the cohort anew.") from error

    @property
    def is_marked(self) -> bool:
        """Whether it says that the images are synthetic."""
        return self.content.get("Synthetic") is True


def is_ours(folder: Path) -> bool:
    """Whether a folder has a description that says that its images are synthetic, and that we have made them."""
    try:
        content = read_json(folder / DESCRIPTION, within=folder)
        return content["Synthetic"] is True and content["GeneratedBy"][0]["Name"] == US
    except (OSError, ValueError, LookupError, TypeError):
        return False

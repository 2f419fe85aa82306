"""What a synthetic cohort is on disk: a folder of NIfTI, PNG or one ``.npz`` that says everywhere that it is synthetic."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...datasets.common.custody import seal
from ...datasets.common.errors import UsageError
from ...datasets.common.files import MANIFEST
from ...datasets.images import MARK, MARK_OF_PICTURE, PNG_AFFINE, PNG_AXES
from ...datasets.layouts.participants import ID_COLUMNS, IMAGE_COLUMNS, SESSION_COLUMNS
from ...datasets.spaces import PLANES, ImageSpace, as_seen, picture_axes
from ...datasets.transforms import Images
from ..fitting.model import FittedModel
from ..fitting.model_config import ModelConfig, installed_versions, poor_fit_warnings
from ..fitting.nearest import nearest_images
from .generation import Generated

SKULL_UNKNOWN = "SkullStripped is false because no voxel was set to zero here; whether the source's images were stripped is not known"
FileFormat = Literal["nifti", "png"]  # of an image by itself
Format = Literal[FileFormat, "npz"]


def write_cohort(
    folder: Path,
    generated: Sequence[Generated],
    models: Mapping[str, FittedModel],
    *,
    file_format: Format | None = None,
    training_images: Mapping[str, Images] | None = None,
    skull_stripped: bool | None = None,
    command: str = "",
) -> pd.DataFrame:
    """Write a synthetic cohort into ``folder``, which exists (``files.whole_folder`` makes the writing whole), and seal it.

    Parameters
    ----------
    folder : Path
        Empty.
    generated : sequence of Generated
        One a class.
    models : mapping
        From label to the model that it was drawn from.
    file_format : {"nifti", "png", "npz"}, optional
        By default ``nifti`` where the images have a place in the world, else ``png`` for slices and ``nifti`` for volumes.
    training_images : mapping, optional
        From label to the images that its model was trained on: adds each sample's distance to the nearest.
    skull_stripped : bool, optional
        Whether the models' images are; by default what the models know of it.
    command : str
        Recorded in the description.

    Returns
    -------
    pandas.DataFrame
        For the audit, not for the cohort: which training image (row number) is nearest to each sample, and how far.
    """
    spaces = {part.images.space for part in generated}
    file_format = file_format or default_format(generated[0].images.space)
    if file_format == "npz" and len({space.shape for space in spaces}) > 1:
        raise UsageError("The classes have images of different sizes, which one .npz cannot hold; choose --format nifti or png.")
    rows, audit = [], []
    class_columns = ["label", *_source_columns([models[part.label].config for part in generated])]
    words = _words([part.label for part in generated])
    # One width for all: the class AD with 10001 images and the class AD1 would else share a name.
    digits = max(4, *(len(str(len(part.images))) for part in generated))
    for part in generated:
        names = [f"sub-syn{words[part.label]}{i + 1:0{digits}d}" for i in range(len(part.images))]
        distances = np.full(len(names), np.nan)
        references = (training_images or {}).get(part.label)
        if references is not None:
            distances, nearest = nearest_images(part.images.pixels, references.pixels)
            audit += [
                {"participant_id": name, "label": part.label, "nearest_training_row": int(row), "distance": float(distance)}
                for name, row, distance in zip(names, nearest, distances, strict=True)
            ]
        rows += [
            {
                "participant_id": name,
                **dict.fromkeys(class_columns, part.label),
                "synthetic": "true",
                "seed": part.seed,
                "sampler": part.diagnostics.sampler,
                "model": part.model_digest[:16],
                "nearest_training_distance": "n/a" if np.isnan(distance) else f"{distance:.6f}",
            }
            for name, distance in zip(names, distances, strict=True)
        ]
        for name, pixels in zip(names, part.images.pixels, strict=True):
            if file_format != "npz":
                stem = folder / name / "anat" / f"{name}_T1w" if file_format == "nifti" else folder / "images" / name
                stem.parent.mkdir(parents=True, exist_ok=True)
                stripped = models[part.label].config.data.get("skull_stripped") if skull_stripped is None else skull_stripped
                write_image(stem, pixels[0].numpy(), part.images.space, file_format, skull_stripped=stripped)
    if file_format == "npz":
        space = generated[0].images.space
        np.savez_compressed(
            folder / "images.npz",
            images=torch.cat([part.images.pixels for part in generated])[:, 0].numpy(),
            axes=np.array(list(space.axes)),
            affine=space.affine_of_axes,
            classes=np.array([part.label for part in generated]),
            labels=np.array([row["label"] for row in rows]),
            participants=np.array([row["participant_id"] for row in rows]),
            synthetic=np.array(True),
        )
    pd.DataFrame(rows).to_csv(folder / "participants.tsv", sep="\t", index=False)
    told = {name: {"Description": "The class, in the source's own column"} for name in class_columns[1:]}
    _write_json(folder / "participants.json", PARTICIPANTS_COLUMNS | told)
    _write_json(folder / "dataset_description.json", _description(generated, models, command))
    (folder / "README").write_text(_readme(generated, models), encoding="utf-8")
    # BIDS knows no such file, and its validator is told to pass it over.
    (folder / ".bidsignore").write_text(f"{MANIFEST}\n", encoding="utf-8")
    seal(folder)
    return pd.DataFrame(audit, columns=["participant_id", "label", "nearest_training_row", "distance"])


def default_format(space: ImageSpace) -> FileFormat:
    """``nifti`` where the images have a place in the world or are volumes, else ``png``."""
    return "nifti" if space.affine is not None or len(space.shape) == 3 else "png"


PARTICIPANTS_COLUMNS = {
    "participant_id": {"Description": "Name of a synthetic image, which is of no person"},
    "label": {"Description": "Class whose model the image was drawn from"},
    "synthetic": {"Description": "true: the image was generated; there is no such person"},
    "seed": {"Description": "Seed that the draw of this class derives from"},
    "sampler": {"Description": "Latent sampler"},
    "model": {"Description": "First 16 digits of the SHA-256 of the model's weights"},
    "nearest_training_distance": {
        "Description": "Root-mean-square difference over voxels, images in [0, 1], to the nearest image that the model was trained on"
    },
}


def _source_columns(configs: Sequence[ModelConfig]) -> list[str]:
    """The source's own column of classes, if it is one for all models and no other column of ours or of the readers."""
    names = {config.data.get("label_column", "label") for config in configs}
    taken = (*PARTICIPANTS_COLUMNS, *ID_COLUMNS, *IMAGE_COLUMNS, *SESSION_COLUMNS, "split", "reason")
    return [name for name in names if len(names) == 1 and name.lower() not in taken]


def write_image(stem: Path, array: np.ndarray, space: ImageSpace, file_format: FileFormat, *, skull_stripped: bool | None = None) -> None:
    """Write a synthetic image ``(X, Y[, Z])`` in [0, 1], marked as such, to ``stem`` with ``.nii.gz`` and ``.json``, or ``.png``, added.

    NIfTI is in RAS, and a picture a slice of 1 mm in it; PNG shows a slice as it is seen (``datasets/spaces.py``). BIDS asks every derived
    image for ``SkullStripped``, "non-brain voxels set to zero": where nobody knows it of the source, it is false, because nothing was
    set to zero here, and the description says so.

    Raises
    ------
    UsageError
        If a volume is to be a PNG.
    """
    if file_format == "nifti":
        world = space.in_world
        volume = (as_seen(array) if space.is_picture else array).reshape(world.volume_shape)
        image = nib.Nifti1Image(volume.astype(np.float32), np.array(world.affine))
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = (MARK_OF_PICTURE if space.is_picture else MARK).encode()
        nib.save(image, stem.with_name(f"{stem.name}.nii.gz"))
        told = MARK if skull_stripped is not None else f"{MARK}; {SKULL_UNKNOWN}"
        content = {"Synthetic": True, "Description": told, "SkullStripped": bool(skull_stripped)}
        _write_json(stem.with_name(f"{stem.name}.json"), content)
        return
    if array.ndim != 2:
        raise UsageError("Volumes cannot be written as PNG; choose --format nifti or npz.")
    texts = PngInfo()
    texts.add_text("Description", MARK)
    if not space.is_picture:
        array, world = as_seen(array), space.in_world
        texts.add_text(PNG_AXES, picture_axes(next(plane for plane, axis in PLANES.items() if axis == world.flat_axis)))
        texts.add_text(PNG_AFFINE, " ".join(map(repr, (np.array(world.affine) @ world.seen).ravel().tolist())))
    grey = Image.fromarray(np.round(255 * array).astype(np.uint8), mode="L")
    grey.save(stem.with_name(f"{stem.name}.png"), pnginfo=texts)


def _description(generated: Sequence[Generated], models: Mapping[str, FittedModel], command: str) -> dict[str, Any]:
    first = models[generated[0].label].config
    licences = sorted({model.config.data.get("licence", "") for model in models.values()} - {""})
    return {
        "Name": f"Synthetic cohort after {first.data['name']}",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "Synthetic": True,
        "Manifest": MANIFEST,
        "License": ", ".join(licences) or "that of the source data, which states none",
        "GeneratedBy": [
            {
                "Name": "tinycohort",
                "Version": version("tinycohort"),
                "Versions": installed_versions(),
                "Threads": torch.get_num_threads(),
                "Description": "Images drawn from one autoencoder per class; no image is of a person",
                "Command": command,
            }
        ],
        "SourceDatasets": [{"Name": name} for name in sorted({model.config.data["name"] for model in models.values()})],
        "Classes": {
            part.label: {
                "n": len(part.images),
                "seed": part.seed,
                "model": part.model_digest,
                **_origin(models[part.label].config),
                "sampling": part.diagnostics.as_dict() | ({"auto": part.law} if part.law else {}),
                "warnings": [*poor_fit_warnings(models[part.label].config.diagnostics), *part.diagnostics.warnings()],
            }
            for part in generated
        },
    }


def _origin(config: ModelConfig) -> dict[str, Any]:
    """Where the images of a class come from: on how many, whom, which split and data its model was fitted, all as digests."""
    return {
        "trained_on": config.data["n_train"],
        "participants": config.participants.digest,
        "split": config.split.get("digest", ""),
        "data": config.data.get("digest", ""),
        "model_seed": config.seed,
        "model_versions": config.versions,
    }


def _readme(generated: Sequence[Generated], models: Mapping[str, FittedModel]) -> str:
    lines = [f"- {part.label}: sampler {part.diagnostics.sampler}" for part in generated]
    source = models[generated[0].label].config.data["name"]
    return (
        f"Every image here is synthetic: drawn by tinycohort from models trained on {source}. There are no such people.\n\n"
        + "\n".join(lines)
        + "\n\nA synthetic image can be close to a training image: see nearest_training_distance in participants.tsv.\n"
        "It is not anonymous data by itself.\n"
    )


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _words(labels: Sequence[str]) -> dict[str, str]:
    """For each label what BIDS allows of it in a participant's name, told apart by x2, x3 where that is one word (AD+, AD-)."""
    words: dict[str, str] = {}
    for label in labels:
        plain = re.sub("[^A-Za-z0-9]", "", label) or "class"
        # A file system may not tell capitals apart.
        taken = {word.lower() for word in words.values()}
        candidates = (plain if i == 1 else f"{plain}x{i}" for i in itertools.count(1))
        words[label] = next(word for word in candidates if word.lower() not in taken)
    return words

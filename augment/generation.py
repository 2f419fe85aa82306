"""From fitted models to a synthetic cohort: latent samples, images, and a folder that says everywhere that it is synthetic."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ..datasets.custody import MANIFEST, seal
from ..datasets.errors import UsageError
from ..datasets.marks import MARK
from ..datasets.seeds import derived_seed, seeded_generator
from ..datasets.transforms import Images, ImageSpace
from .autoencoders import GaussianAutoencoder
from .diagnostics import Diagnostics
from .model import FittedModel, decode
from .model_config import ModelConfig, installed_versions
from .nearest import nearest_images
from .samplers import DEFAULT_SAMPLER, SAMPLERS, Sampler, fit_sampler

FileFormat = Literal["nifti", "png"]  # of an image by itself
Format = Literal[FileFormat, "npz"]
Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]


@contextmanager
def _unseen(_n_steps: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@dataclass(frozen=True, eq=False)
class Generated:
    """Images of one class.

    Parameters
    ----------
    label : str
        The class.
    images : Images
        ``(n, 1, ...)`` in [0, 1], in the model's space.
    latents : torch.Tensor
        ``(n, D)`` that they were decoded from.
    diagnostics : Diagnostics
        Of the sampler.
    seed : int
        What the draw derives from.
    model_digest : str
        SHA-256 of the weights.
    """

    label: str
    images: Images
    latents: Tensor
    diagnostics: Diagnostics
    seed: int
    model_digest: str


def build_sampler(model: FittedModel, name: str, *, seed: int, **settings: Any) -> Sampler:
    """The sampler ``name`` for a model.

    Raises
    ------
    UsageError
        If there is no such sampler or setting, or it does not serve such a model.
    """
    return fit_sampler(name, model.latents, seed=derived_seed(seed, model.config.label, "sampler"), **settings)


def generate_class(
    model: FittedModel,
    n: int,
    *,
    sampler: str = DEFAULT_SAMPLER,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress = _unseen,
    **settings: Any,
) -> Generated:
    """Draw ``n`` images of a model's class.

    Parameters
    ----------
    model : FittedModel
        Of the class.
    n : int
        How many, at least 1.
    sampler : str
        A key of ``samplers.SAMPLERS``.
    seed : int
        Same seed, same images, on the same machine.
    device : torch.device, optional
        Where to decode; the chains run on the CPU.
    progress : callable
        Of the number of the sampler's steps: a context that gives what is called after each.
    **settings
        Of the sampler.
    """
    latents, diagnostics = draw_latents(model, n, sampler=sampler, seed=seed, progress=progress, **settings)
    place = device or torch.device("cpu")
    pixels = decode(model.autoencoder.to(place), latents.to(place)).cpu()
    model.autoencoder.cpu()
    return Generated(model.config.label, Images(pixels, model.config.space), latents, diagnostics, seed, model.digest)


def draw_latents(
    model: FittedModel,
    n: int,
    *,
    sampler: str = DEFAULT_SAMPLER,
    seed: int = 0,
    progress: Progress = _unseen,
    **settings: Any,
) -> tuple[Tensor, Diagnostics]:
    """The latents ``(n, D)`` that ``generate_class`` decodes, and how they were drawn; arguments as there."""
    if n < 1:
        raise UsageError(f"The number of images must be 1 or more, not {n}.")
    fitted = build_sampler(model, sampler, seed=seed, **settings)
    with progress(fitted.n_steps) as advance:
        latents, diagnostics = fitted.sample(n, seeded_generator(seed, model.config.label, sampler), advance)
    if SAMPLERS[sampler].in_base_space:
        assert isinstance(model.autoencoder, GaussianAutoencoder)
        with torch.no_grad():
            latents = model.autoencoder.transport(latents)
    return latents, diagnostics


def top_up(counts: Mapping[str, int], n: int | None = None) -> dict[str, int]:
    """How many synthetic images each class needs to have as many as the largest, or ``n``, together with its real ones.

    Raises
    ------
    UsageError
        If a class has more than ``n`` already.
    """
    target = max(counts.values()) if n is None else n
    over = [label for label, count in counts.items() if count > target]
    if over:
        raise UsageError(f"--balance cannot bring {', '.join(over)} down to {target} images; give -n {max(counts.values())} or more.")
    return {label: target - count for label, count in counts.items()}


def write_cohort(
    folder: Path,
    generated: Sequence[Generated],
    models: Mapping[str, FittedModel],
    *,
    file_format: Format | None = None,
    training_images: Mapping[str, Images] | None = None,
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
                "label": part.label,
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
                write_image(stem, pixels[0].numpy(), part.images.space, file_format)
    if file_format == "npz":
        np.savez_compressed(
            folder / "images.npz",
            images=torch.cat([part.images.pixels for part in generated])[:, 0].numpy(),
            labels=np.array([row["label"] for row in rows]),
            participants=np.array([row["participant_id"] for row in rows]),
            synthetic=np.array(True),
        )
    pd.DataFrame(rows).to_csv(folder / "participants.tsv", sep="\t", index=False)
    _write_json(folder / "participants.json", PARTICIPANTS_COLUMNS)
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
    "label": {"Description": "Class whose model the image was drawn from"},
    "synthetic": {"Description": "true: the image was generated; there is no such person"},
    "seed": {"Description": "Seed that the draw of this class derives from"},
    "sampler": {"Description": "Latent sampler"},
    "model": {"Description": "First 16 digits of the SHA-256 of the model's weights"},
    "nearest_training_distance": {
        "Description": "Root-mean-square difference over voxels, images in [0, 1], to the nearest image that the model was trained on"
    },
}


def write_image(stem: Path, array: np.ndarray, space: ImageSpace, file_format: FileFormat) -> None:
    """Write a synthetic image ``(X, Y[, Z])`` in [0, 1], marked as such, to ``stem`` with ``.nii.gz`` and ``.json``, or ``.png``, added.

    Raises
    ------
    UsageError
        If a volume is to be a PNG.
    """
    if file_format == "nifti":
        affine = np.eye(4) if space.affine is None else np.array(space.affine)
        image = nib.Nifti1Image(array.reshape(space.volume_shape).astype(np.float32), affine)
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = MARK.encode()
        nib.save(image, stem.with_name(f"{stem.name}.nii.gz"))
        _write_json(stem.with_name(f"{stem.name}.json"), {"Synthetic": True, "Description": MARK})
        return
    if array.ndim != 2:
        raise UsageError("Volumes cannot be written as PNG; choose --format nifti or npz.")
    grey = Image.fromarray(np.round(255 * array).astype(np.uint8), mode="L")
    grey.save(stem.with_name(f"{stem.name}.png"), pnginfo=_png_mark())


def _png_mark() -> Any:
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Description", MARK)
    return mark


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
                "Description": "Images drawn from one autoencoder per class; no image is of a person",
                "Command": command,
                "Threads": torch.get_num_threads(),
            }
        ],
        "SourceDatasets": [{"Name": name} for name in sorted({model.config.data["name"] for model in models.values()})],
        "Classes": {
            part.label: {
                "n": len(part.images),
                "seed": part.seed,
                "model": part.model_digest,
                **_origin(models[part.label].config),
                "sampling": part.diagnostics.as_dict(),
                "warnings": part.diagnostics.warnings(),
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

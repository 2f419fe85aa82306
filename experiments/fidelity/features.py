"""What measures of fidelity look at: features of images, each extractor with a passport.

Two distances can be compared only if they were measured with the same features, to the digit: the same weights, resize and precision. The
passport says which, and comparing scores of different passports is refused.
"""

import copy
import hashlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...classifiers.loop import Record
from ...classifiers.network import CNN, HIDDEN, load_function
from ...classifiers.training import FIXED_LENGTH, ClassifierSettings, train_classifier
from ...datasets.common.compute import choose_device, exactly, laid_out
from ...datasets.common.errors import UsageError
from ...datasets.common.words import times
from .inception import SIDE, fold_norms, load_inception, round_to_bf16

BATCH = 32
BF16 = "-bf16"  # after the name of features that InceptionV3 computes in bf16
LEAST_STEPS = 100  # of the classifier's training: longer, it sees blur less and knows its people
LEAST_EPOCHS = 5  # of many images
SLICES = (0.25, 0.5, 0.75)  # of each axis: through the middle, and half way to either side


@dataclass(frozen=True)
class Passport:
    """What decides features to the digit.

    Parameters
    ----------
    extractor : str
        Its name.
    frechet : str
        What the Fréchet distance of its features is called; only InceptionV3's is an FID.
    weights : str
        SHA-256 of the weights; of a user's function, of the file that it is in.
    resize : str
        How images are brought to the network's size.
    dtype : str
        In which the network computes.
    dimension : int
        Dimension of the features; 0 where only they tell.
    versions : tuple of str
        Versions of the packages that compute them.
    """

    extractor: str
    frechet: str
    weights: str
    resize: str
    dtype: str = "float32"
    dimension: int = 0
    versions: tuple[str, ...] = (f"tinycohort {version('tinycohort')}", f"torch {torch.__version__}")


@dataclass(frozen=True, eq=False)
class Extractor:
    """A passport, and what it is of: ``compute`` takes images ``(n, 1, ...)`` float32 in [0, 1] to ``(n, d)``."""

    passport: Passport
    compute: Callable[[Tensor], Any]

    def features(self, batches: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Features ``(m, d)`` float32 of at most 32 images at a time, however many ``batches`` hold.

        Raises
        ------
        UsageError
            If the extractor gives anything but a finite row of the passport's dimension for each image.
        """
        for batch in batches:
            for images in batch.split(BATCH):
                with torch.inference_mode():
                    found = torch.as_tensor(self.compute(images)).float().cpu().numpy()
                wanted = self.passport.dimension or (found.shape[1] if found.ndim == 2 else 0)
                if found.shape != (len(images), wanted) or not np.isfinite(found).all():
                    raise UsageError(
                        f"The extractor {self.passport.extractor}: of {len(images)} images it must give finite features "
                        f"({len(images)}, {wanted or 'd'}), and gave {found.shape}."
                    )
                yield found


class Gathered:
    """Features that come some rows at a time, in one block of memory.

    A list of arrays would do but for the allocator: small blocks that stay, each made between a network's large ones, keep these from being
    used again (``benchmarks/scoring.py`` shows what InceptionV3 takes).
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._width: int | None = None

    def extend(self, parts: Iterable[np.ndarray]) -> None:
        """Take arrays ``(m, d)``; raise a ``UsageError`` if d is not the same in all."""
        for rows in parts:
            if self._width not in (None, rows.shape[1]):
                raise UsageError(
                    f"The extractor gives {self._width} features of some images and {rows.shape[1]} of others; have it give as many of all."
                )
            self._width = rows.shape[1]
            self._bytes += rows.astype(np.float32).tobytes()

    def array(self) -> np.ndarray:
        """All of them, ``(n, d)`` float32; a view, so nothing can be added after it."""
        return np.frombuffer(self._bytes, dtype=np.float32).reshape(-1, self._width or 1)


def features_of(extractor: Extractor, batches: Iterable[Tensor]) -> np.ndarray:
    """Features ``(n, d)`` float32 of all images of ``batches``, of which few are in memory at a time."""
    gathered = Gathered()
    gathered.extend(extractor.features(batches))
    return gathered.array()


def require_same_passport(first: Passport, second: Passport) -> None:
    """Raise a ``UsageError`` that names what differs."""
    one, other = asdict(first), asdict(second)
    differing = [f"{name} ({one[name]}; {other[name]})" for name in one if one[name] != other[name]]
    if differing:
        raise UsageError(
            f"Features of different passports cannot be compared: they differ in {', '.join(differing)}; extract them anew, alike."
        )


def inception_extractor(weights: Path, dimension: int = 2048, *, bf16: bool = False, device: str = "cpu") -> Extractor:
    """Features of the FID InceptionV3, spatially averaged.

    Parameters
    ----------
    weights : Path
        ``pt_inception-2015-12-05-6726825d.pth``, or safetensors with the same names.
    dimension : {64, 192, 768, 2048}
        Which layer: only 2048 gives what papers call FID.
    bf16 : bool
        Compute in bf16 what comes after the first pooling (``inception.round_to_bf16``): quicker on processors that have bf16, and features
        change by about 1 % (``benchmarks/half_precision.py``). Not for 64 dimensions.
    device : {"auto", "cpu", "gpu"}
        Where.

    Raises
    ------
    UsageError
        For another dimension, or weights that lack a layer that it takes.
    """
    where = choose_device(device)
    network, digest = load_inception(weights, dimension)
    fold_norms(network)
    if bf16:
        round_to_bf16(network)
    laid_out(network.to(where), torch.channels_last)

    def compute(images: Tensor) -> Tensor:
        with exactly(where):
            return network(images.to(where))

    name = ("FID" if dimension == 2048 else f"FID-{dimension}") + (" in bf16" if bf16 else "")
    resize = f"bilinear to {SIDE} x {SIDE} as in TensorFlow 1"
    dtype = "bfloat16 after the first pooling" if bf16 else "float32"
    return Extractor(Passport(f"inception-{dimension}{BF16 if bf16 else ''}", name, digest, resize, dtype, dimension), compute)


def inception_of_name(name: str, weights: Path | None, *, device: str = "cpu") -> Extractor | None:
    """The extractor that ``inception``, ``inception-768`` or ``inception-768-bf16`` means; None if the name is none of InceptionV3.

    Raises
    ------
    UsageError
        If no weights are given, or as ``inception_extractor``.
    """
    match = re.fullmatch(rf"inception(?:-(\d+))?({BF16})?", name)
    if match is None:
        return None
    if weights is None:
        raise UsageError(f"The features {name} need --weights, a file of InceptionV3's weights; the features cohort need none.")
    return inception_extractor(weights, int(match[1] or 2048), bf16=match[2] is not None, device=device)


def cohort_settings(n_images: int) -> ClassifierSettings:
    """How a ``cohort_classifier`` is trained on so many images: for a fixed length, which no validation chooses.

    Where classes can hardly be told apart, the best epoch on validation may be the first, whose features are those of an untrained network:
    they see no difference between any images.
    """
    return replace(FIXED_LENGTH, steps=max(LEAST_STEPS, LEAST_EPOCHS * math.ceil(n_images / FIXED_LENGTH.batch_size)))


def cohort_classifier(
    images: Tensor,
    labels: Tensor,
    settings: ClassifierSettings,
    *,
    seed: int,
    on_record: Callable[[Record], None] = lambda record: None,
) -> CNN:
    """Our own classifier, trained on real images, whose features ``classifier_extractor`` takes: no download, and the anatomy is its own.

    Images that it was trained on are not to be scored: it knows them.

    Parameters
    ----------
    images, labels : torch.Tensor
        As for ``classifiers.training.train_classifier``; of two classes or more.
    settings : ClassifierSettings
        How it is trained, of fixed length (``cohort_settings``).
    seed : int
        Seed of its training.
    on_record : callable
        Called some 20 times on the way.

    Raises
    ------
    UsageError
        If all images are of one class.
    """
    if len(labels.unique()) < 2:
        raise UsageError(
            "The extractor 'cohort' learns to tell classes apart, and who is not compared is of one; use an inception extractor."
        )
    network = train_classifier(images, labels, None, settings, n_classes=int(labels.max()) + 1, seed=seed, on_record=on_record).network
    assert isinstance(network, CNN)
    return network


def classifier_extractor(network: CNN, *, device: str = "cpu") -> Extractor:
    """The 100 features before the last layer of a ``cohort_classifier``, in evaluation mode, computed on ``device``.

    Their Fréchet distance is a Fréchet classifier distance, never an FID.
    """
    digest, where = hashlib.sha256(), choose_device(device)
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    there = copy.deepcopy(network).to(where)

    def compute(images: Tensor) -> Tensor:
        with exactly(where):
            return there.features(images.to(where))

    return Extractor(
        Passport("cohort", "Fréchet classifier distance", digest.hexdigest(), f"none: {times(network.shape)}", dimension=HIDDEN), compute
    )


def custom_extractor(path: str) -> Extractor:
    """A user's function ``package.module:function`` from images ``(n, 1, ...)`` float32 in [0, 1] to features ``(n, d)``.

    Importing it runs it, so its name may come from the command line only. Its passport tells the file it is in, and not what that reads.

    Raises
    ------
    UsageError
        If it cannot be imported.
    """
    function = load_function(path, "extractor", "one that takes images")
    file = inspect.getsourcefile(inspect.unwrap(function)) if inspect.isroutine(function) else None
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "unknown"
    return Extractor(Passport(path, f"Fréchet distance of {path}", digest, "the function's own"), function)


def sliced(extractor: Extractor, positions: tuple[float, ...] = SLICES) -> Extractor:
    """An extractor for volumes from one for images (2.5-D): features of slices through the three planes, averaged within each plane,
    side by side (3 d).

    Parameters
    ----------
    extractor : Extractor
        What makes features of images.
    positions : tuple of float
        Where each axis is cut, in [0, 1).
    """

    def compute(volumes: Tensor) -> Tensor:
        planes = []
        for axis in (2, 3, 4):
            cuts = [volumes.select(axis, int(position * volumes.shape[axis])) for position in positions]
            planes.append(torch.stack([torch.as_tensor(extractor.compute(cut)).float() for cut in cuts]).mean(dim=0))
        return torch.cat(planes, dim=1)

    passport = extractor.passport
    name = f"{passport.extractor} of slices at {', '.join(map(str, positions))}, planes side by side"
    return Extractor(replace(passport, extractor=name, frechet=f"2.5-D {passport.frechet}", dimension=3 * passport.dimension), compute)

"""Made-up people, as different and as alike as scans of heads are, and what a second scan of one of them may look like."""

from pathlib import Path

import numpy as np
from scipy import ndimage


def heads(n: int, seed: int, shape: tuple[int, ...] = (40, 48)) -> np.ndarray:
    """Images of different people ``(n, *shape)``: one shape for all on an empty background, and in it what is everybody's own."""
    rng = np.random.default_rng(seed)
    own = ndimage.gaussian_filter(rng.normal(size=(n, *shape)), (0, *(2,) * len(shape)))
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    head = np.clip(1.5 - 2 * sum(np.square(axis) for axis in axes), 0, 1)
    return (1000 * head * (1 + own / own.std() / 4)).clip(0).astype(np.float32)


def moved(image: np.ndarray, by: float) -> np.ndarray:
    return ndimage.shift(image, by, order=1)


def noisy(image: np.ndarray, seed: int = 0) -> np.ndarray:
    return image + np.random.default_rng(seed).normal(0, 50, image.shape).astype(np.float32)


def revisit(image: np.ndarray) -> np.ndarray:
    return noisy(moved(image, 0.4))


def twins(path: Path) -> Path:
    """A cohort of 20 people a class, AD and CN, of whom a03 is there once more, as a19, and noisily: likeness tells it."""
    images = heads(40, 0)
    images[19] = noisy(images[3])
    people = [f"{label}{row:02d}" for label in "ac" for row in range(20)]
    np.savez(path, images=images, labels=np.repeat(["AD", "CN"], 20), participants=np.array(people))
    return path

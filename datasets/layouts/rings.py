"""Rings and discs: the toy of the paper's Fig. 1, whose two kinds of image wrap around each other in a latent space of two dimensions."""

import numpy as np

SIDE = 32  # pixels


def rings_and_discs(n: int = 1000, seed: int = 0, *, shift: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw discs and rings in turn, of varying radius, thickness and place.

    The paper's are binary. These have the edge of a pixel's width that a camera gives them: of binary ones, two that differ by a hundredth
    of a pixel are the same image, and would be copies on two sides of a split.

    Parameters
    ----------
    n : int
        How many images.
    seed : int
        The same seed gives the same images, and a larger ``n`` begins with those of a smaller one.
    shift : float
        Range of the centre along either axis, in pixels; at 0 size and thickness alone vary, as in the paper.

    Returns
    -------
    images : numpy.ndarray of uint8, shape (n, 1, 32, 32)
    labels : numpy.ndarray of int64, shape (n,)
        0 for a disc, 1 for a ring.
    """
    # A row of draws an image, so that image i does not depend on n.
    radius, thickness, across, down = np.random.default_rng(seed).random((n, 4)).T[..., None, None]
    labels = np.arange(n) % 2
    outer = 5 + 7 * radius
    inner = np.where(labels[:, None, None] == 1, outer * (0.3 + 0.5 * thickness), -1.0)
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    distance = np.hypot(rows - shift * (down - 0.5), columns - shift * (across - 0.5))
    grey = np.clip(outer - distance + 0.5, 0, 1) * np.clip(distance - inner + 0.5, 0, 1)
    return np.round(255 * grey).astype(np.uint8)[:, None], labels.astype(np.int64)

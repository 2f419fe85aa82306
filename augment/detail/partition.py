"""Random smooth partitions of an image among several people, of whom none gets more than a share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

HARDNESS = 4.0  # of the softmax: voxels are four fifths one person's; harder borders are edges that no scan has
BORDER = 2.0  # voxels, of the steepest borders between pieces: narrower ones would be finer than what small images show
_PATIENCE = 200  # rounds in which a share is brought below its bound; some ten suffice


def draw_partition(n: int, n_parts: int, shape: Sequence[int], pieces: int, generator: torch.Generator) -> Tensor:
    """Random values ``(n, n_parts, *grid)``, on a coarse grid, between which ``spread`` goes smoothly.

    Parameters
    ----------
    n, n_parts : int
        Number of partitions, and of the parts of each.
    shape : sequence of int
        Shape of the image.
    pieces : int
        Independent values along the longest side, 2 or more: the more there are, the smaller the pieces of a part.
    generator : torch.Generator
        On the CPU.
    """
    grid = tuple(max(2, round(pieces * side / max(shape))) for side in shape)
    return torch.randn((n, n_parts, *grid), generator=generator)


def spread(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Smooth fields ``(n, n_parts, *shape)`` from values on a coarse grid: logarithms of how much each part has, but for a constant."""
    voxels = max(shape) / max(values.shape[2:])  # of a piece
    values = min(HARDNESS, voxels / BORDER) * values
    return F.interpolate(values, tuple(shape), mode="bicubic" if len(shape) == 2 else "trilinear", align_corners=True)


def weights_of(fields: Tensor, able: Tensor, foreground: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """How much each part has of each voxel, and of the whole.

    Parameters
    ----------
    fields : torch.Tensor
        ``(n, n_parts, *shape)``: logarithms of how much each part has, before the bound.
    able : torch.Tensor
        ``(n, n_parts, *shape)`` in [0, 1]: whether a part can have a voxel.
    foreground : torch.Tensor
        ``(n, *shape)`` of bool: the voxels that count.
    bound : float
        The largest share of the foreground that a part may have, above 1 / n_parts.

    Returns
    -------
    weights : torch.Tensor
        ``(n, n_parts, *shape)``, which sum to 1 over the parts.
    shares : torch.Tensor
        ``(n, n_parts)`` of the foreground's weight, at most ``bound``.

    Raises
    ------
    ValueError
        If the bound is not above an equal share.
    """
    n_parts = fields.shape[1]
    if bound * n_parts <= 1:
        raise ValueError(f"{n_parts} parts cannot each have at most {bound} of the whole")
    counted = foreground[:, None].flatten(2).to(fields.dtype)
    logits = fields.flatten(2) + able.clamp(1e-12, 1).log().flatten(2)
    # A little below the bound, so that it ends, and above an equal share, so that it can.
    target = max(0.98 * bound, (bound + 1 / n_parts) / 2)
    weights, shares = _shared_out(logits, counted)
    for _ in range(_PATIENCE):
        over = (shares > bound).any(1)
        if not over.any():
            break
        # Of those alone that need it, so that what is partitioned together changes nothing.
        lower = (shares / target).clamp_min(1).log() * over[:, None]
        logits = logits - lower[..., None]
        weights, shares = _shared_out(logits, counted)
    # Equal parts of every voxel always keep the bound: of a foreground that is smaller than a piece.
    uneven = (shares > bound).any(1)
    weights[uneven] = 1 / n_parts
    return weights.view_as(fields), torch.where(uneven[:, None], 1 / n_parts, shares)


def _shared_out(logits: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    weights = logits.softmax(1)
    return weights, (weights * counted).sum(2) / counted.sum(2).clamp_min(1)

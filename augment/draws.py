"""Random numbers that mean the same on every device: made where the generator is, and put where they are wanted.

A generator on the CPU makes a seed's draws what they are, whatever computes with them: on a GPU they differ by rounding alone. In training,
whose steps a GPU replays, the generator is on the device itself, and its draws are the device's own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draws of N(0, 1), of the dtype of ``like`` and where it is."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def uniform(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draws between 0 and 1, of the dtype of ``like`` and where it is."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def random_rows(n_rows: int, n: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """``n`` of so many rows, all alike and with replacement, where ``like`` is."""
    return torch.randint(n_rows, (n,), generator=generator, device=generator.device).to(like.device)


def signs(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """1 or -1, both alike, of the dtype of ``like`` and where it is."""
    return 2 * torch.randint(2, shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device) - 1


def weighted_rows(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """``n`` rows by their ``weights`` ``(m,)``, with replacement, where these are."""
    return torch.multinomial(weights.to(generator.device), n, replacement=True, generator=generator).to(weights.device)

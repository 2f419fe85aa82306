"""Batches of images that are held in memory, and what if one is too large."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from .errors import UsageError
from .machine import is_out_of_memory

Part = TypeVar("Part")


def batches_of_rows(
    n: int, size: int, *, order: torch.Generator | None = None, even: bool = False, device: torch.device | None = None
) -> Sequence[Tensor]:
    """Row numbers of ``n`` images in batches: ``(m,)`` int64 each.

    Parameters
    ----------
    n : int
        Rows.
    size : int
        Rows of a batch, at most; the last may have fewer.
    order : torch.Generator, optional
        On the CPU; draws the order of the rows, which without it keep their own.
    even : bool
        Make as many batches, of sizes that differ by one row at most, so that none rests on the few that are left over.
    device : torch.device, optional
        Where the numbers are wanted; there in one piece, because each copy is waited for.
    """
    rows = torch.arange(n) if order is None else torch.randperm(n, generator=order)
    rows = rows.to(device)
    return rows.tensor_split(n_batches(n, size)) if even else rows.split(min(size, n))


def n_batches(n: int, size: int) -> int:
    """How many batches ``n`` rows make."""
    return -(-n // size)


def in_batches(compute: Callable[[Tensor], Part], rows: Tensor, size: int) -> list[Part]:
    """What ``compute`` gives for batches of rows, in order; where memory runs out, batches are halved, down to one row.

    Raises
    ------
    UsageError
        If there is no memory for one row.
    """
    parts, start = [], 0
    while start < len(rows):
        batch = rows[start : start + size]
        try:
            parts.append(compute(batch))
            start += size
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise UsageError("There is no memory for a single image; lower --size or --channels.") from error
            size = len(batch) // 2
    return parts


@contextmanager
def told_by_batch_size(size: int) -> Iterator[None]:
    """Tell that memory has run out in training, whose batches cannot be halved, by the settings that it depends on."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(f"There is no memory to train on batches of {size} images; lower --batch-size, --channels or --size.") from error

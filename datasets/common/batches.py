"""Batches of images that are held in memory, in an order that only the seed and the epoch decide; and what if one is too large."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from .errors import UsageError
from .machine import is_out_of_memory
from .seeds import seeded_generator

Part = TypeVar("Part")


def resident_batches(*tensors: Tensor, batch_size: int, seed: int | None = None, even: bool = False) -> DataLoader[Any]:
    """Batches of rows of ``tensors``, which stay where they are: no worker, no copy between devices.

    Parameters
    ----------
    *tensors : torch.Tensor
        All with n rows; a batch is a tensor if there is one, else a tuple of them.
    batch_size : int
        Rows of a batch, at most; the last may have fewer.
    seed : int, optional
        Draws the order of the rows anew at each epoch, from (seed, epoch); without it they keep their own. Lightning tells the sampler the
        epoch, also after a restart.
    even : bool
        Make as many batches, of sizes that differ by one row at most, so that none rests on the few that are left over.
    """
    rows: Dataset[Any] = _Rows(tensors[0]) if len(tensors) == 1 else TensorDataset(*tensors)
    # A loader draws a seed for its workers whenever it is gone through, also for none: from a generator of its own, not torch's global one.
    return DataLoader(rows, sampler=_EpochOrder(len(tensors[0]), batch_size, seed, even), batch_size=None, generator=torch.Generator())


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


class _Rows(Dataset[Tensor]):
    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    def __getitem__(self, index: Any) -> Tensor:
        return self.tensor[index]

    def __len__(self) -> int:
        return len(self.tensor)


class _EpochOrder(Sampler[list[int]]):
    """Lists of rows, a list a batch."""

    def __init__(self, n: int, batch_size: int, seed: int | None, even: bool):
        self.n = n
        self.batch_size = max(1, min(batch_size, n))
        self.seed = seed
        self.even = even
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.n / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.n)
        if self.seed is not None:
            order = torch.randperm(self.n, generator=seeded_generator(self.seed, "order", self.epoch))
        batches = order.tensor_split(len(self)) if self.even else order.split(self.batch_size)
        yield from (rows.tolist() for rows in batches)

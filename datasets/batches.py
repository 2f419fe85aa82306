"""Batches of images that are held in memory, in an order that only the seed and the epoch decide."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from .seeds import seeded_generator


def resident_batches(*tensors: Tensor, batch_size: int, seed: int | None = None) -> DataLoader[Any]:
    """Batches of rows of ``tensors``, which stay where they are: no worker, no copy between devices.

    Parameters
    ----------
    *tensors : torch.Tensor
        All with n rows; a batch is a tensor if there is one, else a tuple of them.
    batch_size : int
        Rows of a batch; the last may have fewer.
    seed : int, optional
        Draws the order of the rows anew at each epoch, from (seed, epoch); without it they keep their own. Lightning tells the sampler the
        epoch, also after a restart.
    """
    rows: Dataset[Any] = _Rows(tensors[0]) if len(tensors) == 1 else TensorDataset(*tensors)
    # A loader draws a seed for its workers whenever it is gone through, also for none: from a generator of its own, not torch's global one.
    return DataLoader(rows, sampler=_EpochOrder(len(tensors[0]), batch_size, seed), batch_size=None, generator=torch.Generator())


class _Rows(Dataset[Tensor]):
    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    def __getitem__(self, index: Any) -> Tensor:
        return self.tensor[index]

    def __len__(self) -> int:
        return len(self.tensor)


class _EpochOrder(Sampler[list[int]]):
    """Lists of rows, a list a batch."""

    def __init__(self, n: int, batch_size: int, seed: int | None):
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.n / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.n)
        if self.seed is not None:
            order = torch.randperm(self.n, generator=seeded_generator(self.seed, "order", self.epoch))
        yield from (rows.tolist() for rows in order.split(self.batch_size))

"""The two ways in which a classifier is trained: by epochs, of which validation keeps one, and of fixed length, with averaged weights.

A small cohort leaves few validation images: of 7 patients and 24 controls many epochs share the best balanced accuracy. Among those the
epoch of the lowest validation loss is kept, which sees how sure the network is, and not only on which side. Validation is computed in
float32, as predictions are: what is kept is what is used. The kept score is the best of many looks at the same few images, and so too
good: it selects, and is no estimate.

Where there are too few people to choose an epoch by, none is chosen: the learning rate goes down to nothing, and the weights kept are an
exponential moving average over the steps, which no single batch decides.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import recall_score
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from ..datasets.common.batches import batches_of_rows, in_batches
from ..datasets.common.compute import exactly
from ..datasets.common.errors import GateError
from ..datasets.common.graphs import Step, adam_of, learning_rate_of, replayed
from ..datasets.common.seeds import seeded_generator

# Images at a time outside of training, where no batch statistics ask for more: their activations stay in the processor's cache.
EVALUATION_BATCH = 64
WEIGHT_DECAY = 1e-2  # of training of fixed length
WARM_UP = 0.05  # of the steps
AVERAGED = 0.1  # of the steps: how far back the moving average reaches
RECORDS = 20  # rows of the history of a training of fixed length

Labelled: TypeAlias = tuple[Tensor, Tensor]
"""Images ``(n, 1, ...)`` and their labels ``(n,)``."""
Record = dict[str, float]
Augmentation = Callable[[Tensor, Tensor, torch.Generator], Labelled]
"""From the images ``(n, 1, ...)`` of a batch, its labels ``(n,)`` and a generator on the CPU, which is fresh for every batch, to changed
images and their labels, or to soft ones: ``(n, k)`` float32, rows of which add up to 1, for the first k classes if it knows no more."""


@dataclass(frozen=True, eq=False)
class Trainee:
    """A network and what it learns from, all on one device.

    Parameters
    ----------
    network : torch.nn.Module
        Changed by every step.
    images, labels : torch.Tensor
        ``(n, 1, ...)`` and ``(n,)``.
    batch_size : int
        Images a step, at most.
    seed : int
        Of the images' order and of the augmentation.
    bf16 : bool
        Whether steps compute in it.
    class_weights : torch.Tensor, optional
        ``(n_classes,)``, of the loss.
    augmentation : callable, optional
        Changes every batch.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    batch_size: int
    seed: int
    bf16: bool
    class_weights: Tensor | None
    augmentation: Augmentation | None

    def batches(self, number: int) -> Iterator[Labelled]:
        """All images once, in an order of this pass's, a batch at a time, changed; no batch rests on the few that are left over."""
        order = seeded_generator(self.seed, "order", number)
        rows_of = batches_of_rows(len(self.images), self.batch_size, order=order, even=True, device=self.images.device)
        for batch, rows in enumerate(rows_of):
            images, labels = self.images[rows], self.labels[rows]
            if self.augmentation is not None:
                images, labels = self.augmentation(images, labels, seeded_generator(self.seed, "augmentation", number, batch))
            yield images, labels

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The summed loss and the weight that it is of; a soft label counts as its shares of the classes."""
        weights = self.class_weights
        if labels.ndim == 2:
            labels = F.pad(labels, (0, max(0, logits.shape[1] - labels.shape[1])))
        if weights is None:
            weight = torch.ones(len(labels), device=labels.device)
        else:
            weight = weights[labels] if labels.ndim == 1 else labels @ weights
        return F.cross_entropy(logits.float(), labels, weight=weights, reduction="sum"), weight.sum()


class Stepping:
    """Steps of an optimizer on a trainee's network, and the loss since it was last asked for.

    What a step finds stays on the device until then, so that a GPU can replay it. The changes of a batch are no
    part of what is replayed, for others than ours draw from Python's numbers; nor is a network of a user's that does not allow it.
    """

    def __init__(self, trainee: Trainee, optimizer: torch.optim.Optimizer):
        self.trainee, self.optimizer = trainee, optimizer
        self._sums = torch.zeros(2, device=trainee.images.device)  # of the losses, and of the weights that they are of

    def replayed(self) -> Step:
        """The step of a batch; not kept here, or neither would ever be freed."""
        network = self.trainee.network
        return replayed(self.take, self.trainee.images.device) if getattr(network, "replayable", False) else self.take

    def take(self, images: Tensor, labels: Tensor) -> None:
        """A step on a batch of images and labels."""
        self.optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.trainee.bf16):
            logits = self.trainee.network(images)
        total, weight = self.trainee.loss(logits, labels)
        (total / weight).backward()
        self.optimizer.step()
        self._sums += torch.stack([total.detach(), weight])

    def mean_loss(self) -> float:
        """Of the steps since it was last asked for."""
        total, weight = self._sums.tolist()
        self._sums.zero_()
        return total / weight


def best_of_epochs(
    trainee: Trainee,
    validation: Labelled,
    *,
    epochs: int,
    passes: int,
    learning_rate: float,
    patience: int,
    on_record: Callable[[Record], None],
) -> tuple[list[Record], int]:
    """Train by Adam, its rate halved on plateau, and give the network the weights of its best epoch, each of so many passes.

    Returns
    -------
    list of dict, int
        A record an epoch, and which was the best, from 1.
    """
    network = trainee.network
    optimizer = adam_of(network.parameters(), learning_rate, trainee.images.device)
    steps = Stepping(trainee, optimizer)
    step = steps.replayed()
    schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=patience)
    records: list[Record] = []
    best, best_epoch, best_weights = (-math.inf, -math.inf), 0, {}
    for epoch in range(1, epochs + 1):
        for number in range(passes * (epoch - 1), passes * epoch):
            for batch in trainee.batches(number):
                step(*batch)
        record = {"epoch": epoch, "learning_rate": learning_rate_of(optimizer), "train_loss": steps.mean_loss()}
        record |= _validated(trainee, validation)
        _require_finite(record, f"epoch {epoch}")
        records.append(record)
        score = (record["validation_balanced_accuracy"], -record["validation_loss"])
        if score > best:
            best, best_epoch = score, epoch
            best_weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        schedule.step(record["validation_loss"])
        on_record(record)
    network.load_state_dict(best_weights)
    return records, best_epoch


def of_fixed_length(trainee: Trainee, *, steps: int, learning_rate: float, on_record: Callable[[Record], None]) -> list[Record]:
    """Train by AdamW, its rate warmed up and then brought down to nothing by a cosine, and give the network its averaged weights.

    Returns
    -------
    list of dict
        About 20 records: the ``step``, its ``learning_rate``, and the ``train_loss`` of the steps since the record before.
    """
    network = trainee.network
    optimizer = adam_of(network.parameters(), learning_rate, trainee.images.device, torch.optim.AdamW, weight_decay=WEIGHT_DECAY)
    stepping = Stepping(trainee, optimizer)
    take = stepping.replayed()
    warm = max(1.0, WARM_UP * steps)
    # torch's OneCycleLR divides by zero where the warm-up is of one step.
    schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps)))
    # Torch's AveragedModel counts its steps on the processor, and so waits for a GPU at each of them.
    average = copy.deepcopy(network)
    averaged, share = _numbers(average), min(1.0, 1 / (AVERAGED * steps))
    told = {round(row * steps / RECORDS) for row in range(1, RECORDS + 1)}
    records: list[Record] = []
    for step, batch in zip(range(1, steps + 1), _without_end(trainee), strict=False):
        take(*batch)
        with torch.no_grad():
            torch._foreach_lerp_(averaged, _numbers(network), share if step > 1 else 1.0)
        if step in told:
            record: Record = {"step": step, "learning_rate": learning_rate_of(optimizer), "train_loss": stepping.mean_loss()}
            _require_finite(record, f"step {step}")
            records.append(record)
            on_record(record)
        schedule.step()
    for kept, last in zip(average.buffers(), network.buffers(), strict=True):
        if not kept.is_floating_point():  # a count has no mean
            kept.copy_(last)
    network.load_state_dict(average.state_dict())
    return records


def evaluated(network: nn.Module, images: Tensor) -> Tensor:
    """Logits ``(n, n_classes)`` in evaluation mode and float32, on the network's device; the mode is left as it was."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.inference_mode(), exactly(device):
        logits = torch.cat(in_batches(lambda batch: network(batch.to(device)).float(), images, EVALUATION_BATCH))
    network.train(training)
    return logits


def _numbers(network: nn.Module) -> list[Tensor]:
    """Weights and buffers that have a mean: the statistics of batch norm must be those of the averaged weights.

    Asked for at every step, for a network may put another tensor in a buffer's place.
    """
    return [value for value in (*network.parameters(), *network.buffers()) if value.is_floating_point()]


def _without_end(trainee: Trainee) -> Iterator[Labelled]:
    for number in itertools.count():
        yield from trainee.batches(number)


def _validated(trainee: Trainee, validation: Labelled) -> Record:
    images, labels = validation
    logits = evaluated(trainee.network, images)
    total, weight = trainee.loss(logits, labels)
    truth = labels.cpu().numpy()
    # Over the classes that validation has: a choice must be made even where one is missing.
    recall = recall_score(truth, logits.argmax(1).cpu().numpy(), labels=np.unique(truth), average="macro")
    return {"validation_loss": float(total / weight), "validation_balanced_accuracy": float(recall)}


def _require_finite(record: Record, when: str) -> None:
    if not all(math.isfinite(value) for value in record.values()):
        raise GateError(f"The classifier's loss is no longer a finite number in {when}; lower its learning rate, or train in fp32.")

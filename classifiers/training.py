"""Training one classifier, and what it says of images (on lightning).

A small cohort leaves few validation images: of 7 patients and 24 controls many epochs share the best balanced accuracy. Among those the
epoch of the lowest validation loss is kept, which sees how sure the network is, and not only on which side. Validation is computed in
float32, as predictions are: what is kept is what is used. The kept score is the best of many looks at the same few images, and so too
good: it selects, and is no estimate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import recall_score
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..datasets.common.batches import in_batches, resident_batches, told_by_batch_size
from ..datasets.common.compute import choose_device, computes_in_bf16, laid_out, quiet_lightning
from ..datasets.common.errors import GateError, UsageError
from ..datasets.common.seeds import derived_seed, seeded_generator
from .network import CNN, NetworkBuilder, build_network

# Images at a time outside of training, where no batch statistics ask for more: their activations stay in the processor's cache.
EVALUATION_BATCH = 64
BF16_SIDE = 28  # voxels: see _bf16_pays
Record = dict[str, float]
Augmentation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""From the images ``(n, 1, ...)`` of a batch, its labels ``(n,)`` and a generator on the CPU, which is fresh for every batch, to changed
images and their labels, or to soft ones: ``(n, n_classes)`` float32, rows of which add up to 1."""


@dataclass(frozen=True)
class ClassifierSettings:
    """How a classifier is trained; the defaults are the paper's (Appendix D).

    Parameters
    ----------
    epochs : int
        Passes over the training images; the weights kept are those of the best balanced accuracy on validation.
    learning_rate : float
        Learning rate of Adam.
    batch_size : int
        Images a step, at most: an epoch has as many steps as batches of this size would make, but of sizes that differ by one image at
        most, so that no step rests on the few that are left over.
    patience : int
        Epochs without a better validation loss before the learning rate is halved.
    precision : {"auto", "bf16", "fp32"}
        Precision of the forward and backward pass; ``auto`` takes bf16 where the processor or GPU computes in it quickly, and rightly.
    device : {"auto", "cpu", "gpu"}
        Where to train.
    """

    epochs: int = 50
    learning_rate: float = 1e-4
    batch_size: int = 200
    patience: int = 5
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "gpu"] = "auto"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.patience < 1 or not self.learning_rate > 0:
            raise UsageError("A classifier needs at least 1 epoch, 1 image a batch, a patience of 1 and a learning rate above 0.")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise UsageError(f"The classifier's precision is auto, bf16 or fp32, not '{self.precision}'.")
        if self.device not in ("auto", "cpu", "gpu"):
            raise UsageError(f"The classifier's device is auto, cpu or gpu, not '{self.device}'.")


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A network, and how it came to be.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU, in evaluation mode, with the weights of its best epoch; from images ``(n, 1, ...)`` to logits ``(n, n_classes)``.
    history : pandas.DataFrame
        One row an epoch: ``epoch``, ``learning_rate``, ``train_loss``, ``validation_loss``, ``validation_balanced_accuracy``.
    best_epoch : int
        Whose weights the network has, from 1.
    """

    network: nn.Module
    history: pd.DataFrame
    best_epoch: int


def train_classifier(
    images: Tensor,
    labels: Tensor,
    validation_images: Tensor,
    validation_labels: Tensor,
    settings: ClassifierSettings,
    *,
    n_classes: int,
    seed: int,
    class_weights: Tensor | None = None,
    augmentation: Augmentation | None = None,
    network: NetworkBuilder = CNN,
    on_epoch: Callable[[Record], None] = lambda record: None,
) -> TrainedClassifier:
    """Train a fresh network by cross-entropy; torch's global randomness is left as it was.

    The same seed gives the same weights on the same machine with the same number of threads (of volumes on a GPU: nearly, as torch has no
    deterministic gradient of their pooling).

    Parameters
    ----------
    images, validation_images : torch.Tensor
        ``(n, 1, X, Y)`` or ``(n, 1, X, Y, Z)`` float32 in [0, 1].
    labels, validation_labels : torch.Tensor
        ``(n,)`` int64 in [0, n_classes).
    settings : ClassifierSettings
        How.
    n_classes : int
        Two or more.
    seed : int
        Seed of the first weights, the order of the images, and the augmentation.
    class_weights : torch.Tensor, optional
        ``(n_classes,)`` float32: how much an image of each class counts in the losses, of validation too (``balancing_weights``); all alike
        if left out.
    augmentation : callable, optional
        Changes every batch of training images (``augmentation.classical``), and may change its labels, by a generator whose seed differs
        from step to step.
    network : callable
        What builds the network (``network.load_network`` finds a user's own).
    on_epoch : callable
        Called with each new row of the history.

    Raises
    ------
    GateError
        If the loss stops being a finite number.
    UsageError
        If a user's own network does not fit the images.
    """
    for pixels, classes in ((images, labels), (validation_images, validation_labels)):
        if len(pixels) != len(classes) or not len(pixels) or classes.min() < 0 or classes.max() >= n_classes:
            raise ValueError(f"{len(pixels)} images need as many labels in [0, {n_classes}), and at least one image")
    device = choose_device(settings.device)
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and _bf16_pays(network, tuple(images.shape[2:]), device))
    # The global generators serve the first weights, a user's dropout, and torch's data loader, which draws a seed that it does not need.
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []), quiet_lightning():
        torch.manual_seed(derived_seed(seed, "classifier"))
        model = build_network(network, tuple(images.shape[2:]), n_classes)
        laid_out(model, torch.channels_last if images.ndim == 4 else torch.channels_last_3d)
        fitting = _Fitting(
            model, settings, seed, class_weights, augmentation, validation_images.to(device), validation_labels.to(device), on_epoch
        )
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if bf16 else "32-true",
            max_epochs=settings.epochs,
            deterministic="warn" if device.type == "cuda" else None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches = resident_batches(images.to(device), labels.to(device), batch_size=settings.batch_size, seed=seed, even=True)
        with told_by_batch_size(settings.batch_size):
            trainer.fit(fitting, batches)
    model.load_state_dict(fitting.best_weights)
    laid_out(model.cpu(), torch.contiguous_format).eval()
    return TrainedClassifier(model, pd.DataFrame(fitting.records), fitting.best_epoch)


def predict_probabilities(network: nn.Module, images: Tensor) -> Tensor:
    """What ``network`` gives each class, in evaluation mode and float32.

    Parameters
    ----------
    network : torch.nn.Module
        From images to logits; left in the mode that it is in.
    images : torch.Tensor
        ``(n, 1, ...)`` float32 in [0, 1], on any device.

    Returns
    -------
    torch.Tensor
        ``(n, n_classes)`` float32 on the CPU; rows add up to 1.
    """
    return _logits(network, images).softmax(dim=1).cpu()


def balancing_weights(labels: Tensor, n_classes: int) -> Tensor:
    """Weights that let every class count alike, ``n / (n_classes n_class)`` as scikit-learn's ``balanced``; of a class without images 0.

    Parameters
    ----------
    labels : torch.Tensor
        ``(n,)`` int64 in [0, n_classes), of the training images.

    Returns
    -------
    torch.Tensor
        ``(n_classes,)`` float32.
    """
    counts = torch.bincount(labels, minlength=n_classes)
    return torch.where(counts > 0, len(labels) / (n_classes * counts.clamp(min=1)), 0.0)


def _bf16_pays(network: NetworkBuilder, shape: tuple[int, ...], device: torch.device) -> bool:
    """Whether bf16 is quicker, and right.

    For maps one voxel wide, oneDNN's weight gradients in bf16 are in part uninitialised memory (torch 2.13, AVX-512 bf16; in float32 they
    are right). Ours makes no such map of images from 28 voxels a side on; of others' networks we cannot know.
    """
    return computes_in_bf16(device) and (device.type == "cuda" or (network is CNN and min(shape) >= BF16_SIDE))


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.inference_mode():
        logits = torch.cat(in_batches(lambda batch: network(batch.to(device)).float(), images, EVALUATION_BATCH))
    network.train(training)
    return logits


class _Fitting(lightning.LightningModule):
    """Adam on the cross-entropy, halved on plateau; keeps the history and the best weights.

    Validation is no loop of lightning's: its data loader and hooks cost more than the images of a small cohort do.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: ClassifierSettings,
        seed: int,
        class_weights: Tensor | None,
        augmentation: Augmentation | None,
        validation_images: Tensor,
        validation_labels: Tensor,
        on_epoch: Callable[[Record], None],
    ):
        super().__init__()
        self.network = network
        self.settings = settings
        self.seed = seed
        self.register_buffer("class_weights", class_weights)
        self.augmentation = augmentation
        self.validation = (validation_images, validation_labels)
        self.on_epoch = on_epoch
        self.records: list[Record] = []
        self.best: tuple[float, float] = (-math.inf, -math.inf)
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self._losses: list[tuple[Tensor, Tensor]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.settings.learning_rate)
        self.schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=self.settings.patience)
        return optimizer

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        if self.augmentation is not None:
            # Where an image is moved to, bf16 is too coarse to say.
            with torch.autocast(images.device.type, enabled=False):
                generator = seeded_generator(self.seed, "augmentation", self.current_epoch, batch_idx)
                images, labels = self.augmentation(images, labels, generator)
        total, weight = self._loss(self.network(images), labels)
        self._losses.append((total.detach(), weight))
        return total / weight

    def _loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The summed loss and the weight that it is of; a soft label counts as its shares of the classes."""
        weights = self.class_weights
        assert weights is None or isinstance(weights, Tensor)
        if weights is None:
            weight = torch.ones(len(labels), device=labels.device)
        else:
            weight = weights[labels] if labels.ndim == 1 else labels @ weights
        return F.cross_entropy(logits.float(), labels, weight=weights, reduction="sum"), weight.sum()

    def on_train_epoch_end(self) -> None:
        epoch = self.current_epoch + 1
        images, labels = self.validation
        logits = _logits(self.network, images)
        total, weight = self._loss(logits, labels)
        truth = labels.cpu().numpy()
        record: Record = {
            "epoch": epoch,
            "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": float(sum(total for total, _ in self._losses) / sum(weight for _, weight in self._losses)),
            "validation_loss": float(total / weight),
            # Over the classes that validation has: a choice must be made even where one is missing.
            "validation_balanced_accuracy": float(
                recall_score(truth, logits.argmax(1).cpu().numpy(), labels=np.unique(truth), average="macro")
            ),
        }
        self._losses = []
        if not (math.isfinite(record["train_loss"]) and math.isfinite(record["validation_loss"])):
            raise GateError(
                f"The classifier's loss is no longer a finite number in epoch {epoch}; lower its learning rate, or train in fp32."
            )
        self.records.append(record)
        score = (record["validation_balanced_accuracy"], -record["validation_loss"])
        if score > self.best:
            self.best, self.best_epoch = score, epoch
            self.best_weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.schedule.step(record["validation_loss"])
        self.on_epoch(record)

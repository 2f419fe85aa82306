"""Training one classifier, and what it says of images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from torch import Tensor, nn

from ..datasets.common.batches import told_by_batch_size
from ..datasets.common.compute import Device, choose_device, computes_in_bf16, deterministic, laid_out
from ..datasets.common.errors import UsageError
from ..datasets.common.seeds import derived_seed
from .loop import Augmentation, Labelled, Record, Trainee, best_of_epochs, evaluated, of_fixed_length
from .network import CNN, NetworkBuilder, build_network

BF16_SIDE = 28  # voxels: see _bf16_pays


@dataclass(frozen=True)
class ClassifierSettings:
    """How a classifier is trained; the defaults are the paper's (Appendix D).

    Parameters
    ----------
    epochs : int
        Looks at validation, each after ``passes`` over the training images; the weights kept are those of the best balanced accuracy there.
    passes : int, optional
        Passes an epoch, one by default; more where it is short, for of many looks the best is better by chance.
    learning_rate : float
        Learning rate of Adam, or the highest of AdamW.
    batch_size : int
        Images a step, at most: an epoch has as many steps as batches of this size would make, but of sizes that differ by one image at
        most, so that no step rests on the few that are left over.
    patience : int
        Epochs without a better validation loss before the learning rate is halved.
    steps : int, optional
        If given, training has exactly so many steps, however many images there are, by AdamW with a learning rate that is warmed up and
        then goes down to nothing; no validation is looked at, and the weights kept are averaged. ``epochs`` and ``patience`` do nothing.
    precision : {"auto", "bf16", "fp32"}
        Precision of the forward and backward pass; ``auto`` takes bf16 where the processor or GPU computes in it quickly, and rightly.
    device : {"auto", "cpu", "gpu"}
        Where to train.
    """

    epochs: int = 50
    learning_rate: float = 1e-4
    batch_size: int = 200
    patience: int = 5
    steps: int | None = None
    passes: int | None = None
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Device = "auto"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.patience < 1 or not self.learning_rate > 0:
            raise UsageError("A classifier needs at least 1 epoch, 1 image a batch, a patience of 1 and a learning rate above 0.")
        if self.passes is not None and self.passes < 1:
            raise UsageError(f"A classifier passes over its images once an epoch or more often, not {self.passes} times.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"A classifier trains for 1 step or more, not {self.steps}.")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise UsageError(f"The classifier's precision is auto, bf16 or fp32, not '{self.precision}'.")
        if self.device not in ("auto", "cpu", "gpu"):
            raise UsageError(f"The classifier's device is auto, cpu or gpu, not '{self.device}'.")


# For cohorts that are too small to select an epoch by.
FIXED_LENGTH = ClassifierSettings(learning_rate=5e-4, batch_size=32, steps=400)


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A network, and how it came to be.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU, in evaluation mode, with the weights of its best epoch or, of fixed length, its averaged ones; from images
        ``(n, 1, ...)`` to logits ``(n, n_classes)``.
    history : pandas.DataFrame
        One row an epoch: ``epoch``, ``learning_rate``, ``train_loss``, ``validation_loss``, ``validation_balanced_accuracy``. Of fixed
        length about 20 rows: ``step``, ``learning_rate``, and ``train_loss`` of the steps since the row before.
    best_epoch : int or None
        Whose weights the network has, from 1; None of fixed length, where none is chosen.
    """

    network: nn.Module
    history: pd.DataFrame
    best_epoch: int | None


def train_classifier(
    images: Tensor,
    labels: Tensor,
    validation: Labelled | None,
    settings: ClassifierSettings,
    *,
    n_classes: int,
    seed: int,
    class_weights: Tensor | None = None,
    augmentation: Augmentation | None = None,
    network: NetworkBuilder = CNN,
    on_record: Callable[[Record], None] = lambda record: None,
) -> TrainedClassifier:
    """Train a fresh network by cross-entropy; torch's global randomness is left as it was.

    The same seed gives the same weights on the same machine with the same number of threads (of volumes on a GPU: nearly, as torch has no
    deterministic gradient of their pooling).

    Parameters
    ----------
    images : torch.Tensor
        ``(n, 1, X, Y)`` or ``(n, 1, X, Y, Z)`` float32 in [0, 1].
    labels : torch.Tensor
        ``(n,)`` int64 in [0, n_classes).
    validation : tuple of torch.Tensor, optional
        Images and labels that the best epoch is chosen by; not looked at, and not needed, in a training of fixed length.
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
        What builds the network (``networks.network_of`` finds it by name, ``weights.begun_with`` lets it begin with weights of a file).
    on_record : callable
        Called with each new row of the history.

    Raises
    ------
    GateError
        If the loss stops being a finite number.
    UsageError
        If a user's own network does not fit the images.
    """
    if validation is None and settings.steps is None:
        raise ValueError("without validation images a classifier is trained for a fixed number of steps")
    for pixels, classes in [(images, labels), *([validation] if validation else [])]:
        if len(pixels) != len(classes) or not len(pixels) or classes.min() < 0 or classes.max() >= n_classes:
            raise ValueError(f"{len(pixels)} images need as many labels in [0, {n_classes}), and at least one image")
    device = choose_device(settings.device)
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and _bf16_pays(network, tuple(images.shape[2:]), device))
    best_epoch = None
    # The global generators serve the first weights, and a user's dropout.
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []), deterministic(device):
        torch.manual_seed(derived_seed(seed, "classifier"))
        model = laid_out(
            build_network(network, tuple(images.shape[2:]), n_classes).to(device),
            torch.channels_last if images.ndim == 4 else torch.channels_last_3d,
        )
        weights = None if class_weights is None else class_weights.to(device)
        trainee = Trainee(model, images.to(device), labels.to(device), settings.batch_size, seed, bf16, weights, augmentation)
        with told_by_batch_size(settings.batch_size):
            if settings.steps is not None:
                records = of_fixed_length(trainee, steps=settings.steps, learning_rate=settings.learning_rate, on_record=on_record)
            else:
                assert validation is not None
                records, best_epoch = best_of_epochs(
                    trainee,
                    (validation[0].to(device), validation[1].to(device)),
                    epochs=settings.epochs,
                    passes=settings.passes or 1,
                    learning_rate=settings.learning_rate,
                    patience=settings.patience,
                    on_record=on_record,
                )
    laid_out(model.cpu(), torch.contiguous_format).eval()
    return TrainedClassifier(model, pd.DataFrame(records), best_epoch)


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
    return evaluated(network, images).softmax(dim=1).cpu()


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

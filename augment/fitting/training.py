"""Fitting one autoencoder on the images of one class (on lightning).

All randomness of an epoch (order of the images, noise of the posteriors) comes from a generator seeded by (seed, epoch), and a resume
point is written between epochs: a run that is killed and resumed therefore ends in the same weights as one that was not.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ...datasets.common.batches import resident_batches, told_by_batch_size
from ...datasets.common.compute import choose_device, computes_in_bf16, laid_out, quiet_lightning
from ...datasets.common.errors import GateError, UsageError
from ...datasets.common.files import whole_file
from ...datasets.common.seeds import seeded_generator
from ..autoencoders import Autoencoder
from .jitter import jitter

RESUME_POINT = "state.ckpt"
SECONDS_BETWEEN_RESUME_POINTS = 30.0
MOST_STEPS = 3000
STEPS_OF_A_VOXEL, FEWER_OF_MORE = 313_000, 0.55  # 2,283 steps at 80 x 96, 644 at 40 x 48 x 40
PATIENCES_TO_STOP = 3
LEAST_PATIENCE = 100  # steps: a first stretch that only finds the mean image must not cost the rate at which anything more is learnt
FORGOTTEN_AT_FIRST = 10  # steps: an average over them all would keep the first, random weights
Record = dict[str, float]


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Parameters
    ----------
    epochs : int, optional
        Passes over the training images; the weights kept are those of the best validation loss
        (``Autoencoder.selected_by``). By default as many as make ``steps``.
    steps : int, optional
        Optimisation steps, for want of ``epochs``: a class of 20 images then trains as long as one of 200. By default as many as images
        of this size are given (``default_steps``).
    learning_rate : float
        Learning rate of Adam.
    batch_size : int
        Images a step.
    patience : int, optional
        Epochs without a better validation loss before the learning rate is halved; by default a twentieth of them all, at least 5
        and at least as many as make ``LEAST_PATIENCE`` steps.
    stop_after : int, optional
        Epochs without a better validation loss after which training ends. By default three times the patience where neither ``epochs`` nor
        ``steps`` is given; a length that is asked for is kept.
    average : float, optional
        Decay, a step, of a moving average of the weights, which is then what is validated and kept (Polyak averaging): it learns at a
        high rate without its noise. By default the last step's own weights are.
    even : bool, optional
        Batches of sizes that differ by one image at most, where 49 images in batches of 16 would leave one by itself, from which a batch
        norm learns nothing. By default the last is what is left over.
    jitter : float
        Strength of the random changes of pose, shape and brightness at each step (``jitter.jitter``); 0 for none.
    precision : {"auto", "bf16", "fp32"}
        Precision of the forward and backward pass; ``auto`` takes bf16 where the processor or GPU computes in it. Losses are summed in
        float32 always.
    device : {"auto", "cpu", "gpu"}
        Where to train.
    """

    epochs: int | None = None
    steps: int | None = None
    learning_rate: float = 1e-3
    batch_size: int = 16
    patience: int | None = None
    stop_after: int | None = None
    average: float | None = None
    even: bool | None = None
    jitter: float = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "gpu"] = "auto"

    def __post_init__(self) -> None:
        counts = (self.epochs, self.steps, self.batch_size, self.patience, self.stop_after)
        if min(count for count in counts if count is not None) < 1 or not self.learning_rate > 0:
            raise UsageError("Training needs at least 1 epoch, 1 step, 1 image a batch, a patience of 1 and a learning rate above 0.")
        if self.average is not None and not 0 <= self.average < 1:
            raise UsageError(f"The decay of averaged weights is at least 0 and below 1, not {self.average}.")
        if not 0 <= self.jitter <= 5:
            raise UsageError(f"--jitter lies between 0 (none) and 5, not at {self.jitter}.")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise UsageError(f"--precision is auto, bf16 or fp32, not '{self.precision}'.")
        if self.device not in ("auto", "cpu", "gpu"):
            raise UsageError(f"--device is auto, cpu or gpu, not '{self.device}'.")

    def schedule(self, n_images: int, shape: tuple[int, ...]) -> "Schedule":
        """What the settings mean for ``n_images`` of a ``shape``, channels left out."""
        # Whole numbers divided upwards: a quotient of floats is 0, or none, for numbers that nobody needs and anybody can give.
        steps_an_epoch = -(-n_images // self.batch_size)
        epochs = self.epochs or -(-(self.steps or default_steps(shape)) // steps_an_epoch)
        patience = self.patience or max(5, epochs // 20, -(-LEAST_PATIENCE // steps_an_epoch))
        asked_for = self.epochs or self.steps
        return Schedule(epochs, patience, self.stop_after or (None if asked_for else PATIENCES_TO_STOP * patience))


@dataclass(frozen=True)
class Schedule:
    """How long a training is, in epochs: at most, until the rate is halved, and until it ends for want of a better validation loss."""

    epochs: int
    patience: int
    stop_after: int | None


def default_steps(shape: tuple[int, ...]) -> int:
    """Optimisation steps for images of so many voxels: all sizes shall be trained within two minutes on two cores.

    A step of ten times the voxels takes ten times as long; somewhat less than a third of them have to do.
    """
    return min(MOST_STEPS, round(STEPS_OF_A_VOXEL / math.prod(shape) ** FEWER_OF_MORE))


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves beside the model's weights.

    Parameters
    ----------
    history : pandas.DataFrame
        One row an epoch: ``epoch``, ``learning_rate``, and every loss term as ``train_*`` and ``validation_*``.
    best_epoch : int
        Whose weights the model has now, from 1.
    """

    history: pd.DataFrame
    best_epoch: int


def train(
    model: Autoencoder,
    train_images: Tensor,
    validation_images: Tensor,
    settings: TrainingSettings,
    *,
    seed: int,
    resume_folder: Path | None = None,
    on_epoch: Callable[[Record], None] = lambda record: None,
) -> TrainingResult:
    """Train ``model`` in place; it ends on the CPU, in evaluation mode, with the weights of its best epoch.

    Parameters
    ----------
    model : Autoencoder
        Freshly initialised.
    train_images, validation_images : torch.Tensor
        ``(n, 1, ...)`` float32 in [0, 1].
    settings : TrainingSettings
        How.
    seed : int
        Seed of the order of the images and of the noise.
    resume_folder : Path, optional
        Where the state between epochs is kept; if it holds one, training goes on from there.
    on_epoch : callable
        Called with each new row of the history.

    Raises
    ------
    GateError
        If the loss stops being a finite number.
    """
    device = choose_device(settings.device)
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and computes_in_bf16(device))
    schedule = settings.schedule(len(train_images), tuple(train_images.shape[2:]))
    model.decoder.centre_on(train_images.mean(dim=0))
    on_device = train_images.to(device)
    channels_last = torch.channels_last if on_device.ndim == 4 else torch.channels_last_3d
    fitting = _Fitting(laid_out(model, channels_last), on_device, settings, schedule, seed, on_epoch)
    callbacks: list[Callback] = []
    resume_from = None
    if resume_folder is not None:
        callbacks.append(_ResumePoint(resume_folder / RESUME_POINT))
        resume_from = resume_folder / RESUME_POINT if (resume_folder / RESUME_POINT).exists() else None
    with quiet_lightning():
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if bf16 else "32-true",
            max_epochs=schedule.epochs,
            callbacks=callbacks,
            deterministic="warn" if device.type == "cuda" else None,
            logger=False,
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,  # a model may need a gradient to tell its loss, which tensors made in inference mode refuse
        )
        try:
            with told_by_batch_size(settings.batch_size):
                trainer.fit(
                    fitting,
                    resident_batches(on_device, batch_size=settings.batch_size, seed=seed, even=bool(settings.even)),
                    resident_batches(validation_images.to(device), batch_size=settings.batch_size),
                    ckpt_path=resume_from,
                    weights_only=True,
                )
        except SystemExit as end:
            # Lightning ends the process at Ctrl-C without a word.
            if isinstance(end.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
    model.load_state_dict(fitting.best["weights"])
    laid_out(model.cpu(), torch.contiguous_format).eval()
    return TrainingResult(pd.DataFrame(fitting.records), int(fitting.best["epoch"]))


class _Fitting(lightning.LightningModule):
    """Adam on ``model.loss``, halved on plateau; keeps the history and the best weights, its own or averaged ones.

    The schedule is stepped by hand: lightning steps a plateau schedule only after the hook in which a resume point can be written,
    so that a resumed run would miss a step.
    """

    def __init__(
        self,
        model: Autoencoder,
        images: Tensor,
        settings: TrainingSettings,
        schedule: Schedule,
        seed: int,
        on_epoch: Callable[[Record], None],
    ):
        super().__init__()
        self.model = model
        self.kept = model if settings.average is None else copy.deepcopy(model)  # what is validated
        self.images = images
        self.settings = settings
        self.length = schedule
        self.seed = seed
        self.on_epoch = on_epoch
        self.noise = torch.Generator(images.device)
        self.records: list[Record] = []
        self.best: dict[str, Any] = {"loss": math.inf, "epoch": 0, "weights": {}}
        self._sums: dict[str, Tensor] = {}
        self._weights = {"train": 0, "validation": 0}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.settings.learning_rate, fused=True)
        # By its default threshold, a share of the loss, a loss below 0 would count as better that is a little worse.
        self.schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=self.length.patience, threshold=0)
        return optimizer

    def on_train_epoch_start(self) -> None:
        self._sums, self._weights = {}, {"train": 0, "validation": 0}
        seeded_generator(self.seed, "train noise", self.current_epoch, generator=self.noise)
        with torch.no_grad():
            self.model.before_epoch(self.images, self.noise)
            if self.kept is not self.model:
                self.kept.before_epoch(self.images, self.noise)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self._loss("train", jitter(batch, self.settings.jitter, self.noise))

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if self.settings.average is not None:
            n = self.global_step
            _average(*self._averaged, min(self.settings.average, n / (n + FORGOTTEN_AT_FIRST)))

    def on_validation_epoch_start(self) -> None:
        # The same noise at every epoch: two epochs differ by their weights alone.
        seeded_generator(self.seed, "validation noise", generator=self.noise)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self._loss("validation", batch)

    def _loss(self, side: str, batch: Tensor) -> Tensor:
        terms = (self.model if side == "train" else self.kept).loss(batch, self.noise)
        self._weights[side] += len(batch)
        for name, term in terms.items():
            key = f"{side}_{name}"
            self._sums[key] = self._sums.get(key, torch.zeros((), device=batch.device)) + len(batch) * term.detach()
        return terms["loss"]

    def on_train_epoch_end(self) -> None:
        epoch = self.current_epoch + 1
        record: Record = {"epoch": epoch, "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"]}
        record |= {key: float(total) / self._weights[key.split("_")[0]] for key, total in self._sums.items()}
        if not (math.isfinite(record["train_loss"]) and math.isfinite(record["validation_loss"])):
            good = f"the last good epoch was {epoch - 1}" if epoch > 1 else "there was no good epoch before it"
            raise GateError(
                f"The loss is no longer a finite number in epoch {epoch}; {good}. Lower --learning-rate, or train with --precision fp32."
            )
        self.records.append(record)
        validation = record[f"validation_{self.model.selected_by}"]
        if validation < self.best["loss"]:
            weights = {name: value.detach().clone() for name, value in self.kept.state_dict().items()}
            self.best = {"loss": validation, "epoch": epoch, "weights": weights}
        self.schedule.step(validation)
        self._end_if_stalled()
        self.on_epoch(record)

    def _end_if_stalled(self) -> None:
        if self.length.stop_after is not None and len(self.records) - self.best["epoch"] >= self.length.stop_after:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fitting"] = {"records": self.records, "best": self.best, "schedule": self.schedule.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["fitting"]
        self.records, self.best = kept["records"], kept["best"]
        self._schedule_state = kept["schedule"]

    def on_train_start(self) -> None:
        self._averaged = _averaged(self.kept), _averaged(self.model)  # once: to go through the networks takes longer than the mean
        if hasattr(self, "_schedule_state"):
            self.schedule.load_state_dict(self._schedule_state)
            self._end_if_stalled()  # as it had before it was killed
            for record in self.records:
                self.on_epoch(record)


@torch.no_grad()
def _average(kept: list[Tensor], last: list[Tensor], decay: float) -> None:
    """Move what is averaged towards the last step's."""
    torch._foreach_lerp_(kept, last, 1 - decay)


def _averaged(model: Autoencoder) -> list[Tensor]:
    """The parameters and the statistics of the batch norms.

    Other buffers hold what a model makes of its images before an epoch, and have no mean.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    statistics = [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]
    return [*model.parameters(), *statistics]


class _ResumePoint(Checkpoint):
    """Writes the state between epochs, whole, at most every half minute: when does not change what comes out."""

    def __init__(self, path: Path):
        self.path = path
        self.written = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if time.monotonic() - self.written < SECONDS_BETWEEN_RESUME_POINTS:
            return
        with whole_file(self.path) as temporary:
            trainer.save_checkpoint(temporary)
        self.written = time.monotonic()

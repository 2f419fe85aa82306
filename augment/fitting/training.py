"""Fitting one autoencoder on the images of one class.

All randomness of an epoch (order of the images, noise of the posteriors) comes from a generator seeded by (seed, epoch), and a resume
point is written between epochs: on a processor a run that is killed and resumed therefore ends in the same weights as one that was not.
A GPU takes the first steps after it one by one, where it would have replayed them: the last digits may differ.
"""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ...datasets.common.batches import batches_of_rows, n_batches, told_by_batch_size
from ...datasets.common.compute import Device, choose_device, computes_in_bf16, deterministic, laid_out
from ...datasets.common.errors import GateError, UsageError
from ...datasets.common.files import whole_file
from ...datasets.common.graphs import Step, adam_of, learning_rate_of, replayed
from ...datasets.common.seeds import seeded_generator
from ..autoencoders import Autoencoder
from .jitter import jitter
from .tensors import write_tensors

RESUME_POINT = "state.safetensors"
FORMER_RESUME_POINT = "state.ckpt"  # of 0.3.0: known for one version, so that nobody's is removed unasked
SECONDS_BETWEEN_RESUME_POINTS = 30.0
MOST_STEPS = 3000
STEPS_OF_A_VOXEL, FEWER_OF_MORE = 313_000, 0.55  # 2,283 steps at 80 x 96, 644 at 40 x 48 x 40
PATIENCES_TO_STOP = 3
ITERATIONS = 15  # of a spectral norm's power method: as many as torch begins with
LEAST_PATIENCE = 100  # steps: a first stretch that only finds the mean image must not cost the rate at which anything more is learnt
# Times in a training by default: slices of 20 and 49 people are seen more often, those of 167 and the demo's volumes are not.
SEEN_OFTEN = 300
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
    jitter : float, optional
        Strength of the random changes of pose, shape and brightness at each step (``jitter.jitter``); 0 for none. By default 1, and up to
        1.5 where there are so few images that they would be learnt by heart (``default_jitter``).
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
    jitter: float | None = None
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Device = "auto"

    def __post_init__(self) -> None:
        counts = (self.epochs, self.steps, self.batch_size, self.patience, self.stop_after)
        if min(count for count in counts if count is not None) < 1 or not self.learning_rate > 0:
            raise UsageError("Training needs at least 1 epoch, 1 step, 1 image a batch, a patience of 1 and a learning rate above 0.")
        if self.average is not None and not 0 <= self.average < 1:
            raise UsageError(f"The decay of averaged weights is at least 0 and below 1, not {self.average}.")
        if self.jitter is not None and not 0 <= self.jitter <= 5:
            raise UsageError(f"--jitter lies between 0 (none) and 5, not at {self.jitter}.")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise UsageError(f"--precision is auto, bf16 or fp32, not '{self.precision}'.")
        if self.device not in ("auto", "cpu", "gpu"):
            raise UsageError(f"--device is auto, cpu or gpu, not '{self.device}'.")

    def in_bf16(self, device: torch.device) -> bool:
        """Whether steps on this device compute in bf16."""
        return self.precision == "bf16" or (self.precision == "auto" and computes_in_bf16(device))

    @property
    def computes_with(self) -> str:
        """What a training computes with, on which its last digits depend."""
        device = choose_device(self.device)
        threads = f"{(n := torch.get_num_threads())} thread{'' if n == 1 else 's'}" if device.type == "cpu" else f"device {device.type}"
        return f"{threads} in {'bf16' if self.in_bf16(device) else 'fp32'}"

    def lasting(self, epochs: int | None, steps: int | None) -> "TrainingSettings":
        """The settings with a length that is asked for, be it in the other unit; raise a ``UsageError`` if it is in both."""
        if epochs is not None and steps is not None:
            raise UsageError("A fit is as long as its epochs or as its steps say; give one of them.")
        if epochs is None and steps is None:
            return self
        # Where there are epochs, they count.
        return replace(self, epochs=epochs) if steps is None else replace(self, epochs=None, steps=steps)

    def schedule(self, n_images: int, shape: tuple[int, ...]) -> "Schedule":
        """What the settings mean for ``n_images`` of a ``shape``, channels left out."""
        # Whole numbers divided upwards: a quotient of floats is 0, or none, for numbers that nobody needs and anybody can give.
        steps_an_epoch = -(-n_images // self.batch_size)
        epochs = self.epochs or -(-(self.steps or default_steps(shape)) // steps_an_epoch)
        patience = self.patience or max(5, epochs // 20, -(-LEAST_PATIENCE // steps_an_epoch))
        stop_after = self.stop_after or (None if self.epochs or self.steps else PATIENCES_TO_STOP * patience)
        seen = default_steps(shape) / steps_an_epoch  # whatever length is asked for: two lengths differ by nothing else
        return Schedule(epochs, patience, stop_after, default_jitter(seen) if self.jitter is None else self.jitter)


@dataclass(frozen=True)
class Schedule:
    """How long a training is, in epochs: at most, until the rate is halved, and until it ends for want of a better validation loss.

    And how strongly images are changed at each step.
    """

    epochs: int
    patience: int
    stop_after: int | None
    jitter: float


def default_jitter(seen: float) -> float:
    """Strength of the changes of images that a training by default sees so many times, from 1 to 1.5.

    Few images are seen often: stronger changes keep the network from learning them by heart. Of many, and of volumes, it would learn less
    in as many steps (docs/results/decoders.md).
    """
    return min(1.5, max(1.0, seen / SEEN_OFTEN))


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
    model.decoder.centre_on(train_images.mean(dim=0))
    resume_point = None if resume_folder is None else resume_folder / RESUME_POINT
    with deterministic(device), told_by_batch_size(settings.batch_size):
        fitting = _Fitting(model, train_images.to(device), validation_images.to(device), settings, seed)
        if resume_point is not None and resume_point.exists():
            fitting.take_up(resume_point)
            for record in fitting.records:
                on_epoch(record)
        steps, written = fitting.steps(), time.monotonic()
        while not fitting.ended:
            on_epoch(fitting.epoch(*steps))
            # When does not change what comes out.
            if resume_point is not None and time.monotonic() - written >= SECONDS_BETWEEN_RESUME_POINTS:
                fitting.put_down(resume_point)
                written = time.monotonic()
    model.load_state_dict(fitting.best)
    laid_out(model.cpu(), torch.contiguous_format).eval()
    return TrainingResult(pd.DataFrame(fitting.records), fitting.best_epoch)


class _Fitting:
    """Adam on ``model.loss``, halved on plateau; keeps the history and the best weights, its own or averaged ones.

    All that a step finds stays on the device until the epoch has ended: to wait for a number at each step would cost a GPU its lead.
    """

    def __init__(self, model: Autoencoder, images: Tensor, validation: Tensor, settings: TrainingSettings, seed: int):
        device = images.device
        self.settings, self.seed = settings, seed
        self.length = settings.schedule(len(images), tuple(images.shape[2:]))
        self.images, self.validation = images, validation
        self.model = laid_out(model.to(device), torch.channels_last if images.ndim == 4 else torch.channels_last_3d)
        self.kept = self.model if settings.average is None else copy.deepcopy(self.model)  # what is validated
        self.averaged = _averaged(self.kept), _averaged(self.model)  # once: to go through the networks takes longer than the mean
        self.optimizer = adam_of(self.model.parameters(), settings.learning_rate, device)
        # By its default threshold, a share of the loss, a loss below 0 would count as better that is a little worse.
        self.schedule = ReduceLROnPlateau(self.optimizer, factor=0.5, patience=self.length.patience, threshold=0)
        self.bf16 = settings.in_bf16(device)
        self.noise = torch.Generator(device)
        self.sums: dict[str, Tensor] = {}
        self.records: list[Record] = []
        self.best = {name: value.clone() for name, value in self.kept.state_dict().items()}
        self.best_loss, self.best_epoch, self.n_steps = math.inf, 0, 0

    def steps(self) -> tuple[Step, Step]:
        """Of training and of validation, on rows; replayed where they can be. Not kept here, or nothing of this would ever be freed."""
        steps = self.train_on, self.validate_on
        if not self.model.replayable:
            return steps
        train_on, validate_on = (replayed(step, self.images.device, [self.noise]) for step in steps)
        return train_on, validate_on

    @property
    def ended(self) -> bool:
        """Whether all epochs are over, or the last so many were no better."""
        done, stop_after = len(self.records), self.length.stop_after
        return done >= self.length.epochs or (stop_after is not None and done - self.best_epoch >= stop_after)

    def epoch(self, train_on: Step, validate_on: Step) -> Record:
        """Train on every image once, and validate, by such ``steps``.

        Raises
        ------
        GateError
            If the loss is no finite number; nothing is recorded then.
        """
        epoch = len(self.records) + 1
        for total in self.sums.values():
            total.zero_()
        seeded_generator(self.seed, "train noise", epoch - 1, generator=self.noise)
        with torch.no_grad():
            for network in self._networks().values():
                network.before_epoch(self.images, self.noise)
        self.model.train()
        size, device = self.settings.batch_size, self.images.device
        order = seeded_generator(self.seed, "order", epoch - 1)
        for rows in batches_of_rows(len(self.images), size, order=order, even=bool(self.settings.even), device=device):
            train_on(rows)
            self.n_steps += 1
            if self.settings.average is not None:
                _average(*self.averaged, min(self.settings.average, self.n_steps / (self.n_steps + FORGOTTEN_AT_FIRST)))
        # The same noise at every epoch: two epochs differ by their weights alone.
        seeded_generator(self.seed, "validation noise", generator=self.noise)
        if self.kept is not self.model:
            _follow_norms(self.kept)
        self.kept.eval()
        for rows in batches_of_rows(len(self.validation), size, device=device):
            validate_on(rows)
        record: Record = {"epoch": epoch, "learning_rate": learning_rate_of(self.optimizer)}
        weights = {"train": len(self.images), "validation": len(self.validation)}
        totals = torch.stack(list(self.sums.values())).tolist()  # a GPU is waited for once
        record |= {key: total / weights[key.split("_")[0]] for key, total in zip(self.sums, totals, strict=True)}
        if not (math.isfinite(record["train_loss"]) and math.isfinite(record["validation_loss"])):
            good = f"the last good epoch was {epoch - 1}" if epoch > 1 else "there was no good epoch before it"
            raise GateError(
                f"The loss is no longer a finite number in epoch {epoch}; {good}. Lower --learning-rate, or train with --precision fp32."
            )
        if self._take(record):
            state = self.kept.state_dict()
            torch._foreach_copy_([self.best[name] for name in state], list(state.values()))  # one launch for many
        return record

    def train_on(self, rows: Tensor) -> None:
        """A step on a batch."""
        with self._autocast():
            terms = self.model.loss(jitter(self.images[rows], self.length.jitter, self.noise), self.noise)
        self.optimizer.zero_grad()
        terms["loss"].backward()
        self.optimizer.step()
        self._add("train", terms, len(rows))

    @torch.no_grad()
    def validate_on(self, rows: Tensor) -> None:
        """The loss of a batch that is not learnt from."""
        with self._autocast():
            terms = self.kept.loss(self.validation[rows], self.noise)
        self._add("validation", terms, len(rows))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.bf16)

    def _add(self, side: str, terms: dict[str, Tensor], n: int) -> None:
        for name, term in terms.items():
            key = f"{side}_{name}"
            if key not in self.sums:
                self.sums[key] = torch.zeros((), device=self.images.device)
            self.sums[key] += n * term.detach()

    def _take(self, record: Record) -> bool:
        """Count an epoch in; whether it is the best so far."""
        self.records.append(record)
        validation = record[f"validation_{self.model.selected_by}"]
        self.schedule.step(validation)
        if not validation < self.best_loss:
            return False
        self.best_loss, self.best_epoch = validation, int(record["epoch"])
        return True

    def put_down(self, path: Path) -> None:
        """Write, whole, what ``take_up`` needs."""
        with whole_file(path) as temporary:
            write_tensors(temporary, self._tensors(), {"records": json.dumps(self.records)})

    def take_up(self, path: Path) -> None:
        """Go on from where ``put_down`` was: what is not tensors follows from the records."""
        with safe_open(path, framework="pt", device=str(self.images.device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            records = json.loads(file.metadata()["records"])
        for part, network in self._networks().items():
            network.load_state_dict(_below(tensors, part))
        state = self.optimizer.state_dict()
        parameters = list(self.model.parameters())
        for name, value in _below(tensors, "adam").items():
            index, key = name.split(".")
            # Fused Adam goes through memory in its order, which is to be the weights'.
            alike = torch.empty_like(parameters[int(index)]).copy_(value) if value.ndim else value
            state["state"].setdefault(int(index), {})[key] = alike
        self.optimizer.load_state_dict(state)
        self.best = _below(tensors, "best")
        for record in records:
            self._take(record)
        self.n_steps = len(records) * n_batches(len(self.images), self.settings.batch_size)

    def _tensors(self) -> dict[str, Tensor]:
        moments = self.optimizer.state_dict()["state"]
        return {
            **{f"{part}.{name}": value for part, network in self._networks().items() for name, value in network.state_dict().items()},
            **{f"adam.{index}.{key}": value for index, state in moments.items() for key, value in state.items()},
            **{f"best.{name}": value for name, value in self.best.items()},
        }

    def _networks(self) -> dict[str, Autoencoder]:
        return {"model": self.model} if self.kept is self.model else {"model": self.model, "kept": self.kept}


def _below(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """Those whose names begin with ``part``, by the rest of their names."""
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


@torch.no_grad()
def _average(kept: list[Tensor], last: list[Tensor], decay: float) -> None:
    """Move what is averaged towards the last step's."""
    torch._foreach_lerp_(kept, last, 1 - decay)


def _averaged(model: Autoencoder) -> list[Tensor]:
    """The parameters and the statistics of the batch norms.

    Other buffers hold what a model makes of its images before an epoch, or the vectors of spectral norms, and have no mean.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    statistics = [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]
    return [*model.parameters(), *statistics]


@torch.no_grad()
def _follow_norms(model: Autoencoder) -> None:
    """Find the spectral norms of averaged weights, which no step has gone through: else those of the first, random ones would stay."""
    for weight in model.modules():
        for norm in weight if isinstance(weight, ParametrizationList) else []:
            if isinstance(norm, _SpectralNorm):
                norm.train()
                for _ in range(ITERATIONS):
                    norm(weight.original)

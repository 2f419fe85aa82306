"""Steps of training per second, in the engine and in the plain loop, of the same models.

Run as ``python benchmarks/training.py``. One thread; times are CPU seconds of this process, the median of interleaved repeats, so that
another job on the machine disturbs all candidates alike.
"""

import argparse
import copy
import math
import os
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: what its linear algebra makes of it is read once

import torch
from measuring import Row, command_of, cpu_medians, publish, table
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tinycohort.augment.autoencoders import AUTOENCODERS, Autoencoder, base, build_autoencoder
from tinycohort.augment.fitting.training import TrainingSettings, train
from tinycohort.augment.networks import ARCHITECTURES, Architecture, paper, scaled
from tinycohort.datasets.common.compute import computes_in_bf16, hardware, laid_out

COMPARED = ("vae", "rhvae", "vamp", "vae-iaf")  # of which those are timed that there are
VALIDATION_SHARE = 6  # Appendix D: 10,000 images of MNIST's 60,000
Sides = tuple[Tensor, Tensor]


def made_sides(n: int, shape: tuple[int, ...]) -> Sides:
    """Noise: what is in an image does not change the time."""
    generator = torch.Generator().manual_seed(0)
    train_images, validation = (torch.rand((size, 1, *shape), generator=generator) for size in (n, math.ceil(n / VALIDATION_SHARE)))
    return train_images, validation


def plain(model: Autoencoder, sides: Sides, epochs: int, batch_size: int) -> None:
    """The loop of a tutorial: a loader of single images, float32, torch's own memory layout; the model is of torch's own layers."""
    loaders = [
        DataLoader(TensorDataset(side), batch_size=batch_size, shuffle=shuffle) for side, shuffle in zip(sides, (True, False), strict=True)
    ]
    noise = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    best, kept = math.inf, model.state_dict()
    for _ in range(epochs):
        model.train()
        model.before_epoch(sides[0], noise)
        for (images,) in loaders[0]:
            loss = model.loss(images, noise)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            validation = sum(float(model.loss(images, noise)[model.selected_by]) * len(images) for (images,) in loaders[1])
        if validation < best:
            best, kept = validation, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)


def ours(model: Autoencoder, sides: Sides, epochs: int, batch_size: int, precision: str = "auto") -> None:
    """The engine; without jitter, which the plain loop does not have."""
    settings = TrainingSettings(epochs=epochs, batch_size=batch_size, jitter=0, precision=precision, device="cpu")  # type: ignore[arg-type]
    train(model, *sides, settings, seed=0)


def built(name: str, architecture: Architecture, *, even: bool = False, twice: bool = False) -> Autoencoder:
    """Always of the same weights; of torch's own layers but for even outputs and batch norms that are made for a second derivative."""
    torch.manual_seed(0)
    with ExitStack() as stack:
        if not even:
            for module in (paper, scaled):
                stack.enter_context(patch.object(module, "with_even_outputs", lambda layer: layer))
        if not twice:
            stack.enter_context(patch.object(base, "twice_differentiable", lambda network: network))
        return build_autoencoder(name, architecture)


def trainings(names: list[str], architecture: Architecture, sides: Sides, epochs: int, batch_size: int, repeats: int) -> list[Row]:
    """Table of steps per second; in the time of a step is its share of validation and of everything else that training does."""
    rows: list[Row] = [("model", "plain (steps/s)", "ours (steps/s)", "ours, float32 (steps/s)", "ours / plain")]
    candidates = {"plain": plain, "ours": ours, "float32": lambda m, s, e, b: ours(m, s, e, b, "fp32")}
    few = (sides[0][:batch_size], sides[1][:batch_size])
    for name in names:
        models = {key: built(name, architecture, even=key != "plain", twice=key != "plain") for key in candidates}
        for key, candidate in candidates.items():
            candidate(copy.deepcopy(models[key]), few, 1, batch_size)
        tasks = {key: lambda c=c, m=models[key]: c(copy.deepcopy(m), sides, epochs, batch_size) for key, c in candidates.items()}
        seconds = cpu_medians(tasks, repeats)
        n_steps = epochs * math.ceil(len(sides[0]) / batch_size)
        rates = [f"{n_steps / seconds[key]:.2f}" for key in candidates]
        rows.append((f"`{name}`", *rates, f"{seconds['plain'] / seconds['ours']:.2f}"))
    return rows


class Step:
    """One step of training on one batch, in its parts."""

    def __init__(self, model: Autoencoder, images: Tensor, *, channels_last: bool, bf16: bool, fused: bool):
        layout = (torch.channels_last if images.ndim == 4 else torch.channels_last_3d) if channels_last else torch.contiguous_format
        self.model, self.images, self.bf16 = laid_out(copy.deepcopy(model).train(), layout), images, bf16
        self.noise = torch.Generator().manual_seed(0)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=fused or None)

    def timed(self) -> dict[str, float]:
        """CPU seconds of the parts."""
        marks = [time.process_time()]
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.model.loss(self.images, self.noise)["loss"]
        marks.append(time.process_time())
        loss.backward()
        marks.append(time.process_time())
        self.optimizer.step()
        marks.append(time.process_time())
        parts = ("forward", "backward", "Adam")
        return {part: end - start for part, start, end in zip(parts, marks, marks[1:], strict=False)}


def steps(name: str, architecture: Architecture, images: Tensor, repeats: int) -> list[Row]:
    """Table of one step, by what was changed one after another, and by its parts."""
    plain, even = built(name, architecture), built(name, architecture, even=True)
    variants = {
        "float32, plain layout": Step(plain, images, channels_last=False, bf16=False, fused=False),
        "and channels last": Step(plain, images, channels_last=True, bf16=False, fused=False),
        "and bf16": Step(plain, images, channels_last=True, bf16=True, fused=False),
        "and even outputs": Step(even, images, channels_last=True, bf16=True, fused=False),
        "and a fused Adam": Step(even, images, channels_last=True, bf16=True, fused=True),
        "bf16 alone": Step(plain, images, channels_last=False, bf16=True, fused=False),
        "even outputs alone": Step(even, images, channels_last=False, bf16=False, fused=False),
    }
    if plain.differentiates_twice:
        twice = built(name, architecture, even=True, twice=True)
        variants["all of it, and own batch norms"] = Step(twice, images, channels_last=True, bf16=True, fused=True)
    for step in variants.values():
        step.timed()
    found: dict[str, list[dict[str, float]]] = {key: [] for key in variants}
    for _ in range(repeats):
        for key, step in variants.items():
            found[key].append(step.timed())
    rows: list[Row] = [("step", "forward (CPU ms)", "backward", "Adam", "all")]
    for key, times in found.items():
        parts = [1e3 * median(each[part] for each in times) for part in times[0]]
        rows.append((key, *(f"{part:.1f}" for part in (*parts, sum(parts)))))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    present = [name for name in COMPARED if name in AUTOENCODERS]
    parser.add_argument("--models", nargs="+", choices=AUTOENCODERS, default=present, help=f"models to train [{' '.join(present)}]")
    parser.add_argument("--arch", choices=ARCHITECTURES, default="conv", help="of the networks [%(default)s]")
    parser.add_argument("--channels", type=int, help="of the first convolution [32 for conv, the architecture's own for another]")
    parser.add_argument("--shape", type=int, nargs="+", default=[32, 32], help="of the images: MNIST's, padded [32 32]")
    parser.add_argument("--batch-size", type=int, default=100, help="images a step: Appendix D's [%(default)s]")
    parser.add_argument("--n", type=int, default=2000, help="images of an epoch; a sixth as many are validated on [%(default)s]")
    parser.add_argument("--epochs", type=int, default=2, help="of a training [%(default)s]")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats, of which the median is taken [%(default)s]")
    parser.add_argument("--out", type=Path, help="write the tables into this Markdown file as well")
    given = parser.parse_args()
    command = command_of(parser, given, __file__)
    torch.set_num_threads(1)
    channels = given.channels or (32 if given.arch == "conv" else None)
    architecture = Architecture(given.arch, tuple(given.shape), **({} if channels is None else {"channels": channels}))
    sides = made_sides(given.n, architecture.shape)
    size = " x ".join(map(str, architecture.shape))
    text = "\n\n".join(
        (
            "# Benchmarks: training a model",
            f"Made by `{command}` on one thread of a processor that names itself {hardware()} "
            f"({'with' if computes_in_bf16(torch.device('cpu')) else 'without'} bf16 instructions), with torch {torch.__version__}. "
            f"Times are CPU time, medians of {given.repeats} interleaved repeats, beside other jobs.",
            "## Steps per second",
            f"Whole trainings of {given.epochs} epochs on {given.n:,} images of {size}, {given.batch_size} a step, validated on a sixth as "
            f"many after each; architecture {given.arch}. *plain*: a loader of single images, float32, torch's own layers and layout.",
            table(trainings(given.models, architecture, sides, given.epochs, given.batch_size, given.repeats)),
            "## One step",
            f"On {given.batch_size} images. Each line keeps what the lines above it changed, unless it says otherwise. Even outputs: "
            "`augment/networks/transposed.py`; own batch norms, where a loss holds a gradient: `augment/networks/normalisation.py`.",
            *(
                f"### `{name}`\n\n{table(steps(name, architecture, sides[0][: given.batch_size], given.repeats))}"
                for name in given.models
                if name == given.models[0] or AUTOENCODERS[name].differentiates_twice
            ),
        )
    )
    publish(text, given.out)


if __name__ == "__main__":
    main()

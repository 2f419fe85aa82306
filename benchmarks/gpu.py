"""What a GPU is used for, and how well: steps of training per second, and chains, beside what anybody would write.

    python benchmarks/gpu.py --out tables.md        # on a card
    python benchmarks/gpu.py --device cpu --quick   # does it run at all, where there is none

*plain*: the loop of a tutorial, a loader of single images, in float32 and in TF32. *step by step*: our training without CUDA graphs.
Each network is trained once before it is timed. A table is written as soon as it is there: whoever has a card for minutes keeps what was
measured, and reads in the place of a table that failed why, and below one whose steps could not be recorded what torch said.
"""

import argparse
import copy
import math
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from measuring import Row, command_of, table
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.utils.data import DataLoader, TensorDataset

from tinycohort.augment.autoencoders import Autoencoder, build_autoencoder
from tinycohort.augment.fitting import training
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings, train
from tinycohort.augment.geometry.metric import RiemannianMetric
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.augment.release.patches import PeoplesPatches
from tinycohort.augment.samplers.riemannian import Riemannian
from tinycohort.classifiers import loop
from tinycohort.classifiers.network import CNN
from tinycohort.classifiers.training import ClassifierSettings, train_classifier
from tinycohort.datasets.common.compute import choose_device, computing_with, hardware
from tinycohort.datasets.common.graphs import Step, adam_of, replayed
from tinycohort.experiments.audit.poses import posed_distances


@dataclass(frozen=True)
class Case:
    """A network and how it is trained."""

    name: str
    architecture: Architecture
    batch_size: int
    n: int
    epochs: int
    target: str


CASES = (
    Case("MNIST's, 32 x 32, batch 100", Architecture("paper-mnist", (32, 32)), 100, 4000, 4, "2 x TF32"),
    Case("the default, 80 x 96, batch 16", FitSettings().architecture((80, 96)), 16, 160, 60, "4 x float32"),
    Case("conv, 80 x 96, batch 16", Architecture("conv", (80, 96)), 16, 160, 40, "4 x float32"),
    Case("OASIS's, 208 x 176, batch 100", Architecture("paper-oasis", (208, 176)), 100, 200, 60, "2.5 x TF32"),
)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """By the clock, until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@contextmanager
def products_in(*, tf32: bool) -> Iterator[None]:
    """Products and convolutions of float32 in TF32, or in all of its digits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def noise(n: int, shape: tuple[int, ...]) -> Tensor:
    """What is in an image does not change the time."""
    return torch.rand((n, 1, *shape), generator=torch.Generator().manual_seed(0))


def plain(model: Autoencoder, images: Tensor, epochs: int, batch_size: int, device: torch.device, *, tf32: bool) -> None:
    """Train as a tutorial does."""
    model.to(device).train()
    generator = torch.Generator(device).manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with products_in(tf32=tf32):
        for _ in range(epochs):
            for (batch,) in DataLoader(TensorDataset(images), batch_size=batch_size, shuffle=True):
                loss = model.loss(batch.to(device), generator)["loss"]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def trainings(device: torch.device, quick: bool) -> list[Row]:
    """Steps a second of whole trainings of generators, validation and all else included in ours."""
    rows: list[Row] = [
        ("network", "plain, float32", "plain, TF32", "step by step", "ours, no jitter", "ours", "ours / float32", "ours / TF32", "target")
    ]
    name = "cpu" if device.type == "cpu" else "gpu"
    for case in CASES:
        torch.manual_seed(0)
        size = 4 if quick else case.batch_size
        n, epochs = (8, 4) if quick else (case.n, case.epochs)  # more than the steps before one is recorded
        model, images = build_autoencoder("vae", case.architecture), noise(n, case.architecture.shape)
        held_out = noise(max(2, n // 6), case.architecture.shape)

        def ours(n_epochs: int, jitter: float, model=model, images=images, held_out=held_out, size=size) -> None:
            settings = TrainingSettings(epochs=n_epochs, batch_size=size, jitter=jitter, average=0.98, even=True, device=name)  # type: ignore[arg-type]
            train(copy.deepcopy(model), images, held_out, settings, seed=0)

        def by_step(n_epochs: int, ours=ours) -> None:
            with patch.object(training, "replayed", lambda step, *_: step):
                ours(n_epochs, 1.0)

        def tutorial(n_epochs: int, tf32: bool, model=model, images=images, size=size) -> None:
            plain(copy.deepcopy(model), images, n_epochs, size, device, tf32=tf32)

        candidates: list[Callable[[int], None]] = [
            lambda e, run=tutorial: run(e, False),
            lambda e, run=tutorial: run(e, True),
            by_step,
            lambda e, run=ours: run(e, 0.0),
            lambda e, run=ours: run(e, 1.0),
        ]
        rates = []
        for candidate in candidates:
            candidate(1)
            rates.append(epochs * math.ceil(n / size) / seconds(lambda c=candidate, e=epochs: c(e), device))
        ratios = [f"{rates[-1] / rates[0]:.2f}", f"{rates[-1] / rates[1]:.2f}"]
        rows.append((case.name, *(f"{rate:.1f}" for rate in rates), *ratios, case.target))
    return rows


def classifiers(device: torch.device, quick: bool) -> list[Row]:
    """Steps a second of Table 5's CNN."""
    rows: list[Row] = [("classifier", "plain, TF32", "step by step", "ours", "ours / TF32")]
    name = "cpu" if device.type == "cpu" else "gpu"
    for shape, most in (((80, 96), 32), ((208, 176), 200)):
        size, n_steps = (4, 6) if quick else (most, 300)
        images, labels = noise(2 * size, shape), torch.arange(2 * size) % 2
        settings = ClassifierSettings(steps=n_steps, batch_size=size, device=name)  # type: ignore[arg-type]

        def ours(images=images, labels=labels, settings=settings) -> None:
            train_classifier(images, labels, None, settings, n_classes=2, seed=0)

        def by_step(ours=ours) -> None:
            with patch.object(loop, "replayed", lambda step, *_: step):
                ours()

        def tutorial(images=images, labels=labels, shape=shape, size=size, n_steps=n_steps) -> None:
            network: nn.Module = CNN(shape, 2).to(device)
            optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
            done = 0
            with products_in(tf32=True):
                while done < n_steps:
                    for batch, truth in DataLoader(TensorDataset(images, labels), batch_size=size, shuffle=True):
                        loss = F.cross_entropy(network(batch.to(device)), truth.to(device))
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                        done += 1

        rates = []
        for candidate in (tutorial, by_step, ours):
            candidate()
            rates.append(n_steps / seconds(candidate, device))
        title = f"Table 5's, {' x '.join(map(str, shape))}, batch {size}"
        rows.append((title, *(f"{rate:.1f}" for rate in rates), f"{rates[-1] / rates[0]:.2f}"))
    return rows


def stepping(parameters: Iterable[Tensor], loss: Callable[[], Tensor], device: torch.device) -> Step:
    """A step of Adam on a loss, replayed where it can be."""
    optimizer = adam_of(parameters, 1e-4, device)

    def take() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return replayed(take, device)


def at_once(device: torch.device, quick: bool) -> list[Row]:
    """Steps a second of so many networks, each by itself, and all of them as one: would a study train its runs together?

    As one they learn what they learn by themselves: how far their logits are apart after a few steps stands beside it.
    """
    rows: list[Row] = [("networks of Table 5, 80 x 96, batch 32", "one by one", "as one", "ratio", "logits apart by")]
    size, n_steps, counts = (4, 2, (1, 2)) if quick else (32, 200, (1, 4, 16))
    for count in counts:
        torch.manual_seed(0)
        networks = [CNN((80, 96), 2).to(device).train() for _ in range(count)]
        images = torch.rand((count, size, 1, 80, 96), device=device)
        labels = (torch.arange(size, device=device) % 2).expand(count, size).contiguous()
        parameters, buffers = stack_module_state(copy.deepcopy(networks))  # type: ignore[arg-type]
        network = copy.deepcopy(networks[0])

        def of_each(networks=networks, images=images) -> Tensor:
            return torch.stack([net(own) for net, own in zip(networks, images, strict=True)])

        def of_all(network=network, parameters=parameters, buffers=buffers, images=images) -> Tensor:
            return torch.vmap(lambda *state: functional_call(network, state[:2], (state[2],)))(parameters, buffers, images)

        each = [
            stepping(net.parameters(), lambda net=net, x=x, y=y: F.cross_entropy(net(x), y), device)
            for net, x, y in zip(networks, images, labels, strict=True)
        ]
        # The mean of each network's loss, summed: Adam goes weight by weight, so it does to each what it does by itself.
        every = stepping(
            parameters.values(), lambda of=of_all, y=labels, n=count: n * F.cross_entropy(of().flatten(0, 1), y.flatten()), device
        )
        candidates: list[Callable[[], object]] = [lambda each=each: [take() for take in each], every]
        for candidate in candidates:
            for _ in range(5):  # recorded before it is timed
                candidate()
        with torch.no_grad(), products_in(tf32=False):
            apart = float((of_each() - of_all()).abs().max())
        one, all_ = (count * n_steps / seconds(lambda c=candidate, n=n_steps: [c() for _ in range(n)], device) for candidate in candidates)
        rows.append((str(count), f"{one:.1f}", f"{all_:.1f}", f"{all_ / one:.2f}", f"{apart:.1e}"))
    return rows


def chains(device: torch.device, quick: bool) -> list[Row]:
    """Seconds of Algorithm 2's chains: 2,000 latents, 1,000 centroids, 100 transitions of 10 leapfrogs."""
    n, k, iterations = (20, 10, 2) if quick else (2000, 1000, 100)
    generator = torch.Generator().manual_seed(0)
    posterior = Posterior(torch.randn((k, 16), generator=generator), torch.full((k, 16), -2.0))
    metric = RiemannianMetric.from_posterior(posterior, n_centroids=k, selection="first")

    def draw(where: torch.device) -> None:
        Riemannian(metric.to(where), n_iterations=iterations).sample(n, torch.Generator().manual_seed(0))

    with computing_with(1):
        few = seconds(lambda: draw(torch.device("cpu")), torch.device("cpu"))
    draw(device)
    there = seconds(lambda: draw(device), device)
    return [
        ("chains", "one core (s)", "device (s)", "ratio", "target"),
        (f"{n:,} of {k:,}", f"{few:.1f}", f"{there:.2f}", f"{few / there:.1f}", "20"),
    ]


def comparisons(device: torch.device, quick: bool) -> list[Row]:
    """Seconds of the audit's distances in the best pose, and of its search for patches, between images of 80 x 96."""
    n = 8 if quick else 300
    some, others = noise(n, (80, 96))[:, 0].numpy(), noise(2 * n, (80, 96))[n:, 0].numpy()
    people = np.array([f"p{i}" for i in range(n)])
    work: dict[str, Callable[[torch.device], object]] = {
        "distances in the best pose": lambda place: posed_distances(some, others, place),
        "search for patches": lambda place: PeoplesPatches(others, people, place).search(some),
    }
    rows: list[Row] = [(f"{n} images with as many", "one core (s)", "device (s)", "ratio")]
    for name, compare in work.items():
        with computing_with(1):
            few = seconds(lambda compare=compare: compare(torch.device("cpu")), torch.device("cpu"))
        compare(device)
        there = seconds(lambda compare=compare: compare(device), device)
        rows.append((name, f"{few:.1f}", f"{there:.2f}", f"{few / there:.1f}"))
    return rows


def told(measure: Callable[[torch.device, bool], list[Row]], device: torch.device, quick: bool) -> str:
    """A table, with what was warned of below it, or why there is none: what comes after it is measured all the same."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            text = table(measure(device, quick))
        except Exception:
            text = f"```\n{traceback.format_exc()}```"
    said = dict.fromkeys(str(warning.message).splitlines()[0] for warning in warned)
    return "\n".join([text, *(f"\n*{line}*" for line in said)])


def main() -> None:
    # Torch asks for it once, at the first product, which is the tutorial's here.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="what is measured [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="a step or two of everything")
    parser.add_argument("--out", type=Path, help="write the tables into this Markdown file as well")
    given = parser.parse_args()
    device = choose_device(given.device)
    text = (
        f"# Benchmarks: a GPU\n\nMade by `{command_of(parser, given, __file__)}` on {hardware()}, with torch {torch.__version__}; by the "
        "clock. Steps a second of whole trainings, of ours with jitter and validation; what it is to reach stands beside it."
    )
    for title, measure in (
        ("Generators", trainings),
        ("Classifiers", classifiers),
        ("Many at once", at_once),
        ("Chains", chains),
        ("Comparisons", comparisons),
    ):
        text += f"\n\n## {title}\n\n{told(measure, device, given.quick)}"
        if given.out:
            given.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    if "Traceback (most recent call last)" in text:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

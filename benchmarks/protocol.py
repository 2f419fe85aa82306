"""What a run of the repeated-run protocol costs, one classifier trained and tested, against the plain loop.

Run as ``python benchmarks/protocol.py``. One thread; times are CPU seconds of this process, the median of interleaved repeats, so that
another job on the machine disturbs all candidates alike.

Several runs were to be trained together as one network, if that pays. On a CPU it does not: the table of steps has K independent replicas
in grouped convolutions (what ``torch.func.vmap`` over stacked weights turns convolutions into); two cost more than two networks (153 ms
each against 132), and of four or eight each costs still more (192, 269). There is little to share: of a run on 250 images all that is not
a step takes a twentieth. So there is no such form here. ``torch.compile`` does not pay either: its step takes twice as long.
"""

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: what its linear algebra makes of it is read once

import torch
import torch.nn.functional as F
from measuring import Row, command_of, cpu_medians, publish, table
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

from tinycohort.classifiers.augmentation import CHANGES
from tinycohort.classifiers.loop import Augmentation
from tinycohort.classifiers.network import CNN, NetworkBuilder
from tinycohort.classifiers.networks import NETWORKS
from tinycohort.classifiers.training import ClassifierSettings, predict_probabilities, train_classifier
from tinycohort.datasets.common.compute import computes_in_bf16, hardware

SHAPE = (80, 96)
N_VALIDATION, N_TEST = 28, 62
EPOCHS = 50  # Appendix D
BATCH = 200  # Appendix D
FEW, FEW_BATCH, STEPS = 120, 64, 400  # of a training of fixed length: images, a batch at most, and steps
Sides = dict[str, tuple[Tensor, Tensor]]


def made_sides(n: int) -> Sides:
    """Noise and labels: what is in an image does not change the time."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"train": n, "validation": N_VALIDATION, "test": N_TEST}
    return {name: (torch.rand((size, 1, *SHAPE), generator=generator), torch.arange(size) % 2) for name, size in sizes.items()}


def table_5(replicas: int = 1, *, pooling_first: bool = False) -> nn.Module:
    """The network as a list of layers in Table 5's order, or with the pooling first; replicas side by side as groups of channels."""
    layers: list[nn.Module] = []
    channels = 1
    for block, (width, stride) in enumerate(((8, 1), (16, 1), (32, 2), (64, 2))):
        layers += [nn.Conv2d(channels * replicas, width * replicas, 3, stride, 1, groups=replicas), nn.BatchNorm2d(width * replicas)]
        pooling, activation = nn.AdaptiveMaxPool2d(2) if block == 3 else nn.MaxPool2d(2), nn.LeakyReLU()
        layers += [pooling, activation] if pooling_first else [activation, pooling]
        channels = width
    # The heads of the replicas are one matrix product each, too small to matter: one head of all stands for them.
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * replicas, 100), nn.ReLU(), nn.Linear(100, 2))


class OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """Images handed out one at a time."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


def plain(sides: Sides, epochs: int) -> None:
    """The loop of a tutorial: a loader of single images, float32, Table 5 layer by layer."""
    torch.manual_seed(0)
    loaders = {name: DataLoader(OneByOne(*side), batch_size=BATCH, shuffle=name == "train") for name, side in sides.items()}
    network = table_5()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=5)
    best, kept = -math.inf, network.state_dict()
    for _ in range(epochs):
        network.train()
        for images, labels in loaders["train"]:
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        logits, truth = predicted(network, loaders["validation"])
        schedule.step(F.cross_entropy(logits, truth))
        hits = logits.argmax(dim=1) == truth
        balanced = sum(float(hits[truth == label].float().mean()) for label in (0, 1)) / 2
        if balanced > best:
            best, kept = balanced, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(kept)
    predicted(network, loaders["test"])


def predicted(network: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Logits and labels of all that a loader has."""
    network.eval()
    with torch.no_grad():
        pairs = [(network(images), labels) for images, labels in loader]
    logits, labels = zip(*pairs, strict=True)
    return torch.cat(logits), torch.cat(labels)


def ours(sides: Sides, epochs: int, precision: str = "auto") -> None:
    """A run of ours."""
    settings = ClassifierSettings(epochs=epochs, precision=precision, device="cpu")  # type: ignore[arg-type]
    trained = train_classifier(*sides["train"], sides["validation"], settings, n_classes=2, seed=0)
    predict_probabilities(trained.network, sides["test"][0])


def by_hand(sides: Sides, epochs: int) -> None:
    """The steps of ours with nothing about them: what is less than ours is the bookkeeping's."""
    network = CNN(SHAPE, 2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    images, labels = sides["train"]
    size = math.ceil(len(images) / math.ceil(len(images) / BATCH))
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(size):
            with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bf16(torch.device("cpu"))):
                loss = F.cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        predict_probabilities(network, sides["validation"][0])


def step(network: nn.Module, images: Tensor, bf16: bool) -> Callable[[], object]:
    """One step of training on a batch."""
    labels = torch.arange(len(images)) % 2
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def one() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return one


def runs(sizes: list[tuple[int, int]], repeats: int) -> list[Row]:
    """Table of whole runs, scaled to the paper's epochs."""
    rows: list[Row] = [("training images", "epochs timed", "plain (s)", "ours (s)", "ours, float32 (s)", "steps alone (s)", "plain / ours")]
    for n, epochs in sizes:
        sides = made_sides(n)
        candidates = {"plain": plain, "ours": ours, "float32": lambda s, e: ours(s, e, "fp32"), "hand": by_hand}
        for candidate in candidates.values():
            candidate({name: (images[:32], labels[:32]) for name, (images, labels) in sides.items()}, 1)
        seconds = cpu_medians({name: lambda c=c, s=sides, e=epochs: c(s, e) for name, c in candidates.items()}, repeats)
        times = [f"{seconds[name] * EPOCHS / epochs:.1f}" for name in candidates]
        rows.append((f"{n:,}", str(epochs), *times, f"{seconds['plain'] / seconds['ours']:.1f}"))
    return rows


def fixed_length(timed: int, repeats: int) -> list[Row]:
    """Table of trainings of fixed length by network and change of the training images; of DenseNet-121 a tenth of the steps is timed."""
    images, labels = made_sides(FEW)["train"]
    rows: list[Row] = [("network", "steps timed", *(f"{name} (ms a step)" for name in ("no change", *CHANGES)), f"{STEPS} steps (s)")]
    for name, builder in NETWORKS.items():
        n = max(1, timed // 10) if name == "densenet121" else timed
        settings = ClassifierSettings(steps=n, batch_size=FEW_BATCH, device="cpu")

        def train(change: Augmentation | None, settings: ClassifierSettings = settings, builder: NetworkBuilder = builder) -> None:
            train_classifier(images, labels, None, settings, n_classes=2, seed=0, augmentation=change, network=builder)

        candidates = {"no change": None} | CHANGES
        train(None)
        seconds = cpu_medians({title: lambda c=change, t=train: t(c) for title, change in candidates.items()}, repeats)
        times = [f"{1e3 * value / n:.0f}" for value in seconds.values()]
        rows.append((f"`{name}`", str(n), *times, f"{seconds['no change'] * STEPS / n:.0f}"))
    return rows


def steps(repeats: int, compiled: bool) -> list[Row]:
    """Table of one step, by what was changed one after another, and by replicas."""
    images = torch.rand((BATCH, 1, *SHAPE), generator=torch.Generator().manual_seed(0))
    last = {"memory_format": torch.channels_last}
    tasks: dict[str, Callable[[], object]] = {
        "float32, Table 5's order": step(table_5(), images, False),
        "and channels last": step(table_5().to(**last), images, False),
        "and pooling before the leaky ReLU": step(table_5(pooling_first=True).to(**last), images, False),
        "and bf16": step(table_5(pooling_first=True).to(**last), images, True),
    }
    for replicas in (2, 4, 8):
        network = table_5(replicas, pooling_first=True).to(**last)
        batch = images.expand(-1, replicas, -1, -1).contiguous(memory_format=torch.channels_last)
        tasks[f"{replicas} replicas in groups, bf16, each"] = step(network, batch, True)
    if compiled:
        network = table_5(pooling_first=True).to(**last)
        tasks["torch.compile, bf16"] = step(torch.compile(network), images, True)  # type: ignore[arg-type]
    for task in tasks.values():
        task(), task()
    seconds = cpu_medians(tasks, repeats)
    shares = {name: int(name.split()[0]) if "replicas" in name else 1 for name in tasks}
    return [("step", "CPU ms"), *((name, f"{1e3 * value / shares[name]:.0f}") for name, value in seconds.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats, of which the median is taken [%(default)s]")
    parser.add_argument("--epochs", type=int, default=10, help="timed of a run on 250 images; on 4,000 a fifth of them [%(default)s]")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too (needs a C++ compiler)")
    parser.add_argument("--out", type=Path, help="write the tables into this Markdown file as well")
    given = parser.parse_args()
    command = command_of(parser, given, __file__)
    torch.set_num_threads(1)
    text = "\n\n".join(
        (
            "# Benchmarks: one run of the repeated-run protocol",
            f"Made by `{command}` on one thread of a processor that names itself {hardware()} "
            f"({'with' if computes_in_bf16(torch.device('cpu')) else 'without'} bf16 instructions), with torch {torch.__version__}. "
            f"Times are CPU time, medians of {given.repeats} interleaved repeats, beside other jobs.",
            "## One run",
            f"One classifier of {SHAPE[0]} x {SHAPE[1]} images trained for {EPOCHS} epochs, validated on {N_VALIDATION} images after "
            f"each, and tested on {N_TEST}; the time of the epochs that were timed, scaled. *plain*: a loader of single images, float32, "
            "Table 5 layer by layer. *steps alone*: ours without scores and history.",
            table(runs([(250, given.epochs), (4000, max(1, given.epochs // 5))], given.repeats)),
            f"## Trainings of fixed length on {FEW} images",
            f"{SHAPE[0]} x {SHAPE[1]}, batches of {FEW // math.ceil(FEW / FEW_BATCH)}, AdamW and a moving average of the weights, in the "
            "precision that is chosen here; the last column is scaled.",
            table(fixed_length(2 * given.epochs, given.repeats)),
            f"## One step of {BATCH} images",
            "Each line keeps what the lines above it changed. Replicas are independent networks in one, as groups of channels; their "
            "time is divided by their number: it would have to be below that of one network to pay.",
            table(steps(4 * given.repeats, given.compile)),
        )
    )
    publish(text, given.out)


if __name__ == "__main__":
    main()

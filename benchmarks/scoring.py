"""Where the time of many samples goes, from latents to scores, and what memory it takes.

Run as ``python benchmarks/scoring.py``. One thread; times are CPU seconds of this process. Networks are untrained and posteriors made up:
what they have learnt does not change the time.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: what its linear algebra makes of it is read once

import numpy as np
import torch
from measuring import Row, command_of, cpu_seconds, in_own_process, publish, resident, table
from torch import Tensor

from tinycohort.augment.autoencoders import build_autoencoder
from tinycohort.augment.fitting.model import decode
from tinycohort.augment.geometry.metric import RiemannianMetric, largest_nearest_distance
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.augment.samplers.latents import Latents
from tinycohort.augment.samplers.registry import fit_sampler
from tinycohort.classifiers.network import CNN
from tinycohort.datasets.common.compute import hardware
from tinycohort.experiments.fidelity.features import Extractor, Passport, classifier_extractor, features_of
from tinycohort.experiments.fidelity.inception import InceptionV3, fold_norms
from tinycohort.experiments.fidelity.scores import Sample, score_against
from tinycohort.experiments.fidelity_study.data import CHUNK

SAMPLERS = ("gmm", "posterior", "riemannian", "riemannian-paper")
LABEL = "images"
CENTROIDS = 1000  # the default's, of as many training images
MNIST = Architecture("conv", (28, 28), latent_dim=16)
CELEBA = Architecture("paper-celeba", (64, 64), latent_dim=64)
PAPER = 5.5 / 4  # Sec. 5.1: minutes for 1,000 CELEBA samples, Riemannian and mixture, on a V100


def made_latents(architecture: Architecture) -> Latents:
    """A network as it starts, and posteriors whose means and widths are of the scale of real ones."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    means = 0.5 * torch.randn((CENTROIDS, architecture.latent_dim), generator=generator)
    log_var = 2 * (0.2 * torch.randn(means.shape, generator=generator) - 2.5)
    metric = RiemannianMetric(means, torch.exp(-log_var), rho=largest_nearest_distance(means), lam=0.01)
    return Latents(means, build_autoencoder("vae", architecture).eval(), Posterior(means, log_var), metric)


def made_extractors(shape: tuple[int, ...]) -> dict[str, Extractor]:
    """Those of the studies, with the weights that they start with."""
    torch.manual_seed(1)
    inception = InceptionV3(768).eval()
    fold_norms(inception)
    inception.to(memory_format=torch.channels_last)
    return {
        "cohort": classifier_extractor(CNN(shape, 2).eval()),
        "inception-768": Extractor(Passport("inception-768, untrained", "none", "none", "none", dimension=768), inception),
    }


def drawn(latents: Latents, sampler: str, n: int) -> Tensor:
    """New latents ``(n, D)``."""
    return fit_sampler(sampler, latents, seed=0).sample(n, torch.Generator().manual_seed(2))[0]


def streamed(latents: Latents, z: Tensor) -> Iterator[Tensor]:
    """Images, some at a time, as the studies decode them."""
    for part in z.split(CHUNK):
        yield decode(latents.autoencoder, part)


def stages(n: int, n_inception: int) -> list[Row]:
    """Table of the CPU seconds of each stage for ``n`` images; Inception's features are timed on fewer, and scaled."""
    latents, extractors = made_latents(MNIST), made_extractors(MNIST.shape)
    drawing = {name: cpu_seconds(lambda name=name: drawn(latents, name, n)) for name in SAMPLERS}
    z = drawn(latents, "gmm", n)
    images: list[Tensor] = []
    decoding = cpu_seconds(lambda: images.extend(streamed(latents, z)))
    rows: list[Row] = [("stage", "CPU seconds", "share")]
    times = {"decoding": decoding}
    for name, extractor in extractors.items():
        scale = 1.0 if name == "cohort" else n / n_inception
        few = images if name == "cohort" else [torch.cat(images)[:n_inception]]
        features: list[np.ndarray] = []
        times[f"features: {name}"] = scale * cpu_seconds(lambda f=features, e=extractor, i=few: f.extend(e.features(i)))
        # Scores take as long of any features of this dimension.
        made = np.random.default_rng(3).standard_normal((2, n, extractor.passport.dimension)).astype(np.float32)
        labels = np.full(n, LABEL)
        reference, sample = (Sample(part, extractor.passport, labels) for part in made)
        measures = ("frechet", "kid", "prd")
        times[f"Fréchet distance, KID and PRD of {extractor.passport.dimension} features"] = cpu_seconds(
            lambda r=reference, s=sample, m=measures: score_against(r, s, {LABEL: n}, measures=m, seed=0)
        )
    whole = sum(times.values()) + drawing["riemannian"]
    rows += [
        (f"latents: {name}", f"{seconds:.1f}", f"{seconds / whole:.1%}" if name == "riemannian" else "")
        for name, seconds in drawing.items()
    ]
    return rows + [(name, f"{seconds:.1f}", f"{seconds / whole:.1%}") for name, seconds in times.items()]


def celeba(n: int) -> list[Row]:
    """Table of ``n`` images at CELEBA's size: latents, decoding, and the whole over the mixture's."""
    latents = made_latents(CELEBA)
    drawing, decoding = {}, {}
    for name in SAMPLERS:
        found: list[Tensor] = []
        drawing[name] = cpu_seconds(lambda name=name, f=found: f.append(drawn(latents, name, n)))
        decoding[name] = cpu_seconds(lambda f=found: [None for _ in streamed(latents, f[0])])
    whole = {name: drawing[name] + decoding[name] for name in SAMPLERS}
    rows: list[Row] = [("sampler", "latents (CPU s)", "decoding (CPU s)", "the whole / gmm's")]
    return rows + [(f"`{name}`", f"{drawing[name]:.1f}", f"{decoding[name]:.1f}", f"{whole[name] / whole['gmm']:.2f}") for name in SAMPLERS]


def peak(name: str, n: int) -> tuple[float, float]:
    """MiB before, and at most, of drawing, decoding and looking at ``n`` images, of which only features are kept."""
    torch.set_num_threads(1)
    latents, extractor = made_latents(MNIST), made_extractors(MNIST.shape)[name]
    features_of(extractor, streamed(latents, drawn(latents, "riemannian", 32)))  # what torch sets up at first use
    before = resident("VmRSS")
    features_of(extractor, streamed(latents, drawn(latents, "riemannian", n)))
    return before, resident("VmHWM")


def memory(sizes: list[int], n_inception: int) -> list[Row]:
    """Table of what it takes, each size in a process of its own; Inception looks at few images, and at four times as many."""
    rows: list[Row] = [("features", "images", "MiB before", "MiB at most", "all images at once (MiB)")]
    for name, n in [("cohort", n) for n in sizes] + [("inception-768", n) for n in (n_inception, 4 * n_inception)]:
        before, most = in_own_process(peak, name, n)
        rows.append((name, f"{n:,}", f"{before:.0f}", f"{most:.0f}", f"{n * 4 * np.prod(MNIST.shape) / 2**20:.1f}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="images of MNIST's size [%(default)s]")
    parser.add_argument("--inception", type=int, default=200, help="how many of them Inception looks at, scaled [%(default)s]")
    parser.add_argument("--celeba", type=int, default=1000, help="images of CELEBA's size [%(default)s]")
    parser.add_argument("--out", type=Path, help="write the tables into this Markdown file as well")
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = "\n\n".join(
        (
            "# Benchmarks: from latents to scores",
            f"Made by `{command_of(parser, given, __file__)}` on one thread of a processor that names itself {hardware()}, with torch "
            f"{torch.__version__}. Times are CPU time; networks are untrained, which does not change it.",
            f"## {given.n:,} images of 28 x 28",
            f"k = {CENTROIDS:,} centroids in {MNIST.latent_dim} dimensions. Shares are of a draw by `riemannian`, both extractors; "
            f"Inception's features are timed on {given.inception} images, and scaled.",
            table(stages(given.n, given.inception)),
            "## Memory",
            "Latents, images and features of a draw by `riemannian`, looked at as the studies do, some at a time; of the whole process.",
            table(memory([given.n // 10, given.n], given.inception)),
            f"## {given.celeba:,} images of 64 x 64",
            f"The paper's CELEBA networks on grey images, k = {CENTROIDS:,} in {CELEBA.latent_dim} dimensions. The paper has a ratio "
            f"of {PAPER:.2f} (Sec. 5.1: 5.5 minutes against 4, on a V100; of its own code and settings).",
            table(celeba(given.celeba)),
        )
    )
    publish(text, given.out)


if __name__ == "__main__":
    main()

"""What the matrix-product form of log sqrt det G and its gradient saves, against direct transcriptions of Eq. 17.

Run as ``python benchmarks/sampler.py``. Everything is float32 on one thread; times are CPU seconds of this process, the median of
interleaved repeats, so that another job on the machine disturbs all candidates alike.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: what its linear algebra makes of it is read once

import torch
from measuring import Row, command_of, cpu_medians, in_own_process, publish, resident, table
from torch import Tensor

from tinycohort.augment.geometry.metric import RiemannianMetric, largest_nearest_distance
from tinycohort.augment.samplers.published import RiemannianPaper
from tinycohort.augment.samplers.riemannian import Riemannian
from tinycohort.datasets.common.compute import hardware

DIM = 16  # Table 4
Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]


def made_metric(k: int, sigma: float = 0.08) -> RiemannianMetric:
    """Means of standard deviation 1/2 and posteriors of width ``sigma`` or so: the scale of those of real brain slices."""
    generator = torch.Generator().manual_seed(k)
    centroids = 0.5 * torch.randn((k, DIM), generator=generator)
    std = sigma * torch.exp(0.2 * torch.randn((k, DIM), generator=generator))
    return RiemannianMetric(centroids, std.square().reciprocal(), rho=largest_nearest_distance(centroids), lam=0.01)


def made_latents(metric: RiemannianMetric, n: int) -> Tensor:
    """Latents from the law's local form, N(c, rho^2 / D Sigma): where a chain spends its time."""
    generator = torch.Generator().manual_seed(1)
    index = torch.randint(len(metric.centroids), (n,), generator=generator)
    width = metric.rho * (metric.precisions[index] * DIM).rsqrt()
    return metric.centroids[index] + width * torch.randn((n, DIM), generator=generator)


def by_products(metric: RiemannianMetric) -> Gradient:
    """Ours."""

    def gradient(z: Tensor) -> tuple[Tensor, Tensor]:
        volume = metric.volume(z)
        return volume.log, volume.gradient

    return gradient


def dense(metric: RiemannianMetric, *, contracted: bool) -> Gradient:
    """Eq. 17 as it is printed, with D x D matrices, and autograd; ``contracted`` sums over the centroids without an (n, k, D, D) array."""
    inverse_covariances = torch.diag_embed(metric.precisions)
    background = metric.lam * torch.eye(DIM)

    def gradient(z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_()
        difference = z[:, None] - metric.centroids
        squared = (difference[:, :, None] @ inverse_covariances @ difference[..., None])[..., 0, 0]
        omega = torch.exp(-squared / metric.rho**2)
        if contracted:
            tensor = torch.einsum("nk,kde->nde", omega, inverse_covariances) + background
        else:
            tensor = (inverse_covariances * omega[..., None, None]).sum(dim=1) + background
        log_volume = 0.5 * torch.logdet(tensor)
        return log_volume.detach(), torch.autograd.grad(log_volume.sum(), z)[0]

    return gradient


def by_differences(metric: RiemannianMetric) -> Gradient:
    """The closed-form gradient over the (n, k, D) array of differences."""

    def gradient(z: Tensor) -> tuple[Tensor, Tensor]:
        difference = z[:, None] - metric.centroids
        omega = torch.exp(-torch.einsum("nkd,kd->nk", difference.square(), metric.precisions) / metric.rho**2)
        diagonal = torch.einsum("nk,kd->nd", omega, metric.precisions) + metric.lam
        pull = omega * torch.einsum("nd,kd->nk", diagonal.reciprocal(), metric.precisions)
        slope = -torch.einsum("nk,kd,nkd->nd", pull, metric.precisions, difference) / metric.rho**2
        return 0.5 * diagonal.log().sum(dim=1), slope

    return gradient


def products_alone(n: int, k: int) -> Callable[[], object]:
    """The four matrix products of one evaluation, of the same shapes, and nothing else."""
    generator = torch.Generator().manual_seed(2)
    shapes = (((n, 2 * DIM), (2 * DIM, k)), ((n, k), (k, DIM)), ((n, DIM), (DIM, k)), ((n, k), (k, 2 * DIM)))
    pairs = [tuple(torch.randn(shape, generator=generator) for shape in pair) for pair in shapes]
    return lambda: [a @ b for a, b in pairs]


def gradients(ks: list[int], n: int, repeats: int) -> tuple[list[Row], list[Row]]:
    """Tables of the gradient's time against the transcriptions', and of the rate that it reaches."""
    square = torch.randn((1024, 1024), generator=torch.Generator().manual_seed(3))
    times: list[Row] = [("k", "ours (ms)", "dense", "dense, contracted", "n x k x D", "dense / ours", "contr. / ours", "n x k x D / ours")]
    rates: list[Row] = [("k", "ours (GFLOP/s)", "its products alone", "1024^3 product")]
    for k in ks:
        metric = made_metric(k)
        z = made_latents(metric, n)
        candidates = {
            "ours": by_products(metric),
            "dense": dense(metric, contracted=False),
            "contracted": dense(metric, contracted=True),
            "differences": by_differences(metric),
        }
        exact = by_products(metric.to(torch.float64))(z.double())
        for name, candidate in candidates.items():
            found = candidate(z)
            error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True))
            if error > 1e-3:
                raise SystemExit(f"{name} is wrong by {error:.1g} at k = {k}: the times would mean nothing.")
        tasks: dict[str, Callable[[], object]] = {name: lambda f=f, z=z: f(z) for name, f in candidates.items()}
        tasks |= {"products": products_alone(n, k), "square": lambda: square @ square}
        seconds = cpu_medians(tasks, repeats, at_least=0.02)
        ours = seconds["ours"]
        others = [seconds[name] for name in ("dense", "contracted", "differences")]
        times.append((str(k), f"{1e3 * ours:.2f}", *(f"{1e3 * s:.1f}" for s in others), *(f"{s / ours:.0f}" for s in others)))
        operations = 12 * n * k * DIM
        rates.append(
            (
                str(k),
                f"{operations / ours / 1e9:.0f}",
                f"{operations / seconds['products'] / 1e9:.0f}",
                f"{2 * 1024**3 / seconds['square'] / 1e9:.0f}",
            )
        )
    return times, rates


def chains(n: int, k: int, repeats: int) -> list[Row]:
    """Table of whole samplings with the samplers' own settings."""
    metric = made_metric(k)
    samplers = {
        "`riemannian-paper`: Algorithm 2, 100 x 10 leapfrogs of 0.01": RiemannianPaper(metric),
        "`riemannian`: 100 x 10 to adapt the step, 100 x 10 to sample": Riemannian(metric),
    }
    tasks = {name: lambda s=s: s.sample(n, torch.Generator().manual_seed(4)) for name, s in samplers.items()}
    seconds = cpu_medians(tasks, repeats, at_least=0.02)
    return [("sampler", "CPU seconds"), *((name, f"{s:.2f}") for name, s in seconds.items())]


def peak_memory(n: int, k: int, n_iterations: int) -> tuple[float, float, float]:
    """CPU seconds of one sampling, MiB held before it, and MiB held at most."""
    torch.set_num_threads(1)
    metric = made_metric(k)
    RiemannianPaper(metric, n_iterations=1).sample(2, torch.Generator().manual_seed(0))  # what torch sets up at first use
    before = resident("VmRSS")
    start = time.process_time()
    RiemannianPaper(metric, n_iterations=n_iterations).sample(n, torch.Generator().manual_seed(0))
    return time.process_time() - start, before, resident("VmHWM")


def memory(n: int, k: int, n_iterations: int) -> list[Row]:
    """Table of a sampling that must not run out of memory, in a process of its own."""
    seconds, before, peak = in_own_process(peak_memory, n, k, n_iterations)
    weights = n * k * 4 / 2**20
    return [
        ("iterations of 10 leapfrogs", "CPU seconds", "MiB before", "MiB at most", "one n x k array (MiB)", "one n x k x D array (MiB)"),
        (str(n_iterations), f"{seconds:.1f}", f"{before:.0f}", f"{peak:.0f}", f"{weights:.0f}", f"{weights * DIM:.0f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="latents in one gradient evaluation [%(default)s]")
    parser.add_argument("--centroids", type=int, nargs="+", default=[50, 100, 300], help="numbers of centroids k [%(default)s]")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats, of which the median is taken [%(default)s]")
    parser.add_argument("--chains", type=int, default=2000, help="latents in a whole sampling at k = 100 [%(default)s]")
    parser.add_argument("--many", type=int, default=100_000, help="latents at k = 1,000, where memory is measured [%(default)s]")
    parser.add_argument("--iterations", type=int, default=2, help="iterations of those [%(default)s]")
    parser.add_argument("--out", type=Path, help="write the tables into this Markdown file as well")
    given = parser.parse_args()
    torch.set_num_threads(1)

    times, rates = gradients(given.centroids, given.n, given.repeats)
    command = command_of(parser, given, __file__)
    text = "\n\n".join(
        (
            "# Benchmarks",
            f"Made by `{command}` on one thread of a processor that names itself {hardware()}, with torch {torch.__version__}, "
            f"in float32 at D = {DIM}. Times are CPU time, medians of {given.repeats} interleaved repeats.",
            "## One evaluation of log sqrt det G and its gradient",
            f"At n = {given.n} latents. *dense*: Eq. 17 as it is printed, with D x D matrices, their sum over the centroids, logdet and "
            "autograd. *dense, contracted*: the same, the sum an einsum. *n x k x D*: the closed form by einsum over all differences.",
            table(times),
            "The rate counts the 12 n k D operations of the four matrix products, over the time of the whole evaluation, exponential and "
            "all; beside it the rate of these products alone, and that of a large square product.",
            table(rates),
            f"## {given.chains:,} latents at k = 100",
            f"Whole samplings with their diagnostics; of these the median of {min(3, given.repeats)}.",
            table(chains(given.chains, 100, min(3, given.repeats))),
            f"## {given.many:,} latents at k = 1,000",
            "Memory of the whole process, in MiB. Rows are taken in chunks, so not even one n x k array is made.",
            table(memory(given.many, 1000, given.iterations)),
        )
    )
    publish(text, given.out)


if __name__ == "__main__":
    main()

"""The published samplers of the uniform law, to be compared with: Algorithm 2 to the letter, and what the authors released."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import hmc
from ..draws import normal, uniform
from ..geometry.metric import RiemannianMetric, nearest_distances
from .chains import check_lengths, draw_rows, locate, run_chains
from .diagnostics import Diagnostics, Tick

DETERMINANT_CLAMP = 1e10


@dataclass(frozen=True)
class RiemannianPaper:
    """Algorithm 2 to the letter: exact HMC for sqrt det G on the whole space, from centroids, with a fixed step."""

    metric: RiemannianMetric
    n_iterations: int = 100
    n_leapfrog: int = 10
    step_size: float = 0.01

    name = "riemannian-paper"

    def __post_init__(self) -> None:
        check_lengths(self.n_iterations, self.n_leapfrog, self.step_size)

    @property
    def n_steps(self) -> int:
        """Transitions in all, for a progress bar."""
        return self.n_iterations

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, one chain each, with diagnostics."""

        def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
            volume = self.metric.volume(z)
            return volume.log, volume.gradient

        def step(state: hmc.State) -> tuple[hmc.State, hmc.Info]:
            return hmc.step(state, log_density, step_size=self.step_size, n_leapfrog=self.n_leapfrog, generator=generator)

        start = draw_rows(self.metric.centroids, n, generator)
        state, diagnostics = run_chains(self.name, step, hmc.init(start, log_density), start, self.n_steps, on_iteration)
        return state.z, locate(replace(diagnostics, step_size=self.step_size), self.metric, start, state.z)


@dataclass(frozen=True)
class RiemannianReleased:
    """The law of the authors' released sampler, reproduced to compare with (not to recommend).

    Where it departs from Algorithm 2: its gradient lacks the 1/2 of the log-volume and counts lambda once per centroid; momenta are
    0.5 N(0, I) under an energy of unit mass, so the chain is not invariant for p; det G is clamped at 1e10; acceptance is a quotient
    of two exponentials, where 0/0 rejects; rho leaves out the last centroid; chains start on any training mean.

    Parameters
    ----------
    metric : RiemannianMetric
        Metric of Eq. 7; its rho is replaced.
    means : torch.Tensor
        ``(n, D)`` posterior means of the training images.
    n_iterations, n_leapfrog, step_size
        As in Algorithm 2.
    """

    metric: RiemannianMetric
    means: Tensor
    n_iterations: int = 100
    n_leapfrog: int = 10
    step_size: float = 0.01

    name = "riemannian-released"
    momentum_std = 0.5

    def __post_init__(self) -> None:
        check_lengths(self.n_iterations, self.n_leapfrog, self.step_size)

    @property
    def n_steps(self) -> int:
        """Transitions in all, for a progress bar."""
        return self.n_iterations

    def log_density(self) -> hmc.LogDensity:
        """The saturated log-density and the gradient that the release follows."""
        k = len(self.metric.centroids)
        density = replace(self.metric, rho=float(nearest_distances(self.metric.centroids)[: k - 1].amax()) if k > 1 else self.metric.rho)
        slope = replace(density, lam=k * density.lam)

        def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
            determinant = torch.exp(2 * density.log_volume(z)).clamp(max=DETERMINANT_CLAMP)
            return 0.5 * determinant.log(), 2 * slope.volume(z).gradient

        return log_density

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, one chain each, with diagnostics."""
        log_density = self.log_density()

        def step(state: hmc.State) -> tuple[hmc.State, hmc.Info]:
            momentum = self.momentum_std * normal(state.z.shape, generator, state.z)
            luck = uniform(state.log_p.shape, generator, state.z)
            proposal, end = hmc.leapfrog(state, momentum, log_density, self.step_size, self.n_leapfrog)
            energy = 0.5 * momentum.square().sum(1) - state.log_p
            end_energy = 0.5 * end.square().sum(1) - proposal.log_p
            ratio = torch.exp(-end_energy) / torch.exp(-energy)
            accepted = luck < ratio
            return hmc.select(accepted, proposal, state), hmc.Info(ratio.nan_to_num(0).clamp(max=1), accepted, end_energy - energy)

        start = draw_rows(self.means, n, generator)
        state, diagnostics = run_chains(self.name, step, hmc.init(start, log_density), start, self.n_steps, on_iteration)
        return state.z, locate(replace(diagnostics, step_size=self.step_size), self.metric, start, state.z)

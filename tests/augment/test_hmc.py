"""Hamiltonian Monte Carlo: the integrator's laws, then the chain's."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from tinycohort.augment import hmc
from tinycohort.augment.geometry.metric import RiemannianMetric

CONFIDENCE = 1 - 1e-4  # per test: a right sampler fails one at 1 seed in 10,000, and the seeds here are fixed
COVARIANCE = torch.tensor([[4.0, 0.9, 0.0], [0.9, 1.0, -0.1], [0.0, -0.1, 0.25]], dtype=torch.float64)
PRECISION = torch.linalg.inv(COVARIANCE)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def standard(z: Tensor) -> tuple[Tensor, Tensor]:
    return -0.5 * z.square().sum(1), -z


def gaussian(z: Tensor) -> tuple[Tensor, Tensor]:
    pull = z @ PRECISION
    return -0.5 * (z * pull).sum(1), -pull


def quartic(z: Tensor) -> tuple[Tensor, Tensor]:
    """Coupled and nothing like a Gaussian; bounded derivatives on the trajectories below."""
    a, b = z[:, 0], z[:, 1]
    return -(a**4 + b**4) / 4 - torch.sin(a * b), -torch.stack([a**3 + b * torch.cos(a * b), b**3 + a * torch.cos(a * b)], 1)


BUMPS = torch.tensor([[[-0.8, 0.0], [0.9, 0.4]], [[4.0, 9.0], [16.0, 5.0]]], dtype=torch.float64)
TWO_BUMPS = RiemannianMetric(*BUMPS, rho=2.0, lam=0.1, tau=0.5)


def two_bumps(z: Tensor) -> tuple[Tensor, Tensor]:
    volume = TWO_BUMPS.volume(z)
    return volume.log, volume.gradient


TARGETS = {"gaussian": (gaussian, 3), "quartic": (quartic, 2), "two bumps": (two_bumps, 2)}


def quantile(comparisons: int) -> float:
    """Two-sided normal quantile at which all the comparisons of one test hold together."""
    return float(norm.ppf(1 - (1 - CONFIDENCE) / 2 / comparisons))


def assert_mean(values: Tensor, expected: Tensor, comparisons: int) -> None:
    """``values``, ``(n, ...)`` independent, average to ``expected``: within the quantile of their own standard error."""
    error = values.std(dim=0) / math.sqrt(len(values))
    assert (error > 0).all()
    deviation = float(((values.mean(dim=0) - expected) / error).abs().max())
    assert deviation < quantile(comparisons), f"off by {deviation:.1f} standard errors"


@pytest.mark.parametrize("target", TARGETS)
def test_targets_have_the_gradients_they_claim(target):
    log_density, dim = TARGETS[target]
    z = normal((20, dim), 1)
    for d in range(dim):
        shift = 1e-5 * torch.eye(dim, dtype=torch.float64)[d]
        slope = (log_density(z + shift)[0] - log_density(z - shift)[0]) / 2e-5
        torch.testing.assert_close(slope, log_density(z)[1][:, d], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_leapfrog_runs_back_from_a_negated_momentum(target):
    log_density, dim = TARGETS[target]
    start, momentum = hmc.init(normal((50, dim), 2), log_density), normal((50, dim), 3)
    end, end_momentum = hmc.leapfrog(start, momentum, log_density, 0.05, 40)
    back, back_momentum = hmc.leapfrog(end, -end_momentum, log_density, 0.05, 40)
    assert float((end.z - start.z).abs().max()) > 0.5
    # Some 80 roundings, each grown by at most exp(L T), where the curvature L^2 is below 16 and T = 2.
    tolerance = 80 * torch.finfo(torch.float64).eps * math.exp(4 * 2)
    torch.testing.assert_close(back.z, start.z, rtol=0, atol=tolerance)
    torch.testing.assert_close(-back_momentum, momentum, rtol=0, atol=tolerance)
    assert torch.equal(end.log_p, log_density(end.z)[0])
    assert torch.equal(end.gradient, log_density(end.z)[1])


@pytest.mark.parametrize(("target", "log_density", "dim"), [("gaussian", gaussian, 3), ("quartic", quartic, 2)])
def test_leapfrog_preserves_volume(target, log_density, dim):
    def flow(phase: Tensor) -> Tensor:
        end, momentum = hmc.leapfrog(hmc.init(phase[None, :dim], log_density), phase[None, dim:], log_density, 0.3, 7)
        return torch.cat([end.z, momentum], dim=1)[0]

    for phase in normal((10, 2 * dim), 4):
        jacobian = torch.autograd.functional.jacobian(flow, phase)
        # The product of the Jacobian's singular values: rounding times its condition number.
        condition = float(torch.linalg.cond(jacobian))
        assert condition > 2
        assert abs(float(torch.linalg.det(jacobian)) - 1) < 100 * torch.finfo(torch.float64).eps * condition


def test_leapfrog_conserves_what_it_is_known_to_conserve():
    """On a standard normal: p^2 / 2 + (1 - eps^2 / 4) z^2 / 2, exactly; so the energy error is eps^2 / 8 of the change in z^2."""
    start, momentum, eps = hmc.init(normal((100, 3), 5), standard), normal((100, 3), 6), 0.7
    end, end_momentum = hmc.leapfrog(start, momentum, standard, eps, 9)
    before, after = (p.square() + (1 - eps**2 / 4) * z.square() for z, p in ((start.z, momentum), (end.z, end_momentum)))
    torch.testing.assert_close(before, after, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("target", TARGETS)
def test_energy_error_is_of_order_two(target):
    log_density, dim = TARGETS[target]
    start, momentum = hmc.init(0.7 * normal((200, dim), 7), log_density), normal((200, dim), 8)
    counts = np.array([32, 64, 128, 256])
    errors = []
    for count in counts.tolist():
        end, end_momentum = hmc.leapfrog(start, momentum, log_density, 1.0 / count, count)
        error = start.log_p - end.log_p + 0.5 * (end_momentum.square() - momentum.square()).sum(1)
        errors.append(float(error.square().mean().sqrt()))
    order = np.polyfit(np.log(1 / counts), np.log(errors), 1)[0]
    # The next term of the error is of order 4: relative to the first it is (omega eps)^2 / 12 or so, with omega below 10 and eps 1 / 32.
    assert abs(order - 2) < (10 / 32) ** 2 / 12 * 4
    assert errors[-1] > 1e-9


@pytest.mark.parametrize("eps", [0.3, 0.03, 0.003])
def test_acceptance_tends_to_one(eps):
    """On a standard normal the energy error is at most eps^2 / 8 times the larger |z|^2 of start and end."""
    state = hmc.init(normal((500, 4), 9), standard)
    _, info = hmc.step(state, standard, step_size=eps, n_leapfrog=5, generator=seeded(10))
    bound = eps**2 / 8 * 40  # |z|^2 of four dimensions, plus what the momentum adds
    assert float(info.energy_error.abs().max()) < bound
    assert float(info.acceptance.min()) >= math.exp(-bound)
    assert 1e-3 * bound < float(info.energy_error.abs().max())


def test_info_is_metropolis():
    state = hmc.init(normal((2000, 4), 11), standard)
    new, info = hmc.step(state, standard, step_size=1.5, n_leapfrog=5, generator=seeded(12))
    torch.testing.assert_close(info.acceptance, torch.exp(-info.energy_error).clamp(max=1))
    stayed = (new.z == state.z).all(1)
    assert torch.equal(stayed, ~info.accepted)
    assert 0.1 < float(stayed.double().mean()) < 0.9
    assert_mean(info.accepted.double() - info.acceptance, torch.tensor(0.0), 1)
    # eps^2 / 8 of the change in |z|^2, as above: no sign and no half can be lost.
    expected = 1.5**2 / 8 * (new.z.square().sum(1) - state.z.square().sum(1))
    torch.testing.assert_close(info.energy_error[info.accepted], expected[info.accepted])
    torch.testing.assert_close(new.log_p, standard(new.z)[0])
    torch.testing.assert_close(new.gradient, standard(new.z)[1])


@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_jitter_gives_each_chain_a_step_of_its_own(jitter):
    """Without a force, z moves by momentum, step and number of steps: what is left is the step."""

    def flat(z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(z), dtype=z.dtype), torch.zeros_like(z)

    start = torch.zeros((4000, 2), dtype=torch.float64)
    ends = [
        hmc.step(hmc.init(start, flat), flat, step_size=0.1, n_leapfrog=5, generator=seeded(26), jitter=share)[0].z for share in (0, jitter)
    ]
    steps = 0.1 * ends[1] / ends[0]
    torch.testing.assert_close(steps[:, 0], steps[:, 1])
    assert float((steps - 0.1).abs().max()) <= 0.1 * jitter + 1e-12
    if jitter:
        uniform = (steps[:, :1] - 0.1) / (0.1 * jitter)
        assert_mean(torch.cat([uniform, uniform**2], dim=1), torch.tensor([0, 1 / 3], dtype=torch.float64), 2)


def run(state: hmc.State, log_density: hmc.LogDensity, n_iterations: int, seed: int, **settings: float) -> tuple[hmc.State, float]:
    generator, acceptance = seeded(seed), 0.0
    for _ in range(n_iterations):
        state, info = hmc.step(state, log_density, generator=generator, **settings)
        acceptance += float(info.acceptance.mean()) / n_iterations
    return state, acceptance


def products(z: Tensor) -> Tensor:
    """The distinct second moments, ``(n, D (D + 1) / 2)``."""
    rows, columns = torch.triu_indices(z.shape[1], z.shape[1])
    return z[:, rows] * z[:, columns]


@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_moments_of_an_anisotropic_gaussian(jitter):
    """Steps so large that without the acceptance step the law would be another."""
    n = 5000
    exact = normal((n, 3), 13) @ torch.linalg.cholesky(COVARIANCE).T
    rows, columns = torch.triu_indices(3, 3)
    for start, n_iterations in ((exact, 20), (torch.zeros((n, 3), dtype=torch.float64), 80)):
        state, acceptance = run(hmc.init(start, gaussian), gaussian, n_iterations, 14, step_size=0.75, n_leapfrog=3, jitter=jitter)
        assert 0.4 < acceptance < 0.9
        assert_mean(state.z, torch.zeros(3, dtype=torch.float64), 18)
        assert_mean(products(state.z), COVARIANCE[rows, columns], 18)
        # Isserlis: fourth moments of a Gaussian are 3 var^2.
        assert_mean(state.z**4, 3 * COVARIANCE.diagonal() ** 2, 18)


def test_moments_of_two_bumps_integrated_on_a_grid():
    axis = torch.linspace(-7, 7, 701, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    log_p = two_bumps(grid)[0]
    weight = torch.softmax(log_p, dim=0)
    # Smooth and vanishing at the border: the rectangle rule converges faster than any power of the step.
    assert float(weight.reshape(701, 701)[[0, -1]].sum()) < 1e-9
    statistics = lambda z: torch.cat([z, products(z), (z[:, :1] > 0).double(), torch.cos(2 * z)], dim=1)  # noqa: E731
    expected = (weight[:, None] * statistics(grid)).sum(0)
    start = TWO_BUMPS.centroids[:1].expand(3000, 2)
    state, acceptance = run(hmc.init(start, two_bumps), two_bumps, 100, 15, step_size=0.45, n_leapfrog=4)
    assert 0.4 < acceptance < 0.97
    found = statistics(state.z)
    # The indicator jumps inside a column of cells: the rule is off by half that column at most.
    found[:, 5] += 0.5 * weight.reshape(701, 701)[350].sum()
    assert_mean(found, expected + 0.5 * torch.eye(8, dtype=torch.float64)[5] * weight.reshape(701, 701)[350].sum(), 8)


@pytest.mark.parametrize("outside", [-math.inf, math.nan])
def test_what_lies_outside_the_support_is_never_accepted(outside):
    def half_normal(z: Tensor) -> tuple[Tensor, Tensor]:
        log_p, gradient = standard(z)
        return log_p.masked_fill(z[:, 0] < 0, outside), gradient

    state = hmc.init(normal((10_000, 2), 16).abs(), half_normal)
    generator, refused = seeded(17), 0
    for _ in range(30):
        state, info = hmc.step(state, half_normal, step_size=0.5, n_leapfrog=3, generator=generator)
        assert (state.z[:, 0] >= 0).all()
        assert state.log_p.isfinite().all()
        refused += int((info.acceptance == 0).sum())
        assert (info.energy_error[info.acceptance == 0] > 0).all()
        assert not info.acceptance.isnan().any()
    assert refused > 10_000
    # Cut at 0, the normal has the mean sqrt(2 / pi) and the second moment 1.
    expected = torch.tensor([math.sqrt(2 / math.pi), 0, 1, 1], dtype=torch.float64)
    assert_mean(torch.cat([state.z, state.z.square()], dim=1), expected, 4)


def test_a_trajectory_that_overflows_is_a_rejection():
    state = hmc.init(torch.full((5, 2), 3.0, dtype=torch.float64), quartic)
    new, info = hmc.step(state, quartic, step_size=100.0, n_leapfrog=20, generator=seeded(18))
    assert torch.equal(new.z, state.z)
    assert (info.acceptance == 0).all()
    assert (info.energy_error == math.inf).all()


def test_a_chain_that_starts_outside_comes_in():
    def interval(z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(z), dtype=z.dtype).masked_fill(z.abs().amax(1) > 1, -math.inf), torch.zeros_like(z)

    state, _ = run(hmc.init(torch.full((200, 1), 2.0, dtype=torch.float64), interval), interval, 200, 19, step_size=0.5, n_leapfrog=2)
    assert (state.z.abs() <= 1).all()


def test_a_seed_reproduces_and_the_global_state_is_left_alone():
    before = torch.get_rng_state()
    ends = [run(hmc.init(normal((7, 3), 20), gaussian), gaussian, 5, seed, step_size=0.3, n_leapfrog=3)[0].z for seed in (1, 1, 2)]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_chains_do_not_touch_each_other():
    """Change one chain's start: the others end where they did."""
    start = normal((6, 3), 21)
    other = start.clone()
    other[2] += 1
    ends = [run(hmc.init(z, gaussian), gaussian, 5, 22, step_size=0.3, n_leapfrog=3)[0].z for z in (start, other)]
    changed = (ends[0] != ends[1]).any(1)
    assert changed.tolist() == [False, False, True, False, False, False]


def adapted(target: float, n_iterations: int, step_size: float = 0.5) -> tuple[hmc.State, float, int]:
    ticks = []
    state, kept = hmc.warm_up(
        hmc.init(normal((1000, 8), 23), standard),
        standard,
        n_iterations=n_iterations,
        n_leapfrog=4,
        step_size=step_size,
        target_acceptance=target,
        generator=seeded(24),
        on_iteration=lambda: ticks.append(1),
    )
    return state, kept, len(ticks)


@pytest.mark.parametrize("target", [0.6, 0.8, 0.95])
@pytest.mark.parametrize("step_size", [0.005, 0.5, 5.0])
def test_warm_up_reaches_the_target(target, step_size):
    """Dual averaging: the mean error of the acceptance after T steps is gamma |log(10 eps_0 / eps)| (T + t_0) / T^1.5, in T's terms."""
    n_iterations = 200
    state, kept, ticks = adapted(target, n_iterations, step_size)
    assert ticks == n_iterations
    _, acceptance = run(state, standard, 50, 25, step_size=kept, n_leapfrog=4)
    bound = 0.05 * abs(math.log(10 * step_size / kept)) * (n_iterations + 10) / n_iterations**1.5
    # Beside it, the Monte Carlo error of 50 x 1000 acceptances, each with a variance below 1 / 4.
    assert abs(acceptance - target) < 2 * bound + quantile(1) * 0.5 / math.sqrt(50 * 1000)
    assert bound < 0.02


def test_a_higher_target_makes_smaller_steps():
    steps = [adapted(target, 100)[1] for target in (0.6, 0.7, 0.8, 0.9)]
    assert steps == sorted(steps, reverse=True)
    assert adapted(0.8, 0)[1:] == (0.5, 0)

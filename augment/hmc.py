"""Hamiltonian Monte Carlo (Neal 2011) as pure functions over n independent chains.

A log-density is a function of ``z`` of shape ``(n, D)`` that returns log p ``(n,)``, up to a constant, and its gradient
``(n, D)``. A state carries both, so that a step evaluates each point once. Mass is the identity: whoever wants another
one rescales ``z``. Where log p is ``-inf`` lies outside the support: a proposal that ends there is never accepted.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .draws import normal, uniform

LogDensity = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class State:
    """Positions ``z`` ``(n, D)`` with their log-density ``log_p`` ``(n,)`` and its gradient ``(n, D)``."""

    z: Tensor
    log_p: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Info:
    """What happened in one step: probability of acceptance ``(n,)``, whether accepted ``(n,)``, energy error H - H0 ``(n,)``."""

    acceptance: Tensor
    accepted: Tensor
    energy_error: Tensor


def init(z: Tensor, log_density: LogDensity) -> State:
    """The state at positions ``z`` of shape ``(n, D)``."""
    return State(z, *log_density(z))


def leapfrog(state: State, momentum: Tensor, log_density: LogDensity, step_size: float | Tensor, n_leapfrog: int) -> tuple[State, Tensor]:
    """Follow Hamilton's equations for ``n_leapfrog`` steps: reversible, volume-preserving, energy error of order step_size^2.

    The step is one number, or ``(n, 1)``: each chain's own.
    """
    z, log_p, gradient = state.z, state.log_p, state.gradient
    momentum = momentum + 0.5 * step_size * gradient
    for i in range(n_leapfrog):
        z = z + step_size * momentum
        log_p, gradient = log_density(z)
        # Two half kicks meet between steps: one whole kick, but at the end only the first half.
        momentum = momentum + (step_size if i + 1 < n_leapfrog else 0.5 * step_size) * gradient
    return State(z, log_p, gradient), momentum


def step(
    state: State, log_density: LogDensity, *, step_size: float, n_leapfrog: int, generator: torch.Generator, jitter: float = 0.0
) -> tuple[State, Info]:
    """One transition of every chain; leaves p invariant.

    Parameters
    ----------
    state : State
        State of n chains.
    log_density : callable
        log p and its gradient.
    step_size : float
        Leapfrog step eps.
    n_leapfrog : int
        Leapfrog steps per transition.
    generator : torch.Generator
        Draws momenta, uniforms and, if there is jitter, step sizes.
    jitter : float
        Each chain takes a step of its own, at most this share longer or shorter: of trajectories all alike some come back to where
        they began, or to its mirror image, and are accepted without having explored (Neal 2011, on tuning).
    """
    momentum = normal(state.z.shape, generator, state.z)
    luck = uniform(state.log_p.shape, generator, state.z)
    # Drawn before the trajectory, whatever the state: for each step size the transition leaves p invariant, and so does their mixture.
    own_step = step_size * (1 + jitter * (2 * uniform((len(state.z), 1), generator, state.z) - 1)) if jitter else step_size
    # The end momentum ought to be flipped for reversibility; its energy is even and it is drawn anew, so nothing is lost.
    proposal, end_momentum = leapfrog(state, momentum, log_density, own_step, n_leapfrog)
    energy_error = (state.log_p - proposal.log_p) + 0.5 * (end_momentum.square().sum(1) - momentum.square().sum(1))
    # A NaN (overflow on the way) is a rejection, as an infinite energy is.
    energy_error = torch.nan_to_num(energy_error, nan=math.inf, posinf=math.inf, neginf=-math.inf)
    acceptance = torch.exp(-energy_error.clamp(min=0))
    accepted = luck < acceptance
    return select(accepted, proposal, state), Info(acceptance, accepted, energy_error)


def select(condition: Tensor, new: State, old: State) -> State:
    """Chain by chain, ``new`` where ``condition`` ``(n,)`` holds and ``old`` elsewhere."""
    column = condition[:, None]
    return State(
        torch.where(column, new.z, old.z), torch.where(condition, new.log_p, old.log_p), torch.where(column, new.gradient, old.gradient)
    )


def warm_up(
    state: State,
    log_density: LogDensity,
    *,
    n_iterations: int,
    n_leapfrog: int,
    step_size: float,
    target_acceptance: float,
    generator: torch.Generator,
    jitter: float = 0.0,
    on_iteration: Callable[[], None] = lambda: None,
) -> tuple[State, float]:
    """Run the chains while one step size for all of them adapts; returns the state and the step size to keep.

    Dual averaging (Hoffman and Gelman 2014, Sec. 3.2, with their constants) of the acceptance averaged over the chains.
    The adapted transitions are no samples: fix the step size and discard them.
    """
    gamma, t0, kappa = 0.05, 10, 0.75
    centre = math.log(10 * step_size)
    error_mean, log_average = 0.0, 0.0
    current = step_size
    for t in range(1, n_iterations + 1):
        state, info = step(state, log_density, step_size=current, n_leapfrog=n_leapfrog, generator=generator, jitter=jitter)
        error_mean += (target_acceptance - float(info.acceptance.mean()) - error_mean) / (t + t0)
        log_current = centre - math.sqrt(t) / gamma * error_mean
        weight = t**-kappa
        log_average = weight * log_current + (1 - weight) * log_average
        current = math.exp(log_current)
        on_iteration()
    return state, math.exp(log_average) if n_iterations else step_size

"""The Hamiltonian variational autoencoder: leapfrog steps on the model's own density, between the posterior and the decoder."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ...datasets.common.errors import UsageError
from .. import hmc
from ..draws import normal
from ..networks import Architecture
from ..posterior import Posterior
from .base import Autoencoder
from .likelihood import VARIANCE_FLOOR, Likelihood, check_likelihood, loss_of_error, squared_error

Tempering = Literal["fixed", "free", "none"]
LARGEST_STEP = 0.5  # the learnt steps lie below it: a bound keeps the flow from diverging while it learns
REFERENCE_IMAGES = 100  # looked at before an epoch, of however many
CHUNK = 16


class HVAE(Autoencoder):
    """A Gaussian posterior enriched by Hamiltonian dynamics (Caterini, Doucet and Sejdinovic 2018, Algorithm 1).

    With z_0 ~ q(z|x) = N(mu, Sigma) and rho_0 ~ N(0, I / beta_0), ``leapfrogs`` steps k of size eps follow

        U(z) = -log p(x|z) / beta + |z|^2 / 2,        rho_k <- alpha_k rho_k,   prod_k alpha_k = sqrt(beta_0)

    (their leapfrog with tempering). A leapfrog step preserves volume and tempering multiplies it by alpha_k^D, so that the negative bound
    is

        -log p(x|z_K) + beta KL,   KL = E [|z_K|^2 + |rho_K|^2] / 2 - log det Sigma / 2 - D:

    KL is the divergence of the law of (z_K, rho_K) from N(0, I), its entropy taken in closed form, so that one draw estimates it without
    bias (it may come out negative). ``beta`` = 1 is their bound; another one weights the KL term as that of a VAE does, and is in U too, so
    that the dynamics follow what the loss asks for. Step sizes, one a dimension, and tempering are learnt.

    The variance of the calibrated likelihood in U must not depend on the noise, or the flow would not preserve volume, nor on the other
    images of a batch: it is kept with the weights, measured before each epoch on at most 100 training images. The loss itself has the
    batch's best variance, as everywhere.

    Codes are where the flow takes the posterior's mean from rest: without noise, and in the space that the decoder has learnt.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    leapfrogs : int
        Steps K.
    step_size : float
        Initial step of the leapfrog, below 0.5.
    tempering : {"fixed", "free", "none"}
        ``fixed`` is quadratic with one learnt number, beta_0; ``free`` learns every alpha_k; ``none`` has all of them 1.
    beta_zero : float
        beta_0 at first, between 0 and 1; without meaning for ``none``.
    beta : float
        Weight of the KL term, above 0.
    likelihood : {"calibrated", "fixed"}
        Likelihood of the images (``likelihood.reconstruction_loss``).
    """

    n_heads = 2
    title = "HVAE: posterior with Hamiltonian flow"
    source = "Caterini et al. 2018"
    differentiates_twice = True

    flow_variance: Tensor

    def __init__(
        self,
        architecture: Architecture,
        *,
        leapfrogs: int = 3,
        step_size: float = 0.01,
        tempering: Tempering = "fixed",
        beta_zero: float = 0.3,
        beta: float = 1.0,
        likelihood: Likelihood = "calibrated",
    ):
        super().__init__(architecture)
        if leapfrogs < 1:
            raise UsageError(f"leapfrogs must be 1 or more, not {leapfrogs}.")
        if not 0 < step_size < LARGEST_STEP:
            raise UsageError(f"step_size lies between 0 and {LARGEST_STEP}, not at {step_size}.")
        if tempering not in get_args(Tempering):
            raise UsageError(f"The tempering is 'fixed', 'free' or 'none', not '{tempering}'.")
        if not 0 < beta_zero < 1:
            raise UsageError(f"beta_zero lies between 0 and 1, not at {beta_zero}.")
        if not 0 < beta < math.inf:
            raise UsageError(f"beta must be above 0 and finite, not {beta}.")
        check_likelihood(likelihood)
        self.leapfrogs = leapfrogs
        self.tempering: Tempering = tempering
        self.beta = beta
        self.likelihood: Likelihood = likelihood
        self.step_logits = nn.Parameter(torch.full((architecture.latent_dim,), _logit(step_size / LARGEST_STEP)))
        if tempering == "fixed":
            self.tempering_logits = nn.Parameter(torch.full((), _logit(math.sqrt(beta_zero))))
        elif tempering == "free":
            self.tempering_logits = nn.Parameter(torch.full((leapfrogs,), _logit(beta_zero ** (0.5 / leapfrogs))))
        self.register_buffer("flow_variance", torch.ones(()))

    def base(self, x: Tensor) -> Posterior:
        """q(z_0|x), in float32."""
        mean, log_var = (head.float() for head in self.encoder(x))
        return Posterior(mean, log_var)

    def encode(self, x: Tensor) -> Tensor:
        mean = self.base(x).mean
        return self.flow(x, mean, torch.zeros_like(mean))[0]

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        base = self.base(x)
        noise = normal(base.mean.shape, generator, base.mean)
        state, rho = self._flow(base.sample(generator), noise / self.alphas().prod(), self.log_density(x))
        reconstruction = self.reconstruction(x, state).mean()
        kl = 0.5 * (state.z.square() + rho.square() - base.log_var - 2).sum(1).mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}

    def flow(self, x: Tensor, z: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """(z_K, rho_K) from (z_0, rho_0), all ``(n, D)``."""
        state, rho = self._flow(z, rho, self.log_density(x))
        return state.z, rho

    def _flow(self, z: Tensor, rho: Tensor, log_density: hmc.LogDensity) -> tuple[hmc.State, Tensor]:
        state = hmc.init(z, log_density)
        for alpha in self.alphas():
            state, rho = hmc.leapfrog(state, rho, log_density, self.step_sizes(), 1)
            rho = alpha * rho
        return state, rho

    def reconstruction(self, x: Tensor, state: hmc.State) -> Tensor:
        """What decoding a state costs, ``(n,)``: U has decoded it already, and holds its squared error."""
        error = -(state.log_p + 0.5 * state.z.square().sum(1)) / self._weight_of_error()
        return loss_of_error(error, x[0].numel(), self.likelihood)

    def step_sizes(self) -> Tensor:
        """eps, ``(D,)``: learnt."""
        return LARGEST_STEP * torch.sigmoid(self.step_logits)

    def alphas(self) -> Tensor:
        """``(K,)``: what multiplies the momentum after each step; their product is sqrt(beta_0)."""
        if self.tempering == "none":
            return torch.ones_like(self.step_logits[:1]).expand(self.leapfrogs)
        if self.tempering == "free":
            return torch.sigmoid(self.tempering_logits)
        # 1 / sqrt(beta_k) falls from 1 / sqrt(beta_0) to 1 with k^2.
        highest = 1 / torch.sigmoid(self.tempering_logits)
        progress = torch.arange(self.leapfrogs + 1, dtype=highest.dtype, device=highest.device) / self.leapfrogs
        inverse_roots = highest + (1 - highest) * progress.square()
        return inverse_roots[1:] / inverse_roots[:-1]

    def log_density(self, x: Tensor) -> hmc.LogDensity:
        """-U of images ``x``, up to a constant, and its gradient."""

        def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
            # In validation only the gradient in z is needed; in training the loss passes through that gradient to the weights.
            create_graph = torch.is_grad_enabled()
            with torch.enable_grad():
                z = z if z.requires_grad else z.detach().requires_grad_()
                log_p = -self._weight_of_error() * squared_error(x, self.decode(z)) - 0.5 * z.square().sum(1)
                (gradient,) = torch.autograd.grad(log_p.sum(), z, create_graph=create_graph)
            return (log_p if create_graph else log_p.detach()), gradient

        return log_density

    def _weight_of_error(self) -> float | Tensor:
        """Weight of the squared error in U."""
        return 1 / self.beta if self.likelihood == "fixed" else 0.5 / (self.flow_variance * self.beta)

    @torch.no_grad()
    def before_epoch(self, images: Tensor, generator: torch.Generator) -> None:
        if self.likelihood == "fixed":
            return
        some = images[some_rows(len(images), REFERENCE_IMAGES, generator)]
        with evaluating(self):
            errors = [squared_error(chunk, self.decode(self.base(chunk).sample(generator))) for chunk in some.split(CHUNK)]
        self.flow_variance.copy_((torch.cat(errors).mean() / some[0].numel()).clamp(min=VARIANCE_FLOOR))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """``model`` in evaluation mode: a look at images must not move the statistics of batch norm."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def some_rows(n: int, most: int, generator: torch.Generator) -> Tensor:
    """At most ``most`` of ``n`` row numbers, at random."""
    return torch.randperm(n, generator=generator, device=generator.device)[:most]


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))

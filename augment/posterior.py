"""Gaussian posteriors q(z|x) = N(mu(x), diag(exp(log_var(x)))), one per image."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .draws import normal

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016, Sec. 4.2: a unit is active if its mean varies by more than this over the data


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian posteriors.

    Parameters
    ----------
    mean, log_var : torch.Tensor
        ``(n, D)``: mean and log-variance of q(z|x), one row per image.
    """

    mean: Tensor
    log_var: Tensor

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.mean.shape != self.log_var.shape:
            raise ValueError(f"mean and log_var must be (n, D) and alike, not {tuple(self.mean.shape)} and {tuple(self.log_var.shape)}")

    def __len__(self) -> int:
        return self.mean.shape[0]

    @property
    def dim(self) -> int:
        """Number of latent dimensions D."""
        return self.mean.shape[1]

    @property
    def std(self) -> Tensor:
        """``(n, D)`` standard deviations."""
        return torch.exp(0.5 * self.log_var)

    @property
    def precision(self) -> Tensor:
        """``(n, D)`` diagonals of Sigma^-1: the metric's value at the means (Sec. 4.3)."""
        return torch.exp(-self.log_var)

    def __getitem__(self, index: Tensor | slice) -> "Posterior":
        return Posterior(self.mean[index], self.log_var[index])

    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw from each posterior, ``(n, D)``, by reparametrisation (gradients pass)."""
        return self.mean + self.std * normal(self.mean.shape, generator, self.mean)

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) in nats: ``(..., n)`` of latents ``(..., n, D)``; of ``(m, 1, D)`` each under every posterior, ``(m, n)``."""
        return -0.5 * ((z - self.mean).square() * self.precision + self.log_var + math.log(2 * math.pi)).sum(-1)

    def kl(self) -> Tensor:
        """``(n, D)`` divergences KL(q(z_d|x) || N(0, 1)), in nats, per unit."""
        return 0.5 * (self.mean.square() + self.log_var.exp() - 1 - self.log_var)

    def active_units(self) -> Tensor:
        """``(D,)`` bool: the units whose mean depends on the image (Burda et al. 2016)."""
        return self.mean.var(dim=0, correction=0) > ACTIVE_VARIANCE

    def to(self, *args, **kwargs) -> "Posterior":
        """The same posteriors on another device or in another dtype, as ``torch.Tensor.to``."""
        return Posterior(self.mean.to(*args, **kwargs), self.log_var.to(*args, **kwargs))


def log_standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, ``(...)`` of latents ``(..., D)``."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

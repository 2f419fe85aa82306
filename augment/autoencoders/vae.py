"""The variational autoencoder (Kingma and Welling 2014) with a weight beta on the KL term."""

import math
from typing import Literal

import torch
from torch import Tensor

from ...datasets.errors import UsageError
from ..networks import Architecture
from ..posterior import Posterior
from .base import GaussianAutoencoder

VARIANCE_FLOOR = 1e-6  # of the calibrated decoder: 8-bit images carry no finer error


class VAE(GaussianAutoencoder):
    """beta-VAE with a Gaussian likelihood.

    Parameters
    ----------
    architecture : Architecture
        Of both networks.
    beta : float
        Weight of the KL term.
    likelihood : {"calibrated", "fixed"}
        ``fixed`` minimises |x - decode(z)|^2 + beta KL (Eq. 3), so what beta means depends on the images' size and contrast.
        ``calibrated`` sets the decoder's variance to its optimum, the batch's mean squared error (sigma-VAE, Rybkin et al. 2021):
        the first term is then the negative log-likelihood in nats, and beta = 1 is the ELBO.
    bounded_log_var : bool
        Pass the log-variance through tanh, as the released OASIS model does.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        beta: float = 1.0,
        likelihood: Literal["calibrated", "fixed"] = "calibrated",
        bounded_log_var: bool = False,
    ):
        super().__init__(architecture)
        if not beta >= 0:
            raise UsageError(f"beta must be 0 or more, not {beta}.")
        if likelihood not in ("calibrated", "fixed"):
            raise UsageError(f"The likelihood is 'calibrated' or 'fixed', not '{likelihood}'.")
        self.beta = beta
        self.likelihood = likelihood
        self.bounded_log_var = bounded_log_var

    def posterior(self, x: Tensor) -> Posterior:
        mean, log_var = (head.float() for head in self.encoder(x))
        return Posterior(mean, torch.tanh(log_var) if self.bounded_log_var else log_var)

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        posterior = self.posterior(x)
        squared_error = (self.decode(posterior.sample(generator)).float() - x).square().flatten(1)
        if self.likelihood == "fixed":
            reconstruction = squared_error.sum(1).mean()
        else:
            variance = squared_error.mean().clamp(min=VARIANCE_FLOOR)
            reconstruction = 0.5 * squared_error.shape[1] * (1 + torch.log(2 * math.pi * variance))
        kl = posterior.kl().sum(1).mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}

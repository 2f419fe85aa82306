"""The variational autoencoder with a weight beta on the KL term."""

import torch
from torch import Tensor

from ...datasets.common.errors import UsageError
from ..networks import Architecture
from ..posterior import Posterior
from .base import GaussianAutoencoder
from .likelihood import Likelihood, check_likelihood, reconstruction_loss


class VAE(GaussianAutoencoder):
    """beta-VAE with a Gaussian likelihood: minimises reconstruction + beta KL(q(z|x) || N(0, I)).

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    beta : float
        Weight of the KL term.
    likelihood : {"calibrated", "fixed"}
        Likelihood of the images (``likelihood.reconstruction_loss``).
    bounded_log_var : bool
        Pass the log-variance through tanh, as the released OASIS model does.
    """

    title = "VAE: Gaussian posterior"
    source = "Kingma and Welling 2014; Higgins et al. 2017 for beta"

    def __init__(
        self, architecture: Architecture, *, beta: float = 1.0, likelihood: Likelihood = "calibrated", bounded_log_var: bool = False
    ):
        super().__init__(architecture)
        if not beta >= 0:
            raise UsageError(f"beta must be 0 or more, not {beta}.")
        check_likelihood(likelihood)
        self.beta = beta
        self.likelihood: Likelihood = likelihood
        self.bounded_log_var = bounded_log_var

    def posterior(self, x: Tensor) -> Posterior:
        mean, log_var = (head.float() for head in self.encoder(x))
        return Posterior(mean, torch.tanh(log_var) if self.bounded_log_var else log_var)

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        posterior = self.posterior(x)
        reconstruction = reconstruction_loss(x, self.decode(posterior.sample(generator)), self.likelihood).mean()
        kl = posterior.kl().sum(1).mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}

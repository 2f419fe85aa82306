"""The importance-weighted autoencoder: several draws of the posterior in one bound."""

import math

import torch
from torch import Tensor

from ...datasets.common.errors import UsageError
from ..networks import Architecture
from ..posterior import log_standard_normal
from .likelihood import Likelihood, importance_weighted_error, loss_of_error, squared_error
from .vae import VAE


class IWAE(VAE):
    """Minimises -log 1/K sum_k p(x|z_k) N(z_k; 0, I) / q(z_k|x), with K draws z_k of q(z|x) (Eq. 8).

    This bounds -log p(x) the tighter the larger K is, and K = 1 is the VAE. The Gaussian q(z|x), of which the metric is built, is the
    proposal: with K it may grow wider than the posterior that it stands for.

    There is no beta: a weight on one part of the logarithm's argument would leave no bound. The calibrated variance is
    where the bound is tightest: the mean of squared errors in which each draw weighs as it does in the bound
    (``likelihood.importance_weighted_error``). ``fixed`` stands for a variance of 1/2, its constant left out. The terms
    ``reconstruction`` and ``kl`` are those of a VAE of this variance, means over the draws: their sum less ``loss`` is what K draws gain.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    likelihood : {"calibrated", "fixed"}
        Likelihood of the images (``likelihood.reconstruction_loss``).
    samples : int
        K; a training step decodes K times as many images.
    """

    title = "IWAE: importance-weighted bound"
    source = "Burda et al. 2016"

    def __init__(self, architecture: Architecture, *, likelihood: Likelihood = "calibrated", samples: int = 5):
        super().__init__(architecture, likelihood=likelihood)
        if samples < 1:
            raise UsageError(f"samples must be 1 or more, not {samples}.")
        self.samples = samples

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        posterior = self.posterior(x)
        z = torch.stack([posterior.sample(generator) for _ in range(self.samples)])
        repeated = x.expand(self.samples, *x.shape).flatten(0, 1)
        error = squared_error(repeated, self.decode(z.flatten(0, 1))).unflatten(0, z.shape[:2])
        kl = posterior.log_prob(z) - log_standard_normal(z)
        voxels = x[0].numel()
        reconstruction = loss_of_error(error, voxels, self.likelihood, importance_weighted_error(error, kl, voxels))
        bound = (-reconstruction - kl).logsumexp(0) - math.log(self.samples)
        return {"loss": -bound.mean(), "reconstruction": reconstruction.mean(), "kl": kl.mean()}

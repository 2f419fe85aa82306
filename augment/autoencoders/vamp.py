"""The VAE whose prior is the mean posterior of a few learnt images."""

import math

import torch
from torch import Tensor, nn

from ...datasets.common.errors import UsageError
from ..draws import random_rows
from ..networks import Architecture
from ..posterior import Posterior
from .base import LearntPrior
from .likelihood import Likelihood, reconstruction_loss
from .vae import VAE


class VampVAE(VAE, LearntPrior):
    """VAE with a VampPrior: p(z) = 1/K sum_k q(z|u_k), of pseudo-inputs u_k that are learnt beside the weights.

    Minimises reconstruction + beta (log q(z|x) - log p(z)) at a draw z of q(z|x): with a mixture as prior the KL term has no closed form,
    and its estimate may be below 0.

    Pseudo-inputs are the sigmoid of free numbers, so that no voxel gets stuck at 0 or 1, and start as noise around mid-grey. Drawn from
    the training images, as the original also allows, the weights would hold patients' images from the first step on. They are images of
    full size: K of them may outnumber the weights of the networks.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    beta : float
        Weight of the KL term.
    likelihood : {"calibrated", "fixed"}
        Likelihood of the images (``likelihood.reconstruction_loss``).
    pseudo_inputs : int
        K.
    """

    title = "VAE with a VampPrior: posteriors of learnt images"
    source = "Tomczak and Welling 2018"

    def __init__(self, architecture: Architecture, *, beta: float = 1.0, likelihood: Likelihood = "calibrated", pseudo_inputs: int = 50):
        super().__init__(architecture, beta=beta, likelihood=likelihood)
        if pseudo_inputs < 1:
            raise UsageError(f"pseudo_inputs must be 1 or more, not {pseudo_inputs}.")
        self.pseudo_logits = nn.Parameter(torch.randn(pseudo_inputs, architecture.image_channels, *architecture.shape))

    def pseudo_inputs(self) -> Tensor:
        """``(K, c, ...)`` images in [0, 1]."""
        return torch.sigmoid(self.pseudo_logits)

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        # In one batch: batch norm then has the same statistics for both, and those that it keeps for later are of this very mixture.
        both = self.posterior(torch.cat([x, self.pseudo_inputs()]))
        posterior, components = both[: len(x)], both[len(x) :]
        z = posterior.sample(generator)
        reconstruction = reconstruction_loss(x, self.decode(z), self.likelihood).mean()
        kl = (posterior.log_prob(z) - log_mixture(components, z)).mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}

    def sample_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` codes ``(n, D)`` of the prior, its components in random order. For evaluation mode, in which every fitted model is:
        in training mode batch norm would scale the pseudo-inputs by themselves alone, and remember it.
        """
        components = self.posterior(self.pseudo_inputs())
        return components[random_rows(len(components), n, generator, components.mean)].sample(generator)

    def log_prior(self, z: Tensor) -> Tensor:
        return log_mixture(self.posterior(self.pseudo_inputs()), z)


def log_mixture(components: Posterior, z: Tensor) -> Tensor:
    """log 1/K sum_k q(z|u_k) in nats, ``(n,)`` of latents ``(n, D)``, for K ``components`` of equal weight."""
    return components.log_prob(z[:, None]).logsumexp(1) - math.log(len(components))

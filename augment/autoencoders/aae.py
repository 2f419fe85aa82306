"""The adversarial autoencoder: a discriminator on codes stands in for the KL term."""

import torch
from torch import Tensor, nn

from ...datasets.common.errors import UsageError
from ..networks import Architecture
from ..posterior import Posterior
from .adversarial import called_made, called_real, draw_prior, frozen
from .base import GaussianAutoencoder
from .likelihood import Likelihood, check_likelihood, reconstruction_loss

DISCRIMINATOR_UNITS = 256  # of each of its two hidden layers


class AAE(GaussianAutoencoder):
    """Adversarial autoencoder with a Gaussian posterior (Makhzani et al. 2015, Sec. 2): its aggregate, not each, is led to N(0, I).

    With z from q(z|x) and z' from N(0, I), the encoder and the decoder minimise

        (1 - weight) reconstruction + weight E[-log D(z)],

    and the discriminator D, at the same time, E[-log D(z')] + E[-log(1 - D(z))].

    Parameters
    ----------
    architecture : Architecture
        Architecture of the encoder and the decoder; the discriminator has two hidden layers of 256 units.
    weight : float
        Between 0 and 1, of the regularisation: the factor that the paper's Appendix G takes from 0.001 to 0.999, with a ``fixed``
        likelihood.
    likelihood : {"calibrated", "fixed"}
        Likelihood of the images (``likelihood.reconstruction_loss``).
    """

    title = "AAE: discriminator on codes"
    source = "Makhzani et al. 2015"
    selected_by = "reconstruction"

    def __init__(self, architecture: Architecture, *, weight: float = 0.5, likelihood: Likelihood = "calibrated"):
        super().__init__(architecture)
        if not 0 < weight < 1:
            raise UsageError(f"weight lies between 0 and 1, not at {weight}.")
        check_likelihood(likelihood)
        self.weight = weight
        self.likelihood: Likelihood = likelihood
        units = DISCRIMINATOR_UNITS
        self.discriminator = nn.Sequential(
            nn.Linear(architecture.latent_dim, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 1), nn.Flatten(0)
        )

    def posterior(self, x: Tensor) -> Posterior:
        return Posterior(*(head.float() for head in self.encoder(x)))

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        z = self.posterior(x).sample(generator)
        prior = draw_prior(z, generator)
        reconstruction = reconstruction_loss(x, self.decode(z), self.likelihood).mean()
        regularisation = called_real(frozen(self.discriminator)(z).float())
        autoencoder = (1 - self.weight) * reconstruction + self.weight * regularisation
        discriminator = called_real(self.discriminator(prior).float()) + called_made(self.discriminator(z.detach()).float())
        return {
            "loss": autoencoder + discriminator,
            "reconstruction": reconstruction,
            "regularisation": regularisation,
            "discriminator": discriminator,
        }

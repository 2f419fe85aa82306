"""The VAE whose likelihood is a discriminator's: images are alike if a layer of it sees them alike."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...datasets.errors import UsageError
from ..networks import Architecture
from ..posterior import Posterior
from .adversarial import called_made, called_real, draw_prior, frozen
from .base import GaussianAutoencoder
from .likelihood import squared_error

Judge = Callable[[Tensor], tuple[Tensor, Tensor]]


class VAEGAN(GaussianAutoencoder):
    """VAE/GAN with a Gaussian posterior (Larsen et al. 2016, Algorithm 1).

    With features f of a layer of the discriminator D, x~ decoded from q(z|x) and x' from N(0, I), and the dissimilarity
    -log N(f(x); f(x~), I) = |f(x) - f(x~)|^2 / 2 (their Eq. 7, without its constant), the players minimise at the same time

    - encoder: KL(q(z|x) || N(0, I)) + dissimilarity
    - decoder: (1 - balance) dissimilarity + balance E[-log D(x~) - log D(x')]
    - discriminator: E[-log D(x) - log(1 - D(x~)) - log(1 - D(x'))]

    The decoder's last term is -log D, where theirs is log(1 - D): its gradient does not vanish while the discriminator wins. There is
    therefore no rule by which a player that is ahead waits.

    Parameters
    ----------
    architecture : Architecture
        Of the encoder, the decoder, and the discriminator, whose body is another encoder's.
    layer : int
        Which of the discriminator's layers gives the features: from 1, the first, or from -1, the last, backwards. A layer is a convolution
        with its norm and activation.
    balance : float
        Between 0 and 1, of the decoder's adversarial term: the paper's Appendix G takes it from 0.3 to 0.999. (Larsen et al. write
        gamma = (1 - balance) / balance.)
    """

    title = "VAEGAN: likelihood in a discriminator's features"
    source = "Larsen et al. 2016"
    selected_by = "reconstruction"

    def __init__(self, architecture: Architecture, *, layer: int = -1, balance: float = 0.5):
        super().__init__(architecture)
        if not 0 < balance < 1:
            raise UsageError(f"balance lies between 0 and 1, not at {balance}.")
        self.balance = balance
        self.discriminator = Discriminator(architecture, layer)

    def posterior(self, x: Tensor) -> Posterior:
        return Posterior(*(head.float() for head in self.encoder(x)))

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        posterior = self.posterior(x)
        z = posterior.sample(generator)
        prior = draw_prior(z, generator)
        decoder, discriminator = frozen(self.decoder), frozen(self.discriminator)

        kl = posterior.kl().sum(1).mean()
        dissimilarity, *_ = judge(discriminator, x, decoder(torch.cat([z, prior])))
        encoder_loss = kl + dissimilarity

        made = self.decode(torch.cat([z.detach(), prior]))
        dissimilarity, _, reconstructed, drawn = judge(discriminator, x, made)
        adversarial = called_real(reconstructed) + called_real(drawn)
        decoder_loss = (1 - self.balance) * dissimilarity + self.balance * adversarial

        _, real, reconstructed, drawn = judge(self.discriminator, x, made.detach())
        discriminator_loss = called_real(real) + called_made(reconstructed) + called_made(drawn)

        return {
            "loss": encoder_loss + decoder_loss + discriminator_loss,
            # Of the voxels: the features change from step to step, so that epochs could not be compared by them.
            "reconstruction": squared_error(x, made[: len(x)].detach()).mean(),
            "dissimilarity": dissimilarity,
            "kl": kl,
            "adversarial": adversarial,
            "discriminator": discriminator_loss,
        }


def judge(discriminator: Judge, x: Tensor, made: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Dissimilarity of ``x`` ``(n, 1, ...)`` and the first half of ``made`` ``(2 n, 1, ...)``, and the logits ``(n,)`` of all three.

    They pass as one batch: with batch statistics of their own, all would have the same brightness and contrast.
    """
    features, logits = discriminator(torch.cat([x, made.float()]))
    seen, seen_made, _ = features.chunk(3)
    real, reconstructed, drawn = logits.chunk(3)
    return 0.5 * squared_error(seen, seen_made).mean(), real, reconstructed, drawn


class Discriminator(nn.Module):
    """An encoder's body with one logit: images ``(n, 1, ...)`` to the features of a layer and logits ``(n,)``, both float32."""

    def __init__(self, architecture: Architecture, layer: int):
        super().__init__()
        network = replace(architecture, latent_dim=1).encoder(1)
        parts = list(network.body.children())
        # A layer begins with each part that has weights; those of a norm are vectors.
        starts = [i for i, part in enumerate(parts) if any(value.ndim > 1 for value in part.parameters())]
        depth = len(starts)
        if not 1 <= abs(layer) <= depth:
            raise UsageError(
                f"The discriminator of these networks has {depth} layer{'s' * (depth > 1)}: layer lies between 1 and {depth}, "
                f"or -{depth} and -1, not at {layer}."
            )
        cut = [*starts, len(parts)][layer if layer > 0 else depth + 1 + layer]
        self.near = nn.Sequential(*parts[:cut])
        self.far = nn.Sequential(*parts[cut:])
        self.head = network.heads[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.near(x)
        logits = self.head(self.far(features).flatten(1))[:, 0]
        return features.float(), logits.float()

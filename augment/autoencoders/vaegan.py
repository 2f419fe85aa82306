"""The VAE whose likelihood is a discriminator's: images are alike if a layer of it sees them alike."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...datasets.common.errors import UsageError
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
        Architecture of the encoder, the decoder, and the discriminator, whose body is another encoder's.
    layer : int
        Which of the discriminator's layers gives the features: from 1, the first, or from -1, the last, backwards. A layer is a convolution
        with its norm and activation. Few images ask for the first: with the last, reconstructions of 800 digits were no better than their
        mean image after 1,000 steps (docs/results/results.md).
    balance : float
        Between 0 and 1, of the decoder's adversarial term: the paper's Appendix G takes it from 0.3 to 0.999. (Larsen et al. write
        gamma = (1 - balance) / balance.) The dissimilarity is a sum over thousands of features: at 0.5 it is nearly all that the decoder
        heeds, and draws of the prior stay what no image looks like.
    """

    title = "VAEGAN: likelihood in a discriminator's features"
    source = "Larsen et al. 2016"
    selected_by = "reconstruction"

    def __init__(self, architecture: Architecture, *, layer: int = 1, balance: float = 0.9):
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
        reconstructed, _ = decoder(torch.cat([z, prior])).chunk(2)
        encoder_loss = kl + dissimilarity(discriminator, x, reconstructed)

        made = self.decode(torch.cat([z.detach(), prior]))
        reconstructed, _ = made.chunk(2)
        unlike = dissimilarity(discriminator, x, reconstructed)
        _, by_reconstruction, by_draw = judge(discriminator, x, made)
        adversarial = called_real(by_reconstruction) + called_real(by_draw)
        decoder_loss = (1 - self.balance) * unlike + self.balance * adversarial

        real, by_reconstruction, by_draw = judge(self.discriminator, x, made.detach())
        discriminator_loss = called_real(real) + called_made(by_reconstruction) + called_made(by_draw)

        return {
            "loss": encoder_loss + decoder_loss + discriminator_loss,
            # Of the voxels: the features change from step to step, so that epochs could not be compared by them.
            "reconstruction": squared_error(x, reconstructed.detach()).mean(),
            "dissimilarity": unlike,
            "kl": kl,
            "adversarial": adversarial,
            "discriminator": discriminator_loss,
        }


def dissimilarity(discriminator: Judge, x: Tensor, reconstructed: Tensor) -> Tensor:
    """-log N(f(x); f(reconstructed), I) averaged over the batch, without its constant, of images ``(n, c, ...)`` alike in shape.

    Draws of the prior are not in the batch: where they were, the decoder made them glaring, because that raises the variance by which
    batch norm divides, and so brings all other features together.
    """
    features, _ = discriminator(torch.cat([x, reconstructed.float()]))
    return 0.5 * squared_error(*features.chunk(2)).mean()


def judge(discriminator: Judge, x: Tensor, made: Tensor) -> list[Tensor]:
    """The logits, ``(n,)`` each, of ``x`` ``(n, c, ...)`` and of both halves of ``made`` ``(2 n, c, ...)``.

    They pass as one batch: with batch statistics of their own, all would have the same brightness and contrast.
    """
    _, logits = discriminator(torch.cat([x, made.float()]))
    return list(logits.chunk(3))


class Discriminator(nn.Module):
    """An encoder's body with one logit: images ``(n, c, ...)`` to the features of a layer and logits ``(n,)``, both float32."""

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

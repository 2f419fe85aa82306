"""What every autoencoder offers. A model is one file: its law in the docstring, ``loss`` reading like its equation."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..networks import Architecture
from ..posterior import Posterior


class Autoencoder(nn.Module, ABC):
    """An encoder and a decoder with a loss.

    Parameters
    ----------
    architecture : Architecture
        Of both networks.
    """

    n_heads: ClassVar[int] = 1

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        self.encoder = architecture.encoder(self.n_heads)
        self.decoder = architecture.decoder()

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Codes ``(n, D)`` of images ``(n, 1, ...)``; of a Gaussian posterior, its mean."""

    def decode(self, z: Tensor) -> Tensor:
        """Images ``(n, 1, ...)`` in [0, 1] of latents ``(n, D)``."""
        return self.decoder(z)

    @abstractmethod
    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalars, averaged over the batch; ``"loss"`` is what training minimises, the rest is for the record.

        ``generator`` draws whatever noise the model needs.
        """

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the codes of ``x``."""
        return self.decode(self.encode(x))


class GaussianAutoencoder(Autoencoder):
    """An autoencoder whose posterior is a diagonal Gaussian: what can carry a metric (Sec. 4.3)."""

    n_heads: ClassVar[int] = 2

    @abstractmethod
    def posterior(self, x: Tensor) -> Posterior:
        """q(z|x) of images ``(n, 1, ...)``, in float32."""

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

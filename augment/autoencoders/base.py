"""What every autoencoder offers. A model is one file: its law in the docstring, ``loss`` reading like its equation."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..networks import Architecture
from ..networks.normalisation import twice_differentiable
from ..posterior import Posterior


class Autoencoder(nn.Module, ABC):
    """An encoder and a decoder with a loss.

    Images are ``(n, c, X, Y)`` or ``(n, c, X, Y, Z)`` float32 in [0, 1], of one channel or in colour; codes, the space that a density is
    fitted in and samples are decoded from, are ``(n, D)`` float32. A model's settings are the keywords of its constructor, each with a
    default.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.

    Attributes
    ----------
    title, source : str
        What it is, in a few words, and whose it is: for ``augment models``.
    selected_by : str
        The term of ``loss`` whose validation value chooses the epoch that is kept and halves the learning rate. A game of two players has
        no loss that falls as the model improves: such a model names its reconstruction.
    differentiates_twice : bool
        Whether ``loss`` holds a gradient with respect to codes, through which training passes another time: the decoder is made for it.
    replayable : bool
        Whether ``loss`` runs the same operations on the same tensors at each call, so that a GPU can replay it (``graphs.replayed``). What
        waits for a number of the device's, or takes one of Python's that changes, cannot be.
    """

    n_heads: ClassVar[int] = 1
    title: ClassVar[str]
    source: ClassVar[str]
    selected_by: ClassVar[str] = "loss"
    differentiates_twice: ClassVar[bool] = False
    replayable: ClassVar[bool] = True

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        self.encoder = architecture.encoder(self.n_heads)
        decoder = architecture.decoder()
        self.decoder = twice_differentiable(decoder) if self.differentiates_twice else decoder

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``(n, D)`` of images, without noise."""
        return self.encoder(x)[0].float()

    def decode(self, z: Tensor) -> Tensor:
        """Images in [0, 1] of codes ``(n, D)``."""
        return self.decoder(z)

    @abstractmethod
    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalars, averaged over the batch; ``"loss"`` is what training minimises, the rest is for the record.

        ``generator`` draws whatever noise the model needs. Called without gradients in validation: a loss that itself needs a gradient
        opens ``torch.enable_grad()``.
        """

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the codes of ``x``."""
        return self.decode(self.encode(x))

    def before_epoch(self, images: Tensor, generator: torch.Generator) -> None:
        """Called before each epoch of training with all its images, without gradients: for what a model keeps of the whole set."""


class GaussianAutoencoder(Autoencoder):
    """An autoencoder whose posterior is a diagonal Gaussian: what can carry a metric (Sec. 4.3).

    Where a flow follows the Gaussian, the metric is that of the base: the Riemannian samplers draw in the base's space, and ``transport``
    takes their draws to codes.
    """

    n_heads: ClassVar[int] = 2

    @abstractmethod
    def posterior(self, x: Tensor) -> Posterior:
        """q(z|x) of images, in float32: of the base, where a flow follows."""

    def transport(self, z: Tensor) -> Tensor:
        """Codes ``(n, D)`` of draws from (base) posteriors."""
        return z

    def log_det(self, z: Tensor) -> Tensor:
        """log |det d transport / dz|, ``(n,)`` of ``(n, D)``: what a log density of the base loses as one of codes."""
        return z.new_zeros(len(z))

    def encode(self, x: Tensor) -> Tensor:
        return self.transport(self.posterior(x).mean)


class LearntPrior(ABC):
    """A model that learns its own prior: what the sampler ``vamp`` draws from."""

    @abstractmethod
    def sample_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` codes ``(n, D)``."""

    @abstractmethod
    def log_prior(self, z: Tensor) -> Tensor:
        """Its log density in nats, ``(n,)`` of codes ``(n, D)``."""


class LearntMetric(ABC):
    """A model that learns a Riemannian metric of its own: what the sampler ``own-metric`` draws with."""

    @abstractmethod
    def inverse_metric(self, z: Tensor) -> Tensor:
        """G^-1 at codes ``(n, D)``: ``(n, D, D)``, symmetric and positive definite, differentiable in ``z``."""

    @abstractmethod
    def centroids(self) -> Tensor:
        """``(k, D)``: codes that the metric is anchored at; chains start there."""

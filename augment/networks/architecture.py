"""Which networks there are, and what the encoders and decoders of all of them are.

``light``, ``conv``, ``resnet``
    Scaled to any size (``scaled``).
``paper-mnist``, ``paper-svhn``, ``paper-celeba``, ``paper-oasis``
    Table 4's columns, each at its own size (``paper``); ``paper`` is the one for the images' shape.

Every decoder ends in a sigmoid: images lie in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ...datasets.common.errors import UsageError
from . import paper, scaled


@dataclass(frozen=True)
class Family:
    """Networks that differ only by size.

    Parameters
    ----------
    bodies : callable
        ``(shape, image_channels, latent_dim, width)`` to what comes before the encoder's heads and to what comes before the decoder's
        sigmoid.
    width : int
        Default channels of the first layer, or its units if it is linear.
    centred : bool
        Whether the decoder adds to an image that is set before training (``Decoder.centre_on``).
    """

    bodies: Callable[[tuple[int, ...], int, int, int], tuple[nn.Module, nn.Module]]
    width: int
    centred: bool = False


FAMILIES: dict[str, Family] = {
    "light": Family(scaled.light, 16, centred=True),
    "conv": Family(scaled.conv, 16),
    "resnet": Family(scaled.resnet, 16),
    "paper-mnist": Family(paper.mnist, 128),
    "paper-svhn": Family(paper.svhn, 1000),
    "paper-celeba": Family(paper.celeba, 128),
    "paper-oasis": Family(paper.oasis, 64),
}
CENTRE_FROM_0_AND_1 = 0.01  # at least: beyond it a sigmoid hardly moves
LARGEST = 2**20  # latent dimensions and channels: so that weights can be counted, by which memory is asked for
BY_SHAPE = "paper"
ARCHITECTURES = (*FAMILIES, BY_SHAPE)


@dataclass(frozen=True)
class Architecture:
    """What determines a pair of networks.

    Parameters
    ----------
    name : str
        One of ``ARCHITECTURES``.
    shape : tuple of int
        Shape of the images, ``(X, Y)`` or ``(X, Y, Z)``.
    latent_dim : int
        D.
    channels : int, optional
        Channels of the first convolution (units, where the first layer is linear), which scales all others; by default the family's own.
    image_channels : int
        Colours of the images: 1, or 3.
    """

    name: str
    shape: tuple[int, ...]
    latent_dim: int = 16
    channels: int | None = None
    image_channels: int = 1

    def __post_init__(self) -> None:
        if self.name not in ARCHITECTURES:
            raise UsageError(f"There is no architecture '{self.name}'; choose one of: {', '.join(ARCHITECTURES)}.")
        channels = 1 if self.channels is None else self.channels
        most = max(self.latent_dim, channels)
        if most > LARGEST:
            raise UsageError(f"An architecture has at most {LARGEST:,} latent dimensions and channels, not {most:,}.")
        if min(self.latent_dim, channels, self.image_channels) < 1:
            raise UsageError(
                "An architecture needs at least one latent dimension and one channel, of its own and of its images, "
                f"not {self.latent_dim}, {channels} and {self.image_channels}."
            )

    def encoder(self, n_heads: int) -> "Encoder":
        """A fresh encoder with ``n_heads`` outputs of ``latent_dim`` each."""
        body, _ = self._bodies()
        return Encoder(body, (self.image_channels, *self.shape), self.latent_dim, n_heads)

    def decoder(self) -> "Decoder":
        """A fresh decoder."""
        _, body = self._bodies()
        return Decoder(body, self.latent_dim, (self.image_channels, *self.shape) if self._family.centred else None)

    @property
    def _family(self) -> Family:
        return FAMILIES[paper.family_for(self.shape, self.image_channels) if self.name == BY_SHAPE else self.name]

    def _bodies(self) -> tuple[nn.Module, nn.Module]:
        family = self._family
        bodies = family.bodies(self.shape, self.image_channels, self.latent_dim, family.width if self.channels is None else self.channels)
        for body in bodies:
            _freeze_idle_biases(body)
        return bodies


def _freeze_idle_biases(body: nn.Module) -> None:
    """Have no gradient computed for biases that a batch norm takes away again: it is zero, and takes time."""
    layers = [module for module in body.modules() if not list(module.children())]
    for layer, following in pairwise(layers):
        if isinstance(following, _BatchNorm) and isinstance(layer, _ConvNd) and layer.bias is not None:
            layer.bias.requires_grad_(False)


def default_channels(name: str) -> int | None:
    """The channels that an architecture called ``name`` has by default; ``None`` where the images' shape decides, or there is none."""
    return FAMILIES[name].width if name in FAMILIES else None


class Encoder(nn.Module):
    """A body and, per head, one linear layer: images ``(n, *shape)``, channels first, to a tuple of ``(n, D)``."""

    def __init__(self, body: nn.Module, shape: tuple[int, ...], latent_dim: int, n_heads: int):
        super().__init__()
        self.shape = shape
        self.body = body
        with torch.no_grad():
            # In evaluation mode: batch norms shall not take these zeros for images.
            n_features = body.eval()(torch.zeros(1, *shape)).numel()
        body.train()
        self.heads = nn.ModuleList(nn.Linear(n_features, latent_dim) for _ in range(n_heads))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if x.shape[1:] != self.shape:
            raise ValueError(f"this encoder takes images of shape (n, {', '.join(map(str, self.shape))}), not {tuple(x.shape)}")
        features = self.body(x).flatten(1)
        return tuple(head(features) for head in self.heads)


class Decoder(nn.Module):
    """``(n, D)`` to images in [0, 1], channels first.

    With a ``shape`` it learns what sets an image apart from the one that it is centred on, and not that one too, which takes some hundred
    steps.
    """

    def __init__(self, body: nn.Module, latent_dim: int, shape: tuple[int, ...] | None = None):
        super().__init__()
        self.latent_dim = latent_dim
        self.body = body
        # Before the sigmoid; no parameter, whose noise would be that of every voxel.
        self.centre: Tensor | None
        self.register_buffer("centre", None if shape is None else torch.zeros(1, *shape))

    @torch.no_grad()
    def centre_on(self, image: Tensor) -> None:
        """Have untrained weights decode to about ``image``, ``(c, ...)``, where the decoder has a centre."""
        if self.centre is not None:
            self.centre.copy_(torch.logit(image[None], eps=CENTRE_FROM_0_AND_1))

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"this decoder takes latents of shape (n, {self.latent_dim}), not {tuple(z.shape)}")
        image = self.body(z)
        return torch.sigmoid(image if self.centre is None else image + self.centre)

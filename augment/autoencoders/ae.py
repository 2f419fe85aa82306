"""The plain autoencoder: squared error and nothing else."""

import torch
from torch import Tensor

from .base import Autoencoder


class AE(Autoencoder):
    """Minimises |x - decode(encode(x))|^2, summed over voxels."""

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)[0].float()

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        squared_error = (self.reconstruct(x).float() - x).square().flatten(1).sum(1).mean()
        return {"loss": squared_error, "reconstruction": squared_error}

"""The plain autoencoder: squared error and nothing else."""

import torch
from torch import Tensor

from .base import Autoencoder
from .likelihood import squared_error


class AE(Autoencoder):
    """Minimises |x - decode(encode(x))|^2, summed over voxels."""

    title = "AE: autoencoder"
    source = "Hinton and Salakhutdinov 2006"

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        reconstruction = squared_error(x, self.reconstruct(x)).mean()
        return {"loss": reconstruction, "reconstruction": reconstruction}

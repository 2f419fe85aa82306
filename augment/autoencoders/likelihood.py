"""The Gaussian likelihood of an image, which all probabilistic autoencoders share."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from ...datasets.errors import UsageError

Likelihood = Literal["calibrated", "fixed"]
VARIANCE_FLOOR = 1e-6  # of the calibrated decoder: 8-bit images carry no finer error


def check_likelihood(likelihood: str) -> None:
    """Raise a ``UsageError`` if there is no such likelihood."""
    if likelihood not in get_args(Likelihood):
        raise UsageError(f"The likelihood is 'calibrated' or 'fixed', not '{likelihood}'.")


def squared_error(x: Tensor, decoded: Tensor) -> Tensor:
    """|x - decoded|^2 summed over voxels, ``(n,)`` in float32, of images ``(n, c, ...)``."""
    return (decoded.float() - x).square().flatten(1).sum(1)


def reconstruction_loss(x: Tensor, decoded: Tensor, likelihood: Likelihood) -> Tensor:
    """What the reconstructions ``decoded`` of ``x`` cost, ``(n,)``, one number an image ``(n, c, ...)``, by their squared errors."""
    return loss_of_error(squared_error(x, decoded), x[0].numel(), likelihood)


def loss_of_error(error: Tensor, voxels: int, likelihood: Likelihood) -> Tensor:
    """What squared errors ``(n,)`` of images of so many voxels cost, ``(n,)``.

    ``fixed`` is |x - decoded|^2, the paper's (Eq. 3), so what a weight beta of the KL term means depends on the images' size and contrast.
    ``calibrated`` is -log N(x; decoded, v) in nats, with v at its optimum, the batch's mean squared error (sigma-VAE, Rybkin et al. 2021):
    beta = 1 is then the ELBO.
    """
    if likelihood == "fixed":
        return error
    # At its optimum the variance has no first-order effect: its own gradient is 0.
    variance = (error.detach().mean() / voxels).clamp(min=VARIANCE_FLOOR)
    return 0.5 * (error / variance + voxels * torch.log(2 * math.pi * variance))

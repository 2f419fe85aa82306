"""The Gaussian likelihood of an image, which all probabilistic autoencoders share."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from ...datasets.common.errors import UsageError

Likelihood = Literal["calibrated", "fixed"]
VARIANCE_FLOOR = 1e-6  # of the calibrated decoder: 8-bit images carry no finer error
EM_STEPS = 5  # by then the variance moved by less than 1e-6 of itself, of 70 to 40,000 voxels and errors that differ by 0.3 to 30 %


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


def loss_of_error(error: Tensor, voxels: int, likelihood: Likelihood, mean: Tensor | None = None) -> Tensor:
    """What squared errors ``(n,)`` of images of so many voxels cost, ``(n,)``; ``mean`` sets the variance, else the mean of the errors.

    ``fixed`` is |x - decoded|^2, the paper's (Eq. 3), so what a weight beta of the KL term means depends on the images' size and contrast.
    ``calibrated`` is -log N(x; decoded, v) in nats, with v at its optimum, the batch's mean squared error (sigma-VAE, Rybkin et al. 2021):
    beta = 1 is then the ELBO.
    """
    if likelihood == "fixed":
        return error
    # Where the loss is a mean over images, v is at its optimum and has no first-order effect; a bound of several draws brings its own mean.
    variance = _variance(error.detach().mean() if mean is None else mean, voxels)
    return 0.5 * (error / variance + voxels * torch.log(2 * math.pi * variance))


def importance_weighted_error(error: Tensor, kl: Tensor, voxels: int) -> Tensor:
    """The mean over images of their draws' squared errors, weighted by importance: it sets the calibrated variance of -log mean_k w_k.

    With log w_k = log N(x; x_k, v) - kl_k, the derivative of the mean over images of log mean_k w_k with respect to v is 0 where
    v = mean over images of sum_k (w_k / sum_l w_l) |x - x_k|^2 / voxels. The weights hold v in turn; each step of the iteration raises
    the bound (it is EM, Dempster et al. 1977, of which draw it was). No gradient passes.

    Parameters
    ----------
    error : torch.Tensor
        ``(K, n)``: squared errors of K draws of n images, summed over voxels.
    kl : torch.Tensor
        ``(K, n)``: log q(z_k|x) - log p(z_k).
    voxels : int
        Number of voxels of an image.
    """
    error, kl = error.detach(), kl.detach()
    mean = error.mean()
    for _ in range(EM_STEPS):
        weights = (-0.5 * error / _variance(mean, voxels) - kl).softmax(0)
        mean = (weights * error).sum(0).mean()
    return mean


def _variance(error: Tensor, voxels: int) -> Tensor:
    return (error / voxels).clamp(min=VARIANCE_FLOOR)

"""The Wasserstein autoencoder: the codes of all images together follow the prior, by their maximum mean discrepancy from it."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ...datasets.common.errors import UsageError
from ..draws import normal
from ..networks import Architecture
from .base import Autoencoder
from .likelihood import squared_error

Kernel = Literal["imq", "rbf"]
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the authors' code: far codes too feel a gradient


class WAE(Autoencoder):
    """WAE-MMD with a deterministic encoder: minimises |x - decode(z)|^2 + weight MMD^2(z, N(0, I)) (Tolstikhin et al. 2018, Algorithm 2).

    The kernels are those of their Sec. 4, in units of C = 2 D bandwidth^2, which at a bandwidth of 1 is the mean squared distance of two
    draws of the prior. ``imq`` is inverse multiquadratic, the mean over ``SCALES`` s of s C / (s C + |a - b|^2); ``rbf`` is
    exp(-|a - b|^2 / C). Both are 1 at a = b (the authors sum over the scales), so MMD^2 lies below 2 and ``weight`` is a sum of squared
    errors: at 100, an MMD^2 of 0.01 costs as much as a squared error of 1.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    kernel : {"imq", "rbf"}
        Kernel of the discrepancy.
    bandwidth : float
        In standard deviations of the prior.
    weight : float
        Weight of the discrepancy.
    """

    title = "WAE: codes near the prior by their maximum mean discrepancy"
    source = "Tolstikhin et al. 2018"

    def __init__(self, architecture: Architecture, *, kernel: Kernel = "imq", bandwidth: float = 1.0, weight: float = 100.0):
        super().__init__(architecture)
        if kernel not in get_args(Kernel):
            raise UsageError(f"The kernel is 'imq' or 'rbf', not '{kernel}'.")
        if not (bandwidth > 0 and weight >= 0):
            raise UsageError(f"The bandwidth must be above 0 and the weight 0 or more, not {bandwidth} and {weight}.")
        self.kernel: Kernel = kernel
        self.bandwidth = bandwidth
        self.weight = weight

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        z = self.encode(x)
        prior = normal(z.shape, generator, z.float())
        reconstruction = squared_error(x, self.decode(z)).mean()
        discrepancy = squared_mmd(z, prior, self.kernel, self.bandwidth)
        return {"loss": reconstruction + self.weight * discrepancy, "reconstruction": reconstruction, "mmd": discrepancy}


def squared_mmd(a: Tensor, b: Tensor, kernel: Kernel, bandwidth: float) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy of the laws that ``a`` and ``b``, both ``(n, D)``, are drawn from.

    It is Eq. 3 of Gretton et al. 2012. Where the laws are near it may be negative. Of a single pair there is no estimate: it is 0.
    """
    n = len(a)
    if n < 2:
        return a.new_zeros(())
    unit = 2 * a.shape[1] * bandwidth**2

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        squares = (a[:, None] - b).square().sum(-1)
        if kernel == "rbf":
            return torch.exp(-squares / unit)
        return torch.stack([scale * unit / (scale * unit + squares) for scale in SCALES]).mean(0)

    # A pair of a code with itself, of similarity 1, would bias the mean within a sample.
    within = similarity(a, a).sum() + similarity(b, b).sum() - 2 * n
    return within / (n * (n - 1)) - 2 * similarity(a, b).mean()

"""VAEs whose Gaussian posterior a normalizing flow transports: planar or radial steps, or inverse autoregressive blocks."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...datasets.common.errors import UsageError
from ..networks import Architecture
from ..posterior import log_standard_normal
from .likelihood import Likelihood, reconstruction_loss
from .vae import VAE

Step = Literal["planar", "radial"]
# Of a planar or radial step, in any direction. The papers ask for more than 0, which float32 rounds to 0, where the inverse ends.
LEAST_SLOPE = 1e-3
MOST_STEPS = 1000  # of a flow: what a stranger's configuration can ask for
INITIAL_GATE = 1.5  # Kingma et al. 2016, Sec. 4: blocks that start by letting most of z through


class FlowVAE(VAE):
    """VAE whose posterior is a flow z_K = f_K(... f_1(z_0)) of the Gaussian base q_0(z_0|x).

    Minimises reconstruction of z_K + beta (log q_0(z_0|x) - sum_k log|det df_k/dz_(k-1)| - log N(z_K; 0, I)) at a draw z_0 of q_0
    (Rezende and Mohamed 2015, Eq. 15).

    The flow's parameters are weights, the same for every image, where the originals let the encoder give them. The metric is built
    from the base posteriors, so the Riemannian samplers draw in the base's space, of no image in particular: ``transport`` must be
    defined for them too. The model is then a VAE with a Gaussian posterior whose prior and decoder share a learnt change of variables:
    of z_0, the prior is N(f(z_0); 0, I) |det df/dz_0| and the decoder that of f(z_0).

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    steps : list of torch.nn.Module
        Each gives ``(f(z), log|det df/dz|)``, ``(n, D)`` and ``(n,)``, of ``(n, D)``.
    beta : float
        Weight of the KL term.
    likelihood : {"calibrated", "fixed"}
        Likelihood of the images (``likelihood.reconstruction_loss``).
    """

    def __init__(self, architecture: Architecture, steps: list[nn.Module], *, beta: float, likelihood: Likelihood):
        super().__init__(architecture, beta=beta, likelihood=likelihood)
        self.steps = nn.ModuleList(steps)

    def flow(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The last latents of a flow from ``z`` ``(n, D)``, and the logarithm ``(n,)`` of its determinant's size."""
        log_det = z.new_zeros(len(z))
        # Rounded to bf16, a step would be neither invertible nor of this determinant.
        with torch.autocast(z.device.type, enabled=False):
            for step in self.steps:
                z, change = step(z)
                log_det = log_det + change
        return z, log_det

    def transport(self, z: Tensor) -> Tensor:
        return self.flow(z)[0]

    def log_det(self, z: Tensor) -> Tensor:
        return self.flow(z)[1]

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        posterior = self.posterior(x)
        base = posterior.sample(generator)
        z, log_det = self.flow(base)
        reconstruction = reconstruction_loss(x, self.decode(z), self.likelihood).mean()
        kl = (posterior.log_prob(base) - log_det - log_standard_normal(z)).mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}


class NormalizingFlowVAE(FlowVAE):
    """``FlowVAE`` with planar or radial steps (Rezende and Mohamed 2015, Eqs. 10 and 14), each of as many parameters as D needs.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    beta : float
        Weight of the KL term.
    likelihood : {"calibrated", "fixed"}
        Likelihood of the images (``likelihood.reconstruction_loss``).
    flow : {"planar", "radial"}
        Kind of the steps.
    length : int
        Number of steps, K.
    """

    title = "VAE with planar or radial flow"
    source = "Rezende and Mohamed 2015"

    def __init__(
        self,
        architecture: Architecture,
        *,
        beta: float = 1.0,
        likelihood: Likelihood = "calibrated",
        flow: Step = "planar",
        length: int = 10,
    ):
        if flow not in get_args(Step):
            raise UsageError(f"The flow is 'planar' or 'radial', not '{flow}'.")
        if not 1 <= length <= MOST_STEPS:
            raise UsageError(f"length lies between 1 and {MOST_STEPS}, not at {length}.")
        kind = Planar if flow == "planar" else Radial
        super().__init__(architecture, [kind(architecture.latent_dim) for _ in range(length)], beta=beta, likelihood=likelihood)


class InverseAutoregressiveVAE(FlowVAE):
    """``FlowVAE`` with inverse autoregressive blocks (Kingma et al. 2016, Alg. 1), the order of the units reversed between blocks.

    A block is one pass of a masked network; only its inverse, which nothing here needs, would be sequential.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    beta : float
        Weight of the KL term.
    likelihood : {"calibrated", "fixed"}
        Likelihood of the images (``likelihood.reconstruction_loss``).
    blocks : int
        Number of blocks.
    hidden : int
        Width of both hidden layers of a block; fewer than D - 1 leave some units unread.
    """

    title = "VAE with inverse autoregressive flow"
    source = "Kingma et al. 2016"

    def __init__(
        self,
        architecture: Architecture,
        *,
        beta: float = 1.0,
        likelihood: Likelihood = "calibrated",
        blocks: int = 4,
        hidden: int = 64,
    ):
        if not 1 <= blocks <= MOST_STEPS or hidden < 1:
            raise UsageError(f"blocks lies between 1 and {MOST_STEPS} and hidden is 1 or more, not {blocks} and {hidden}.")
        steps: list[nn.Module] = [InverseAutoregressive(architecture.latent_dim, hidden, reverse=i % 2 == 1) for i in range(blocks)]
        super().__init__(architecture, steps, beta=beta, likelihood=likelihood)


class Planar(nn.Module):
    """f(z) = z + u tanh(w . z + b) (Eq. 10), whose determinant is 1 + (1 - tanh^2) u . w.

    It is invertible where u . w > -1. As in the paper's appendix A.1 the part of u along w is replaced so that this holds for any
    parameters; unlike there, u . w = 0 stays as it is, so that u does not grow without bound as w vanishes.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.w = nn.Parameter(torch.randn(dim) / math.sqrt(dim))
        self.u = nn.Parameter(0.1 * torch.randn(dim))
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        free = self.w @ self.u
        allowed = _above_minus_one(free)
        squared = self.w.square().sum().clamp(min=torch.finfo(z.dtype).tiny)
        u = self.u + (allowed - free) * self.w / squared
        height = torch.tanh(z @ self.w + self.b)
        return z + u * height[:, None], torch.log1p((1 - height.square()) * allowed)


class Radial(nn.Module):
    """f(z) = z + beta (z - z_0) / (alpha + |z - z_0|) (Eq. 14), alpha > 0, invertible where beta > -alpha (appendix A.2).

    With t = alpha / (alpha + |z - z_0|) and beta = alpha s its determinant is (1 + s t)^(D - 1) (1 + s t^2), above 0 for s > -1.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.centre = nn.Parameter(torch.randn(dim))
        self.radius = nn.Parameter(torch.zeros(()))
        self.strength = nn.Parameter(0.1 * torch.randn(()))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        offset = z - self.centre
        alpha = functional.softplus(self.radius) + torch.finfo(z.dtype).eps
        strength = _above_minus_one(self.strength)
        near = alpha / (alpha + torch.linalg.vector_norm(offset, dim=1))
        log_det = (z.shape[1] - 1) * torch.log1p(strength * near) + torch.log1p(strength * near.square())
        return z + strength * near[:, None] * offset, log_det


class InverseAutoregressive(nn.Module):
    """f(z) = g z + (1 - g) m, whose gates g = sigmoid(s) and means m read of z only the units before their own.

    The determinant is the product of the gates. Masks as in MADE (Germain et al. 2015): unit i has degree i, or D + 1 - i in
    ``reverse``, and connections never lead to a lower degree, nor to an output from its own.
    """

    def __init__(self, dim: int, hidden: int, *, reverse: bool = False):
        super().__init__()
        degrees = torch.arange(1, dim + 1)
        degrees = degrees.flip(0) if reverse else degrees
        inner = 1 + torch.arange(hidden) % max(dim - 1, 1)
        self.first = MaskedLinear(inner[:, None] >= degrees)
        self.second = MaskedLinear(inner[:, None] >= inner)
        self.gate = MaskedLinear(degrees[:, None] > inner)
        self.mean = MaskedLinear(degrees[:, None] > inner)
        nn.init.constant_(self.gate.bias, INITIAL_GATE)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        features = functional.elu(self.second(functional.elu(self.first(z))))
        s = self.gate(features)
        gate = torch.sigmoid(s)
        return gate * z + (1 - gate) * self.mean(features), functional.logsigmoid(s).sum(1)


class MaskedLinear(nn.Linear):
    """Linear, with the connections of ``mask`` ``(outputs, inputs)`` alone."""

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return functional.linear(input, self.weight * self.mask, self.bias)


def _above_minus_one(free: Tensor) -> Tensor:
    """A smooth, increasing map of all numbers to those above -1 + LEAST_SLOPE, 0 to 0 and large ones to a little less."""
    return functional.softplus(free + math.log(math.expm1(1 - LEAST_SLOPE))) - (1 - LEAST_SLOPE)

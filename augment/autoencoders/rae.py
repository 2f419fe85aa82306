"""Regularised autoencoders: no noise, small codes, and a decoder that is kept smooth in one of four ways."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ...datasets.common.errors import UsageError
from ..draws import signs
from ..networks import Architecture
from .base import Autoencoder
from .likelihood import squared_error

LAYERS = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class RAE(Autoencoder):
    """RAE: minimises |x - decode(z)|^2 + code_weight |z|^2 / 2 (Ghosh et al. 2020, Sec. 3), the decoder left as it is.

    With unit prior variance that is the posterior's mode under a noise of variance code_weight / 2 in each voxel: the default, 0.01, is
    that of an error of 0.07 in images from 0 to 1, and the weight that the paper's VAE has on MNIST (its KL contains |z|^2 / 2 too).

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    code_weight : float
        Weight of the codes' squared length.
    """

    title = "RAE: small codes"
    source = "Ghosh et al. 2020"

    def __init__(self, architecture: Architecture, *, code_weight: float = 0.01):
        super().__init__(architecture)
        self.code_weight = _checked("code_weight", code_weight)

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        z = self.encode(x)
        return self._terms(x, z, self.decode(z))

    def _terms(self, x: Tensor, z: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        reconstruction = squared_error(x, decoded).mean()
        code = 0.5 * z.square().sum(1).mean()
        return {"loss": reconstruction + self.code_weight * code, "reconstruction": reconstruction, "code": code}


class RAEL2(RAE):
    """RAE-L2: adds weight_decay |theta|^2, theta the decoder's weights (Ghosh et al. 2020, Sec. 3.1).

    Weights are those of linear layers and convolutions, not their biases, nor batch norm's. In a fresh decoder of Table 4 |theta|^2 is
    some 22,000: at the default, 0.001, that costs as much as a squared error of 22, which is of the order of a digit's.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    code_weight : float
        Weight of the codes' squared length.
    weight_decay : float
        Weight of the decoder's squared weights; a term of the loss, which Adam scales as any other.
    """

    title = "RAE-L2: small codes, small decoder weights"

    def __init__(self, architecture: Architecture, *, code_weight: float = 0.01, weight_decay: float = 1e-3):
        super().__init__(architecture, code_weight=code_weight)
        self.weight_decay = _checked("weight_decay", weight_decay)

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        terms = super().loss(x, generator)
        decoder = torch.stack([layer.weight.square().sum() for layer in self.decoder.modules() if isinstance(layer, LAYERS)]).sum()
        return terms | {"loss": terms["loss"] + self.weight_decay * decoder, "decoder": decoder}


class RAEGP(RAE):
    """RAE-GP: adds gradient_weight |J|^2, J the decoder's Jacobian at the codes (Ghosh et al. 2020, Sec. 3.1).

    To first order s^2 |J|^2 is the squared error that noise of standard deviation s in the codes causes: the default, 0.01, smooths the
    decoder as posteriors of standard deviation 0.1 would. |J|^2 = E|J^T e|^2 for random signs e (Hutchinson 1990): one product with e per
    step estimates it without bias. Batch norm in training ties the images of a batch together: J is then the Jacobian of the batch as a
    whole.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    code_weight : float
        Weight of the codes' squared length.
    gradient_weight : float
        Weight of the Jacobian's squared Frobenius norm.
    """

    title = "RAE-GP: small codes, small gradient of the decoder"
    differentiates_twice = True

    def __init__(self, architecture: Architecture, *, code_weight: float = 0.01, gradient_weight: float = 0.01):
        super().__init__(architecture, code_weight=code_weight)
        self.gradient_weight = _checked("gradient_weight", gradient_weight)

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        trains = torch.is_grad_enabled()
        z = self.encode(x)
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            decoded = self.decode(z).float()
            directions = signs(decoded.shape, generator, decoded)
            (product,) = torch.autograd.grad(decoded, z, directions, create_graph=trains, retain_graph=trains)
        terms = self._terms(x, z, decoded)
        gradient = product.square().sum(1).mean()
        return terms | {"loss": terms["loss"] + self.gradient_weight * gradient, "gradient": gradient}


class RAESN(RAE):
    """RAE-SN: RAE whose decoder's weights each have spectral norm 1 (Ghosh et al. 2020, Sec. 3.1; Miyato et al. 2018).

    The norm is followed by one power iteration a step, and fixed in evaluation. Of a convolution it is that of its kernel as a matrix with
    a row per output channel. Batch norm after a layer scales its output anew, so the decoder as a whole is not bound to a slope.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks.
    code_weight : float
        Weight of the codes' squared length.
    """

    title = "RAE-SN: small codes, decoder weights of spectral norm 1"
    source = "Ghosh et al. 2020; Miyato et al. 2018 for the norm"

    def __init__(self, architecture: Architecture, *, code_weight: float = 0.01):
        super().__init__(architecture, code_weight=code_weight)
        for layer in list(self.decoder.modules()):
            if isinstance(layer, LAYERS):
                spectral_norm(layer)


def _checked(name: str, weight: float) -> float:
    if not weight >= 0:
        raise UsageError(f"{name} must be 0 or more, not {weight}.")
    return weight

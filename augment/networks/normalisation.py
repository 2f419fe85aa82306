"""Batch norm whose gradient can be differentiated once more at the price of a few passes.

Models whose loss holds a gradient of their decoder (HVAE, RHVAE, RAE-GP) differentiate its batch norms twice. torch has no kernel for that:
it writes the second derivative as dozens of element-wise passes, in float32 and in the plain memory layout. Here it is put together from
kernels that torch has (measured in docs/results/benchmarks-training.md).
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

_backward_kernel = torch.ops.aten.native_batch_norm_backward

Network = TypeVar("Network", bound=nn.Module)


class _TwiceDifferentiable(_BatchNorm):
    """Batch norm with running statistics and an affine part, as all networks here have it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        if input.numel() == input.shape[1]:
            raise ValueError(f"Batch norm learns from more than one value a channel, not from {tuple(input.shape)}.")
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return _Normalise.apply(input, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps)


class BatchNorm2d(_TwiceDifferentiable, nn.BatchNorm2d):
    """Batch norm of images ``(n, c, X, Y)``."""


class BatchNorm3d(_TwiceDifferentiable, nn.BatchNorm3d):
    """Batch norm of volumes ``(n, c, X, Y, Z)``."""


def twice_differentiable(network: Network) -> Network:
    """``network`` itself, its batch norms differentiated in this module's way; what they give, their weights and their state stay."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = BatchNorm2d
        elif type(module) is nn.BatchNorm3d:
            module.__class__ = BatchNorm3d
    return network


class _Normalise(torch.autograd.Function):
    """y = w h + b with h = (x - mean) s, by channels; s = 1 / sqrt(variance + eps)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
    ) -> Tensor:
        y, mean, scale = torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*_Gradient.apply(*gradients, *ctx.saved_tensors), None, None, None, None)


class _Gradient(torch.autograd.Function):
    """Gradients of a loss L with g = dL/dy: dL/dx = w s (g - <g> - h <gh>), dL/dw = n <gh>, dL/db = n <g>.

    Pointed brackets are means over the n voxels of a channel.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        d_x, d_weight, d_bias = _gradients(g, x, weight, mean, scale)
        ctx.save_for_backward(g, x, weight, mean, scale, d_weight, d_bias)
        return d_x, d_weight, d_bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of S = sum v dL/dx + sum p dL/dw + sum q dL/db.

        By dh_j / dx_i = s (delta_ij - 1/n - h_i h_j / n), and with R = <vg> - <v><g> - <vh><gh>,

            dS/dg = w s (v - <v> - h <vh>) + p h + q,
            dS/dw = n s R,
            dS/dx = p s (g - <g> - h <gh>) - w s^2 (<vh> (g - <g> - h <gh>) + <gh> (v - <v> - h <vh>) + R h).
        """
        v, p, q = gradients
        g, x, weight, mean, scale, of_weight, of_bias = ctx.saved_tensors
        n = x.numel() // x.shape[1]
        if v is None:
            v = torch.zeros_like(x)
        d_g, vh, v_mean = _gradients(v, x, weight, mean, scale)
        # The weight's gradient for the mean 0 and the scale 1 sums a product of two maps by channels. CUDA's kernel needs a weight for it.
        zero, one = torch.zeros_like(mean), torch.ones_like(scale)
        vg = _backward_kernel(v, g, one, None, None, zero, one, True, 0.0, (False, True, False))[1]
        vh, v_mean, vg, gh, g_mean = vh / n, v_mean / n, vg / n, of_weight / n, of_bias / n
        spread = vg - v_mean * g_mean - vh * gh
        of_g, of_v, of_h = (-weight * scale.square() * factor for factor in (vh, gh, spread))
        if p is not None:
            of_g = of_g + p * scale
            d_g = d_g + _affine(x, p * scale, -p * scale * mean)
        if q is not None:
            d_g = d_g + q.view(-1, *[1] * (x.ndim - 2)).to(d_g.dtype)
        of_h = (of_h - of_g * gh - of_v * vh) * scale
        # Each map loses its own mean before it is rounded: of a map far from 0 little else would be left in bf16.
        terms = ((g, of_g, g_mean), (v, of_v, v_mean), (x, of_h, mean))
        d_x, *others = (_affine(values, factor, -factor * centre) for values, factor, centre in terms)
        for other in others:
            d_x += other
        return d_g, d_x, n * scale * spread, None, None


def _gradients(g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of a loss in x, weight and bias, of its gradient ``g`` in y: torch's kernel."""
    return _backward_kernel(g, x, weight, None, None, mean, scale, True, 0.0, (True, True, True))


def _affine(x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """factor x + shift by channels, in one pass whatever the precision of ``x``: batch norm with statistics that change nothing."""
    return torch.native_batch_norm(x, factor, shift, torch.zeros_like(factor), torch.ones_like(factor), False, 0.0, 0.0)[0]

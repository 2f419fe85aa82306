"""Transposed convolutions that give odd outputs as part of even ones.

oneDNN has fast bf16 kernels for stride 2 only where the sides of the output are even: a step of training on others takes 1.4 to 2.8 times
as long (torch 2.13; in float32 there is little in it).
"""

from functools import partial

from torch import Tensor, nn

Transposed = nn.ConvTranspose2d | nn.ConvTranspose3d


def with_even_outputs(layer: Transposed) -> Transposed:
    """Have ``layer`` compute one row more than it gives where its output is odd; what it gives, and its weights, stay what they are.

    For stride 2 without dilation; with padding 0 and output padding 1 it stays odd. What ``layer.padding`` and ``layer.output_padding``
    say afterwards is what is computed; an ``output_size`` cannot be asked for.
    """
    sides = [_evened(*side) for side in zip(layer.kernel_size, layer.stride, layer.padding, layer.output_padding, strict=True)]  # type: ignore[arg-type]
    layer.padding = tuple(side[0] for side in sides)  # type: ignore[assignment]
    layer.output_padding = tuple(side[1] for side in sides)  # type: ignore[assignment]
    margins = [-n for side in reversed(sides) for n in side[2:]]
    if any(margins):
        layer.register_forward_hook(partial(_cut, margins))
    return layer


def _cut(margins: list[int], _layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    # A negative padding, not a slice: its gradient keeps the memory layout.
    return nn.functional.pad(output, margins)


def _evened(kernel: int, stride: int, padding: int, output_padding: int) -> tuple[int, int, int, int]:
    """Padding and output padding that make a side even under stride 2, and what is then to be cut off before it and behind it."""
    if stride != 2 or (kernel + output_padding) % 2 == 0:
        return padding, output_padding, 0, 0
    if output_padding == 0:
        return padding, 1, 0, 1
    return (padding - 1, 0, 1, 0) if padding else (padding, output_padding, 0, 0)

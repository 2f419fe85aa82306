"""The classifier of Table 5, for images and volumes of any size, and networks of a user's own."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..datasets.common.errors import TinycohortError, UsageError

CHANNELS = (8, 16, 32, 64)  # Table 5
STRIDES = (1, 1, 2, 2)  # Table 5
HIDDEN = 100  # Table 5

NetworkBuilder = Callable[[tuple[int, ...], int], nn.Module]
"""From an image's shape and the number of classes to a network from images ``(n, 1, *shape)`` to logits ``(n, n_classes)``.

On a GPU the steps of a network that has an attribute ``replayable`` that is true are recorded and replayed (``graphs.replayed``): one
whose ``forward`` runs the same operations at each call, and draws from no random numbers but torch's.
"""


class CNN(nn.Module):
    """Four blocks of convolution, batch norm, 2-wide max-pooling and leaky ReLU, then two linear layers (Table 5).

    Table 5 does not pad. Where that leaves 2 voxels a side, as at 208 x 176, the network is Table 5's; for all other sizes the convolutions
    pad by 1, and the last pooling adapts to 2 voxels a side. So there are 256 features of an image always, and 512 of a volume.

    Parameters
    ----------
    shape : tuple of int
        ``(X, Y)`` or ``(X, Y, Z)``.
    n_classes : int
        Two or more.
    """

    replayable = True

    def __init__(self, shape: tuple[int, ...], n_classes: int):
        super().__init__()
        if len(shape) not in (2, 3) or n_classes < 2:
            raise ValueError(f"the classifier takes images of 2 or 3 dimensions and 2 classes or more, not {shape} and {n_classes}")
        self.shape = tuple(shape)
        dims = len(shape)
        convolution, norm, _ = _LAYERS[dims]
        padding = 0 if all(_table_5_side(side) == 2 for side in shape) else 1
        sides, channels, blocks = self.shape, 1, []
        for block, (width, stride) in enumerate(zip(CHANNELS, STRIDES, strict=True)):
            last = block == len(CHANNELS) - 1
            sides = tuple((side + 2 * padding - 3) // stride + 1 for side in sides)
            # The leaky ReLU increases, so it may follow the pooling: the same function on a quarter of the values.
            blocks += [
                convolution(channels, width, 3, stride, padding),
                norm(width),
                _to_two(sides) if last and padding else _halving(sides),
                nn.LeakyReLU(),
            ]
            sides, channels = tuple(max(side // 2, 1) for side in sides), width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS[-1] * 2**dims, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """From images ``(n, 1, *shape)`` to logits ``(n, n_classes)``: the softmax of Table 5 is the loss's."""
        return self.head[-1](self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """From images ``(n, 1, *shape)`` to what the last layer sees of them, ``(n, 100)``."""
        if x.shape[1:] != (1, *self.shape):
            raise ValueError(f"this classifier takes images of shape (n, 1, {', '.join(map(str, self.shape))}), not {tuple(x.shape)}")
        return self.head[:-1](self.blocks(x))


_LAYERS = {2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d), 3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)}


def _table_5_side(side: int) -> int:
    """What Table 5's convolutions and poolings leave of a side, without padding."""
    for stride in STRIDES:
        side = ((side - 3) // stride + 1) // 2
    return side


def _halving(sides: tuple[int, ...]) -> nn.Module:
    """Pooling 2 wide, but along axes that are down to one voxel."""
    return _LAYERS[len(sides)][2](tuple(min(2, side) for side in sides))


def _to_two(sides: tuple[int, ...]) -> nn.Module:
    """Adaptive pooling to 2 a side, as the fixed windows that it comes to: of images their gradient is deterministic on GPUs too."""
    if min(sides) < 2:  # repeats the one voxel, which no fixed window does
        return (nn.AdaptiveMaxPool2d if len(sides) == 2 else nn.AdaptiveMaxPool3d)(2)
    return _LAYERS[len(sides)][2](tuple(-(-side // 2) for side in sides), tuple(side // 2 for side in sides))


def load_network(path: str) -> NetworkBuilder:
    """The builder that an import path names; as ``load_function``."""
    return cast(NetworkBuilder, load_function(path, "network", "one that returns an nn.Module"))


def load_function(path: str, what: str, kind: str) -> Callable[..., Any]:
    """The function that an import path names: ``package.module:function``.

    Importing a module runs it, so the path may come from the command line only, never from a configuration file. Modules of the working
    folder are found, after all that is installed.

    Parameters
    ----------
    path : str
    what, kind : str
        For errors: what the path stands for, and what kind of function it must name.

    Raises
    ------
    UsageError
        If there is no such module or function, or the module fails when it is imported.
    """
    match = re.fullmatch(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", path)
    if match is None:
        raise UsageError(f"The {what} is named as package.module:function, not '{path}'.")
    module_name, name = match.groups()
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(f"The {what} {path}: {module_name} cannot be imported ({type(error).__name__}: {error}).") from error
    finally:
        sys.path.remove(here)
    function = getattr(module, name, None)
    if function is None:
        raise UsageError(f"The {what} {path}: {module_name} ({getattr(module, '__file__', 'built in')}) has no '{name}'.")
    if not callable(function):
        raise UsageError(f"The {what} {path}: {name} is no function but {type(function).__name__}; name {kind}.")
    return function


def build_network(builder: NetworkBuilder, shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """A network that is known to take such images and to give such logits.

    Parameters
    ----------
    builder : callable
        What ``networks.network_of`` found.
    shape : tuple of int
        ``(X, Y)`` or ``(X, Y, Z)``.
    n_classes : int
        Two or more.

    Raises
    ------
    UsageError
        If what the builder returns is no network with weights from ``(n, 1, *shape)`` to ``(n, n_classes)``.
    """
    name = getattr(builder, "__name__", repr(builder))
    try:
        network = builder(tuple(shape), n_classes)
    except TinycohortError:
        raise
    except Exception as error:
        raise UsageError(f"The network: {name}({tuple(shape)}, {n_classes}) fails ({type(error).__name__}: {error}).") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"The network: {name} must return an nn.Module, not {type(network).__name__}.")
    if not any(weight.requires_grad for weight in network.parameters()):
        raise UsageError(f"The network: {name} returns one that has nothing to learn; give it parameters.")
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, 1, *shape))
    except Exception as error:
        raise UsageError(f"The network: what {name} returns fails on images {(2, 1, *shape)} ({type(error).__name__}: {error}).") from error
    if not isinstance(logits, Tensor) or logits.shape != (2, n_classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(
            f"The network: of 2 images and {n_classes} classes what {name} returns gives {got}; it must give logits (2, {n_classes})."
        )
    return network.train()

"""The classifiers that have a name, and what else a user may name in their place."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.common.errors import UsageError
from .network import CNN, NetworkBuilder, load_network
from .weights import Loaded, begun_with

SMALLEST = 32  # voxels a side: a DenseNet halves five times
# A quarter of ResNet-10's: tens of people are too few for its 5 million weights, and its steps take 10 times as long.
PLANES = (16, 32, 64, 128)


def resnet(shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """A ResNet-10 with a quarter of the channels (He et al. 2016; MONAI's), for few images and for processors."""
    from monai.networks.nets.resnet import ResNet

    layers, dims = [1, 1, 1, 1], len(shape)
    network = ResNet("basic", layers, list(PLANES), spatial_dims=dims, n_input_channels=1, conv1_t_stride=2, num_classes=n_classes)
    network.replayable = True  # type: ignore[assignment]  # a module takes any attribute
    return network


class PaddedDenseNet(nn.Module):
    """DenseNet-121 (Huang et al. 2017; MONAI's); images of less than 32 voxels a side get a black margin.

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
        from monai.networks.nets.densenet import DenseNet121

        missing = [max(SMALLEST - side, 0) for side in shape]
        # torch pads the last axis first.
        self.margin = [width for side in reversed(missing) for width in (side // 2, side - side // 2)]
        self.network = DenseNet121(spatial_dims=len(shape), in_channels=1, out_channels=n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """From images ``(n, 1, *shape)`` to logits ``(n, n_classes)``."""
        return self.network(F.pad(x, self.margin))


BEGUN = "+weights"  # behind a name: begins with the weights of a file
DEFAULT_NETWORK = "cnn"
NETWORKS: Mapping[str, NetworkBuilder] = MappingProxyType({DEFAULT_NETWORK: CNN, "resnet": resnet, "densenet121": PaddedDenseNet})


def network_of(text: str, weights: Path | None = None, on_loaded: Callable[[Loaded], None] = lambda loaded: None) -> NetworkBuilder:
    """The builder that a name of ``NETWORKS`` stands for, or an import path as ``load_network`` takes it.

    A name runs no code but ours, so that a configuration file may have it; a path may come from the command line only.

    Parameters
    ----------
    text : str
        With ``+weights`` behind it, its networks begin with those of the file.
    weights : Path, optional
        As for ``weights.read_weights``.
    on_loaded : callable
        As for ``weights.begun_with``.

    Raises
    ------
    UsageError
        If it is neither, or shall begin with weights that are not given.
    DataError
        If the file has none.
    """
    name = text.removesuffix(BEGUN)
    if name not in NETWORKS and ":" not in name:
        raise UsageError(f"There is no network '{name}': name one of {', '.join(NETWORKS)}, or your own as package.module:function.")
    builder = NETWORKS[name] if name in NETWORKS else load_network(name)
    if name == text:
        return builder
    if weights is None:
        raise UsageError(f"The network '{text}' begins with weights from a file: give --weights.")
    return begun_with(builder, weights, on_loaded)

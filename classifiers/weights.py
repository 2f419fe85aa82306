"""Networks that do not begin at random: weights from a local file, of whatever task they were learnt at."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..datasets.common.errors import DataError
from ..datasets.common.words import listed
from .network import NetworkBuilder

# What torchvision calls the parts of a DenseNet, and what MONAI calls them.
SPELLINGS = (
    (re.compile(r"(denselayer\d+)\.(norm|conv)\.?([12])\."), r"\1.layers.\2\3."),
    (re.compile(r"^classifier\."), "class_layers.out."),
)
LEAST_SHARE = 0.5  # of a network's tensors that a file must have: with fewer it would begin almost at random
WRAPPERS = ("module.", "network.", "model.", "state_dict.")  # what training loops and our own margin put before the names


@dataclass(frozen=True)
class Loaded:
    """What became of the weights of a file.

    Parameters
    ----------
    loaded : tuple of str
        Names in the network of what it has from the file.
    fresh : tuple of str
        Of what begins at random as ever, since the file has nothing of that name and shape: the last layer, for other classes.
    unused : tuple of str
        Names in the file of what has no place in the network.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        left_out = [f"not in the file: {listed(self.fresh, most=3)}"] * bool(self.fresh) + [
            f"not used: {listed(self.unused, most=3)}"
        ] * bool(self.unused)
        return "; ".join([f"{len(self.loaded)} of {len(self.loaded) + len(self.fresh)} tensors loaded", *left_out])


def begun_with(builder: NetworkBuilder, path: Path, on_loaded: Callable[[Loaded], None] = lambda loaded: None) -> NetworkBuilder:
    """A builder whose networks begin with the weights of a file, as ``load_weights``; the file is read once.

    Parameters
    ----------
    builder : callable
        Of the network that they are of (``networks.NETWORKS``).
    path : Path
        As for ``read_weights``.
    on_loaded : callable
        Called for each network that is built with what became of the weights.
    """
    tensors = read_weights(path)

    @wraps(builder)
    def built(shape: tuple[int, ...], n_classes: int) -> nn.Module:
        network = builder(shape, n_classes)
        on_loaded(load_weights(network, tensors, str(path)))
        return network

    return built


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a PyTorch state dict; nothing is unpickled but tensors.

    Raises
    ------
    DataError
        If it is neither.
    """
    if not path.is_file():
        raise DataError(f"There are no weights at {path}.")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a broken file makes a reader raise is without end
        raise DataError(
            f"{path} has no weights that can be read without running code; save the network's state_dict() as safetensors."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise DataError(f"{path} holds no tensors by name; save the network's state_dict() as safetensors.")
    return tensors


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> Loaded:
    """Give a network those weights that fit it by name and shape.

    Names may be torchvision's or MONAI's. A first convolution of colours is summed over them: it sees of a grey image what it saw of one
    in colour.

    Parameters
    ----------
    network : torch.nn.Module
        Changed.
    tensors : mapping
        By name, as ``read_weights`` gives them.
    source : str
        Where they are from, for the error.

    Raises
    ------
    DataError
        If less than half of its tensors are there, so that the file is of another network.
    """
    own = network.state_dict()
    places = {_plain(name): name for name in own}
    found, unused = {}, []
    for name, value in tensors.items():
        place = places.get(_plain(name))
        fitting = None if place is None else _fitted(value, own[place])
        if place is None or fitting is None:
            unused.append(name)
        else:
            found[place] = fitting
    if len(found) < LEAST_SHARE * len(own):
        raise DataError(
            f"{f'Only {len(found)}' if found else 'No'} weights of {source} fit the {len(own)} of this network ({type(network).__name__}): "
            f"it has {listed(tuple(tensors), most=3)}, the network {listed(tuple(own), most=3)}; name the network that they are of."
        )
    network.load_state_dict(own | found)
    return Loaded(tuple(found), tuple(name for name in own if name not in found), tuple(sorted(unused)))


def _plain(name: str) -> str:
    """A weight's name as MONAI has it, without wrappers."""
    while (wrapper := next((word for word in WRAPPERS if name.startswith(word)), "")) != "":
        name = name.removeprefix(wrapper)
    for pattern, spelling in SPELLINGS:
        name = pattern.sub(spelling, name)
    return name


def _fitted(value: Tensor, own: Tensor) -> Tensor | None:
    """The weights in the shape that the network has, or None."""
    if value.ndim == own.ndim >= 4 and value.shape[1] == 3 and own.shape[1] == 1:
        value = value.sum(dim=1, keepdim=True)
    return value.to(own.dtype) if value.shape == own.shape else None

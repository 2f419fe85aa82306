"""A device that is none: what lies on it lies in the processor's memory, but as on a GPU it meets nothing of the processor's.

Numbers are the processor's to the last digit, so that whoever computes there what is computed here must find the same. What a GPU refuses
is refused: a tensor or a generator of the processor's beside one of the device's (but for single numbers, and for rows to be picked), and
NumPy. Speed, kernels of a GPU's own and their rounding do not show.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from tinycohort.datasets.common import compute

NAME = "pretended"
BETWEEN = ("aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::_copy_from_and_resize")  # devices, as it is meant
PICKS = ("aten::index", "aten::_index", "aten::_unsafe_index")  # rows, whose numbers may be on the processor

_registered: list[torch.library.Library] = []


class Pretended(torch.Tensor):
    """A tensor of the device's, and the processor's that it ``holds``."""

    holds: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Pretended":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, device=torch.device(NAME, 0), **layout)
        made.holds = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("a tensor of the device's is no array of NumPy's: copy it to the processor first")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.holds.tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device)


class PretendedGenerator(torch.Generator):
    """A generator that says where it was asked for, and draws what the processor's does."""

    def __new__(cls, device: Any = "cpu") -> "PretendedGenerator":
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0) if self.place.type == NAME else self.place


class Generators(TorchFunctionMode):
    """Refuses a generator that is on another device than what is drawn."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(generator := kwargs.get("generator"), PretendedGenerator):
            tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
            place = tensors[0].device if tensors else torch.device(kwargs.get("device") or "cpu")
            if generator.device.type != place.type:
                raise RuntimeError(f"{func}: a generator on {generator.device} for what is on {place}")
        return func(*args, **kwargs)


class Makers(TorchDispatchMode):
    """Makes new tensors of the device's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = torch.device(kwargs.get("device") or "cpu")
        if asked.type == NAME and not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(args)):
            return Pretended(func(*args, **kwargs | {"device": torch.device("cpu")}))
        return func(*args, **kwargs)


class Backend(_DummyBackendModule):
    """What torch asks a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def _knowing(function: Any) -> Any:
    """``torch.tensor`` and ``torch.as_tensor``, which know nothing of a device of Python's."""

    def made(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        given = function(data, **options)
        return given if device is None else given.to(device)

    return made


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Do it on the processor, with what is held."""
    name = func.name()
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if not name.startswith((*BETWEEN, *PICKS)):
        for tensor in tensors:
            if not isinstance(tensor, Pretended) and tensor.ndim:
                raise RuntimeError(f"{name}: a tensor {tuple(tensor.shape)} of the processor's beside one of the device's")
    back = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"
    given = func(*_held(args), **_held(kwargs))
    if back:
        return given
    known = {id(tensor.holds): tensor for tensor in tensors if isinstance(tensor, Pretended)}

    def of_leaf(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else Pretended(leaf)  # what was changed in place is the same tensor

    return tree_map(of_leaf, given)


def _held(arguments: Any) -> Any:
    def of_leaf(leaf: Any) -> Any:
        if isinstance(leaf, torch.device):
            return torch.device("cpu")
        return leaf.holds if isinstance(leaf, Pretended) else leaf

    return tree_map(of_leaf, arguments)


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """The device; where ``--device gpu`` is asked for meanwhile, it is meant."""
    if not _registered:  # once a process, and for good: torch takes no name back
        _setup_privateuseone_for_python_backend(NAME, Backend())
        _registered.append(torch.library.Library("_", "IMPL"))
        _registered[0].fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    device, chosen = torch.device(NAME, 0), compute.choose_device
    replaced = {
        chosen: lambda name: device if name == "gpu" else chosen(name),
        compute.laid_out: lambda model, _: model,  # sums along another layout are rounded otherwise
    }
    ours = [module for name, module in sys.modules.items() if name.startswith("tinycohort.")]
    patches = [
        patch.object(module, old.__name__, new) for old, new in replaced.items() for module in ours if vars(module).get(old.__name__) is old
    ]
    patches += [patch.object(torch, name, _knowing(getattr(torch, name))) for name in ("tensor", "as_tensor")]
    patches.append(patch.object(torch, "Generator", PretendedGenerator))
    patches.append(patch.object(torch, "inference_mode", torch.no_grad))  # whose tensors torch does not wrap
    for each in patches:
        each.start()
    try:
        with Generators(), Makers():
            yield device
    finally:
        for each in patches:
            each.stop()

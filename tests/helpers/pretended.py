"""A device that is none: what lies on it lies in the processor's memory, but as on a GPU it meets nothing of the processor's.

Numbers are the processor's to the last digit, so that whoever computes there what is computed here must find the same; ``computed_on`` sees
that it was computed there at all. What a GPU refuses is refused: a tensor or a generator of the processor's beside one of the device's (but
for single numbers, and for rows to be picked), and NumPy. Speed, kernels of a GPU's own and their rounding do not show.
"""

import sys
from collections import Counter
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
BETWEEN = {"aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::_copy_from_and_resize"}  # devices, as it is meant
PICKING = {"aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}  # by numbers of anywhere
JOINING = {"aten::cat", "aten::stack"}  # of single numbers too
HEAVY = {f"aten::{name}" for name in ("convolution", "addmm", "mm", "bmm", "baddbmm", "grid_sampler_2d", "grid_sampler_3d")}

_registered: list[torch.library.Library] = []
_there: Counter[str] = Counter()  # what was done on the device, by name
_here: Counter[str] = Counter()  # and on the processor


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
    """Makes new tensors of the device's, and counts what is done on the processor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        if not tensors and torch.device(kwargs.get("device") or "cpu").type == NAME:
            return Pretended(func(*args, **kwargs | {"device": torch.device("cpu")}))
        if not any(isinstance(tensor, Pretended) for tensor in tensors):
            _here[_name(func)] += 1
        return func(*args, **kwargs)


class Backend(_DummyBackendModule):
    """What torch asks a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def _name(func: Any) -> str:
    return func.name().split(".")[0]


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Do it on the processor, with what is held."""
    name = _name(func)
    if name not in BETWEEN:
        _require_there(name, args, kwargs)
    _there[name] += 1
    given = func(*_held(args), **_held(kwargs))
    if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu":
        return given
    known = {id(leaf.holds): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Pretended)}

    def of_leaf(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else Pretended(leaf)  # what was changed in place is the same tensor

    return tree_map(of_leaf, given)


def _require_there(name: str, args: Any, kwargs: Any) -> None:
    """Raise a ``RuntimeError`` for a tensor of the processor's that a GPU would not take."""
    places = [*args[:1], *args[2:]] if name in PICKING else args
    for leaf in tree_leaves((places, kwargs)):
        if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Pretended) and (leaf.ndim or name in JOINING):
            raise RuntimeError(f"{name}: a tensor {tuple(leaf.shape)} of the processor's beside one of the device's")


def _held(arguments: Any) -> Any:
    def of_leaf(leaf: Any) -> Any:
        if isinstance(leaf, torch.device):
            return torch.device("cpu")
        return leaf.holds if isinstance(leaf, Pretended) else leaf

    return tree_map(of_leaf, arguments)


def _knowing(function: Any) -> Any:
    """``torch.tensor`` and ``torch.as_tensor``, which know nothing of a device of Python's."""

    def made(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        given = function(data, **options)
        return given if device is None else given.to(device)

    return made


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """The device; where ``--device gpu`` is asked for meanwhile, it is meant. For a process of its own: torch takes no name back."""
    if not _registered:
        _setup_privateuseone_for_python_backend(NAME, Backend())
        _registered.append(torch.library.Library("_", "IMPL"))
        _registered[0].fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    device, chosen = torch.device(NAME), compute.choose_device  # without a number, as CUDA's
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


@contextmanager
def computed_on(place: torch.device, *operations: str) -> Iterator[None]:
    """On the device what is heavy is done there, and but a little of it (shapes, random places) on the processor.

    Of each of the ``operations`` one at least is done there.
    """
    _there.clear()
    _here.clear()
    yield
    if place.type == NAME:
        here, there = ({name: done[name] for name in sorted(HEAVY)} for done in (_here, _there))
        assert 2 * sum(here.values()) <= sum(there.values()), f"on the processor {here}, on the device {there}"
        assert all(_there[f"aten::{name}"] for name in operations), f"on the device there were but {dict(_there.most_common(20))}"

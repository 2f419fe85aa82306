"""What a CUDA graph does, on a processor: work is recorded operation by operation, and done again in the same memory.

What would wait for the device is refused, as far as it is an operation of torch's. That memory was freed in between does not show here.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# By which a number, or an array of Python's, would come from the host, or a number or a shape go there: a GPU would have to be waited for.
FORBIDDEN = {
    f"aten::{name}"
    for name in (
        *("_local_scalar_dense", "lift_fresh", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "unique_consecutive"),
        *("bincount", "repeat_interleave", "histc"),
    )
}


class Recording(TorchDispatchMode):
    """Keeps every operation that runs below it, in order; ``replay`` runs them again and writes over what they gave."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = func.name().startswith("aten::index.") and any(i is not None and i.dtype == torch.bool for i in args[1])
        if by_mask or func.name().split(".")[0] in FORBIDDEN:
            raise RuntimeError(f"{func.name()} is not permitted while a graph is recorded\nand a second line")
        given = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, given))
        return given

    def replay(self) -> None:
        for func, args, kwargs, given in self.done:
            there = {_storage(value) for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)}
            for old, new in zip(tree_leaves(given), tree_leaves(func(*args, **kwargs)), strict=True):
                # What is a view, or was changed in place, is right already.
                if isinstance(old, torch.Tensor) and _storage(old) not in there:
                    old.copy_(new)


class CountingRecorder:
    """In place of ``CudaGraphs``; counts what runs as it is, and the times that it runs again."""

    def __init__(self) -> None:
        self.as_it_is, self.recorded, self.again = 0, 0, 0

    def warm_up(self, work: Callable[[], None]) -> None:
        self.as_it_is += 1
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        with Recording() as recording:
            work()
        self.recorded += 1
        done_already = [True]  # by the recording, which of CUDA does nothing

        def replay() -> None:
            self.again += 1
            if done_already:
                done_already.pop()
            else:
                with torch.no_grad():
                    recording.replay()

        return replay


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()

"""A step of training as a CUDA graph: recorded once, replayed thereafter.

A step of a small network is hundreds of kernels of a few microseconds, and a GPU spends most of it waiting for the next to be launched.
A graph launches them all at once. It reads and writes the same memory at each replay, and runs no line of Python: what a step is given are
tensors, what it finds goes into tensors that outlive it, and whatever changes from step to step (a learning rate, a count) is a tensor too.
"""

import gc
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

Step: TypeAlias = Callable[..., None]
"""Takes tensors on one device; what it finds, it adds to or copies into tensors that it holds."""
Work: TypeAlias = Callable[[], None]
WARM_UP = 3  # steps of each shape that run as they are: libraries choose their kernels, and optimizers make their state


def replayed(step: Step, device: torch.device, generators: Sequence[torch.Generator] = ()) -> Step:
    """``step``, recorded and replayed where that is of use: on a processor it is returned as it is.

    The first steps run as they are, on real data: nothing is computed for show. A step that cannot be recorded goes on as it is, with a
    warning.

    Parameters
    ----------
    step : callable
        See ``Step``. Its arguments may have several shapes, as batches of an epoch have: each gets a graph.
    device : torch.device
        Where its tensors lie.
    generators : sequence of torch.Generator
        From which the step draws, on ``device``; they may be seeded anew between two steps.
    """
    return Replayed(step, CudaGraphs(generators)) if device.type == "cuda" else step


def adam_of(
    parameters: Iterable[Tensor],
    learning_rate: float,
    device: torch.device,
    kind: type[torch.optim.Adam] = torch.optim.Adam,
    **options: float,
) -> torch.optim.Adam:
    """An Adam whose step can be recorded: its rate, which a schedule may change, is a tensor that is read anew."""
    rate = torch.tensor(learning_rate, device=device)
    return kind(parameters, lr=rate, fused=True, capturable=device.type == "cuda", **options)  # type: ignore[arg-type]


def learning_rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The rate of the next step, without the digits that a float32 does not have."""
    return float(f"{float(optimizer.param_groups[0]['lr']):.7g}")


class Recorder(Protocol):
    """What makes replays of work."""

    def warm_up(self, work: Work) -> None:
        """Do the work once, where it will be recorded."""

    def record(self, work: Work) -> Work:
        """From work to what does the same again, in the same memory; it is not done now."""
        ...


class CudaGraphs:
    """A ``Recorder`` of CUDA graphs of one step, which share their memory, as no two are replayed at a time."""

    def __init__(self, generators: Sequence[torch.Generator]):
        self._generators = generators
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> None:
        # Libraries keep handles and workspaces by stream: where none was made before, a recording fails.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            work()
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        graph = self._graph()
        try:
            # The outer block leaves the stream as it was where a recording fails; torch's own does not.
            with torch.cuda.stream(torch.cuda.current_stream()), self._recording(graph, self._pool):
                work()
        except RuntimeError:
            self._recover()
            raise
        return graph.replay

    def _graph(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            if hasattr(graph, "register_generator_state"):  # later releases of torch see for themselves who draws
                graph.register_generator_state(generator)
        return graph

    def _recording(self, graph: torch.cuda.CUDAGraph, pool: Any = None) -> torch.cuda.graph:
        return torch.cuda.graph(graph, pool=pool, stream=self._stream)

    def _recover(self) -> None:
        """After a recording that failed.

        Torch may go on taking memory from the graph's pool, and asking the graph whether to; and its generators (up to 2.12), which think
        that they are being recorded, refuse to draw. A recording that succeeds tells them otherwise.
        """
        device = torch.cuda.current_device()
        with suppress(RuntimeError, AttributeError):  # the first is refused where torch has seen to both
            torch._C._cuda_endAllocateToPool(device, self._pool)
            torch._C._cuda_releasePool(device, self._pool)
        with suppress(RuntimeError), torch.cuda.stream(torch.cuda.current_stream()), self._recording(self._graph()):
            torch.zeros((), device="cuda")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's collection of garbage: an older graph that is freed while another is recorded spoils the recording."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Replayed:
    """A ``Step`` that is recorded once for each shape of its arguments.

    Parameters
    ----------
    step : callable
        See ``Step``.
    recorder : Recorder
        By which.
    """

    def __init__(self, step: Step, recorder: Recorder):
        self._step = step
        self._recorder = recorder
        self._replays: dict[tuple[torch.Size, ...], tuple[tuple[Tensor, ...], Work]] = {}
        self._warmed: Counter[tuple[torch.Size, ...]] = Counter()
        self._refused = False

    def __call__(self, *arguments: Tensor) -> None:
        shapes = tuple(argument.shape for argument in arguments)
        if shapes not in self._replays and self._warmed[shapes] >= WARM_UP and not self._refused:
            self._record(shapes, arguments)
        if shapes not in self._replays:
            self._warmed[shapes] += 1
            self._recorder.warm_up(partial(self._step, *arguments))
            return
        kept, replay = self._replays[shapes]
        for to, argument in zip(kept, arguments, strict=True):
            to.copy_(argument)
        replay()

    def _record(self, shapes: tuple[torch.Size, ...], arguments: tuple[Tensor, ...]) -> None:
        kept = tuple(argument.clone() for argument in arguments)
        first: list[RuntimeError] = []  # of the step itself: torch's own end of a recording only says that something failed in it

        def work() -> None:
            try:
                self._step(*kept)
            except RuntimeError as error:
                first.append(error)
                raise

        try:
            with _no_collection():
                self._replays[shapes] = kept, self._recorder.record(work)
        except RuntimeError as error:  # of memory too: a graph's is its own, and the step has just shown that it fits without
            self._refused = True
            reason = first[0] if first else error
            said = str(reason).strip().splitlines() or [repr(reason)]
            warnings.warn(f"A training step cannot be a CUDA graph, and so goes on more slowly: {said[0]}", RuntimeWarning, stacklevel=4)

"""Where to compute and in which precision: what the training of generators and of classifiers share."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from .errors import UsageError

DEFAULT_THREADS = 2
Device: TypeAlias = Literal["auto", "cpu", "gpu"]
Module = TypeVar("Module", bound=nn.Module)


def choose_device(name: str) -> torch.device:
    """The torch device that ``auto``, ``cpu`` or ``gpu`` means here.

    Raises
    ------
    UsageError
        If a GPU is asked for and there is none, or for another name.
    """
    if name not in ("auto", "cpu", "gpu"):
        raise UsageError(f"--device is auto, cpu or gpu, not '{name}'.")
    if name == "gpu" and not torch.cuda.is_available():
        raise UsageError("No GPU that torch can use was found; leave out --device, or install a CUDA build of torch.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def hardware() -> str:
    """The processor as the kernel names it, and the GPUs that torch can use."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8", errors="replace").splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return ", ".join([processor, *(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))])


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than float32 here: the GPU has it, or the processor has AVX-512 bf16 or AMX instructions."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def default_threads() -> int:
    """As many as ``OMP_NUM_THREADS`` says; without it 2, however many cores there are and whoever else is at work on them.

    Sums of floats depend on how they are shared out, so that a number taken from the machine would give other weights on another one.
    The smallest machines have two cores, and the default networks are too small to gain from many.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) > 0 else DEFAULT_THREADS


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """Torch, BLAS and OpenMP with so many threads, by default ``default_threads``; afterwards with as many as before."""
    threads, before = threads or default_threads(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def laid_out(model: Module, memory_format: torch.memory_format) -> Module:
    """``model`` with its weights in another memory layout (torch's type stubs do not know this overload)."""
    return model.to(memory_format=memory_format)  # type: ignore[call-overload]


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """As ``deterministic``, and in all digits of float32: by default a GPU rounds what it convolves to ten bits."""
    with deterministic(device), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """GPUs made to compute the same each time, with a warning for what they cannot; processors do anyway."""
    if device.type != "cuda":  # where to ask torch for it would load its compiler: a second and a half
        yield
        return
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs a kernel for every tensor
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it its matrix products are not
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]

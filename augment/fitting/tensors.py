"""Arrays as safetensors, to the byte the same each time."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """As safetensors; by way of Python, which tells a full disk as an ``OSError``."""
    path.write_bytes(_in_order(save({name: value.contiguous() for name, value in tensors.items()}, metadata)))


def _in_order(content: bytes) -> bytes:
    """The same safetensors, the keys of its header sorted: the library writes those of the metadata in another order each time.

    Eight bytes with the header's length, the header as JSON that spaces fill up, the arrays.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + header.ljust(start - 8) + content[start:]

"""Independent streams of randomness from one seed."""

import hashlib

import torch


def derived_seed(seed: int, *key: str | int) -> int:
    """A 63-bit seed for the stream that ``key`` names: streams of other keys, or of other seeds, are unrelated."""
    # Escaped, so that ("a/b",) is another key than ("a", "b").
    text = "/".join(str(part).replace("%", "%25").replace("/", "%2F") for part in (seed, *key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seeded_generator(
    seed: int, *key: str | int, device: str | torch.device = "cpu", generator: torch.Generator | None = None
) -> torch.Generator:
    """A generator (a new one on ``device``, or the given one) at the start of the stream that ``key`` names."""
    generator = torch.Generator(device) if generator is None else generator
    return generator.manual_seed(derived_seed(seed, *key))

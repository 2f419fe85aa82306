"""Encoders and decoders by name, for images ``(n, c, X, Y)`` and volumes ``(n, c, X, Y, Z)``."""

from .architecture import ARCHITECTURES, Architecture, Decoder, Encoder, default_channels

__all__ = ["ARCHITECTURES", "Architecture", "Decoder", "Encoder", "default_channels"]

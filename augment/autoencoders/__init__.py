"""The autoencoders by name: one file a family."""

from typing import Any

from ...datasets.errors import UsageError
from ..networks import Architecture
from .ae import AE
from .base import Autoencoder, GaussianAutoencoder
from .vae import VAE

AUTOENCODERS: dict[str, type[Autoencoder]] = {"ae": AE, "vae": VAE}


def build_autoencoder(name: str, architecture: Architecture, **settings: Any) -> Autoencoder:
    """A fresh autoencoder, its weights drawn from torch's global generator (seed that before).

    Raises
    ------
    UsageError
        For an unknown name, or a setting that the model does not have.
    """
    if name not in AUTOENCODERS:
        raise UsageError(f"There is no model '{name}'; choose one of: {', '.join(AUTOENCODERS)}.")
    try:
        return AUTOENCODERS[name](architecture, **settings)
    except TypeError as error:
        raise UsageError(f"The model '{name}' does not take these settings: {', '.join(settings)} ({error}).") from error


__all__ = ["AUTOENCODERS", "Autoencoder", "GaussianAutoencoder", "build_autoencoder"]

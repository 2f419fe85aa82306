"""The autoencoders by name: one file a family, and one line here."""

from typing import Any

import torch

from ...datasets.common.errors import UsageError
from ..networks import Architecture
from ..settings import Settings, require_values, settings_of
from .aae import AAE
from .ae import AE
from .base import Autoencoder, GaussianAutoencoder, LearntMetric, LearntPrior
from .flows import InverseAutoregressiveVAE, NormalizingFlowVAE
from .hvae import HVAE
from .iwae import IWAE
from .rae import RAE, RAEGP, RAEL2, RAESN
from .rhvae import RHVAE
from .vae import VAE
from .vaegan import VAEGAN
from .vamp import VampVAE
from .wae import WAE

# In the order of the paper's tables.
AUTOENCODERS: dict[str, type[Autoencoder]] = {
    "ae": AE,
    "vae": VAE,
    "wae": WAE,
    "vamp": VampVAE,
    "hvae": HVAE,
    "rhvae": RHVAE,
    "rae": RAE,
    "rae-l2": RAEL2,
    "rae-gp": RAEGP,
    "rae-sn": RAESN,
    "iwae": IWAE,
    "vae-iaf": InverseAutoregressiveVAE,
    "vae-nf": NormalizingFlowVAE,
    "aae": AAE,
    "vaegan": VAEGAN,
}


def model_class(name: str) -> type[Autoencoder]:
    """The class of the model called ``name``.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name not in AUTOENCODERS:
        raise UsageError(f"There is no model '{name}'; choose one of: {', '.join(AUTOENCODERS)}.")
    return AUTOENCODERS[name]


def build_autoencoder(name: str, architecture: Architecture, **settings: Any) -> Autoencoder:
    """A fresh autoencoder, its weights drawn from torch's global generator (seed that before).

    Raises
    ------
    UsageError
        For an unknown name, or a setting that the model does not have.
    """
    kind = model_class(name)
    require_values(settings, settings_of(kind), f"the model '{name}'")
    return kind(architecture, **settings)


def count_parameters(name: str, architecture: Architecture, **settings: Any) -> int:
    """How many weights a model has; nothing is computed or allocated. Errors as of ``build_autoencoder``."""
    with torch.device("meta"):
        autoencoder = build_autoencoder(name, architecture, **settings)
    return sum(parameter.numel() for parameter in autoencoder.parameters())


def settings_of_model(name: str) -> Settings:
    """What can be set of a model, by name; raise a ``UsageError`` if there is no such model."""
    return settings_of(model_class(name))


__all__ = [
    "AUTOENCODERS",
    "Autoencoder",
    "GaussianAutoencoder",
    "LearntMetric",
    "LearntPrior",
    "build_autoencoder",
    "count_parameters",
    "model_class",
    "settings_of_model",
]

"""The autoencoders by name: one file a family, and one line here."""

import inspect
from collections.abc import Sequence
from typing import Any

from ...datasets.common.errors import UsageError
from ..networks import Architecture
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
    foreign = sorted(set(settings) - set(defaults(name)))
    if foreign:
        takes = f"it takes {', '.join(defaults(name))}" if defaults(name) else "it takes none"
        raise UsageError(f"The model '{name}' has no setting {', '.join(foreign)}; {takes}.")
    return kind(architecture, **settings)


def defaults(name: str) -> dict[str, Any]:
    """The settings of a model, with their defaults."""
    parameters = inspect.signature(model_class(name)).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def parse_settings(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Settings of a model, each of the type of its default, from texts such as ``beta=0.1``.

    Raises
    ------
    UsageError
        If the model has no such setting, or the text is no value of it.
    """
    settings: dict[str, Any] = {}
    known = defaults(name)
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known:
            raise UsageError(f"The model '{name}' has no setting '{key}'; write one of {', '.join(known) or 'none'} as name=value.")
        kind = type(known[key])
        try:
            settings[key] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            raise UsageError(f"The setting {key} of the model '{name}' is a {kind.__name__} such as {known[key]}, not '{value}'.") from None
    return settings


__all__ = [
    "AUTOENCODERS",
    "Autoencoder",
    "GaussianAutoencoder",
    "LearntMetric",
    "LearntPrior",
    "build_autoencoder",
    "defaults",
    "model_class",
    "parse_settings",
]

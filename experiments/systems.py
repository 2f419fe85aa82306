"""A system: a model, a sampler, and what departs from their settings, in one text such as ``vae:riemannian rho_scale=2``."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from types import UnionType
from typing import Any, get_args, get_type_hints

from ..augment.autoencoders import defaults, model_class, parse_settings
from ..augment.fitting import FitSettings
from ..augment.generation import Generated, generate_class
from ..augment.model import FittedModel, MetricSettings
from ..augment.samplers import SAMPLERS, check_sampler
from ..augment.training import TrainingSettings
from ..datasets.errors import UsageError


def _types(settings: type) -> dict[str, Callable[[str], Any]]:
    """What reads each field of a dataclass of settings from a text."""
    hints = get_type_hints(settings)
    kinds = {name: get_args(hint)[0] if isinstance(hint, UnionType) else hint for name, hint in hints.items()}
    return {f.name: kinds[f.name] if kinds[f.name] in (int, float) else str for f in fields(settings)}


_NETWORKS: dict[str, Callable[[str], Any]] = {"arch": str, "latent_dim": int, "channels": int}
_TRAINING = _types(TrainingSettings)
_METRIC = _types(MetricSettings)


@dataclass(frozen=True)
class System:
    """What is trained and how it is sampled.

    Parameters
    ----------
    model, sampler : str
        Of ``AUTOENCODERS`` and ``SAMPLERS``.
    model_settings, networks, training, metric, sampling : dict
        What departs from a study's settings: of the model's constructor; ``arch``, ``latent_dim`` and ``channels``; of
        ``TrainingSettings``; of ``MetricSettings``; of the sampler.
    """

    model: str
    sampler: str
    model_settings: dict[str, Any] = field(default_factory=dict)
    networks: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "System":
        """Read ``model:sampler`` and any number of ``name=value``.

        Raises
        ------
        UsageError
            If there is no such model or sampler, they do not go together, or a setting is of none of them.
        """
        method, *settings = text.split()
        model, _, sampler = method.partition(":")
        check_sampler(sampler, model_class(model), f"the model '{model}'")
        system = cls(model, sampler)
        # The chains' lengths are whole numbers, and named so.
        sampling = {name: int if name.startswith("n_") else float for name in SAMPLERS[sampler].settings}
        parts = ((system.networks, _NETWORKS), (system.training, _TRAINING), (system.metric, _METRIC), (system.sampling, sampling))
        for setting in settings:
            name, _, value = setting.partition("=")
            if name in defaults(model):
                system.model_settings.update(parse_settings(model, [setting]))
                continue
            for part, known in parts:
                if name in known:
                    part[name] = _read(text, setting, known[name], value)
                    break
            else:
                names = [*defaults(model), *(name for _, known in parts for name in known)]
                raise UsageError(f"'{text}' has no setting '{name}'; choose among: {', '.join(names)}.")
        system.fit_settings(FitSettings())
        return system

    @property
    def trained_as(self) -> str:
        """What decides the trained weights, as a file's name: systems of one name share a model."""
        settings = {**self.model_settings, **self.networks, **self.training}
        return "_".join([self.model, *(re.sub(r"[^A-Za-z0-9=+.-]", "-", f"{name}={settings[name]}") for name in sorted(settings))])

    def fit_settings(self, settings: FitSettings) -> FitSettings:
        """A study's settings, changed as this system asks; the model's own are taken over if it is the study's model."""
        own = settings.model_settings if settings.model == self.model else {}
        return replace(
            settings,
            model=self.model,
            model_settings={**own, **self.model_settings},
            training=replace(settings.training, **self.training),
            metric=replace(settings.metric, **self.metric),
            **self.networks,
        )

    def draw(self, model: FittedModel, n: int, *, seed: int) -> Generated:
        """``n`` images of a model that was trained as this system is: its metric, which costs no training, is this system's."""
        if self.metric and model.posterior is not None:
            model = model.with_metric(replace(model.config.metric, **self.metric))
        return generate_class(model, n, sampler=self.sampler, seed=seed, **self.sampling)


def _read(text: str, setting: str, kind: Callable[[str], Any], value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"In '{text}', {setting} is no {getattr(kind, '__name__', 'value')}.") from None

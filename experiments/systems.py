"""What a study compares: a model, how it is trained, and how it is sampled, in one text such as ``vae:riemannian rho_scale=2``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..augment.autoencoders import defaults, model_class, parse_settings
from ..augment.fitting import FitSettings
from ..augment.metric import RiemannianMetric
from ..augment.model import FittedModel, MetricSettings
from ..augment.samplers import SAMPLERS, check_sampler
from ..datasets.errors import UsageError
from ..datasets.seeds import derived_seed

RECONSTRUCTION = "reconstruction"  # in a sampler's place: training images, encoded and decoded (Table 7, "recon.")
DRAW = "draw"  # of the centroids, where they are chosen at random: another number, other centroids of the same model (Fig. 12, right)

_INTEGERS = ("n_centroids", DRAW, "latent_dim", "channels", "n_iterations", "n_leapfrog", "n_warm_up", "n_components", "n_training_steps")
_TEXTS = ("arch", "selection")
_NETWORKS = ("arch", "latent_dim", "channels")
_METRIC = (*(f.name for f in fields(MetricSettings)), DRAW)


@dataclass(frozen=True)
class System:
    """What is trained and how it is sampled.

    Parameters
    ----------
    model : str
        Of ``AUTOENCODERS``.
    sampler : str
        Of ``SAMPLERS``, or ``RECONSTRUCTION``.
    model_settings, networks, metric_settings, sampler_settings : dict
        What departs from the study's settings: of the model's constructor; ``arch``, ``latent_dim`` and ``channels``; of
        ``MetricSettings``, and ``draw``; of the sampler.
    """

    model: str
    sampler: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Any] = field(default_factory=dict)
    metric_settings: Mapping[str, Any] = field(default_factory=dict)
    sampler_settings: Mapping[str, Any] = field(default_factory=dict)

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
        if sampler != RECONSTRUCTION:
            check_sampler(sampler, model_class(model), f"the model '{model}'")
        of_model, of_sampler = list(defaults(model)), list(SAMPLERS[sampler].settings if sampler in SAMPLERS else ())
        found: dict[str, dict[str, Any]] = {"model": {}, "networks": {}, "metric": {}, "sampler": {}}
        # A setting that changes nothing is refused: only these samplers look at the metric.
        of_metric = _METRIC if sampler.startswith("riemannian") else ()
        known = {"model": of_model, "networks": _NETWORKS, "metric": of_metric, "sampler": of_sampler}
        for setting in settings:
            name, _, value = setting.partition("=")
            part = next((part for part, names in known.items() if name in names), None)
            if part is None:
                names = ", ".join(name for names in known.values() for name in names)
                raise UsageError(f"The system '{text}' has no setting '{name}'; choose among: {names}.")
            found[part][name] = parse_settings(model, [setting])[name] if part == "model" else _read(setting, name, value)
        MetricSettings(**{name: value for name, value in found["metric"].items() if name != DRAW})
        return cls(model, sampler, found["model"], found["networks"], found["metric"], found["sampler"])

    @classmethod
    def of_key(cls, key: Mapping[str, Any]) -> "System":
        """The system of a cell whose key holds ``trained_as`` as ``model`` and ``drawn_as`` as ``sampler``."""
        model, *of_model = key["model"].split()
        sampler, *of_sampler = key["sampler"].split()
        return cls.parse(" ".join([f"{model}:{sampler}", *of_model, *of_sampler]))

    @property
    def trained_as(self) -> str:
        """What decides the trained weights, as a text: systems that share it share a model."""
        return _text(self.model, {**self.model_settings, **self.networks})

    @property
    def drawn_as(self) -> str:
        """What decides how a trained model is sampled, as a text."""
        return _text(self.sampler, {**self.metric_settings, **self.sampler_settings})

    def fit_settings(self, settings: FitSettings) -> FitSettings:
        """A study's settings, changed as this system asks; of the study's model settings those that this model has too."""
        shared = {name: value for name, value in settings.model_settings.items() if name in defaults(self.model)}
        return replace(settings, model=self.model, model_settings={**shared, **self.model_settings}, **self.networks)

    def with_metric(self, model: FittedModel) -> FittedModel:
        """The trained model with the metric that the system asks for: it costs no training."""
        if not self.metric_settings:
            return model
        assert model.posterior is not None
        asked = dict(self.metric_settings)
        draw = [asked.pop(DRAW)] if DRAW in asked else []
        settings = replace(model.config.metric, **asked)
        seed = derived_seed(model.config.seed, model.config.label, "centroids", *draw)
        return replace(model, metric=RiemannianMetric.from_posterior(model.posterior, **asdict(settings), seed=seed))


def _text(name: str, settings: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key}={settings[key]}" for key in sorted(settings))])


def _read(setting: str, name: str, value: str) -> Any:
    kind = int if name in _INTEGERS else str if name in _TEXTS else float
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"The setting '{setting}' of a system is no {'whole number' if kind is int else 'number'}.") from None

"""What a study compares: a model, how it is trained, and how it is sampled, in one text such as ``vae:riemannian rho_scale=2``.

What a system draws is as it is decoded, which is what the paper's tables compare, unless its text says ``detail=mosaic``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from ...augment.autoencoders import count_parameters, model_class, settings_of_model
from ...augment.detail.donors import Donors
from ...augment.detail.mosaic import NAME as MOSAIC
from ...augment.detail.mosaic import Detail, Mosaic
from ...augment.fitting.model import FittedModel
from ...augment.fitting.model_config import MetricSettings
from ...augment.fitting.settings import FitSettings
from ...augment.fitting.training import TrainingSettings
from ...augment.fitting.training_images import TrainingImages
from ...augment.release.generation import Generated, generate_class
from ...augment.samplers.registry import SAMPLERS, check_sampler
from ...augment.settings import Setting, Settings, read_settings, require_known, settings_of
from ...datasets.common.compute import Device, choose_device
from ...datasets.common.errors import UsageError

RECONSTRUCTION = "reconstruction"  # in a sampler's place: training images, encoded and decoded (Table 7, "recon.")
DRAW = "draw"  # of the centroids, where they are chosen at random: another number, other centroids of the same model (Fig. 12, right)

_NETWORKS: Settings = {name: setting for name, setting in settings_of(FitSettings).items() if name in ("arch", "latent_dim", "channels")}
_TRAINING: Settings = settings_of(TrainingSettings, but=("precision", "device", "even"))
_METRIC: Settings = settings_of(MetricSettings) | {DRAW: Setting(DRAW, int, None)}
DETAIL = "detail"  # what gives images that which decoding loses
_DETAIL: Settings = {DETAIL: Setting(DETAIL, Literal["mosaic"], None)} | settings_of(Mosaic)


@dataclass(frozen=True)
class System:
    """What is trained and how it is sampled.

    Parameters
    ----------
    model : str
        Of ``AUTOENCODERS``.
    sampler : str
        Of ``SAMPLERS``, or ``RECONSTRUCTION``.
    model_settings, networks, training, metric_settings, sampler_settings : dict
        What departs from the study's settings: of the model's constructor; ``arch``, ``latent_dim`` and ``channels``; of
        ``TrainingSettings``; of ``MetricSettings``, and ``draw``; of the sampler.
    mosaic : Mosaic, optional
        How its images get detail; without it they are as they are decoded.
    """

    model: str
    sampler: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    metric_settings: Mapping[str, Any] = field(default_factory=dict)
    sampler_settings: Mapping[str, Any] = field(default_factory=dict)
    mosaic: Mosaic | None = None

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
        known: dict[str, Settings] = {
            "model": settings_of_model(model),
            "networks": _NETWORKS,
            "training": _TRAINING,
            # A setting that changes nothing is refused: only some samplers look at the metric.
            "metric": _METRIC if sampler in SAMPLERS and SAMPLERS[sampler].in_metric else {},
            "sampler": SAMPLERS[sampler].settings if sampler in SAMPLERS else {},
            "detail": {} if sampler == RECONSTRUCTION else _DETAIL,
        }
        whose = f"the system '{text}'"
        every = {name: setting for names in known.values() for name, setting in names.items()}
        require_known([setting.partition("=")[0] for setting in settings], every, whose)
        found: dict[str, dict[str, Any]] = {part: {} for part in known}
        for setting in settings:
            part = next(part for part, names in known.items() if setting.partition("=")[0] in names)
            found[part] |= read_settings(known[part], [setting], whose)
        MetricSettings(**{name: value for name, value in found["metric"].items() if name != DRAW})
        TrainingSettings(**found["training"]).lasting(*_length(found["training"]))
        of_mosaic = found["detail"]
        detailed = of_mosaic.pop(DETAIL, None) is not None
        if of_mosaic and not detailed:
            raise UsageError(f"In {whose}, {', '.join(of_mosaic)} are settings of the detail; add {DETAIL}={MOSAIC}.")
        mosaic = Mosaic(**of_mosaic) if detailed else None
        return cls(model, sampler, found["model"], found["networks"], found["training"], found["metric"], found["sampler"], mosaic)

    @classmethod
    def of_key(cls, key: Mapping[str, Any]) -> "System":
        """The system of a cell whose key holds ``trained_as`` as ``model`` and ``drawn_as`` as ``sampler``."""
        model, *of_model = key["model"].split()
        sampler, *of_sampler = key["sampler"].split()
        return cls.parse(" ".join([f"{model}:{sampler}", *of_model, *of_sampler]))

    @property
    def trained_as(self) -> str:
        """What decides the trained weights, as a text: systems that share it share a model."""
        return _text(self.model, {**self.model_settings, **self.networks, **self.training})

    @property
    def drawn_as(self) -> str:
        """What decides how a trained model is sampled, as a text."""
        return _text(self.sampler, {**self.metric_settings, **self.sampler_settings, **_told(self.mosaic)})

    def fit_settings(self, settings: FitSettings) -> FitSettings:
        """A study's settings, changed as this system asks; of the study's model settings those that this model has too."""
        shared = {name: value for name, value in settings.model_settings.items() if name in settings_of_model(self.model)}
        training = replace(settings.training.lasting(*_length(self.training)), **self.training)
        return replace(settings, model=self.model, model_settings={**shared, **self.model_settings}, training=training, **self.networks)

    def require_networks(self, settings: FitSettings, shape: tuple[int, ...]) -> None:
        """Raise a ``UsageError`` if a study's settings, changed as this system asks, make no model of such images; none is made."""
        asked = self.fit_settings(settings)
        count_parameters(asked.model, asked.architecture(shape), **asked.model_settings)

    def draw(self, model: FittedModel, n: int, training: TrainingImages, *, seed: int, device: Device = "cpu") -> Generated:
        """``n`` images of a model that was trained as this system is, on these images."""
        changed, place = self.with_metric(model), choose_device(device)
        detail = self.detail(model, training, place)
        return generate_class(changed, n, sampler=self.sampler, seed=seed, device=place, detail=detail, **self.sampling(changed))

    def detail(self, model: FittedModel, training: TrainingImages, device: torch.device | None = None) -> Detail | None:
        """What gives the images of a model, trained on these, their detail."""
        return None if self.mosaic is None else Detail(self.mosaic, Donors.of(model, training, device))

    def sampling(self, model: FittedModel) -> dict[str, Any]:
        """Settings with which a model, its metric as the system asks for, is sampled: a metric that is asked for is the paper's."""
        asked = dict(self.sampler_settings)
        if self.metric_settings and self.sampler == "riemannian" and "reach" not in asked:
            asked["reach"] = model.latents.reach or 1.0
        return asked

    def with_metric(self, model: FittedModel) -> FittedModel:
        """The trained model with the metric that the system asks for: it costs no training."""
        if not self.metric_settings:
            return model
        asked = dict(self.metric_settings)
        draw = asked.pop(DRAW, None)
        return model.with_metric(replace(model.config.metric, **asked), draw=draw)


def _length(training: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The epochs and the steps that are asked for."""
    return training.get("epochs"), training.get("steps")


def _told(mosaic: Mosaic | None) -> dict[str, Any]:
    """Settings of a system that has this mosaic: those that are not the default."""
    if mosaic is None:
        return {}
    return {DETAIL: MOSAIC} | {name: value for name, value in vars(mosaic).items() if value != getattr(Mosaic(), name)}


def _text(name: str, settings: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key}={settings[key]}" for key in sorted(settings))])

"""A study's settings of its generators and classifiers, as its configuration holds them.

The device is none of them: each start says its own, so that a study begun on one machine goes on on another, or on several at a time.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ...augment.fitting.model_config import MetricSettings
from ...augment.fitting.settings import FitSettings
from ...augment.fitting.training import TrainingSettings
from ...classifiers.training import ClassifierSettings
from ...datasets.transforms import Preparation


def on_device(config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The configuration as what computes takes it; ``device_of`` gives the device back. It is not written."""
    return {**config, "device": device}


def device_of(config: Mapping[str, Any]) -> str:
    """On what this process computes: ``auto``, ``cpu`` or ``gpu``."""
    return config.get("device", "auto")


def content_of_fit(settings: FitSettings) -> dict[str, Any]:
    """What a configuration says of the generators' settings."""
    content = settings.as_dict()
    return content | {"training": _without_device(content["training"])}


def content_of_classifier(settings: ClassifierSettings) -> dict[str, Any]:
    """What a configuration says of the classifiers' settings."""
    return _without_device(asdict(settings))


def fit_settings_of(config: Mapping[str, Any]) -> FitSettings:
    """The generators' settings, from a configuration that may come from TOML, which leaves out what is ``None`` and knows no tuples.

    The images of a study are prepared already: nothing more is done to them.
    """
    content = config["fit"]
    parts = {name: value for name, value in content.items() if name not in ("preparation", "training", "metric")}
    return FitSettings(
        **parts,
        preparation=Preparation(size=tuple(content["preparation"]["size"]), scaling="none"),
        training=TrainingSettings(**content["training"], device=device_of(config)),  # type: ignore[arg-type]
        metric=MetricSettings(**content["metric"]),
    )


def classifier_settings_of(config: Mapping[str, Any]) -> ClassifierSettings:
    """The classifiers' settings, from a configuration."""
    return ClassifierSettings(**config["classifier"], device=device_of(config))  # type: ignore[arg-type]


def _without_device(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != "device"}

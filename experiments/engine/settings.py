"""A generator's settings as a study's configuration holds them."""

from collections.abc import Mapping
from typing import Any

from ...augment.fitting import FitSettings
from ...augment.model_config import MetricSettings
from ...augment.training import TrainingSettings
from ...datasets.transforms import Preparation


def fit_settings_from(content: Mapping[str, Any]) -> FitSettings:
    """Rebuild ``FitSettings(...).as_dict()`` from TOML, which leaves out what is ``None`` and knows no tuples.

    The images of a study are prepared already: nothing more is done to them.
    """
    parts = {name: value for name, value in content.items() if name not in ("preparation", "training", "metric")}
    return FitSettings(
        **parts,
        preparation=Preparation(size=tuple(content["preparation"]["size"]), scaling="none"),
        training=TrainingSettings(**content["training"]),
        metric=MetricSettings(**content["metric"]),
    )

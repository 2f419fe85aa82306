"""Synthetic cohorts for small medical-imaging studies: what a Python user needs, under one name.

>>> import tinycohort as tc
>>> cohort = tc.require_sound(tc.read_cohort("my-study"), sized=True)
>>> plan = tc.FitPlan(cohort, tc.split_cohort(cohort, seed=0), "AD")
>>> generated = tc.generate_class(tc.fit_class(plan), 200, seed=0)

Importing it is instant: what a name stands for is loaded when the name is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .augment.commands.generate import GenerationRequest, generate_cohort
    from .augment.commands.morph import MorphRequest, generate_morph_cohort
    from .augment.commands.prepare import PrepareRequest, prepare_cohort
    from .augment.fitting.fit import fit_class
    from .augment.fitting.model import FittedModel
    from .augment.fitting.plan import FitPlan
    from .augment.fitting.settings import PRESETS, FitSettings
    from .augment.fitting.training import TrainingSettings
    from .augment.release.generation import generate_class
    from .augment.release.origin import Origin
    from .augment.release.synthetic_cohort import write_cohort
    from .datasets.check import require_sound
    from .datasets.common.errors import TinycohortError
    from .datasets.readers import Source, read_cohort
    from .datasets.splits import split_cohort
    from .datasets.transforms import Preparation, prepare
    from .experiments.audit.command import AuditRequest, audit
    from .experiments.augmentation_study.command import EvaluationRequest, evaluate

_HOMES = {
    "PRESETS": "augment.fitting.settings",
    "AuditRequest": "experiments.audit.command",
    "EvaluationRequest": "experiments.augmentation_study.command",
    "FitPlan": "augment.fitting.plan",
    "FitSettings": "augment.fitting.settings",
    "FittedModel": "augment.fitting.model",
    "GenerationRequest": "augment.commands.generate",
    "MorphRequest": "augment.commands.morph",
    "Origin": "augment.release.origin",
    "Preparation": "datasets.transforms",
    "PrepareRequest": "augment.commands.prepare",
    "Source": "datasets.readers",
    "TinycohortError": "datasets.common.errors",
    "TrainingSettings": "augment.fitting.training",
    "audit": "experiments.audit.command",
    "evaluate": "experiments.augmentation_study.command",
    "fit_class": "augment.fitting.fit",
    "generate_class": "augment.release.generation",
    "generate_cohort": "augment.commands.generate",
    "generate_morph_cohort": "augment.commands.morph",
    "prepare": "datasets.transforms",
    "prepare_cohort": "augment.commands.prepare",
    "read_cohort": "datasets.readers",
    "require_sound": "datasets.check",
    "split_cohort": "datasets.splits",
    "write_cohort": "augment.release.synthetic_cohort",
}

__all__ = [
    "PRESETS",
    "AuditRequest",
    "EvaluationRequest",
    "FitPlan",
    "FitSettings",
    "FittedModel",
    "GenerationRequest",
    "MorphRequest",
    "Origin",
    "Preparation",
    "PrepareRequest",
    "Source",
    "TinycohortError",
    "TrainingSettings",
    "audit",
    "evaluate",
    "fit_class",
    "generate_class",
    "generate_cohort",
    "generate_morph_cohort",
    "prepare",
    "prepare_cohort",
    "read_cohort",
    "require_sound",
    "split_cohort",
    "write_cohort",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tinycohort' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__

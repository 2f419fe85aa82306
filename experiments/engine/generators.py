"""Generators that a study fits: once, whatever cells and processes share them."""

import shutil
from pathlib import Path

from ...augment.fitting.fit import fit_class
from ...augment.fitting.model import FittedModel
from ...augment.fitting.plan import FitPlan
from ...datasets.common.errors import DataError
from .study_images import make_once


def fitted_once(place: Path, plan: FitPlan, resume_folder: Path | None = None) -> FittedModel:
    """The model in ``place``, fitted if it is not there; ``resume_folder`` keeps the state of its training until then.

    Raises
    ------
    DataError
        If the one that is there is of another plan.
    """
    make_once(place, lambda temporary: fit_class(plan, resume_folder=resume_folder).save(temporary))
    if resume_folder is not None:
        shutil.rmtree(resume_folder, ignore_errors=True)
    model = FittedModel.load(place)
    if model.config.plan != plan.digest:
        raise DataError(f"{place} was fitted with other settings, data, split or version of tinycohort than this study's; delete it.")
    return model

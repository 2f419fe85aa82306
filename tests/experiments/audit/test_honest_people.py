"""Real people whom the audit has not seen are called copies of others at most once in a thousand."""

import math
from pathlib import Path

import numpy as np
import pytest

from tinycohort.augment.release.gate import Gate
from tinycohort.datasets.check import require_sound
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.together import groups_of
from tinycohort.datasets.transforms import Preparation, prepare
from tinycohort.experiments.audit.audit import audit_class
from tinycohort.experiments.audit.material import AuditedClass, People
from tinycohort.experiments.audit.spaces import image_spaces

SHARED = Path(__file__).parents[4] / "shared/data"
COHORTS = {
    "oasis1-coronal": (Source(str(SHARED / "oasis1-coronal")), (80, 96)),
    "oasis1-axial": (Source(str(SHARED / "oasis1-axial"), plane="axial"), (104, 88)),
    "pneumonia-mnist": (Source(str(SHARED / "pneumonia-mnist/pneumoniamnist.npz"), drop_copies=True), None),
}
FOLDS, MOST = 3, 300  # of so many people at a time a third is held out in turn


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder shared/data is not beside this repository")
@pytest.mark.parametrize("name", COHORTS)
def test_at_most_one_of_a_thousand_people_is_called_a_copy(name, monkeypatch):
    monkeypatch.setattr("tinycohort.experiments.audit.planted.MOST", 3)  # what is planted is not asked
    source, size = COHORTS[name]
    cohort = read_cohort(source)
    cohort = require_sound(cohort, sized=True, minimum=1)
    twice = {who for group in groups_of(cohort.alike) for who in sorted(group)[1:]}
    cohort, called, asked = cohort.where(~cohort.table["participant_id"].isin(twice).to_numpy()), {}, 0
    for label in cohort.labels:
        everybody = np.unique(np.array(cohort.of_class(label).people))
        shuffled = np.random.default_rng(0).permutation(everybody)
        for names in np.array_split(shuffled, math.ceil(len(shuffled) / MOST)):
            members = cohort.of_class(label)
            members = members.where(np.isin(np.array(members.people), names))
            images, whose = prepare(members, Preparation(size=size)), np.array(members.people)
            for fold in range(FOLDS):
                out = np.isin(whose, names[fold::FOLDS])
                honest, others = (People(images[np.flatnonzero(side)], tuple(whose[side].tolist())) for side in (out, ~out))
                nobody = People(images[np.zeros(0, dtype=int)], ())
                found = audit_class(AuditedClass(label, None, honest, others, nobody), image_spaces(), Gate(), seed=fold)
                called |= {honest.participants[row]: reason for row, reason in found.copies.items()}
                asked += len(honest.participants)
    assert asked > 100
    assert len(called) <= asked // 1000, called

"""``augment generate --sampler morph``: a synthetic cohort of images between two people each, which needs no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ...datasets.cohort import Cohort
from ...datasets.common.compute import choose_device
from ...datasets.common.errors import DataError
from ...datasets.common.machine import require_memory
from ...datasets.readers import Source, read_cohort
from ...datasets.splits import Split, official_sides, split_cohort
from ...datasets.transforms import Preparation, prepare, space_of
from .. import console
from ..detail.morph import Morph
from ..fitting.training_images import TrainingImages, people_in
from ..release.copying import FEWEST_PEOPLE
from ..release.generation import Generated
from ..release.morphing import generate_morphs
from ..release.origin import Origin
from ..release.screening import screen_of_people
from ..release.synthetic_cohort import cohort_output, cohort_place
from .check import require_sound_cohort, warn_of_people_apart
from .drawn import CohortRequest, measured, tell_written, write_screened


@dataclass(frozen=True)
class MorphRequest(CohortRequest):
    """Whom morphs are made of, and how; the rest is as for ``CohortRequest``.

    Parameters
    ----------
    source : Source
        The cohort.
    labels : sequence of str
        Classes; none for all.
    preparation : Preparation
        Of its images.
    split_file : Path, optional
        A split, of whose training side the people are. By default that of the cohort's official sides, or else everybody.
    morph : Morph
        Settings of the morphs.
    """

    source: Source
    labels: Sequence[str] = ()
    preparation: Preparation = field(default_factory=Preparation)
    split_file: Path | None = None
    morph: Morph = field(default_factory=Morph)


def generate_morph_cohort(request: MorphRequest, out: Path, *, force: bool = False) -> list[Generated]:
    """Write a cohort of morphs into ``out``, and beside it ``<out>.audit.csv``: who is nearest to each, and which two it is of.

    Raises
    ------
    CohortError
        If anything is wrong with the cohort that they are made of.
    DataError
        If there are too few people to tell whether a morph copies one of them.
    GateError
        If too many morphs copy somebody; nothing is written then, and what was there stays.
    """
    out = cohort_place(out)
    with cohort_output(out, console.say, force=force, data=[request.source.data]):
        return _generate(request, out, force=force)


def _generate(request: MorphRequest, out: Path, *, force: bool) -> list[Generated]:
    place = choose_device(request.device)
    cohort = read_cohort(request.source)
    labels = list(request.labels) or cohort.labels
    for label in labels:
        cohort.of_class(label)
    cohort, found = require_sound_cohort(cohort, sized=request.preparation.size is not None, minimum=2)
    split = _split(cohort, request.split_file)
    warn_of_people_apart(cohort, split)
    side = split.side(cohort, "train")
    wanted = request.wanted(labels, dict.fromkeys(cohort.labels, 0) | side.counts())
    training = _prepared(cohort, side, request, wanted)
    request.values(people.images.space for people in training.values())  # what cannot be written is refused before it is drawn
    screens = {label: screen_of_people(training[label], request.gate, n=n, device=place) for label, n in wanted.items()}
    generated = [
        generate_morphs(
            label,
            training[label],
            n,
            morph=request.morph,
            seed=request.seed,
            device=place,
            progress=partial(console.progress, f"morphs of {label}"),
            screen=screens[label],
        )
        for label, n in wanted.items()
    ]
    generated = [measured(part, training[part.label]) for part in generated]
    origins = {label: Origin.of_people(side.of_class(label), split, found.digest, request.preparation) for label in wanted}
    write_screened(request, out, generated, origins, screens, force=force)
    _show_morphs(generated, training)
    tell_written(out, generated, screens, _shares_told)
    return generated


def _split(cohort: Cohort, file: Path | None) -> Split:
    """The given split, else that of the official sides, as a fit has it, else everybody on the training side; say which."""
    if file is not None:
        split, told = Split.load(file, cohort), f"Morphs are made of the training side of {file}."
    elif official_sides(cohort) is not None:
        split, told = split_cohort(cohort, seed=0), f"Morphs are made of the official training side of {cohort.name}."
    else:
        everybody = dict.fromkeys(cohort.table["participant_id"], "train")
        split = Split(everybody, {"train": 1.0}, source="everybody")
        told = f"Morphs are made of everybody of a class in {cohort.name}: nobody is left to test on; --split names a training side."
    console.say(told)
    return split


def _prepared(cohort: Cohort, side: Cohort, request: MorphRequest, wanted: Mapping[str, int]) -> dict[str, TrainingImages]:
    """The images of the training side by class, all on one grid."""
    space = space_of(cohort, request.preparation)
    members = {label: side.where(side.table["label"] == label) for label in wanted}
    few = [label for label, part in members.items() if len(set(people_in(part.table, part.alike))) < FEWEST_PEOPLE]
    if few:
        raise DataError(
            f"{', '.join(few)}: fewer than {FEWEST_PEOPLE} people on the training side of {cohort.name}, so nobody can tell whether a "
            "morph copies one of them; add people of this class, or leave it out with --class."
        )
    require_memory(sum(wanted.values()), space.shape, "give a smaller -n")
    require_memory(sum(map(len, members.values())), space.shape)
    warn = console.warn
    return {
        label: TrainingImages.of(prepare(part, request.preparation, like=space, on_warning=warn), part) for label, part in members.items()
    }


def _shares_told(part: Generated) -> str:
    assert part.detail is not None
    return f"every image is of two people, of one at most {part.detail.shares.max():.0%}; {part.detail.made}."


def _show_morphs(generated: Sequence[Generated], training: Mapping[str, TrainingImages]) -> None:
    rows = []
    for part in generated:
        assert part.nearest is not None
        refused = f"{1 - len(part.images) / part.drawn:.1%}"
        people = len(set(training[part.label].people))
        rows.append((part.label, people, len(part.images), part.drawn, refused, f"{np.median(part.nearest.distances):.4f}"))
    console.show_table("drawn", "What was drawn", ("class", "people", "images", "drawn", "refused", "nearest"), rows)
    console.say(
        "refused: share of the drawn, because they show a patient; others were drawn instead. nearest: median distance of a morph to the "
        "nearest image that morphs were made of (RMS over voxels)."
    )

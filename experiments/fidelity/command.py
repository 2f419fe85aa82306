"""The command: synthetic cohorts against a real one, per class and together, as a table and as JSON."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...augment import console
from ...augment.commands.alike import prepared_alike, ranged, sized
from ...augment.commands.check import require_sound_cohort, warn_of_people_apart
from ...augment.fitting.model_config import Participants
from ...augment.fitting.model_folders import load_models
from ...augment.release.synthetic_cohort import drawn_from
from ...classifiers.loop import RECORDS
from ...datasets.cohort import Cohort, CohortError
from ...datasets.common.errors import DataError, LeakageError, UsageError
from ...datasets.common.files import refuse_existing, write_json
from ...datasets.common.seeds import derived_seed
from ...datasets.output import output
from ...datasets.readers import Source, read_cohort
from ...datasets.splits import Split, official_sides, split_cohort
from ...datasets.together import one_name_each
from ...datasets.transforms import Preparation, prepare
from .features import (
    Extractor,
    Gathered,
    classifier_extractor,
    cohort_classifier,
    cohort_settings,
    custom_extractor,
    inception_of_name,
    sliced,
)
from .scores import FEWEST, FEWEST_OF_INTERVAL, MEASURES, Estimate, Sample, Score, ranking, score

TOGETHER = "together"
CHUNK = 256  # images prepared at a time
# Of the real participants, where the classifier must be trained on some and no split says on which.
FRACTIONS = {"train": 0.4, "validation": 0.1, "test": 0.5}
KNOWN = (
    "The generators of {} know real people of this comparison: who copies them may score better than the floor. Give --split, the "
    "split.json that lies beside the models, to compare with the test side alone."
)
UNCLEAR = (
    "The generators of {} were fitted on other data, on these as they were then, or by a version that did not say whom it left out: "
    "whether they know these people cannot be told. Give --models, the folder that they lie in."
)


@dataclass(frozen=True)
class ComparisonRequest:
    """What is compared with what, and how.

    Parameters
    ----------
    real : Source
        The real cohort.
    synthetic : tuple of Source
        One or more; with more they are ranked too.
    preparation : Preparation
        Preparation of all images; synthetic ones keep their range. What a cohort of ours records of its own is as for
        ``commands.alike.prepared_alike``.
    asked : tuple of str
        The fields of the preparation that were named.
    extractor : str
        ``cohort``, ``inception-64``, ``inception-192``, ``inception-768``, ``inception-2048``, the last three also with ``-bf16`` after it,
        or a function's import path.
    weights : Path, optional
        Weights of InceptionV3.
    measures : tuple of str
        Names among ``scores.MEASURES``.
    labels : tuple of str
        Classes to compare; empty for all that the cohorts share.
    split : Path, optional
        Split of the real cohort: its test side alone is compared.
    models : tuple of Path
        Folders of the models that the synthetic cohorts were drawn from, which know whom they have seen.
    seed : int
        Seed of all that is drawn.
    device : {"auto", "cpu", "gpu"}
        Where networks compute.
    """

    real: Source
    synthetic: tuple[Source, ...]
    preparation: Preparation
    asked: tuple[str, ...] = ()
    extractor: str = "cohort"
    weights: Path | None = None
    measures: tuple[str, ...] = tuple(MEASURES)
    labels: tuple[str, ...] = ()
    split: Path | None = None
    models: tuple[Path, ...] = ()
    seed: int = 0
    device: str = "cpu"


def compare(request: ComparisonRequest, out: Path | None = None, *, force: bool = False) -> dict[str, list[Score]]:
    """Score the synthetic cohorts, show the table, and write it as JSON if ``out`` is given.

    Returns
    -------
    dict
        From a class, or ``together``, to its scores; together has the same mix of classes on every side.
    """
    if out is None:
        return _compare(request, out)
    with output(out, console.say, data=[request.real.data]):
        refuse_existing(out, force=force)
        return _compare(request, out)


def _compare(request: ComparisonRequest, out: Path | None) -> dict[str, list[Score]]:
    unknown = [name for name in request.measures if name not in MEASURES]
    if unknown:
        raise UsageError(f"There is no measure '{unknown[0]}'; choose among: {', '.join(MEASURES)}.")
    names = [source.data for source in request.synthetic]
    if len(set(names)) < len(names):
        raise UsageError("A synthetic cohort is given twice; give each once.")
    preparation = prepared_alike(request.preparation, request.asked, names)
    real = read_cohort(replace(request.real, plane=request.real.plane or preparation.plane))
    if real.synthetic:
        raise UsageError(f"{request.real.data} is synthetic; the first cohort is the real one that the others are compared with.")
    real, checked = require_sound_cohort(real, sized=True, minimum=1)
    cohorts = {source.data: _readable(read_cohort(source)) for source in request.synthetic}
    labels = _shared_labels(real, cohorts, request.labels)
    preparation = sized(preparation, real, cohorts)
    split = None if request.split is None else Split.load(request.split, real)
    if split is not None:
        warn_of_people_apart(real, split)
    known, unclear = _known_to_generators(request, split, real, labels, checked.digest)
    _require_enough(real if split is None else split.side(real, "test"), cohorts, labels)
    if split is None and request.extractor == "cohort":
        split = split_cohort(real, fractions=FRACTIONS, seed=request.seed)
    untested = real if split is None else real.where(real.table["participant_id"].map(split.sides) != "test")
    extractor = build_extractor(request, untested, preparation)
    if split is not None:
        real = split.side(real, "test")
    with_images = "ms-ssim" in request.measures
    reference = _sample(real, labels, preparation, extractor, "real images", with_images)
    samples = {name: _sample(cohort, labels, preparation, extractor, name, with_images) for name, cohort in cohorts.items()}
    results = {}
    for label in [*labels, TOGETHER] if len(labels) > 1 else labels:
        parts = {name: _of(sample, label) for name, sample in samples.items()}
        try:
            results[label] = score(_of(reference, label), parts, measures=request.measures, seed=request.seed)
        except DataError as error:
            console.warn(f"{label}: {error}")
    if not results:
        raise DataError(f"No class has the {FEWEST} images that a comparison takes; see the warnings.")
    _show(results, extractor, request)
    if known:
        console.warn(KNOWN.format(", ".join(known)))
    if unclear:
        console.warn(UNCLEAR.format(", ".join(unclear)))
    if out is not None:
        told = {"knew_the_real_people": known, "may_know_the_real_people": unclear}
        write_json(out, _as_json(results, extractor, request, preparation) | told)
        console.say(f"Wrote {out}.")
    return results


def _known_to_generators(
    request: ComparisonRequest, split: Split | None, real: Cohort, labels: Sequence[str], digest: str
) -> tuple[list[str], list[str]]:
    """The synthetic cohorts whose generators have seen people whom they are compared with, and those of which that cannot be told.

    The models tell it for sure. Without them, the description of a cohort of ours tells the data and the split that they were fitted on,
    and who was on its test side.

    Raises
    ------
    LeakageError
        If a cohort's models have seen the test side of the split that was given.
    UsageError
        If models are given that none of the cohorts was drawn from.
    """
    # Where the sides are official, the classifier of the features leaves the test side to the comparison.
    official = split is None and request.extractor == "cohort" and official_sides(real) is not None
    used = split_cohort(real, fractions=FRACTIONS, seed=request.seed) if official else split
    table = (real if used is None else used.side(real, "test")).table
    compared = set(table.loc[table["label"].isin(list(labels)), "participant_id"])
    origins = {source.data: drawn_from(source.data) for source in request.synthetic}
    people = _people_of(request.models, {origin.participants for found in origins.values() for origin in found})
    known, unclear = [], []
    for name, found in origins.items():
        told = [people[one.participants] for one in found if one.participants in people]
        # Of official sides without validation a fit draws it in other shares: another split, which tests the same people.
        apart = [one for one in found if used is not None and (one.split == used.digest or one.tested == used.tested)]
        untold = [one for one in found if one.participants not in people and one not in apart]
        # Whom a fit tested, earlier versions did not record.
        fitted_on_these = any(one.data == digest and (one.tested or not official) for one in untold)
        if fitted_on_these or any(one.seen(who) for one in told for who in compared):
            known.append(name)
        elif untold:
            unclear.append(name)
    if known and split is not None:
        raise LeakageError(
            f"The generators of {', '.join(known)} were fitted on another split than {request.split}, or are of no model and of everybody, "
            "and may have seen its test side; give the split.json that lies beside the models, or that morphs were drawn with."
        )
    return known, unclear


def _people_of(folders: Sequence[Path], wanted: Collection[str]) -> dict[str, Participants]:
    """Whom the models in ``folders`` have seen, by the digest of that record; each folder must have some that is ``wanted``."""
    people: dict[str, Participants] = {}
    for folder in folders:
        found = {model.config.participants.digest: model.config.participants for model in load_models(folder).values()}
        if not found.keys() & set(wanted):
            raise UsageError(f"None of the synthetic cohorts was drawn from the models in {folder}; give those that they were drawn from.")
        people |= found
    return people


def build_extractor(request: ComparisonRequest, learnt_from: Cohort, preparation: Preparation) -> Extractor:
    """The extractor that a request names; ``cohort`` is trained on the real people of ``learnt_from``, whom no score may compare.

    Raises
    ------
    UsageError
        If there is no such extractor, or it cannot be built from what was given.
    """
    volumes = len(preparation.size or ()) == 3
    inception = inception_of_name(request.extractor, request.weights, device=request.device)
    if inception is not None:
        return sliced(inception) if volumes else inception
    if request.extractor != "cohort":
        if ":" not in request.extractor:
            raise UsageError(
                f"There is no extractor '{request.extractor}'; choose cohort, inception-64, inception-192, inception-768, inception-2048 "
                "(but for 64 with -bf16 too) or a function of yours as package.module:function."
            )
        return custom_extractor(request.extractor)
    if len(learnt_from) == 0:
        raise UsageError("The extractor 'cohort' learns from real people whom the split does not test, and there are none; give another.")
    images = prepare(learnt_from, preparation).pixels
    classes = torch.tensor([learnt_from.labels.index(label) for label in learnt_from.table["label"]])
    settings = replace(cohort_settings(len(images)), device=request.device)  # type: ignore[arg-type]
    console.say(f"Images are compared by the features of a classifier, which learns from {len(images)} real ones.")
    with console.progress("training the classifier", RECORDS) as advance:
        seed = derived_seed(request.seed, "extractor")
        network = cohort_classifier(images, classes, settings, seed=seed, on_record=lambda record: advance())
    return classifier_extractor(network, device=request.device)


def _readable(cohort: Cohort) -> Cohort:
    """Synthetic images may repeat each other, which is for the scores to tell; they must be there."""
    if cohort.problems:
        raise CohortError(cohort.name, cohort.problems)
    return cohort


def _require_enough(real: Cohort, cohorts: Mapping[str, Cohort], labels: Sequence[str]) -> None:
    """Raise a ``DataError`` before anything is trained if there are too few images to compare (``scores.score`` tells of each class)."""
    people = {label: real.table.loc[real.table["label"] == label, "participant_id"].nunique() for label in labels}
    made = {label: min(int((cohort.table["label"] == label).sum()) for cohort in cohorts.values()) for label in labels}
    if sum(min(people[label] // 2, made[label]) for label in labels) < FEWEST:
        real_people, images = (", ".join(f"{label}: {n}" for label, n in counts.items()) for counts in (people, made))
        raise DataError(
            f"There are too few images to compare: it takes {FEWEST}, of half the real people (there are {real_people}; with --split those "
            f"of the test side) and of each synthetic cohort ({images}); give more of what lacks, or leave out --split."
        )


def _shared_labels(real: Cohort, cohorts: Mapping[str, Cohort], asked: Sequence[str]) -> list[str]:
    for label in asked:
        real.of_class(label)
    labels = [label for label in asked or real.labels if all(label in cohort.labels for cohort in cohorts.values())]
    left_out = [label for label in asked or real.labels if label not in labels]
    if not labels:
        raise UsageError(f"No class is in all the cohorts; the real one has {', '.join(real.labels)}.")
    if left_out:
        lacking = [name for name, cohort in cohorts.items() if not set(left_out) <= set(cohort.labels)]
        console.warn(f"The class {', '.join(left_out)} is not in {', '.join(lacking)}: it is left out of all comparisons.")
    return labels


def _sample(cohort: Cohort, labels: Sequence[str], preparation: Preparation, extractor: Extractor, name: str, with_images: bool) -> Sample:
    """Features of the images of ``labels``; the images themselves are kept only where a measure looks at them."""
    cohort = cohort.where(cohort.table["label"].isin(list(labels)))
    wanted = ranged(preparation, cohort)
    features, kept = Gathered(), []
    for start in console.tracked(f"features of {name}")(range(0, len(cohort), CHUNK)):
        images = prepare(cohort.where((np.arange(len(cohort)) >= start) & (np.arange(len(cohort)) < start + CHUNK)), wanted).pixels
        features.extend(extractor.features([images]))
        kept += [images] if with_images else []
    table = cohort.table
    return Sample(
        features.array(),
        extractor.passport,
        table["label"].to_numpy(),
        np.array(one_name_each(table["participant_id"], cohort.alike)),
        torch.cat(kept) if with_images else None,
    )


def _of(sample: Sample, label: str) -> Sample:
    if label == TOGETHER or sample.labels is None:
        return sample
    return sample.take(np.flatnonzero(sample.labels == label))


def _show(results: Mapping[str, Sequence[Score]], extractor: Extractor, request: ComparisonRequest) -> None:
    rows = [
        (item.synthetic, label, item.measure, item.n, _text(item.estimate), _text(item.floor))
        for label, scores in results.items()
        for item in scores
    ]
    title = (
        f"Features: {extractor.passport.extractor}. The floor is what other real people score, in as many images. "
        "After `blocks` the interval is of the mean score of blocks of these images. "
        "No score here tells whether anybody is copied: that is what augment audit asks."
    )
    console.show_table("scores", title, ("synthetic cohort", "class", "measure", "images", "score [95 %]", "floor [95 %]"), rows)
    if few := [f"{label} ({scores[0].n})" for label, scores in results.items() if scores and scores[0].n < FEWEST_OF_INTERVAL]:
        console.say(
            f"Images a side of {', '.join(few)}: fewer than {FEWEST_OF_INTERVAL}, of which there are no intervals. What lies between such "
            "a score and its floor may be chance."
        )
    if len(request.synthetic) > 1:
        ranks = [
            (label, measure, line["rank"], line["synthetic"], line["verdict"])
            for label, measure, table in _rankings(results)
            for line in table.to_dict("records")
        ]
        console.show_table(
            "ranks", "Ranks; what the noise cannot tell apart shares one", ("class", "measure", "rank", "cohort", "verdict"), ranks
        )


def _rankings(results: Mapping[str, Sequence[Score]]) -> list[tuple[str, str, Any]]:
    return [
        (label, measure, ranking([item for item in scores if item.measure == measure]))
        for label, scores in results.items()
        for measure in dict.fromkeys(item.measure for item in scores if item.better)
    ]


def _text(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return f"{estimate.value:.4g}"
    interval = f"[{estimate.low:.4g}, {estimate.high:.4g}]"
    return f"{estimate.value:.4g}; blocks {interval}" if estimate.of_blocks else f"{estimate.value:.4g} {interval}"


def _as_json(
    results: Mapping[str, Sequence[Score]], extractor: Extractor, request: ComparisonRequest, preparation: Preparation
) -> dict[str, Any]:
    def estimate(found: Estimate) -> dict[str, Any]:
        interval = None if math.isnan(found.low) else [found.low, found.high]  # JSON has no NaN
        return {"value": found.value, "interval": interval, "interval_of_blocks": found.of_blocks, "blocks": list(found.blocks)}

    scores = [
        {
            "synthetic": item.synthetic,
            "class": label,
            "measure": item.measure,
            "images": item.n,
            "score": estimate(item.estimate),
            "floor": estimate(item.floor),
        }
        for label, found in results.items()
        for item in found
    ]
    ranks = [{"class": label, "measure": measure, "ranks": table.to_dict("records")} for label, measure, table in _rankings(results)]
    return {
        "real": request.real.data,
        "seed": request.seed,
        "passport": asdict(extractor.passport),
        "preparation": preparation.content(),
        "scores": scores,
        "rankings": ranks if len(request.synthetic) > 1 else [],
    }

"""``augment prepare``: real images in the form of synthetic ones, so that one pipeline loads both."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...datasets.cohort import Cohort
from ...datasets.common.custody import require_intact
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import named, refuse_existing
from ...datasets.output import output
from ...datasets.readers import Source, read_cohort
from ...datasets.sizes import sides_told
from ...datasets.spaces import ImageSpace
from ...datasets.together import groups_of
from ...datasets.transforms import Images, prepare
from .. import console
from ..fitting.model_config import ModelConfig
from ..fitting.model_folders import is_model, load_models, model_folders, require_alike
from ..release.description import Description
from ..release.form import Form, Format, default_format
from ..release.prepared_cohort import is_prepared, write_prepared
from ..release.prepared_table import SELECTED_BY, TRAINED_ON, UNSEEN, image_names, in_sessions
from ..release.synthetic_cohort import is_synthetic
from ..release.values import Values
from .check import require_sound_cohort

NOT_ASKED = "n/a"


@dataclass(frozen=True)
class PrepareRequest:
    """What is prepared, and like what; the options of ``augment prepare``, with their defaults.

    Parameters
    ----------
    like : Path
        A folder of models, one model, or a synthetic cohort.
    given : mapping
        Arguments of ``Source``: where the real cohort lies and how it is read. What is not given is as the models read theirs.
    labels : sequence of str
        Classes; none for all.
    file_format, dtype, white
        Form of the files; by default that of the synthetic cohort, or what is drawn from the models by default.
    skull_stripped : bool, optional
        Whether the images are, where the source does not say it.
    command : str
        Recorded in the description.
    """

    like: Path
    given: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()
    file_format: Format | None = None
    dtype: str | None = None
    white: float | None = None
    skull_stripped: bool | None = None
    command: str = ""


@dataclass(frozen=True)
class _Like:
    """What real images are made like: the form, how its real images were read, and who knows people, where models are at hand."""

    form: Form
    source: Source | None = None
    models: tuple[ModelConfig, ...] = ()

    def seen(self, cohort: Cohort) -> dict[str, str] | None:
        """From participant to what they, or whoever may be one person with them, were to the models; ``None`` without models to ask.

        Of a class without a model somebody else's model may know people: of them nothing is said.
        """
        if not self.models:
            return None
        known, asked = [model.participants for model in self.models], {model.label for model in self.models}
        label_of = dict(zip(cohort.table["participant_id"], cohort.table["label"], strict=True))
        groups = {who: group for group in groups_of(cohort.alike) for who in group}

        def told(person: str) -> str:
            names = groups.get(person, {person})
            if any(one.trained_on(name) for one in known for name in names):
                return TRAINED_ON
            if any(one.seen(name) for one in known for name in names):
                return SELECTED_BY
            return UNSEEN if label_of[person] in asked else NOT_ASKED

        return {person: told(person) for person in label_of}


def prepare_cohort(request: PrepareRequest, out: Path, *, force: bool = False) -> Cohort:
    """Write the real images of a cohort into ``out``, in the form of a synthetic cohort; the cohort that is there now.

    Raises
    ------
    UsageError
        If what they shall be like is neither models nor a synthetic cohort, or the cohort is synthetic itself.
    CohortError
        If anything is wrong with the cohort.
    DataError
        If its images cannot be brought to that form.
    """
    out = named(out)
    like = _like(request)
    source = _source(request, like)
    with output(out, console.say, data=[source.data]):
        refuse_existing(out, force=force, ours=is_prepared)
        cohort = read_cohort(source)
        if cohort.synthetic:
            raise UsageError(f"{source.data} is synthetic, and has its form; give the real cohort.")
        for label in request.labels:
            cohort.of_class(label)
        cohort, _ = require_sound_cohort(cohort, sized=like.form.preparation.size is not None, minimum=1)
        if request.labels:
            cohort = cohort.where(cohort.table["label"].isin(list(request.labels)))
        images = _prepared(cohort, like.form)
        stripped = request.skull_stripped
        write_prepared(
            out, cohort, images, like.form, seen=like.seen(cohort), skull_stripped=stripped, command=request.command, force=force
        )
    counts = ", ".join(f"{count} of {label}" for label, count in cohort.counts().items())
    console.say(f"Wrote {len(cohort)} real images ({counts}) to {out}, {_told(like.form)}. They are personal data, as {cohort.name} is.")
    if in_sessions(image_names(cohort)):
        kept = "is a session of its person" if like.form.file_format == "nifti" else "has a row of its own and the name of a session"
        console.say(f"Some have several images: each {kept}, as the source names it, or else numbered.")
    return read_cohort(out)


def _like(request: PrepareRequest) -> _Like:
    path = request.like
    if path.is_dir() and model_folders(path):
        models = load_models(path)
        first, *others = (model.config for model in models.values())
        require_alike((first, *others), path)
        file_format = request.file_format or default_format(first.space)
        form = Form(first.preparation, first.space, file_format, Values.asked(file_format, request.dtype, request.white))
        return _Like(form, first.source(request.given), (first, *others, *_beside(path)))
    if is_synthetic(path):
        require_intact(path)
        form = Description.read(path).form(path)
        file_format = request.file_format or form.file_format
        kept = form.values if (file_format, request.dtype, request.white) == (form.file_format, None, None) else None
        return _Like(replace(form, file_format=file_format, values=kept or Values.asked(file_format, request.dtype, request.white)))
    raise UsageError(f"{path} is neither a folder of models nor a synthetic cohort; give --like one of these.")


def _beside(path: Path) -> list[ModelConfig]:
    """The models beside a single one that are of the same split: whom it does not know they may."""
    if not is_model(path):
        return []
    split, found = ModelConfig.read(path).split.get("digest"), []
    with suppress(DataError):  # one that is damaged or lost answers nothing
        for folder in model_folders(path.resolve().parent):
            with suppress(DataError):
                found.append(ModelConfig.read(folder))
    return [config for config in found if split and config.split.get("digest") == split]


def _source(request: PrepareRequest, like: _Like) -> Source:
    if like.source is not None:
        return like.source
    if "data" not in request.given:
        raise UsageError(f"{request.like} does not say where its real images lie; name them: augment prepare DATA --like {request.like}.")
    return Source(**{"plane": like.form.preparation.plane, **request.given})


def _prepared(cohort: Cohort, form: Form) -> Images:
    if form.file_format == "png" and len(form.space.shape) == 3:
        raise UsageError("Volumes cannot be written as PNG; choose --format nifti or npz.")
    images = prepare(cohort, form.preparation, like=form.space, on_warning=console.warn)
    if not _same_kind(images.space, form.space):
        raise DataError(
            f"The images of {cohort.name} are {_kind(images.space)}, and those that they shall be like are {_kind(form.space)}: one "
            "pipeline would not load both alike; give the cohort that the models were fitted on, or one like it."
        )
    return images


def _same_kind(one: ImageSpace, other: ImageSpace) -> bool:
    return (one.flat_axis, one.affine is None, one.is_picture) == (other.flat_axis, other.affine is None, other.is_picture)


def _kind(space: ImageSpace) -> str:
    kind = "pictures" if space.is_picture else "volumes" if len(space.shape) == 3 else f"slices across axis {space.axes}"
    return kind if space.affine is not None else f"{kind} without a place in the world"


def _told(form: Form) -> str:
    sides = sides_told(form.space.shape, picture=form.space.is_picture)
    return f"{sides}, {form.file_format}, {form.values.dtype} from 0 to {form.values.white:g}"

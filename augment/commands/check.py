"""``augment check``: a cohort examined as a whole, and what was found."""

from collections import Counter
from collections.abc import Sequence

from ...datasets.check import Examination, examine
from ...datasets.cohort import Cohort, Problem
from ...datasets.readers import Source, read_cohort
from ...datasets.sizes import sides_told
from ...datasets.splits import Split
from ...datasets.together import apart, told
from .. import console
from ..fitting.plan import FEWEST_IMAGES


def check_cohort(source: Source, *, sized: bool) -> bool:
    """Examine a cohort and print what was found; whether it is sound."""
    cohort = read_cohort(source)
    found = examine(cohort, sized=sized, minimum=FEWEST_IMAGES, progress=console.tracked("checking"))
    rows = [(label, found.participants.get(label, 0), count) for label, count in found.images.items()]
    console.show_table("classes", f"{cohort.name}: {shapes_told(found)}", ("class", "participants", "images"), rows)
    if found.sound:
        console.say("Sound: nothing is missing, unreadable, repeated or doubly labelled.")
    else:
        problems = [(p.participant, p.path, p.what, p.mend) for p in found.problems]
        console.show_table("problems", _counted(found.problems), ("participant", "file", "what", "mend"), problems)
    if found.remarks:
        remarks = [(p.participant, p.path, p.what, p.mend) for p in found.remarks]
        console.show_table("remarks", "To be known, not mended", ("participant", "file", "what", "remark"), remarks)
    return found.sound


def _counted(problems: Sequence[Problem]) -> str:
    """How many problems there are, and of what kind most are, by which a long table is understood."""
    ((most, n),) = Counter(problem.what for problem in problems).most_common(1)
    return f"{len(problems)} problem{'s' if len(problems) != 1 else ''}" + (f", {n} of which: {most}" if 1 < n < len(problems) else "")


def require_sound_cohort(cohort: Cohort, *, sized: bool, minimum: int) -> tuple[Cohort, Examination]:
    """A cohort bound to what was found when it was examined; remarks are told. Raise a ``CohortError`` if it is not sound."""
    found = examine(cohort, sized=sized, minimum=minimum, progress=console.tracked("checking")).required(cohort)
    if found.remarks:
        console.warn(f"{cohort.name}: {len(found.remarks)} remark{'s' if len(found.remarks) != 1 else ''}, which `augment check` lists.")
    if found.alike:
        console.warn(f"{cohort.name} may have one person under two names: {told(found.alike)}. A drawn split keeps them on one side.")
    return found.bound(cohort), found


def warn_of_people_apart(cohort: Cohort, split: Split) -> None:
    """Tell who may be one person, and is on two sides of a split: official sides, and those that a file tells, are not changed."""
    if found := apart(split.sides, cohort.alike):
        console.warn(f"One person may be on two sides of {split.source} under two names: {told(found)}. `augment check` says why.")


def shapes_told(found: Examination) -> str:
    """How many images there are of each size, as it is seen and, of pictures, as it is stored."""
    return (
        ", ".join(f"{count} of {sides_told(shape, picture=found.pictures)}" for shape, count in found.shapes.items()) or "no readable image"
    )

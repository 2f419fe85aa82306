"""How the images of a cohort differ in what need not be mended, and is to be known: a count of each, for ``augment check``."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from .cohort import Cohort, Problem
from .image_checks import Look
from .images import COLOURS, NAMES

_SHOWN = 4  # kinds of a mixture that are counted by name


def differences(cohort: Cohort, looks: Sequence[Look | None], *, sized: bool) -> list[Problem]:
    """Return a remark for each way in which the images are a mixture, or are read otherwise than they are stored.

    Parameters
    ----------
    cohort : Cohort
    looks : sequence of Look or None
        Of its rows.
    sized : bool
        Whether all images are brought to one size: else another size is a problem of its image.
    """
    seen = [look for look in looks if look is not None and look.one_image]
    found = []
    if sized:
        sizes = _mixture("sizes", (look.shape for look in seen), "of {}", " x ", "")
        found.append((sizes, "nothing, if all show as much: --size brings them to one"))
    spacings = _mixture("voxel sizes", (look.spacing for look in seen if look.spacing), "of {}", " x ", " mm")
    found.append((spacings, "resample them to one: images are brought to a size by voxels, not by mm"))
    orientations = _mixture("orientations", (look.orientation for look in seen if look.orientation), "stored as {}", "", "")
    found.append((orientations, "nothing: all are turned to RAS"))
    coloured, named = (sum(note in look.notes for look in seen) for note in (COLOURS, NAMES))
    if coloured:
        found.append((f"{coloured} of {len(seen)} images are stored in colours", "nothing: they are read as grey"))
    if named:
        what = f"the headers of {named} of {len(seen)} images hold names or birth dates"
        found.append((what, "nothing here reads or writes them; take them out before you hand the files on"))
    return [Problem(cohort.name, cohort.source, what, mend) for what, mend in found if what]


def _mixture(what: str, values: Iterable[Hashable], told: str, between: str, unit: str) -> str:
    """How many there are of each, the commonest first; empty if all are alike."""
    counts = Counter(values)
    if len(counts) < 2:
        return ""
    parts = [f"{n} {told.format(between.join(map(_number, value)) + unit)}" for value, n in counts.most_common(_SHOWN)]  # type: ignore[arg-type]
    others = sum(counts.values()) - sum(n for _, n in counts.most_common(_SHOWN))
    return f"{len(counts)} {what}: {', '.join(parts)}{f', {others} of others' if others else ''}"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

"""How real and synthetic images are brought to one form: real ones are prepared as those were whom a cohort of ours was made of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...datasets.cohort import Cohort
from ...datasets.common.errors import UsageError
from ...datasets.common.words import times
from ...datasets.transforms import Preparation, parse_position, space_of
from .. import console
from ..release.synthetic_cohort import prepared_as

USUAL = Preparation()


def prepared_alike(preparation: Preparation, asked: Collection[str], cohorts: Sequence[str]) -> Preparation:
    """A preparation that leaves open what synthetic cohorts record: who is compared by other slices than theirs looks like nobody.

    Parameters
    ----------
    preparation : Preparation
        Its size stays: images may be compared at any.
    asked : collection of str
        Its fields that the user has named; one that is not the usual one is asked for in any case.
    cohorts : sequence of str
        Where the synthetic cohorts lie.

    Raises
    ------
    UsageError
        If a cohort records another preparation than is asked for, or than another cohort.
    """
    told = {name: fields for name in cohorts if (fields := _recorded(name))}
    for name, fields in told.items():
        for field, recorded in fields.items():
            own = getattr(preparation, field)
            if (field in asked or own != getattr(USUAL, field)) and not _same(field, own, recorded):
                raise UsageError(f"The images of {name} were made with --{field} {recorded}, not {own}; leave out --{field}.")
    if not told:
        return preparation
    (first, fields), *others = told.items()
    for name, other in others:
        if fields.keys() != other.keys() or not all(_same(field, other[field], recorded) for field, recorded in fields.items()):
            raise UsageError(
                f"{first} and {name} were made of images that were prepared differently ({_options(fields)}; {_options(other)}); give one "
                "of them."
            )
    if any(getattr(preparation, field) != recorded for field, recorded in fields.items()):
        console.say(f"All images are prepared as {first} says of its own: {_options(fields)}.")
    return replace(preparation, **fields)


def ranged(preparation: Preparation, cohort: Cohort) -> Preparation:
    """Of a cohort that says it is synthetic, whose images have their range already: scaling them anew would show others."""
    return replace(preparation, scaling="none") if cohort.synthetic else preparation


def sized(preparation: Preparation, real: Cohort, cohorts: Mapping[str, Cohort]) -> Preparation:
    """With the size at which all are compared: where none is asked for, the synthetic images' own, which real ones are then brought to.

    Raises
    ------
    UsageError
        If no size is asked for, and synthetic cohorts have images of different ones.
    """
    if preparation.size is not None:
        return replace(preparation, size=space_of(real, preparation, console.warn).shape)
    sizes = own_sizes(preparation, cohorts)
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name}: {times(size)}" for name, size in sizes.items())
        raise UsageError(f"The synthetic cohorts have images of different sizes ({listed}); say with --size at which to compare them.")
    size = next(iter(sizes.values()))
    found = replace(preparation, size=size)
    space_of(real, found, console.warn)
    console.say(f"All images are compared at {times(size)}, the size of the synthetic ones.")
    return found


def own_sizes(preparation: Preparation, cohorts: Mapping[str, Cohort]) -> dict[str, tuple[int, ...]]:
    """The size of each synthetic cohort's images, prepared without one."""
    return {name: space_of(cohort, ranged(preparation, cohort)).shape for name, cohort in cohorts.items()}


def _recorded(cohort: str) -> dict[str, Any]:
    """What a cohort records, but for its size, and for where it is cut, if it is not: whole images may be cut as one likes."""
    found = prepared_as(cohort)
    if found is None:
        return {}
    cut = {} if found.plane is None else {"plane": found.plane, "position": found.position}
    return cut | {"resize": found.resize, "scaling": found.scaling}


def _same(field: str, one: Any, other: Any) -> bool:
    return parse_position(one) == parse_position(other) if field == "position" else one == other


def _options(fields: dict[str, Any]) -> str:
    return " ".join(f"--{field} {value}" for field, value in fields.items())

"""The gate of a synthetic cohort: its limits, each with a default that only a written reason can change, and what it records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from ...datasets.common.errors import UsageError

OF_GENERATION = ("level", "ratio")  # what `augment generate` looks at; the rest is the audit's
IMAGES, LATENTS, NOTHING = "images", "latents only", "nothing"  # what drawn images were compared by


@dataclass(frozen=True)
class Gate:
    """Limits, all between 0 and 1.

    Parameters
    ----------
    level : float
        The probability that any image of a class that copies nobody is refused, set aside, or called a reconstruction.
    ratio : float
        A copy is at most this much as far from one patient as from any other. The default is the one that Carlini et al. 2023
        ("Extracting training data from diffusion models") relate distances to.
    copies : float
        The share of a class's images that the audit may set aside; more are a fault of the sampler, and refuse the cohort.
    duplicates : float
        The share of a class's images that may repeat another one of them.
    membership : float
        The largest area under the curve of an attack on membership that the audit must be able to exclude.
    power : float
        The share of planted copies that the audit must find to be believed.
    reason : str
        Reason why limits were changed; empty if none was.
    """

    level: float = 0.05
    ratio: float = 0.5
    copies: float = 0.05
    duplicates: float = 0.5
    membership: float = 0.75
    power: float = 0.9
    reason: str = ""

    @classmethod
    def parse(cls, texts: Sequence[str], reason: str, names: Sequence[str] = ()) -> "Gate":
        """Limits as a user changes them, ``name=value``.

        Parameters
        ----------
        texts : sequence of str
        reason : str
            In the user's words.
        names : sequence of str
            Limits that may be changed; by default all.

        Raises
        ------
        UsageError
            For an unknown limit, a value outside of [0, 1], or a change without a reason.
        """
        names = names or LIMITS
        changes: dict[str, Any] = {}
        for text in texts:
            name, _, value = text.partition("=")
            if name not in names:
                raise UsageError(f"--gate changes {', '.join(names)}, not '{name}'.")
            try:
                changes[name] = float(value)
            except ValueError:
                raise UsageError(f"--gate is written as {names[0]}=0.1, not '{text}'.") from None
            if not 0 <= changes[name] <= 1:
                raise UsageError(f"--gate {name} lies between 0 and 1, not at {value}.")
        if bool(changes) != bool(reason.strip()):
            raise UsageError('--gate and --reason go together: say why, as --reason "stays inside the hospital".')
        return replace(cls(), **changes, reason=reason.strip())

    def limits(self, names: Sequence[str] = ()) -> dict[str, float]:
        """The limits by name; by default all."""
        return {name: getattr(self, name) for name in names or LIMITS}

    def as_json(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """The limits (by default all) as a record has them: their values, which were changed, and why."""
        values = self.limits(names)
        changed = [name for name, value in values.items() if value != getattr(Gate(), name)]
        return {"Thresholds": values} | ({"Changed": changed, "Reason": self.reason} if self.reason else {})


LIMITS = tuple(field.name for field in fields(Gate) if field.name != "reason")


class GateRecord(Protocol):
    """Findings of a gate for the cohort's description; they name nobody, because they are handed on with the images."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...


@dataclass(frozen=True)
class ScreeningRecord:
    """Findings of `augment generate` while it drew; what it refused never was in the cohort.

    Parameters
    ----------
    compared : mapping
        Whether the images of each class were compared with the training images: ``images``, ``latents only`` or ``nothing``.
    in_pieces : tuple of str
        The classes of whose images pieces were compared too, where there was a place to do so.
    drawn : mapping
        Number of images drawn of each class, the refused among them.
    refused : mapping
        Number of refused images of each class, by reason.
    gate : Gate
    """

    compared: Mapping[str, str]
    in_pieces: tuple[str, ...]
    drawn: Mapping[str, int]
    refused: Mapping[str, Mapping[str, int]]
    gate: Gate = field(default_factory=Gate)

    @property
    def passed(self) -> bool | None:
        """True, or None where nobody can tell, because the training images were not there, or of too few people."""
        return True if set(self.compared.values()) == {IMAGES} else None

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "By": "augment generate",
            "Compared": dict(self.compared),
            "ComparedInPieces": list(self.in_pieces),
            "Drawn": dict(self.drawn),
            "Refused": {label: sum(counts.values()) for label, counts in self.refused.items()},
            "RefusedBecause": {label: dict(counts) for label, counts in self.refused.items() if counts},
            "Passed": self.passed,
        } | self.gate.as_json(OF_GENERATION)


@dataclass(frozen=True)
class AuditRecord:
    """Findings of `augment audit`.

    Parameters
    ----------
    set_aside : mapping
        Number of images of each class that it took out of the cohort.
    objections : tuple of str
        Reasons to refuse the cohort; empty if it passes.
    gate : Gate
    """

    set_aside: Mapping[str, int]
    objections: tuple[str, ...] = ()
    gate: Gate = field(default_factory=Gate)

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "By": "augment audit",
            "SetAside": dict(self.set_aside),
            "Passed": not self.objections,
            "Objections": list(self.objections),
        } | self.gate.as_json()

"""The gate of a synthetic cohort: its thresholds, each with a default that only a written reason can change."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ...datasets.common.errors import UsageError

OF_GENERATION = ("level", "ratio")  # what `augment generate` looks at; the rest is the audit's


@dataclass(frozen=True)
class Gate:
    """Thresholds, all between 0 and 1.

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
        Why thresholds were changed; empty if none was.
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
        """Thresholds as a user changes them, ``name=value``.

        Parameters
        ----------
        texts : sequence of str
        reason : str
            In the user's words.
        names : sequence of str
            Which may be changed; by default all.

        Raises
        ------
        UsageError
            For an unknown threshold, a value outside of [0, 1], or a change without a reason.
        """
        names = names or NAMES
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

    def record(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """What a dataset description says of these thresholds (by default of all): their values, which were changed, and why."""
        values = {name: getattr(self, name) for name in names or NAMES}
        changed = [name for name, value in values.items() if value != getattr(Gate(), name)]
        return {"Thresholds": values} | ({"Changed": changed, "Reason": self.reason} if self.reason else {})


NAMES = tuple(field.name for field in fields(Gate) if field.name != "reason")

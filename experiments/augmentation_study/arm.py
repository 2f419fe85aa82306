"""What is compared: a method in a mode, as ``vae:auto+classical detail=mosaic synthetic-only``; and the one comparison that counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...datasets.common.errors import UsageError
from .mode import MIXINGS, REAL, Mode


@dataclass(frozen=True)
class Arm:
    """A method in a mode.

    Parameters
    ----------
    method : str
        As ``methods.method_of`` reads it.
    mode : str
        As ``Mode.parse`` reads it; ``REAL`` of a method that generates nothing.
    """

    method: str
    mode: str = REAL

    @classmethod
    def of(cls, key: Mapping[str, Any]) -> "Arm":
        """That of a cell, or of a row of results."""
        return cls(key["method"], key["mode"])

    @classmethod
    def find(cls, text: str, arms: Sequence["Arm"], option: str) -> "Arm":
        """Which of the arms of a study a text names: a method, and a mode behind it where the study has several.

        Raises
        ------
        UsageError
            If it is none of them, or its mode is left open.
        """
        words = text.split()
        place = next((place for place, word in enumerate(words) if word in MIXINGS), len(words))
        method, mode = " ".join(words[:place]), Mode.parse(" ".join(words[place:])) if words[place:] else None
        found = [arm for arm in arms if arm.method == method and (mode is None or arm._is_in(mode))]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{option} '{text}' has several modes in this study: name {' or '.join(arm.mode for arm in found)} behind it.")
        raise UsageError(f"{option} '{text}' is not part of this study; add it to --methods and --mode, or choose of {_listed(arms)}.")

    def _is_in(self, mode: Mode) -> bool:
        """Whether this is its mode, however either is written."""
        return self.mode != REAL and Mode.parse(self.mode) == mode

    def __str__(self) -> str:
        return self.method if self.mode == REAL else f"{self.method} {self.mode}"


@dataclass(frozen=True)
class Primary:
    """The one comparison of a study that is named before it begins; all others are secondary."""

    arm: Arm
    against: Arm

    @classmethod
    def of(cls, content: Mapping[str, str]) -> "Primary":
        """From a configuration's table ``primary``."""
        return cls(Arm(content["method"], content["mode"]), Arm(content["against"], content["against_mode"]))

    def content(self) -> dict[str, str]:
        """The table ``primary``."""
        return {"method": self.arm.method, "mode": self.arm.mode, "against": self.against.method, "against_mode": self.against.mode}

    def __str__(self) -> str:
        return f"'{self.arm}' against '{self.against}'"


def _listed(arms: Sequence[Arm]) -> str:
    return ", ".join(f"'{arm}'" for arm in arms)

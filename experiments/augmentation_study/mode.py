"""What goes with generated images, as a text such as ``resampled+synthetic``, ``real+synthetic enlarge=4`` or ``synthetic-only n=300``."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from ...augment.settings import read_settings, settings_of
from ...datasets.common.errors import UsageError

Mixing = Literal["resampled+synthetic", "real+synthetic", "synthetic-only"]
MIXINGS: tuple[Mixing, ...] = get_args(Mixing)
Choice = Literal["supported", "confident"]
DEFAULT_MODE: Mixing = "resampled+synthetic"
REAL = "real"  # in the place of a mode: of a method that generates nothing


@dataclass(frozen=True)
class Mode:
    """How many images of each class are generated, and which real ones they are mixed with.

    Parameters
    ----------
    mixing : {"resampled+synthetic", "real+synthetic", "synthetic-only"}
        With the real images, resampled to balance, so that every class has the same share of generated images; with the real ones as they
        are, of which the smaller class is then mostly generated, and a CNN can tell the classes by what generated images look like; or with
        none (the paper).
    enlarge : float, optional
        With real images: each class gets this many times the images of the largest class of the real training set, 1 or more; the study's
        (``Protocols.enlarge``) if left out.
    n : int, optional
        Of ``synthetic-only``: images of each class; the study's (``Protocols.n_synthetic``) if left out.
    choose : {"supported", "confident"}, optional
        Which of twice as many images are taken (``choosing.chosen``); as they come if left out.
    """

    mixing: Mixing
    enlarge: float | None = None
    n: int | None = None
    choose: Choice | None = None

    def __post_init__(self) -> None:
        if self.mixing not in MIXINGS:
            raise UsageError(f"--mode is {', '.join(MIXINGS[:-1])} or {MIXINGS[-1]}, not '{self.mixing}'.")
        if self.mixing == "synthetic-only" and self.enlarge is not None:
            raise UsageError("The mode synthetic-only has no real images that could be enlarged: give n, the images of each class.")
        if self.mixing != "synthetic-only" and self.n is not None:
            raise UsageError(f"The mode {self.mixing} makes every class as large as the largest, times enlarge: give that, and not n.")
        if (self.enlarge is not None and not 1 <= self.enlarge < float("inf")) or (self.n is not None and self.n < 1):
            raise UsageError(f"A mode has at least 1 synthetic image, and may not shrink the training set: not '{self}'.")

    @classmethod
    def parse(cls, text: str) -> "Mode":
        """Read a mixing and any number of ``name=value``; raise a ``UsageError`` if it is none."""
        mixing, *settings = text.split() or [""]
        if mixing not in MIXINGS:
            raise UsageError(f"--mode is {', '.join(MIXINGS[:-1])} or {MIXINGS[-1]}, not '{mixing}'.")
        return cls(mixing, **read_settings(settings_of(cls, but=("mixing",)), settings, f"the mode '{mixing}'"))

    def __str__(self) -> str:
        given = [(part.name, getattr(self, part.name)) for part in fields(self)[1:]]
        told = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in given if value is not None]
        return " ".join([self.mixing, *told])

"""Detail from several people: what decoding has lost of each, moved to a sample's anatomy, and put together so that nobody's prevails."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Annotated, get_args

import torch
from torch import Tensor

from ...datasets.common.compute import exactly
from ...datasets.common.errors import UsageError
from ..settings import Between, read_settings, require_values, settings_of
from .donors import Choice, Donors
from .partition import draw_partition, spread, weights_of
from .registration import jacobians, move, register

NAME = "mosaic"
FAINTEST = 1 / 255  # of what is not background, which 0 alone is, in images of 8 bit too
AT_ONCE = 2**18  # voxels of samples that get their detail together: a progress bar moves, and memory stays small


Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]


def _quietly() -> None:
    pass


MOST_PIECES = 1000


@dataclass(frozen=True)
class Mosaic:
    """How detail is put together.

    Parameters
    ----------
    n_donors : int
        People whose detail a sample gets, 2 or more.
    donors_by : {"random", "near", "age"}
        How they are chosen of the training people (``Donors.draw``).
    pieces : int
        How finely: independent values of the partition along the longest side, 2 or more, at most 1,000.
    largest_share : float
        The largest share of a sample's foreground that is one person's detail, above an equal share.
    """

    n_donors: int = 4
    donors_by: Choice = "random"
    pieces: int = 10
    largest_share: Annotated[float, Between(0, 1)] = 0.4

    def __post_init__(self) -> None:
        whose = f"the detail '{NAME}'"
        require_values(vars(self), settings_of(Mosaic), whose)
        for name, least in (("n_donors", 2), ("pieces", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"The setting {name} of {whose} is {least} or more, not {getattr(self, name)}.")
        if self.pieces > MOST_PIECES:
            raise UsageError(f"The setting pieces of {whose} is at most {MOST_PIECES}, not {self.pieces}: it is finer than images are.")
        if self.donors_by not in get_args(Choice):
            raise UsageError(f"The setting donors_by of {whose} is {', '.join(get_args(Choice))}, not '{self.donors_by}'.")
        # Of equal shares of everybody there is one partition, and it has no pieces.
        if not self.n_donors * self.largest_share > 1 + 1e-6:
            raise UsageError(
                f"Of {self.n_donors} donors each has at least {1 / self.n_donors:.0%} in the mean, so that the largest share is more than "
                f"that, not {self.largest_share:.0%}; raise n_donors or largest_share of {whose}."
            )

    @classmethod
    def parse(cls, text: str) -> "Mosaic":
        """Read ``mosaic`` and any number of ``name=value``; raise a ``UsageError`` if it is none."""
        name, *settings = text.split() or [""]
        if name != NAME:
            raise UsageError(f"There is no detail '{name}'; choose auto, none, or {NAME} and its settings.")
        return cls(**read_settings(settings_of(cls), settings, f"the detail '{NAME}'"))

    def require(self, donors: Donors) -> None:
        """Raise a ``UsageError`` if these people cannot be its donors."""
        if donors.n_people < self.n_donors:
            raise UsageError(
                f"The detail '{NAME}' takes {self.n_donors} people for an image, and there are {donors.n_people}; lower n_donors, or give "
                "--detail none."
            )
        if self.donors_by == "age" and donors.age is None:
            raise UsageError("Donors cannot be chosen by age: the ages of the training people are not known; leave out donors_by=age.")

    def __str__(self) -> str:
        return " ".join([NAME, *(f"{name}={value}" for name, value in asdict(self).items())])


@dataclass(frozen=True, eq=False)
class Detailed:
    """Samples with detail, and where it is from.

    Parameters
    ----------
    pixels : torch.Tensor
        ``(n, channels, ...)`` in [0, 1]; exactly 0 where the donors' background is.
    donors : torch.Tensor
        ``(n, k)``: rows of the donors.
    shares : torch.Tensor
        ``(n, k)``: what each has of the foreground.
    smallest_jacobian : torch.Tensor
        ``(n,)``: the least determinant of the displacements of a sample; above 0, because nothing folds.
    """

    pixels: Tensor
    donors: Tensor
    shares: Tensor
    smallest_jacobian: Tensor


@dataclass(frozen=True, eq=False)
class Detail:
    """A mosaic and the people whom it is made of: what gives a model's samples their detail.

    Parameters
    ----------
    mosaic : Mosaic
    donors : Donors
        Of the model's training side.
    progress : callable
        From the number of batches, a context that gives a function to be called after each.
    """

    mosaic: Mosaic
    donors: Donors
    progress: Progress = lambda n: nullcontext(_quietly)

    def __call__(self, decoded: Tensor, latents: Tensor, generator: torch.Generator, device: torch.device) -> Detailed:
        """Samples ``(n, channels, ...)``, decoded from ``latents`` ``(n, D)``, with detail; computed on ``device``."""
        with self.progress(n_batches(decoded)) as advance, exactly(device):
            return add_detail(self.mosaic, self.donors.to(device), decoded, latents, generator, advance)


@torch.no_grad()
def add_detail(
    mosaic: Mosaic, donors: Donors, decoded: Tensor, latents: Tensor, generator: torch.Generator, advance: Callable[[], None] = _quietly
) -> Detailed:
    """Give samples the detail of several people each.

    Parameters
    ----------
    mosaic : Mosaic
    donors : Donors
        On the device that computes.
    decoded : torch.Tensor
        ``(n, channels, ...)``: the samples as a model decodes them.
    latents : torch.Tensor
        ``(n, D)`` that they were decoded from.
    generator : torch.Generator
        On the CPU.
    advance : callable
        Called ``n_batches`` times.

    Raises
    ------
    UsageError
        If these people cannot be its donors.
    """
    mosaic.require(donors)
    device = donors.residuals.device
    rows = donors.draw(latents, mosaic.n_donors, mosaic.donors_by, generator)
    values = draw_partition(len(decoded), mosaic.n_donors, decoded.shape[2:], mosaic.pieces, generator)
    size = _batch_size(decoded)
    parts = []
    for part, of_part, of_values in zip(decoded.split(size), rows.split(size), values.split(size), strict=True):
        fields = spread(of_values.to(device), part.shape[2:])
        parts.append(_put_together(part.to(device), of_part, fields, donors, mosaic.largest_share))
        advance()
    pixels, shares, smallest = (torch.cat(column).to(decoded.device) for column in zip(*parts, strict=True))
    return Detailed(pixels, rows, shares, smallest)


def n_batches(decoded: Tensor) -> int:
    """How often ``add_detail`` calls ``advance``."""
    return len(decoded.split(_batch_size(decoded)))


def _batch_size(decoded: Tensor) -> int:
    return max(1, AT_ONCE // decoded[0, 0].numel())


def _put_together(decoded: Tensor, rows: Tensor, fields: Tensor, donors: Donors, bound: float) -> tuple[Tensor, Tensor, Tensor]:
    """Samples ``(n, channels, ...)`` with detail, the donors' shares ``(n, k)``, and the smallest Jacobians ``(n,)``."""
    residuals, foregrounds, smallest = [], [], []
    for of_donor in rows.T:
        displacements = register(donors.decoded[of_donor], decoded).displacements()
        residuals.append(move(donors.residuals[of_donor], displacements))
        foregrounds.append(move(donors.foreground[of_donor].float(), displacements)[:, 0])
        smallest.append(jacobians(displacements).flatten(1).amin(1))
    able = torch.stack(foregrounds, 1)
    # Of whoever has it: a voxel is background where most of them are.
    foreground = able.mean(1) >= 0.5
    weights, shares = weights_of(fields, able, foreground, bound)
    # Where two people meet, their mean would be smoother than either: the weights' squares sum to 1, so that the variance stays.
    of_detail = weights / weights.square().sum(1, keepdim=True).sqrt()
    detail = sum(weight[:, None] * residual for weight, residual in zip(of_detail.unbind(1), residuals, strict=True))
    return (decoded + detail).clamp(FAINTEST, 1) * foreground[:, None], shares, torch.stack(smallest).amin(0)

"""Morphs: two people of a class, each moved a random part of the way to the other, and blended. No model is needed.

What a generator draws must be worth more than this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from monai.networks.layers.simplelayers import GaussianFilter
from torch import Tensor

from ...datasets.common.compute import exactly
from ...datasets.common.errors import UsageError
from ..settings import Between
from .partition import draw_partition, spread
from .people import draw_images, numbers_of
from .registration import move, register

NAME = "morph"
TITLE = "two people of a class, registered, each moved a random part of the way to the other, and blended"
# Standard deviation of the Gaussian that parts anatomy from detail, as a share of the longest side. With less, sharp digits find each other
# less well; with more, brains do, whose ventricles then get two edges. Morphs of brains have nine tenths of the brains' sharpness with it.
SMOOTHING = 1 / 64
PIECES = 10  # of the partition of detail along the longest side: smaller than a lobe, larger than a gyrus
AT_ONCE = 2**18  # voxels of morphs that are made together: a progress bar moves, and memory stays small


@dataclass(frozen=True)
class Morph:
    """How far a morph may be on the way.

    Parameters
    ----------
    share : float
        The largest share that one of the two people has. Shares are uniform up to it: near 1, some morphs are nearly a person.
    """

    share: Annotated[float, Between(0.5, 1)] = 0.75

    def __post_init__(self) -> None:
        if not 0.5 < self.share < 1:
            raise UsageError(f"The setting share of a morph is between 0.5 and 1, not {self.share}.")

    def __str__(self) -> str:
        return f"{NAME} share={self.share}"


@dataclass(frozen=True, eq=False)
class Morphs:
    """Morphs, and whose they are.

    Parameters
    ----------
    pixels : torch.Tensor
        ``(n, channels, ...)`` in [0, 1]; exactly 0 where the two people's background is.
    rows : torch.Tensor
        ``(n, 2)``: the images of the two.
    shares : torch.Tensor
        ``(n, 2)``: what each has of the morph, of its shape and grey values and of its detail alike.
    """

    pixels: Tensor
    rows: Tensor
    shares: Tensor


@torch.no_grad()
def draw_morphs(
    images: Tensor,
    people: Sequence[str],
    n: int,
    generator: torch.Generator,
    advance: Callable[[], None] = lambda: None,
    *,
    morph: Morph = Morph(),
) -> Morphs:
    """Draw morphs of pairs of people, all pairs alike.

    Parameters
    ----------
    images : torch.Tensor
        ``(m, channels, ...)`` in [0, 1], of one class, on the device that computes.
    people : sequence of str
        Whose each is.
    n : int
        Number of morphs.
    generator : torch.Generator
        On the CPU, so that the processor is no part of the seed's meaning.
    advance : callable
        Called ``n_batches`` times.
    morph : Morph
        Its settings.

    Raises
    ------
    UsageError
        If there are not two people.
    """
    rows = _draw_pairs(people, n, generator)
    way = 1 - morph.share + (2 * morph.share - 1) * torch.rand(n, generator=generator)
    size, pixels = _batch_size(images), [images[:0]]
    for of_part, on_way in zip(rows.split(size), way.split(size), strict=True):
        field = spread(draw_partition(len(of_part), 1, images.shape[2:], PIECES, generator), images.shape[2:])[:, 0]
        first, second = (images[of_one.to(images.device)] for of_one in of_part.T)
        with exactly(images.device):
            pixels.append(morph_of(first, second, on_way.to(images.device), field.to(images.device)))
        advance()
    return Morphs(torch.cat(pixels), rows, torch.stack([1 - way, way], 1))


def n_batches(images: Tensor, n: int) -> int:
    """How often ``draw_morphs`` calls ``advance``."""
    return -(-n // _batch_size(images))


def morph_of(first: Tensor, second: Tensor, way: Tensor, field: Tensor) -> Tensor:
    """Morphs ``(n, channels, ...)`` of two people each.

    Both are moved to where they meet, and their smoothed images are blended. Of their detail every place has mostly one's, because the
    mean of two sharp images is smoother than either.

    Parameters
    ----------
    first, second : torch.Tensor
        ``(n, channels, ...)`` in [0, 1].
    way : torch.Tensor
        ``(n,)``, from 0, which is the first, to 1, which is the second.
    field : torch.Tensor
        ``(n, ...)``, smooth (``spread``): where it is highest, the detail is the second's.
    """
    anatomies = _smoothed(first), _smoothed(second)
    velocities = register(*anatomies)
    forth, back = velocities.displacements(way), velocities.displacements(way - 1)

    def met(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return move(one, forth), move(other, back)

    share = way.reshape(-1, *[1] * (first.ndim - 1))
    there = torch.lerp(*met(_foreground(first), _foreground(second)), share) >= 0.5
    anatomy = torch.lerp(*met(*anatomies), share)
    of_second = _weight_of_second(field, there[:, 0], way)[:, None]
    # Where the two meet, their mean would be smoother than either: the weights' squares sum to 1, so that the variance stays.
    detail = torch.lerp(*met(first - anatomies[0], second - anatomies[1]), of_second) / (of_second**2 + (1 - of_second) ** 2).sqrt()
    return (anatomy + detail).clamp(0, 1) * there


def _draw_pairs(people: Sequence[str], n: int, generator: torch.Generator) -> Tensor:
    """Rows ``(n, 2)`` of two different people: people are drawn alike, however many images they have, and then an image of each."""
    n_people = len(set(people))
    if n_people < 2:
        raise UsageError(f"A morph is of two people of a class, and there is {n_people}; add people of this class, or leave morph out.")
    first = torch.randint(n_people, (n,), generator=generator)
    further = torch.randint(1, n_people, (n,), generator=generator)
    return draw_images(numbers_of(people), torch.stack([first, (first + further) % n_people], 1), generator)


def _weight_of_second(field: Tensor, there: Tensor, way: Tensor) -> Tensor:
    """Weights ``(n, ...)`` of the second: above one half where the field is highest, in a share ``way`` of the foreground."""
    # None of it where the way is 0, all where it is 1.
    ends = field.new_tensor([-torch.inf, torch.inf]).expand(len(field), 2)
    values = torch.cat([ends, field.masked_fill(~there, torch.inf).flatten(1)], 1).sort(1).values
    count = there.flatten(1).sum(1) + 1
    threshold = values.gather(1, ((1 - way) * count).round().long()[:, None])
    return (field - threshold.reshape(-1, *[1] * (field.ndim - 1))).sigmoid()


def _smoothed(images: Tensor) -> Tensor:
    smooth = GaussianFilter(images.ndim - 2, SMOOTHING * max(images.shape[2:])).to(images.device)
    # Beyond the border there is nothing, which would darken what is next to it.
    return smooth(images) / smooth(torch.ones_like(images[:1, :1]))


def _foreground(images: Tensor) -> Tensor:
    return (images > 0).any(1, keepdim=True).float()


def _batch_size(images: Tensor) -> int:
    return max(1, AT_ONCE // images[0, 0].numel())

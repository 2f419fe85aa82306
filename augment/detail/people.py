"""People of whom there may be several images: whoever is drawn is drawn as a person, and then one of their images."""

from collections.abc import Sequence

import torch
from torch import Tensor


def numbers_of(people: Sequence[str]) -> Tensor:
    """A number for the person of each image ``(m,)``, from 0."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(people))}
    return torch.tensor([numbers[name] for name in people])


def draw_images(person: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Rows, one for each of the ``chosen`` people: one of their images, all alike.

    Parameters
    ----------
    person : torch.Tensor
        ``(m,)``: the number of each image's person.
    chosen : torch.Tensor
        Numbers of people, of any shape.
    generator : torch.Generator
        On the CPU.
    """
    counts = person.bincount()
    which = (torch.rand(chosen.shape, generator=generator) * counts[chosen]).long()
    return person.argsort(stable=True)[(counts.cumsum(0) - counts)[chosen] + which]

"""From the people of a class to images between two of them each: morphs, screened as any draw is. No model is needed."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ...datasets.common.seeds import seeded_generator
from ...datasets.transforms import Images
from ..detail.morph import NAME, Morph, draw_morphs, n_batches
from ..fitting.training_images import TrainingImages
from ..samplers.diagnostics import Diagnostics
from .generation import DetailRecord, Generated, SamplingProgress, require_some, unseen
from .redrawing import RefusedRows, replace_refused


def generate_morphs(
    label: str,
    training: TrainingImages,
    n: int,
    *,
    morph: Morph,
    seed: int = 0,
    device: torch.device | None = None,
    progress: SamplingProgress = unseen,
    screen: RefusedRows | None = None,
) -> Generated:
    """Draw ``n`` morphs of a class.

    Parameters
    ----------
    label : str
        The class.
    training : TrainingImages
        Its people, of whom the morphs are.
    n : int
        Number of images, at least 1.
    morph : Morph
        Settings.
    seed : int
        Same seed, same images, on the same machine.
    device, progress, screen
        As for ``generate_class``.

    Raises
    ------
    UsageError
        If there are not two people.
    GateError
        If the screen refuses too many (``redrawing.replace_refused``).
    """
    require_some(n)
    images = training.images.pixels.to(device or torch.device("cpu"))

    def draw(*round_: int, n: int) -> tuple[Tensor, ...]:
        with progress(n_batches(images, n)) as advance:
            drawn = draw_morphs(images, training.people, n, seeded_generator(seed, label, NAME, *round_), advance, morph=morph)
        return drawn.pixels.cpu(), torch.empty(n, 0), drawn.rows, drawn.shares

    drawn = draw(n=n)
    refused: Mapping[str, int] = {}
    if screen is not None:
        refused = replace_refused(
            drawn,
            lambda round_, size: draw(round_, n=size),
            screen,
            f"images of {label} that {NAME} drew",
            lambda _: _what_to_change(morph),
        )
    pixels, latents, rows, shares = drawn
    record = DetailRecord(str(morph), tuple(tuple(training.people[row] for row in pair) for pair in rows.tolist()), shares)
    return Generated(
        label, Images(pixels, training.images.space), latents, Diagnostics(NAME, n), seed, model_digest="", refused=refused, detail=record
    )


def _what_to_change(morph: Morph) -> str:
    """What a user can do about morphs that show one of their two people."""
    return (
        f"Another --seed will not help; give one person less of a morph (--set share={morph.share:g} is the largest share; it goes down to "
        "0.5), have more people of the class, or draw from a model, with another --sampler."
    )

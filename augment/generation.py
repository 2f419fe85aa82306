"""From fitted models to images of no person: latent samples, decoded. ``synthetic_cohort.py`` writes them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.seeds import derived_seed, seeded_generator
from ..datasets.transforms import Images
from .autoencoders import GaussianAutoencoder
from .diagnostics import Diagnostics
from .model import FittedModel, decode
from .samplers import DEFAULT_SAMPLER, SAMPLERS, Sampler, fit_sampler

Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]


@contextmanager
def _unseen(_n_steps: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@dataclass(frozen=True, eq=False)
class Generated:
    """Images of one class.

    Parameters
    ----------
    label : str
        The class.
    images : Images
        ``(n, 1, ...)`` in [0, 1], in the model's space.
    latents : torch.Tensor
        ``(n, D)`` that they were decoded from.
    diagnostics : Diagnostics
        Of the sampler.
    seed : int
        What the draw derives from.
    model_digest : str
        SHA-256 of the weights.
    """

    label: str
    images: Images
    latents: Tensor
    diagnostics: Diagnostics
    seed: int
    model_digest: str


def build_sampler(model: FittedModel, name: str, *, seed: int, **settings: Any) -> Sampler:
    """The sampler ``name`` for a model.

    Raises
    ------
    UsageError
        If there is no such sampler or setting, or it does not serve such a model.
    """
    return fit_sampler(name, model.latents, seed=derived_seed(seed, model.config.label, "sampler"), **settings)


def generate_class(
    model: FittedModel,
    n: int,
    *,
    sampler: str = DEFAULT_SAMPLER,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress = _unseen,
    **settings: Any,
) -> Generated:
    """Draw ``n`` images of a model's class.

    Parameters
    ----------
    model : FittedModel
        Of the class.
    n : int
        How many, at least 1.
    sampler : str
        A key of ``samplers.SAMPLERS``.
    seed : int
        Same seed, same images, on the same machine.
    device : torch.device, optional
        Where to decode; the chains run on the CPU.
    progress : callable
        Of the number of the sampler's steps: a context that gives what is called after each.
    **settings
        Of the sampler.
    """
    latents, diagnostics = draw_latents(model, n, sampler=sampler, seed=seed, progress=progress, **settings)
    place = device or torch.device("cpu")
    pixels = decode(model.autoencoder.to(place), latents.to(place)).cpu()
    model.autoencoder.cpu()
    return Generated(model.config.label, Images(pixels, model.config.space), latents, diagnostics, seed, model.digest)


def draw_latents(
    model: FittedModel,
    n: int,
    *,
    sampler: str = DEFAULT_SAMPLER,
    seed: int = 0,
    progress: Progress = _unseen,
    **settings: Any,
) -> tuple[Tensor, Diagnostics]:
    """The latents ``(n, D)`` that ``generate_class`` decodes, and how they were drawn; arguments as there."""
    if n < 1:
        raise UsageError(f"The number of images must be 1 or more, not {n}.")
    fitted = build_sampler(model, sampler, seed=seed, **settings)
    with progress(fitted.n_steps) as advance:
        latents, diagnostics = fitted.sample(n, seeded_generator(seed, model.config.label, sampler), advance)
    if SAMPLERS[sampler].in_base_space:
        assert isinstance(model.autoencoder, GaussianAutoencoder)
        with torch.no_grad():
            latents = model.autoencoder.transport(latents)
    return latents, diagnostics


def top_up(counts: Mapping[str, int], n: int | None = None) -> dict[str, int]:
    """How many synthetic images each class needs to have as many as the largest, or ``n``, together with its real ones.

    Raises
    ------
    UsageError
        If a class has more than ``n`` already.
    """
    target = max(counts.values()) if n is None else n
    over = [label for label, count in counts.items() if count > target]
    if over:
        raise UsageError(f"--balance cannot bring {', '.join(over)} down to {target} images; give -n {max(counts.values())} or more.")
    return {label: target - count for label, count in counts.items()}

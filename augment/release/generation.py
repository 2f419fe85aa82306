"""From fitted models to images of no person: latent samples, decoded. ``synthetic_cohort.py`` writes them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.machine import require_memory
from ...datasets.common.seeds import derived_seed, seeded_generator
from ...datasets.transforms import Images
from ..autoencoders import GaussianAutoencoder
from ..detail.mosaic import Detail, Detailed
from ..fitting.model import FittedModel, decode, placed
from ..fitting.training_images import Nearest
from ..samplers.diagnostics import Diagnostics
from ..samplers.latents import Latents, Sampler
from ..samplers.registry import AUTO, DEFAULT_SAMPLER, SAMPLERS, fit_sampler, require_none
from .redrawing import RefusedRows, replace_refused, what_to_change

SamplingProgress = Callable[[int], AbstractContextManager[Callable[[], None]]]


@contextmanager
def unseen(_n_steps: int) -> Iterator[Callable[[], None]]:
    """Progress that nobody sees."""
    yield lambda: None


@dataclass(frozen=True, eq=False)
class DetailRecord:
    """Whose detail images have.

    Parameters
    ----------
    made : str
        How, as ``--detail`` says it.
    people : tuple of tuple of str
        Of each image, the people whose detail it has.
    shares : torch.Tensor
        ``(n, k)``: what each has of the image's foreground.
    smallest_jacobian : float, optional
        The least determinant of all displacements, where it was computed; above 0, because nothing folds.
    """

    made: str
    people: tuple[tuple[str, ...], ...]
    shares: Tensor
    smallest_jacobian: float | None = None

    @classmethod
    def of(cls, detail: Detail, found: Detailed) -> "DetailRecord":
        """The record of samples and what gave them their detail."""
        people = tuple(tuple(detail.donors.people[row] for row in rows) for rows in found.donors.tolist())
        return cls(str(detail.mosaic), people, found.shares, float(found.smallest_jacobian.min()))

    def as_json(self) -> dict[str, Any]:
        """Plain values, which name nobody."""
        told = {"made": self.made, "largest_share": float(self.shares.max())}
        return told if self.smallest_jacobian is None else told | {"smallest_jacobian": self.smallest_jacobian}


@dataclass(frozen=True, eq=False)
class Generated:
    """Images of one class.

    Parameters
    ----------
    label : str
        The class.
    images : Images
        ``(n, 1, ...)`` in [0, 1].
    latents : torch.Tensor
        ``(n, D)`` that they were decoded from; ``(n, 0)`` where there is no model.
    diagnostics : Diagnostics
        Diagnostics of the sampler.
    seed : int
        Seed that the draw derives from.
    model_digest : str
        SHA-256 of the weights; empty where there is no model.
    refused : mapping
        Number of other images that were drawn and refused, by reason.
    law : str
        Why ``auto`` chose the sampler; empty where it was named.
    nearest : Nearest, optional
        How close the images come to those that they were learnt from or made of, where these are known.
    detail : DetailRecord, optional
        Whose detail they have; none is as the model decodes them.
    """

    label: str
    images: Images
    latents: Tensor
    diagnostics: Diagnostics
    seed: int
    model_digest: str
    refused: Mapping[str, int] = field(default_factory=dict)
    law: str = ""
    nearest: Nearest | None = None
    detail: DetailRecord | None = None

    @property
    def drawn(self) -> int:
        """How many images were drawn, with those that were refused."""
        return len(self.images) + sum(self.refused.values())


def build_sampler(model: FittedModel, name: str, *, seed: int, latents: Latents | None = None, **settings: Any) -> Sampler:
    """The sampler ``name`` for a model; ``auto`` is the law that is best for people left out.

    It draws where ``latents`` are, which are the model's, and by default on the CPU.

    Raises
    ------
    UsageError
        If there is no such sampler or setting, or it does not serve such a model.
    """
    if name == AUTO:
        require_none(key for key, value in settings.items() if value is not None)
        name = model.law_scores.chosen
        # As it was scored: a model that was fitted with a rho of its own has another riemannian by name.
        settings = {"reach": AUTO} if name == "riemannian" else {}
    return fit_sampler(name, latents or model.latents, seed=derived_seed(seed, model.config.label, "sampler"), **settings)


def generate_class(
    model: FittedModel,
    n: int,
    *,
    sampler: str = DEFAULT_SAMPLER,
    seed: int = 0,
    device: torch.device | None = None,
    progress: SamplingProgress = unseen,
    screen: RefusedRows | None = None,
    detail: Detail | None = None,
    **settings: Any,
) -> Generated:
    """Draw ``n`` images of a model's class.

    Parameters
    ----------
    model : FittedModel
        The class's model.
    n : int
        Number of images, at least 1.
    sampler : str
        A key of ``registry.SAMPLERS``, or ``auto``: the law that makes people left out most probable.
    seed : int
        Same seed, same images, on the same machine.
    device : torch.device, optional
        Where all is computed; on another the same seed gives the same images, but for rounding.
    progress : callable
        From the number of the sampler's steps, a context that gives a function to be called after each.
    screen : callable, optional
        From images and their latents, why some are refused, by row. Others are drawn in their place, in further rounds; the first
        round, which the diagnostics describe, is what is drawn without a screen.
    detail : Detail, optional
        Gives images what decoding loses; the latents are those that are drawn without it.
    **settings
        Settings of the sampler.

    Raises
    ------
    UsageError
        As ``build_sampler``.
    GateError
        If the screen refuses too many (``redrawing.replace_refused``).
    """
    label, place = model.config.label, device or torch.device("cpu")
    require_some(n)
    require_memory(n, model.config.space.shape, "ask for fewer images")
    with placed(model.autoencoder, place):
        there = model.latents.to(place)
        fitted = build_sampler(model, sampler, seed=seed, latents=there, **settings)

        def draw(*round_: int, n: int) -> tuple[tuple[Tensor, ...], Diagnostics]:
            latents, diagnostics = _sample(there, fitted, n, seeded_generator(seed, label, fitted.name, *round_), progress)
            pixels = decode(model.autoencoder, latents)
            if not pixels.isfinite().all():
                told = f"The model of {label} decodes what {fitted.name} draws to what is no number"
                raise DataError(f"{told}; choose another --sampler, or fit it anew.")
            if detail is None:
                return (pixels, latents), diagnostics
            found = detail(pixels, latents, seeded_generator(seed, label, fitted.name, "detail", *round_), place)
            return (found.pixels, latents, found.donors, found.shares, found.smallest_jacobian), diagnostics

        drawn, diagnostics = draw(n=n)
        refused: Mapping[str, int] = {}
        if screen is not None:
            # Latents may be a view of what the sampler was fitted on.
            drawn = (drawn[0], drawn[1].clone(), *drawn[2:])
            refused = replace_refused(
                drawn,
                lambda round_, size: draw(round_, n=size)[0],
                screen,
                f"images of {label} that {fitted.name} drew",
                partial(what_to_change, model, fitted, None if detail is None else detail.mosaic),
            )
    pixels, latents, *of_detail = drawn
    record = None if detail is None else DetailRecord.of(detail, Detailed(pixels, *of_detail))
    law = model.law_scores.sentence if sampler == AUTO else ""
    images = Images(pixels, model.config.space)
    return Generated(label, images, latents, diagnostics, seed, model.digest, refused, law, detail=record)


def draw_latents(
    model: FittedModel,
    n: int,
    *,
    sampler: str = DEFAULT_SAMPLER,
    seed: int = 0,
    device: torch.device | None = None,
    progress: SamplingProgress = unseen,
    **settings: Any,
) -> tuple[Tensor, Diagnostics]:
    """The latents ``(n, D)`` that ``generate_class`` decodes without a screen, and how they were drawn; arguments as there."""
    require_some(n)
    place = device or torch.device("cpu")
    with placed(model.autoencoder, place):
        there = model.latents.to(place)
        fitted = build_sampler(model, sampler, seed=seed, latents=there, **settings)
        return _sample(there, fitted, n, seeded_generator(seed, model.config.label, fitted.name), progress)


def require_some(n: int) -> None:
    """Raise a ``UsageError`` for fewer images than one."""
    if n < 1:
        raise UsageError(f"The number of images must be 1 or more, not {n}.")


def _sample(
    latents: Latents, fitted: Sampler, n: int, generator: torch.Generator, progress: SamplingProgress
) -> tuple[Tensor, Diagnostics]:
    """Draws ``(n, D)`` in the space of codes, as they are decoded, on the CPU; by a sampler of ``latents``, where these are."""
    with progress(fitted.n_steps) as advance:
        z, diagnostics = fitted.sample(n, generator, advance)
    if diagnostics.off_manifold is None and latents.posterior is not None:
        diagnostics = replace(diagnostics, off_manifold=_off_manifold(latents, fitted, z))
    if SAMPLERS[fitted.name].in_base_space:
        assert isinstance(latents.autoencoder, GaussianAutoencoder)
        with torch.no_grad():
            z = latents.autoencoder.transport(z)
    return z.cpu(), diagnostics


def _off_manifold(latents: Latents, fitted: Sampler, z: Tensor) -> float | None:
    """Share of draws off the manifold that holds people left out; unknown of codes behind a flow."""
    if latents.posterior_of_codes is None and not SAMPLERS[fitted.name].in_base_space:
        return None
    assert latents.manifold is not None
    return float((~latents.manifold.inside(z)).double().mean())


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

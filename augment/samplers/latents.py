"""What samplers are fitted from: all that a fitted model knows of its latents."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ..autoencoders import Autoencoder
from ..geometry.metric import RiemannianMetric
from ..posterior import Posterior
from .diagnostics import Diagnostics, Tick
from .left_out import choose_manifold
from .manifold import Manifold


class Sampler(Protocol):
    """What every latent sampler offers."""

    @property
    def name(self) -> str:
        """As users type it."""
        ...

    @property
    def n_steps(self) -> int:
        """How often ``on_iteration`` will be called."""
        ...

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = ...) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``; the generator is on the CPU."""
        ...


@dataclass(frozen=True, eq=False)
class Latents:
    """What samplers are fitted from: all that a fitted model knows of its latents.

    Parameters
    ----------
    codes : torch.Tensor
        ``(n, D)`` of the training images.
    autoencoder : Autoencoder
        What decodes them; its type says which samplers can be used.
    posterior, metric : optional
        Posteriors and metric of the training images, for a ``GaussianAutoencoder``.
    person : torch.Tensor, optional
        ``(n,)`` whole numbers: codes with the same one are of the same person. By default each is somebody else's.
    reach : float, optional
        Reach of ``riemannian`` where a draw does not say it: a multiple of Algorithm 1's rho, which the metric has been given already.
    chosen : mapping
        From sampler to settings that were chosen for these latents, for which it need not look again.
    """

    codes: Tensor
    autoencoder: Autoencoder
    posterior: Posterior | None = None
    metric: RiemannianMetric | None = None
    person: Tensor | None = None
    reach: float | None = None
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Latents":
        """The same on a device; the autoencoder itself is moved there."""
        autoencoder, codes = self.autoencoder.to(device), self.codes.to(device)
        if codes is self.codes:
            return self
        parts = {name: part.to(device) for name in ("posterior", "metric", "person") if (part := getattr(self, name)) is not None}
        return replace(self, codes=codes, autoencoder=autoencoder, **parts)

    @property
    def posterior_of_codes(self) -> Posterior | None:
        """The posterior, where it is one of codes: a flow that follows it leads to another space."""
        return self.posterior if self.posterior is not None and torch.equal(self.posterior.mean, self.codes) else None

    @cached_property
    def manifold(self) -> Manifold | None:
        """The manifold that holds people left out, where the posteriors are."""
        if self.posterior is None or self.metric is None:
            return None
        settings = self.chosen.get("riemannian") or choose_manifold(self.posterior.mean, self.metric.centroids, self.person).settings
        return manifold_of(self.posterior, self.metric, settings)


def manifold_of(posterior: Posterior, metric: RiemannianMetric, settings: Mapping[str, Any]) -> Manifold:
    """With the settings that ``choose_manifold`` gives."""
    whole = Manifold.fit(posterior.mean, metric.centroids, crowding=settings["crowding"], width=settings["width"])
    return whole.cut(settings["log_threshold"])

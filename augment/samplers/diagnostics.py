"""Did the sampler work? Numbers that every sampling returns, and the warnings they give rise to.

R-hat and ESS follow Vehtari et al. 2021 (split chains, without rank-normalisation).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

TOLERATED_SHARE = 0.1  # of chains that never moved, or that ended off the manifold
TOLERATED_R_HAT = 1.1
ONE_PERSON = 1.5  # centroids that a draw is near to: fewer, and it is a variation of one training image
AT_HOME = 0.9  # share of chains that end where they began
ACCEPTANCE_RANGE = (0.4, 0.98)  # optimum of HMC near 0.65 to 0.8; near 1 the steps are too small to move

Tick = Callable[[], None]  # called after each step, for a progress bar


@dataclass(frozen=True)
class Diagnostics:
    """What a sampling did; ``None`` where a quantity does not apply (a sampler without chains).

    Parameters
    ----------
    sampler : str
        Its name.
    n_samples : int
        Number of latents drawn.
    off_manifold : float, optional
        Share of the latents off the manifold: outside the support of the sampler's own law (``support.default_log_threshold``), or of a
        sampler that has none, off the manifold that holds people left out (``manifold.py``).
    acceptance : float, optional
        Mean over chains and iterations of the acceptance probability.
    step_size : float, optional
        Leapfrog step, after adaptation.
    unmoved : float, optional
        Share of the chains that end exactly where they started.
    distance : float, optional
        Median distance from start to end of a chain: root mean square over dimensions, in posterior standard deviations of the centroid
        nearest to the start; in units of the codes where the metric is the model's own.
    r_hat : float, optional
        Largest over latent dimensions.
    ess : float, optional
        Smallest effective sample size over latent dimensions, of ``traced`` chains together.
    traced : int, optional
        Number of chains that ``r_hat`` and ``ess`` were computed from.
    effective_centroids : float, optional
        About how many centroids each draw is near to: exp of the entropy of their weights omega, averaged over the draws.
    home : float, optional
        Share of the chains that end nearest to the centroid that they began at.
    rho : float, optional
        Reach of a centroid, of laws in Algorithm 1's metric.
    """

    sampler: str
    n_samples: int
    off_manifold: float | None = None
    acceptance: float | None = None
    step_size: float | None = None
    unmoved: float | None = None
    distance: float | None = None
    r_hat: float | None = None
    ess: float | None = None
    traced: int | None = None
    effective_centroids: float | None = None
    home: float | None = None
    rho: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; what does not apply is left out, and what is not finite is ``None``."""
        present = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in present.items()}

    def warnings(self) -> list[str]:
        """What a user must know before using the samples, in plain words; empty if all is well."""
        found = []
        low, high = ACCEPTANCE_RANGE
        if self.acceptance is not None and not low <= self.acceptance <= high:
            why = "its steps are too large" if self.acceptance < low else "its steps are so small that the chains hardly explore"
            found.append(f"{self.sampler}: acceptance {self.acceptance:.2f} is outside {low} to {high}: {why}.")
        if self.unmoved is not None and self.unmoved > TOLERATED_SHARE:
            found.append(
                f"{self.sampler}: {self.unmoved:.0%} of the chains never moved: those samples decode to reconstructions of training images."
            )
        alone = self.effective_centroids is not None and self.effective_centroids < ONE_PERSON
        if alone and (self.home is None or self.home > AT_HOME):
            stay = "" if self.home is None else f"{self.home:.0%} of the chains end nearest to the image that they began at, and "
            # Other laws have one covariance for all, which is not that of a posterior.
            law = ": the reach is so short that the law is that of the training images' posteriors, times rho / sqrt(D)"
            found.append(f"{self.sampler}: {stay}every sample is a variation of one training image{'' if self.rho is None else law}.")
        if self.r_hat is not None and self.r_hat > TOLERATED_R_HAT:
            found.append(
                f"{self.sampler}: the chains have not mixed (R-hat {self.r_hat:.3g}, where {TOLERATED_R_HAT} may): where they "
                "began decides how many samples lie where."
            )
        if self.off_manifold is not None and self.off_manifold > TOLERATED_SHARE:
            found.append(f"{self.sampler}: {self.off_manifold:.0%} of the samples lie off the manifold, where the decoder saw no data.")
        return found


def split_r_hat(chains: Tensor) -> Tensor:
    """Split R-hat, ``(D,)``, of draws ``(draws, chains, D)``.

    NaN for fewer than 4 draws or draws that are all the same, infinite where each chain stays at a place of its own.
    """
    halves = _split(chains)
    if halves is None:
        return torch.full(chains.shape[2:], math.nan, dtype=torch.float64)
    draws = halves.shape[0]
    within = halves.var(dim=0).mean(dim=0)
    between = draws * halves.mean(dim=0).var(dim=0)
    return torch.sqrt(((draws - 1) / draws * within + between / draws) / within)


def effective_sample_size(chains: Tensor) -> Tensor:
    """Effective sample size, ``(D,)``, of draws ``(draws, chains, D)``, with Geyer's initial monotone sequence, as Stan and ArviZ have it.

    NaN for fewer than 4 draws or draws that are all the same.
    """
    halves = _split(chains)
    if halves is None:
        return torch.full(chains.shape[2:], math.nan, dtype=torch.float64)
    draws, n_chains = halves.shape[:2]
    centred = halves - halves.mean(dim=0)
    spectrum = torch.fft.rfft(centred, n=2 * draws, dim=0)
    autocovariance = torch.fft.irfft(spectrum.abs().square(), n=2 * draws, dim=0)[:draws] / draws
    within = (autocovariance[0] * draws / (draws - 1)).mean(dim=0)
    total = (draws - 1) / draws * within + halves.mean(dim=0).var(dim=0)
    rho = 1 - (within - autocovariance.mean(dim=1)) / total
    rho[0] = 1
    n_pairs = max(1, (draws - 1) // 2)  # the last autocorrelations are of too few products to count
    pairs = rho[: 2 * n_pairs].reshape(n_pairs, 2, -1).sum(dim=1)
    positive = torch.cumprod((pairs > 0).to(pairs.dtype), dim=0)
    positive[-1] = 0
    monotone = torch.cummin(pairs, dim=0).values * positive
    # Of the pair that ends the sum the first half still counts, once, if it is positive.
    half = rho.gather(0, 2 * positive.sum(dim=0, keepdim=True).long())[0].clamp(min=0)
    time = (-1 + 2 * monotone.sum(dim=0) + half).clamp(min=1 / math.log10(draws * n_chains))
    return draws * n_chains / time


def _split(chains: Tensor) -> Tensor | None:
    """First and second halves as chains of their own, in float64; ``None`` where there is nothing to split."""
    half = chains.shape[0] // 2
    if half < 2 or chains.shape[1] < 1:
        return None
    return torch.cat([chains[:half], chains[-half:]], dim=1).double()

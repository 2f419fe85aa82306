"""Which latent law reaches people whom the model has not seen? That which makes codes left out most probable: ``auto`` draws from it.

Where a flow follows the posteriors, the laws of its base are scored as laws of codes: their density over the flow's determinant.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..autoencoders import Autoencoder, GaussianAutoencoder
from .latents import Latents
from .laws import Gaussian
from .left_out import FEWEST, MOST_FITTED, Choice, People, Rows, choose_kernels, choose_manifold, choose_mixture
from .manifold import Manifold
from .plain import AggregatedPosterior, GaussianMixture, Normal
from .registry import SAMPLERS, fit_sampler, samplers_for

SINGULAR = 100  # nats behind the best: a law that has lost its footing, and not one that is somewhat worse
WIDEST = 1e3  # standard deviations of the codes; none is chosen wider, nor narrower than its inverse
MOST_CROWDED = 10  # people, or as many as there are dimensions
PREFERRED = "riemannian"  # among laws that are level
WITHOUT = {
    "riemannian-paper": "has no density: the law of Algorithm 2 is improper",
    "riemannian-released": "has no density: its chain has no law of its own",
    "two-stage": "not scored: its density is an integral over a second VAE, trained anew for every fold",
    "own-metric": "not scored: the constant of its density is not known",
    "vamp": "takes no part: its prior was learnt with the training images",
}
UNSCORED = "takes no part: it is not among the laws that are scored"
NOT_FINITE = "takes no part: its density is not finite at every code"
TOO_FEW_CENTROIDS = "takes no part: too few centroids to leave some out"
LEVEL = 0.05  # nats: a person left out is 5 % more or less probable
MOST_ERROR = 0.1  # nats, of a constant that is estimated: about as far apart as good laws are
LITTLE_KEPT = 0.8  # of a law: what is cut off it is more than its edge

COLUMNS = ("law", "left out (nats)", "behind the best", "held out", "on the manifold", "chosen")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LawScore:
    """How probable a law makes codes that it was not fitted on.

    Parameters
    ----------
    sampler : str
        Its name.
    left_out, error : float, optional
        Mean log density (nats) of training codes that are left out, and its standard error; ``None`` for a law that takes no part.
    behind, behind_error : float, optional
        Nats behind the best law, code by code, and the standard error of that.
    held_out : float, optional
        Mean log density of the validation people, each the mean of their images.
    inside : float, optional
        For a manifold, the share of the validation people that lie on it.
    kept : float, optional
        For a manifold, the share of its law that lies on it. The scores are of the whole.
    n_held_out : int
        How many the validation people are.
    settings : dict
        Settings of the law, as they were chosen.
    note : str
        What is to be known of it.
    """

    sampler: str
    left_out: float | None = None
    error: float | None = None
    behind: float | None = None
    behind_error: float | None = None
    held_out: float | None = None
    inside: float | None = None
    kept: float | None = None
    n_held_out: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class LawScores:
    """The laws that serve a model, the best first, and the one that ``auto`` draws from.

    Parameters
    ----------
    chosen : str
        The best, or ``riemannian`` if it is within a standard error, or ``LEVEL``, of the best.
    laws : tuple of LawScore
        Those that take no part last.
    """

    chosen: str
    laws: tuple[LawScore, ...]

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """What was chosen, by law."""
        return {law.sampler: law.settings for law in self.laws if law.settings}

    @property
    def best(self) -> LawScore:
        """The law that ``auto`` draws from."""
        return next(law for law in self.laws if law.sampler == self.chosen)

    @property
    def sentence(self) -> str:
        """What was chosen, and by how much."""
        law, others = self.best, [law for law in self.laws if law.left_out is not None and law.sampler != self.chosen]
        if law.left_out is None:
            return f"{law.sampler}, because there are too few people to tell laws apart"
        told = f"{law.sampler}, {law.left_out:.1f} nats for a person left out"
        if not others:
            return told
        if law.behind:
            level = f"up to {LEVEL} counts as level" if law.behind <= LEVEL else f"with a standard error of {law.behind_error:.2f}"
            return f"{told}: level with {others[0].sampler} ({law.behind:.2f} behind, {level})"
        assert others[0].behind is not None
        return f"{told}, {others[0].behind:.2f} ahead of {others[0].sampler}"

    @property
    def promise(self) -> str:
        """What the manifold holds; nothing where there is none."""
        law = next((law for law in self.laws if law.sampler == PREFERRED), None)
        if law is None or "holds" not in law.settings or law.settings["log_threshold"] is None:
            return ""
        held = "" if law.inside is None else f" (of {law.n_held_out} held out: {law.inside:.0%})"
        return f"uniform on a manifold that holds {law.settings['holds']:.0%} of people whom it has not seen{held}"

    def rows(self) -> list[tuple[str, ...]]:
        """A table of them, under ``COLUMNS``."""
        return [
            (
                f"{law.sampler}{' (auto)' if law.sampler == self.chosen else ''}",
                _number(law.left_out, law.error),
                _number(law.behind, law.behind_error),
                _number(law.held_out),
                "-" if law.inside is None else f"{law.inside:.0%}",
                "; ".join(filter(None, [law.note, _told(law.settings), _told_cut(law.kept)])),
            )
            for law in self.laws
        ]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"chosen": self.chosen, "laws": [asdict(law) for law in self.laws]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "LawScores":
        """Scores from ``as_json``; a ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        scores = cls(content["chosen"], tuple(LawScore(**law) for law in content["laws"]))
        for law in scores.laws:
            _check(law)
        names = [law.sampler for law in scores.laws]
        if scores.chosen not in names or len(set(names)) < len(names):
            raise ValueError(f"among the laws {scores.chosen} is not there once")
        if scores.best.left_out is None and any(law.left_out is not None for law in scores.laws):
            raise ValueError(f"the law {scores.chosen} was chosen without a score, where others have one")
        return scores

    def check_for(self, kind: type[Autoencoder], n: int, dim: int) -> None:
        """Raise a ``ValueError`` unless the laws serve a model of this type, with ``n`` codes of ``dim`` dimensions."""
        foreign = sorted({law.sampler for law in self.laws} - set(samplers_for(kind)))
        if foreign:
            raise ValueError(f"the law {foreign[0]} serves no {kind.__name__}")
        most = {"crowding": max(MOST_CROWDED, dim), "n_components": n}
        for name, settings in self.settings.items():
            for key, limit in most.items():
                if settings.get(key, 1) > limit:
                    raise ValueError(f"the {key} of the law {name}, {settings[key]}, is more than {limit}")


def _check(law: LawScore) -> None:
    """Raise a ``ValueError`` or ``TypeError`` unless a law can be shown and drawn from as it is told."""
    numbers = (law.left_out, law.error, law.behind, law.behind_error)
    if law.sampler not in SAMPLERS:
        raise ValueError(f"there is no law {law.sampler}")
    if not (all(value is None for value in numbers) or all(map(_is_finite, numbers))):
        raise ValueError(f"the scores of the law {law.sampler} are no finite numbers")
    if not (law.held_out is None or _is_finite(law.held_out)):
        raise ValueError(f"what the law {law.sampler} says of people held out is no finite number")
    if not all(value is None or (_is_finite(value) and 0 <= value <= 1) for value in (law.inside, law.kept)):
        raise ValueError(f"a share that the law {law.sampler} tells does not lie between 0 and 1")
    if not (_is_whole(law.n_held_out) and isinstance(law.note, str) and isinstance(law.settings, dict)):
        raise TypeError(f"what is told of the law {law.sampler} is not of its type")
    if not law.settings:
        return
    checks = SETTINGS.get(law.sampler, {})
    if set(law.settings) != set(checks) or not all(check(law.settings[name]) for name, check in checks.items()):
        raise ValueError(f"the settings of the law {law.sampler} are none that it can have")


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_width(value: Any) -> bool:
    return _is_finite(value) and 1 / WIDEST <= value <= WIDEST


SETTINGS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "riemannian": {
        "crowding": lambda value: _is_whole(value) and value >= 2,
        "width": _is_width,
        "log_threshold": lambda value: value is None or _is_finite(value),
        "holds": lambda value: _is_finite(value) and 0 < value <= 1,
    },
    "kde": {"width": _is_width},
    "mixture": {
        "n_components": lambda value: _is_whole(value) and value >= 1,
        "covariance": lambda value: value in ("full", "diag"),
    },
}


def score_laws(latents: Latents, validation: Latents | None = None, *, seed: int = 0) -> LawScores:
    """Score every law that serves a model.

    Parameters
    ----------
    latents : Latents
        Latents of its training images.
    validation : Latents, optional
        Codes, whose they are, and posteriors if it has some, of people who were not trained on.
    seed : int
        Seed of laws that are fitted at random.
    """
    names = samplers_for(type(latents.autoencoder))
    people = People.of(latents.codes, latents.person)
    if len(people) < FEWEST:
        chosen = PREFERRED if PREFERRED in names else "gaussian"
        return LawScores(chosen, tuple(LawScore(name, note="too few people to leave some out") for name in names))
    choices = _choices(latents, people, names, seed)
    notes = dict.fromkeys(names, UNSCORED) | WITHOUT | {name: _why_not(choice) for name, choice in choices.items()}
    scored = {name: choice for name, choice in choices.items() if not notes[name]}
    chosen = replace(latents, reach=None, chosen={name: choice.settings for name, choice in choices.items() if choice.settings})
    means = {name: float(choice.scores.mean()) for name, choice in scored.items()}
    top = max(means, key=lambda name: means[name])
    found = []
    for name in names:
        told: dict[str, Any] = {"settings": chosen.chosen.get(name, {}), "note": notes[name]}
        if validation is not None and (name in scored or name == "vamp"):
            told |= _of_people(name, chosen, validation, seed)
        if name in scored:
            own, best = scored[name], scored[top]
            difference = best.scores - own.scores
            told |= {
                "left_out": means[name],
                "error": math.hypot(_standard_error(own.scores), own.error),
                "behind": float(difference.mean()),
                "behind_error": 0.0 if name == top else math.hypot(_standard_error(difference), own.error, best.error),
            }
            if told["behind"] > SINGULAR and name == "gmm":
                told["note"] = f"singular: its components have too few of the {len(latents.codes)} codes ({means[name]:.3g} nats)"
        found.append(LawScore(name, **told))
    found.sort(key=lambda law: (law.left_out is None, -(law.left_out or 0)))
    preferred = next((law for law in found if law.sampler == PREFERRED and law.left_out is not None), None)
    level = preferred is not None and preferred.behind is not None and preferred.behind <= max(LEVEL, preferred.behind_error or 0)
    return LawScores(PREFERRED if level else top, tuple(found))


def _choices(latents: Latents, people: People, names: list[str], seed: int) -> dict[str, Choice]:
    """What was chosen for each law that has a density, and how probable it makes each person who is left out."""
    codes, base = latents.codes, latents.posterior

    def gaussian(kept: Rows, out: Rows) -> Array:
        return _row(Gaussian.fit(codes[kept]).log_density(codes[out]))

    def gmm(kept: Rows, out: Rows) -> Array:
        try:
            return _row(GaussianMixture.fit(codes[kept], seed=seed).log_density(codes[out]))
        except ValueError:  # scikit-learn's, of components that are singular all the same: no reason to lose a fit
            return np.full((1, len(out)), -math.inf)

    def of_posteriors(kept: Rows, out: Rows) -> Array:
        assert base is not None
        return _row(AggregatedPosterior(base[torch.as_tensor(kept)]).log_density(base.mean[out]))

    def plain(scores: Array) -> Choice:
        return Choice({}, people.means(scores)[0])

    found = {
        "gaussian": plain(people.scores(gaussian)),
        "normal": plain(_row(Normal(codes).log_density(codes[people.rows]))),
        "kde": choose_kernels(codes, latents.person),
        "mixture": choose_mixture(codes, latents.person, seed=seed),
        "gmm": plain(people.scores(gmm, most=MOST_FITTED)),
    }
    if base is not None and latents.metric is not None:
        assert isinstance(latents.autoencoder, GaussianAutoencoder)
        with torch.no_grad():
            rows = torch.as_tensor(people.rows)
            lost = people.means(_row(latents.autoencoder.log_det(base.mean[rows])))[0]
        manifold = choose_manifold(base.mean, latents.metric.centroids, latents.person)
        if len(manifold.scores):
            manifold = replace(manifold, scores=manifold.scores - lost)
        found |= {"riemannian": manifold, "posterior": Choice({}, plain(people.scores(of_posteriors)).scores - lost)}
    return {name: found[name] for name in names if name in found}


def _why_not(choice: Choice) -> str:
    """Why a law takes no part; nothing if it does."""
    if not len(choice.scores):
        return TOO_FEW_CENTROIDS
    if not np.isfinite(choice.scores).all():
        return NOT_FINITE
    if choice.error > MOST_ERROR:
        return f"takes no part: its constant is known to {choice.error:.2f} nats only"
    return ""


def _of_people(name: str, latents: Latents, people: Latents, seed: int) -> dict[str, Any]:
    """Mean log density of people's codes, person by person, of the manifold before it is cut, as it is scored; and how much of them it
    holds."""
    codes, lost, whose = people.codes, 0.0, People.of(people.codes, people.person)
    if SAMPLERS[name].in_base_space:
        assert people.posterior is not None
        assert isinstance(people.autoencoder, GaussianAutoencoder)
        codes = people.posterior.mean
        with torch.no_grad():
            lost = whose.mean(people.autoencoder.log_det(codes))
    try:
        law: Any = fit_sampler(name, latents, seed=seed)
    except ValueError:  # as of a fold
        return {}
    is_manifold = isinstance(law, Manifold)
    held_out = whose.mean((law.log_whole if is_manifold else law.log_density)(codes)) - lost
    if not math.isfinite(held_out):
        return {}
    told = {"held_out": held_out, "n_held_out": len(whose)}
    return told | {"inside": whose.mean(law.inside(codes)), "kept": math.exp(law.log_kept)} if is_manifold else told


def _number(value: float | None, error: float | None = None) -> str:
    if value is None:
        return "-"
    # A law that has lost its footing is told by its size.
    return f"{value:.1f}" + ("" if error is None else f" ± {error:.1f}") if abs(value) < 1e4 else f"{value:.2g}"


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in settings.items() if name != "log_threshold")


def _told_cut(kept: float | None) -> str:
    """What is to be known of a manifold that holds little of the law that was scored."""
    return f"its cut keeps {kept:.0%} of the law that was scored" if kept is not None and kept < LITTLE_KEPT else ""


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _row(densities: Tensor) -> Array:
    return densities.double().cpu().numpy()[None]

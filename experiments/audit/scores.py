"""What a view scores: every measure and attack, beside what to expect of images that copy nobody."""

import math
from dataclasses import dataclass

import numpy as np

from ...augment.copying import Closeness
from . import measures, membership
from .membership import Attack
from .views import View

AT_MOST = 1000  # synthetic images, and people, that enter a measure: the deals of its test would else take hours
TOO_CLOSE = "share closer to one patient than new people come"


@dataclass(frozen=True)
class Measure:
    """A number, beside what to expect of images that copy nobody.

    Parameters
    ----------
    space, name : str
    value : float
    expected : float
        What held-out people score in place of the synthetic images, or new draws of their law on average.
    p : float
        Of as much memorisation where there is none; NaN of a number that is not tested.
    low, high : float
        95 % interval; NaN where there is none.
    """

    space: str
    name: str
    value: float
    expected: float
    p: float = math.nan
    low: float = math.nan
    high: float = math.nan


def score(view: View, level: float, rng: np.random.Generator) -> tuple[Attack, list[Measure]]:
    """The attack by distance, and all measures, in one space; of very many images and people, of some.

    An image is too close to one patient if new people of whom there are as many come so close with probability ``level``.
    """
    images = rng.permutation(len(view.to_people))[:AT_MOST]
    chosen = np.sort(rng.permutation(len(view.names))[:AT_MOST])
    to_people, among, training = view.to_people[np.ix_(images, chosen)], view.among[np.ix_(chosen, chosen)], view.training[chosen]
    p = measures.memorisation_p(to_people, among, training, rng)
    among_training = among[np.ix_(training, training)]
    to_training, of_held_out = to_people[:, training], among[np.ix_(~training, training)]
    synthetic, held_out = Closeness.of(to_training), Closeness.of(of_held_out)
    by_distance = membership.attack(membership.distance_scores(view.to_people, view.among), view.training)
    by_density = membership.attack(membership.density_scores(view.to_people, view.among), view.training)
    name, people = view.space.name, int(training.sum())
    return by_distance, [
        Measure(name, TOO_CLOSE, float(np.mean(view.p <= level / len(view.p))), 0.0),
        Measure(name, "distance to closest record, median", float(np.median(synthetic.distance)), float(np.median(held_out.distance))),
        Measure(
            name,
            "share nearer to training than to held-out people",
            measures.nearer_share(to_people, training),
            float(training.mean()),
            p["nearer"],
        ),
        Measure(
            name,
            "nearest-neighbour distance ratio, median",
            float(np.median(synthetic.ratio)),
            float(np.median(held_out.ratio)),
            p["closeness"],
        ),
        Measure(
            name,
            "authenticity (AuthPct)",
            measures.authentic_share(to_training, among_training),
            measures.authentic_share(of_held_out, among_training),
            p["inauthentic"],
        ),
        Measure(
            name,
            "identifiability",
            measures.identifiable_share(to_training, among_training),
            measures.expected_identifiable_share(len(to_training), people),
            p["identifiable"],
        ),
        *(
            Measure(name, f"membership attack by {kind}, AUC", found.auc, 0.5, found.p, found.low, found.high)
            for kind, found in (("distance", by_distance), ("density", by_density))
        ),
    ]

"""What makes the difference of two methods vary: people, runs, and both; and how sure a study of other size would be of it."""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from scipy import optimize

from .statistics import LEAST_RUNS, detectable_difference


def taught(share: float) -> float:
    """By how many times their visible part people vary beyond it, as they teach the methods too.

    A person who is easily told by one method also teaches it, in the runs that train on him, and no run shows the two together. Were
    methods symmetric in who teaches and who is tested, as a linear one is that learns nothing, the variance would be twice what tests
    show: 1 more. The fewer are trained on, the more each decides: another 1 where nearly all are tested. That keeps the level in the
    studies of docs/results/verdict.md, from 8 people a class trained on to 48 and 167.

    Parameters
    ----------
    share : float
        Of the people, those that one run tests.
    """
    return 1 + share


@dataclass(frozen=True)
class Components:
    """Variances of the difference of two methods, as in studies of several readers and cases, and the design that they are of.

    Parameters
    ----------
    people : mapping from class to float
        Variance over people of one's mean value over runs.
    both : mapping from class to float
        Variance of the value of one person in one run beyond it: seeds, and what a training side does to this person alone.
    runs : float
        Variance over runs of the difference that any number of people would show: who was trained on, and seeds.
    n_people, n_tested : mapping from class to float
        People of the cohort who are tested in some run, and in one run.
    n_runs : int
    """

    people: Mapping[str, float]
    both: Mapping[str, float]
    runs: float
    n_people: Mapping[str, float]
    n_tested: Mapping[str, float]
    n_runs: int

    @classmethod
    def stated(
        cls, *, people: float, runs: float, both: float = 0.0, n_people: Mapping[str, int], n_tested: Mapping[str, int], n_runs: int = 20
    ) -> "Components":
        """From standard deviations, the same for all classes, as one knows or fears them.

        Parameters
        ----------
        people, runs, both : float
            Standard deviations of the variances of ``Components``.
        n_people, n_tested : mapping from class to int
        n_runs : int
        """
        return cls(dict.fromkeys(n_people, people**2), dict.fromkeys(n_people, both**2), runs**2, n_people, n_tested, n_runs)

    @property
    def variance_is_known(self) -> bool:
        """Whether anything varies: of two methods that say the same of everybody nothing does."""
        return any((*self.people.values(), *self.both.values(), self.runs))

    def variance(self) -> tuple[float, float]:
        """Of the mean difference, as the test of ``pairs.paired`` will estimate it, and its degrees of freedom."""
        of_people = of_both = visible = 0.0
        more = taught(sum(self.n_tested.values()) / sum(self.n_people.values()))
        for label, people in self.people.items():
            n, tested = self.n_people[label], self.n_tested[label]
            of_people += (1 + more) * people / n + (people * (1 - tested / n) + self.both[label]) / (self.n_runs * tested)
            of_both += (people + self.both[label]) / (self.n_runs * tested)
            visible += people / n
        beyond = (self.runs - visible) / self.n_runs
        return summed(of_people, beyond + of_both, of_both, n_smallest=min(self.n_people.values()), n_runs=self.n_runs)

    def detectable(self, level: float = 0.05, power: float = 0.8) -> float:
        """The difference that a study of this design detects with probability ``power``."""
        variance, df = self.variance()
        return detectable_difference(math.sqrt(variance), df, level=level, power=power)

    def of_cohort(self, n_people: Mapping[str, int]) -> "Components":
        """The same of a whole cohort of so many people, of whom the few runs of a pilot tested a part.

        What runs see of people's variance is what one person's values have in common in two runs. By chance those share ``n_tested`` times
        ``n_tested`` / ``n_people`` of a cohort's people: an estimate that takes the people tested in some run for all of them, as that of
        ``pairs.paired`` does, is too small by as much as they are fewer.

        Parameters
        ----------
        n_people : mapping from class to int
            Of whom each run draws at random whom it tests.
        """
        people = {label: variance * n_people[label] / self.n_people[label] for label, variance in self.people.items()}
        # Single values vary as much as they did: what is of people is not of single runs.
        both = {label: max(0.0, self.both[label] + self.people[label] - of_people) for label, of_people in people.items()}
        return replace(self, people=people, both=both, n_people=n_people)

    def enlarged(self, factor: float) -> "Components":
        """With so many times the people, trained on as before."""
        return replace(
            self,
            n_people={label: factor * n for label, n in self.n_people.items()},
            n_tested={label: factor * n for label, n in self.n_tested.items()},
        )


def summed(of_people: float, of_runs: float, of_both: float, *, n_smallest: float, n_runs: int) -> tuple[float, float]:
    """A variance clustered both ways, and its degrees of freedom (Satterthwaite 1946, Biometrics Bulletin 2).

    Parameters
    ----------
    of_people, of_runs, of_both : float
        Clustered by people, by runs, and not at all: what runs vary beyond the last adds to the first.
    n_smallest : float
        People of the smallest class.
    n_runs : int
    """
    variance = of_people + max(0.0, of_runs - of_both)
    # One person tells of no spread: with the degrees of freedom of two, what can be seen is large, and finite.
    return variance, variance**2 / (of_people**2 / max(n_smallest - 1, 1) + of_runs**2 / (n_runs - 1))


def plan(
    components: Components,
    differences: Sequence[float] = (0.02, 0.05, 0.1),
    *,
    level: float = 0.05,
    power: float = 0.8,
    most_runs: int = 200,
    most_people: float = 100.0,
) -> pd.DataFrame:
    """How many runs, or people, it takes to see a difference.

    Parameters
    ----------
    components : Components
        Of pilot runs (``pairs.paired``), or stated.
    differences : sequence of float
        Of the score: 0.05 is 5 points.
    level, power : float
        Of a comparison by itself; of m comparisons corrected by Holm's method, ``level`` / m is safe.
    most_runs : int
        More are not tried.
    most_people : float
        More than so many times the people of ``components`` are not tried.

    Returns
    -------
    DataFrame
        One row a difference: ``difference``; ``runs`` that it takes with these people, 5 at least, <NA> where ``most_runs`` are not enough;
        and a column ``people LABEL`` a class, as many as it takes in the cohort with the runs of ``components``, <NA> beyond
        ``most_people``.
    """
    rows = []
    for difference in differences:
        runs = _least_runs(components, difference, level, power, most_runs)
        factor = _least_people(components, difference, level, power, most_people)
        people = {f"people {label}": pd.NA if factor is None else math.ceil(factor * n - 1e-6) for label, n in components.n_people.items()}
        rows.append({"difference": difference, "runs": pd.NA if runs is None else runs, **people})
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(table.columns[1:], "Int64"))


def _least_runs(components: Components, difference: float, level: float, power: float, most: int) -> int | None:
    numbers = range(LEAST_RUNS, most + 1)
    place = bisect.bisect_left(numbers, True, key=lambda n: replace(components, n_runs=n).detectable(level, power) <= difference)
    return numbers[place] if place < len(numbers) else None


def _least_people(components: Components, difference: float, level: float, power: float, most: float) -> float | None:
    """How many times the people of ``components``."""
    least = 10 / min(components.n_people.values())

    def short(log_factor: float) -> float:
        return components.enlarged(math.exp(log_factor)).detectable(level, power) - difference

    if short(math.log(least)) <= 0:
        return least
    if short(math.log(most)) > 0:
        return None
    return math.exp(float(optimize.root_scalar(short, bracket=(math.log(least), math.log(most))).root))

"""The studies of fidelity by name: which systems, of how many images, how often, and how the results are told.

A row of a study's table is one system, or several among which the validation side chooses. Where the paper's grid (Appendices C.4 and G)
is larger than its ten settings, or is not given, the ten are these.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..datasets.errors import UsageError

TEST, VALIDATION, RECONSTRUCTIONS = "test", "validation", "reconstructions"
ALL = 0  # the size that is the whole training side


@dataclass(frozen=True)
class Plan:
    """A study before it meets data.

    Parameters
    ----------
    title : str
        Of its report.
    source : str
        What of the paper it repeats.
    rows : dict
        From a row's title to its systems, of which, if there are several, the one with the least Fréchet distance to the validation side is
        reported.
    sizes : tuple of int
        Training participants; 0 for all.
    runs : int
        Repetitions, each with other training images and other seeds.
    reconstructions : bool
        Compare samples with reconstructions of training images too, one by one and all together.
    """

    title: str
    source: str
    rows: Mapping[str, tuple[str, ...]]
    sizes: tuple[int, ...] = (ALL,)
    runs: int = 2
    reconstructions: bool = False

    @property
    def sides(self) -> tuple[str, ...]:
        """What samples are compared with: the test side, and what the plan needs beside it."""
        chooses = any(len(systems) > 1 for systems in self.rows.values())
        return (TEST, *([VALIDATION] if chooses else []), *([RECONSTRUCTIONS] if self.reconstructions else []))


def _each(*systems: str) -> dict[str, tuple[str, ...]]:
    return {system: (system,) for system in systems}


PLANS: Mapping[str, Plan] = {
    "low-data": Plan(
        "How many images does it take?",
        "Fig. 4 and 11",
        _each(
            "vae:normal",
            "vae:gmm",
            "vae:posterior",
            "vae:riemannian",
            "vae:riemannian-paper",
            "vae:riemannian-released",
            "ae:gmm",
            "rae-l2:gmm",
            "wae:normal",
            "vamp:vamp",
        ),
        sizes=(1000, 5000, 10_000, ALL),
    ),
    "benchmark": Plan(
        "How good are the samples?",
        "Table 1",
        _each(
            "ae:normal",
            "wae:normal",
            "vae:normal",
            "vamp:vamp",
            "hvae:normal",
            "rhvae:own-metric",
            "ae:gmm",
            "rae-gp:gmm",
            "rae-l2:gmm",
            "rae-sn:gmm",
            "rae:gmm",
            "vae:gmm",
            "vae:posterior",
            "vae:riemannian",
            "vae:riemannian-paper",
            "vae:riemannian-released",
        ),
    ),
}


def plan_of(name: str) -> Plan:
    """The plan called ``name``; raise a ``UsageError`` if there is none."""
    if name not in PLANS:
        raise UsageError(f"There is no study '{name}'; choose one of: {', '.join(PLANS)}.")
    return PLANS[name]

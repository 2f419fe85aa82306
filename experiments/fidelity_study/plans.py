"""The studies of fidelity by name: which systems, of how many images, how often, and how the results are told.

A row of a study's table is one system, or several among which the validation side chooses. Where the paper's grid of settings (Appendices
C.4 and G) has more than ten points, or is not given, the ten are chosen here: along both axes through a middle point.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...datasets.common.errors import UsageError

TEST, VALIDATION, RECONSTRUCTIONS = "test", "validation", "reconstructions"
ALL = 0  # the size that is the whole training side


@dataclass(frozen=True)
class Panel:
    """A part of a figure: scores against one setting.

    Parameters
    ----------
    title : str
        Of its horizontal axis.
    lines : dict
        From a line's title to its points: from the value of the setting to the row's title.
    ordered : bool
        The setting is a quantity, and not a number that names a draw.
    """

    title: str
    lines: Mapping[str, Mapping[float, str]]
    ordered: bool = True

    @property
    def rows(self) -> list[str]:
        """Titles of all its points."""
        return [row for line in self.lines.values() for row in line.values()]


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
        From a row's title to its systems; where there are several, the one with the least Fréchet distance to the validation side is
        reported.
    sizes : tuple of int
        Training participants; 0 for all.
    runs : int
        Repetitions, each with other training images and other seeds.
    panels : tuple of Panel
        Of its figure, where there is one size; else the figure shows all rows.
    reconstructions : bool
        Compare samples with reconstructions of training images too, one by one and all together.
    """

    title: str
    source: str
    rows: Mapping[str, tuple[str, ...]]
    sizes: tuple[int, ...] = (ALL,)
    runs: int = 2
    panels: tuple[Panel, ...] = field(default=())
    reconstructions: bool = False

    @property
    def sides(self) -> tuple[str, ...]:
        """What samples are compared with: the test side, and what the plan needs beside it."""
        chooses = any(len(systems) > 1 for systems in self.rows.values())
        return (TEST, *([VALIDATION] if chooses else []), *([RECONSTRUCTIONS] if self.reconstructions else []))


_EXACT = "vae:riemannian"


def _each(*systems: str) -> dict[str, tuple[str, ...]]:
    return {system: (system,) for system in systems}


def _panel(title: str, setting: str, values: Iterable[float], lines: Mapping[str, str], default: float | None = None) -> Panel:
    """Every line's system at every value of a setting; at its default a system is the one without it, which other panels share.

    Not so the exact law, which has a reach of its own where nothing is said of its metric or its chain.
    """
    points = {
        line: {value: system if value == default and system != _EXACT else f"{system} {setting}={value:g}" for value in values}
        for line, system in lines.items()
    }
    return Panel(title, points)


def _settings(system: str, *settings: str) -> tuple[str, ...]:
    return tuple(f"{system} {setting}" for setting in settings)


_RIEMANNIAN = {"exact": _EXACT, "Algorithm 2": "vae:riemannian-paper", "released": "vae:riemannian-released"}
_ABLATION = (
    _panel(
        "number of centroids",
        "n_centroids",
        (2, 10, 50, 100, 200, 500, 1000),
        {"k-medoids": "vae:riemannian", "at random": "vae:riemannian selection=random"},
    ),
    replace(
        _panel("which 100 centroids, at random", "draw", range(1, 6), {"exact": "vae:riemannian n_centroids=100 selection=random"}),
        ordered=False,
    ),
    _panel("lambda", "lam", (1e-6, 1e-4, 1e-2, 1e-1, 1), _RIEMANNIAN),
    _panel("rho, times its default", "rho_scale", (0.25, 0.5, 1, 2, 4), _RIEMANNIAN, default=1),
    _panel("iterations of the chain", "n_iterations", (10, 30, 100, 300), _RIEMANNIAN, default=100),
    _panel(
        "leapfrog step", "step_size", (0.001, 0.01, 0.1), {line: _RIEMANNIAN[line] for line in ("Algorithm 2", "released")}, default=0.01
    ),
)

_SIX = ("1e-6", "1e-4", "0.001", "0.01", "0.1", "1")
_PSEUDO_INPUTS = tuple(f"pseudo_inputs={n}" for n in (10, 20, 30, 50, 100, 150, 200, 250, 300, 500))


def _rae(weight: str) -> tuple[str, ...]:
    """Ten of the 36 points of the RAEs' grid: code weight 0.01 with each explicit weight, and explicit weight 0.001 with four others."""
    return (
        *(f"code_weight=0.01 {weight}={value}" for value in _SIX),
        *(f"code_weight={value} {weight}=0.001" for value in ("1e-6", "1e-4", "0.1", "1")),
    )


# Table 3. Of the WAE's 30 points ten; how long the flows are, the paper does not say.
_SEARCHED: Mapping[str, tuple[str, ...]] = {
    "ae:normal": ("",),
    "wae:normal": (
        *(f"bandwidth=1 weight={value}" for value in ("0.01", "0.1", "1", "10", "100")),
        *(f"bandwidth={value} weight=10" for value in ("0.01", "0.1", "0.5", "2", "5")),
    ),
    "vae:normal": ("",),
    "vamp:vamp": _PSEUDO_INPUTS,
    "vae-nf:normal": tuple(f"length={n}" for n in (1, 2, 3, 4, 5, 6, 8, 10, 15, 20)),
    "vae-iaf:normal": tuple(f"blocks={n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)),
    "ae:gmm": ("",),
    "rae-gp:gmm": _rae("gradient_weight"),
    "rae-l2:gmm": _rae("weight_decay"),
    "vae:gmm": ("",),
    "vae:posterior": ("",),
    "vae:riemannian": ("",),
}
# Table 6. Of the VAEGAN's 21 points ten, of the discriminator's last two layers: networks of fewer are too small for it.
_PLUGGED_INTO: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vamp": ("vamp", _PSEUDO_INPUTS),
    "iwae": ("normal", tuple(f"samples={n}" for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12))),
    "aae": ("normal", tuple(f"weight={value}" for value in (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999))),
    "vaegan": (
        "normal",
        (
            *(f"layer=-2 balance={value}" for value in (0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 0.999)),
            *(f"layer=-1 balance={value}" for value in (0.8, 0.9, 0.99)),
        ),
    ),
}

PLANS: Mapping[str, Plan] = {
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
            *_RIEMANNIAN.values(),
            "vae:auto",
        ),
    ),
    "low-data": Plan(
        "How many images does it take?",
        "Figures 4 and 11",
        _each(
            "vae:normal",
            "vae:gmm",
            "vae:posterior",
            *_RIEMANNIAN.values(),
            "vae:auto",
            "ae:gmm",
            "rae-l2:gmm",
            "wae:normal",
            "vamp:vamp",
        ),
        sizes=(1000, 5000, 10_000, ALL),
    ),
    "ablation": Plan(
        "What do the metric and the chains need?",
        "Figures 12 to 14",
        _each(*dict.fromkeys(row for panel in _ABLATION for row in panel.rows)),
        sizes=(1000,),
        panels=_ABLATION,
    ),
    "search": Plan(
        "How good are the samples, with settings chosen?",
        "Table 3",
        {
            f"{system}, {net}": tuple(" ".join(f"{system} {setting} {arch}".split()) for setting in settings)
            for system, settings in _SEARCHED.items()
            for net, arch in (("CNN", ""), ("ResNet", "arch=resnet"))
        },
        runs=1,
    ),
    "plug-in": Plan(
        "Do other models gain by Riemannian sampling?",
        "Tables 6 and 7",
        {
            f"{model}, {title}": _settings(f"{model}:{sampler}", *settings)
            for model, (prior, settings) in _PLUGGED_INTO.items()
            for title, sampler in (("prior", prior), ("aggregated posterior", "posterior"), ("Riemannian", "riemannian"))
        }
        | {
            "vae, reconstructions": ("vae:reconstruction",),
            "vae, 1st stage": ("vae:normal",),
            "vae, 2nd stage": ("vae:two-stage",),
            "vae, aggregated posterior": ("vae:posterior",),
            "vae, Riemannian": ("vae:riemannian",),
        },
        runs=1,
    ),
    "neighbours": Plan(
        "Are the samples new?",
        "Figures 3 and 9",
        _each("vae:gmm", "vae:posterior", *_RIEMANNIAN.values(), "vae:auto"),
        runs=1,
        reconstructions=True,
    ),
}


def systems_of(rows: Mapping[str, Sequence[str]]) -> list[str]:
    """The systems of a plan's rows, each once."""
    return list(dict.fromkeys(system for members in rows.values() for system in members))


def plan_of(name: str) -> Plan:
    """The plan called ``name``; raise a ``UsageError`` if there is none."""
    if name not in PLANS:
        raise UsageError(f"There is no study '{name}'; choose one of: {', '.join(PLANS)}.")
    return PLANS[name]

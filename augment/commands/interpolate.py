"""Images along curves between two people's codes, as a folder: what ``augment interpolate`` does (Fig. 1, below).

The first and last image of a curve are what the model makes of real people: they are reconstructions, the rest is synthetic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ...datasets.cohort import Cohort
from ...datasets.common.errors import UsageError
from ...datasets.common.files import refuse_existing, whole_folder, write_json
from ...datasets.common.machine import require_memory
from ...datasets.common.seeds import seeded_generator
from ...datasets.identity import participant_of
from ...datasets.output import output
from ...datasets.readers import read_cohort
from ...datasets.transforms import Images, prepare
from .. import console
from ..autoencoders import AUTOENCODERS, GaussianAutoencoder
from ..detail.people import draw_images
from ..fitting.assessment import posterior_of
from ..fitting.figures import PathRow, save_paths
from ..fitting.model import FittedModel, decode
from ..fitting.model_config import poor_fit_warnings
from ..geometry.interpolation import COLOURS, KINDS, NOT_FOUND, TITLES, Cost, Interpolation, interpolate, outside_support
from ..release.description import DESCRIPTION
from ..release.form import FileFormat, default_format
from ..release.image_files import write_image

ALIKE = 0.02  # of the distance of the ends: curves that differ by less share a row of the figure


@dataclass(frozen=True, eq=False)
class Ends:
    """Latents that curves lead from and to, ``(p, D)`` each, in the space of the metric, and their names."""

    starts: Tensor
    ends: Tensor
    names: list[tuple[str, str]]


def training_ends(model: FittedModel, n_pairs: int, seed: int) -> Ends:
    """Pairs of people of the training images, drawn at random, nobody twice, and of each one image.

    Raises
    ------
    UsageError
        If there are not so many.
    """
    means = _means(model)
    person = torch.arange(len(means)) if model.person is None else model.person
    n_people = len(person.unique())
    if not 1 <= n_pairs <= n_people // 2:
        raise UsageError(f"Of {n_people} people trained on from 1 to {n_people // 2} pairs can be drawn, not {n_pairs}; change --pairs.")
    generator = seeded_generator(seed, model.config.label, "pairs")
    chosen = torch.randperm(n_people, generator=generator)[: 2 * n_pairs].reshape(2, -1)
    rows = draw_images(person, chosen, generator)
    names = [(f"training image {start + 1}", f"training image {end + 1}") for start, end in rows.T.tolist()]
    return Ends(means[rows[0]], means[rows[1]], names)


def named_ends(model: FittedModel, cohort: Cohort, start: str, end: str) -> Ends:
    """One pair, of the class of the model, by the ids of participants or images.

    Raises
    ------
    UsageError
        If the class has no such image, or several, or both are the same.
    """
    members = cohort.of_class(model.config.label)
    rows = [_row_of(members, name) for name in (start, end)]
    if rows[0] == rows[1]:
        raise UsageError(f"--from and --to are the same image, {start}; a curve needs two.")
    # One by one: preparing keeps the order of the table.
    images = [prepare(members.where(members.table.index == row), model.config.preparation, on_warning=console.warn) for row in rows]
    assert isinstance(model.autoencoder, GaussianAutoencoder)
    means = posterior_of(model.autoencoder, torch.cat([image.pixels for image in images])).mean
    return Ends(means[:1], means[1:], [(start, end)])


def interpolate_class(
    model: FittedModel,
    out: Path,
    *,
    named: tuple[str, str] | None = None,
    n_pairs: int = 3,
    n_steps: int = 10,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    moved: Mapping[str, Any] | None = None,
    file_format: FileFormat | None = None,
    force: bool = False,
    command: str = "",
) -> Interpolation:
    """Write ``paths.png``, ``curves.csv`` and the decoded images into ``out``.

    Parameters
    ----------
    model : FittedModel
        With a metric.
    out : Path
        The folder.
    named : tuple of str, optional
        Participants or images to go from and to; else ``n_pairs`` pairs of people trained on are drawn by ``seed``.
    n_steps : int
        Images on a curve, evenly spaced, ends included.
    kinds : sequence of str
        Names among ``interpolation.KINDS``.
    moved : mapping, optional
        Where the named images are by now (``ModelConfig.source``).
    file_format : {"nifti", "png"}, optional
        As ``image_files.default_format``.
    command : str
        Recorded in the description.

    Raises
    ------
    UsageError
        If the model has no metric, an image is not there, or a setting cannot be.
    """
    with output(out, console.say, data=model.config.places(moved or {})):
        refuse_existing(out, force=force, ours=is_interpolation)
        _means(model)
        if n_steps < 2:
            raise UsageError(f"A curve has 2 images or more, not {n_steps}; change --steps.")
        n_images = (1 if named else n_pairs) * len(kinds) * n_steps
        require_memory(n_images, model.config.space.shape, "give fewer --steps")
        if file_format == "png" and len(model.config.space.shape) == 3:
            raise UsageError("Volumes cannot be written as PNG; choose --format nifti.")
        if named is None and moved:
            raise UsageError("Where the data lie now goes with --from and --to: without them, the codes that the model keeps are the ends.")
        if named is None:
            ends = training_ends(model, n_pairs, seed)
        else:
            ends = named_ends(model, read_cohort(model.config.source(moved or {})), *named)
        for message in poor_fit_warnings(model.config.diagnostics):
            console.warn(f"{model.config.label}: {message}")
        assert model.metric is not None
        found = interpolate(model.metric, ends.starts, ends.ends, kinds, seed=seed, on_curve=console.say)
        latents = found.steps(n_steps)
        images = {kind: decode_codes(model, steps.flatten(0, 1)) for kind, steps in latents.items()}
        off_manifold = partial(_off_manifold, model)
        outside = {kind: off_manifold(steps) for kind, steps in latents.items()}
        costs, shown = found.costs(off_manifold), _shown(latents)
        rows = []
        for cost in costs:
            if cost.kind in shown[cost.pair]:
                names = "{}\nto {}\n\n".format(*ends.names[cost.pair]) if cost.kind == kinds[0] else ""
                titles = "\n≈ ".join(TITLES[kind] for kind in shown[cost.pair][cost.kind])
                part = slice(cost.pair * n_steps, (cost.pair + 1) * n_steps)
                title = f"{names}{titles}\nlength {cost.length:.3g}"
                rows.append(PathRow(title, COLOURS[cost.kind], images[cost.kind][part], outside[cost.kind][cost.pair].tolist()))
        with whole_folder(out, force=force) as folder:
            save_paths(folder / "paths.png", rows, title=FIGURE_TITLE.format(label=model.config.label))
            names = pd.DataFrame([ends.names[cost.pair] for cost in costs], columns=["from", "to"])
            table = pd.concat([names, pd.DataFrame([asdict(cost) for cost in costs])], axis=1)
            table.assign(pair=table["pair"] + 1).to_csv(folder / "curves.csv", index=False)
            file_format = file_format or default_format(model.config.space)
            _write_images(folder / "images", images, n_steps, file_format, model.config.data.get("skull_stripped"))
            write_json(folder / DESCRIPTION, _description(model, command))
            (folder / "README.md").write_text(README.format(label=model.config.label, n_steps=n_steps), encoding="utf-8")
        _tell(costs, ends)
        console.say(f"Wrote the figure paths.png, the table curves.csv and {sum(map(len, images.values()))} images to {out}.")
        return found


def decode_codes(model: FittedModel, z: Tensor) -> Images:
    """Images of latents ``(n, D)`` of the metric's space."""
    assert isinstance(model.autoencoder, GaussianAutoencoder)
    with torch.no_grad():
        codes = model.autoencoder.transport(z.float())
    return Images(decode(model.autoencoder, codes), model.config.space)


def is_interpolation(folder: Path) -> bool:
    """Whether a folder is what this module writes: what ``--force`` may replace."""
    return (folder / "curves.csv").is_file() and (folder / "paths.png").is_file()


FIGURE_TITLE = "{label}: decoded along curves. The ends are reconstructions, the rest is synthetic; framed in red: off the manifold."
README = """\
# Images along curves between codes of the class {label}

`images/pair1-affine-01` is the first of {n_steps} images on the straight line of the first pair, and so on; `curves.csv` says from whom to
whom a curve leads, how long it is, and which share of it (`off_manifold`) lies off the manifold on which `augment generate --sampler
riemannian` draws from this model: where hardly anybody would be.

The first and the last image of a curve are what the model makes of two real people: reconstructions, to be handled as these people's
images are. The others are synthetic: they are of nobody, but the nearer to an end, the more like the person there. This folder is no
synthetic cohort.
"""


def _means(model: FittedModel) -> Tensor:
    """Means of the posteriors of the training images, ``(n, D)``."""
    if model.posterior is None:
        able = ", ".join(name for name, kind in AUTOENCODERS.items() if issubclass(kind, GaussianAutoencoder))
        raise UsageError(
            f"The model '{model.config.model}' has no Gaussian posterior, hence no metric to measure curves in; "
            f"fit one that has, with --model {able}."
        )
    return model.posterior.mean


def _off_manifold(model: FittedModel, z: Tensor) -> Tensor:
    """Whether latents ``(..., D)`` lie off the manifold on which ``riemannian`` draws from this model: bool, ``(...)``."""
    if model.latents.reach is not None:  # of its own, at which it draws
        assert model.metric is not None
        return outside_support(model.metric, z)
    assert model.latents.manifold is not None
    return ~model.latents.manifold.inside(z.flatten(0, -2)).reshape(z.shape[:-1])


def _row_of(members: Cohort, name: str) -> int:
    """Row of the image or the participant called ``name``."""
    table = members.table
    rows = table.index[table["image_id"] == name].tolist() or table.index[table["participant_id"] == participant_of(name)].tolist()
    if not rows:
        examples = ", ".join(list(dict.fromkeys(members.people))[:3])
        raise UsageError(f"The class {table['label'][0]} of {members.name} has no participant or image '{name}'; it has {examples}, ...")
    if len(rows) > 1:
        ids = ", ".join(table["image_id"][rows])
        raise UsageError(f"{name} has {len(rows)} images; name one of them: {ids}.")
    return rows[0]


def _shown(latents: dict[str, Tensor]) -> list[dict[str, list[str]]]:
    """For each pair the kinds that differ from those before, each with itself and those that hardly differ from it."""
    kept: list[dict[str, list[str]]] = [{} for _ in next(iter(latents.values()))]
    for kind, steps in latents.items():
        for pair, seen in enumerate(kept):
            bound = ALIKE * (steps[pair, -1] - steps[pair, 0]).norm()
            alike = [other for other in seen if (steps[pair] - latents[other][pair]).norm(dim=1).max() <= bound]
            seen.setdefault(alike[0] if alike else kind, []).append(kind)
    return kept


def _write_images(folder: Path, images: dict[str, Images], n_steps: int, file_format: FileFormat, skull_stripped: bool | None) -> None:
    folder.mkdir()
    for kind, decoded in images.items():
        for i, pixels in enumerate(decoded.pixels):
            name = f"pair{i // n_steps + 1}-{kind}-{i % n_steps + 1:02d}"
            write_image(folder / name, pixels[0].numpy(), decoded.space, file_format, skull_stripped=skull_stripped)


def _description(model: FittedModel, command: str) -> dict[str, object]:
    return {
        "Name": f"Images along curves between codes of {model.config.data['name']}, class {model.config.label}",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "Synthetic": True,
        "License": model.config.data.get("licence", "") or "that of the source data, which states none",
        "GeneratedBy": [{"Name": "tinycohort", "Version": version("tinycohort"), "Command": command}],
        "SourceDatasets": [{"Name": model.config.data["name"]}],
        "Model": model.digest,
    }


def _tell(costs: Sequence[Cost], ends: Ends) -> None:
    header = ("pair", "from", "to", "curve", "length", "energy", "Euclidean", "Eq. 12", "off")
    rows = []
    for cost in costs:
        numbers = (cost.length, cost.energy, cost.euclidean, cost.eq12, cost.off_manifold)
        rows.append((cost.pair + 1, *ends.names[cost.pair], TITLES[cost.kind], *(f"{number:.3g}" for number in numbers)))
    console.show_table("curves", "Curves", header, rows)
    console.say(
        "length, energy: of Eq. 4, the energy at constant Euclidean speed; Eq. 12: its integral, in units of the straight line's; "
        "off: share of the curve off the manifold on which riemannian draws from this model."
    )
    for cost in costs:
        if cost.residual > NOT_FOUND:
            console.warn(f"pair {cost.pair + 1}, {TITLES[cost.kind]}: no minimum was reached, so the curve may still be too long.")

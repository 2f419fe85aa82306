"""The model card: what a reader must know before using a model, as the README.md of its folder."""

from ...datasets.common.words import times
from ..samplers.law_scores import COLUMNS
from .model import FittedModel


def model_card(model: FittedModel, warnings: list[str], *, keeps_detail: bool = False) -> str:
    """Markdown of a fitted model's card.

    Parameters
    ----------
    model : FittedModel
        As it will be saved.
    warnings : list of str
        What the fit warned of.
    keeps_detail : bool
        Whether the folder holds the training images.
    """
    config, data, found = model.config, model.config.data, model.config.diagnostics
    shape = times(config.space.shape)
    rows = [
        ("images explained, training", f"{found['explained_train']:.1%} of the variance around the class mean"),
        ("images explained, held out", f"{found['explained_validation']:.1%}"),
        (
            "held-out to nearest training image",
            f"{found['held_out_nearest_median']:.4f} (median), {found['held_out_nearest_smallest']:.4f} (least)",
        ),
    ]
    if "kl" in found:
        rows += [
            ("active latent units", f"{found['active_units']} of {config.architecture.latent_dim}"),
            ("KL to N(0, I)", f"{found['kl']:.1f} nats"),
            ("posterior standard deviation", f"{found['posterior_std_median']:.4f} (median)"),
        ]
    if model.metric is not None:
        rows.append(("metric", f"{len(model.metric.centroids)} centroids, rho {model.metric.rho:.4g}, lambda {model.metric.lam:g}"))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    scores = model.law_scores
    laws = "\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS), *scores.rows()))
    promise = f"`riemannian` is {scores.promise}.\n" if scores.promise else ""
    detail = (
        "\n- `detail.safetensors` holds the training images (--keep-detail), of which `augment generate` takes detail. Keep this folder\n"
        "  where these images may be kept, and nowhere else."
        if keeps_detail
        else ""
    )
    noted = "\n".join(f"- {warning}" for warning in warnings) or "- none"
    return f"""# {config.label}: a generative model of {data["name"]}

{config.model} ({config.architecture.name}, {config.architecture.latent_dim} latent dimensions) of images of {shape} voxels.
Fitted by tinycohort on {data["n_train"]} images of class {config.label}.
Epoch {found["best_epoch"]} of {len(model.history)} was kept, by its loss on {data["n_validation"]} images more.

| | |
|---|---|
{table}

Distances are root-mean-square differences over voxels of images in [0, 1]. `loss.png` and `history.csv` show the training.

## Which law to draw from
How probable each law of latents makes people that it was not fitted on: the training people, each left out, and those held out (higher is
better). `--sampler auto` draws from {scores.sentence}.
{promise}
{laws}

## Warnings of the fit
{noted}

## Data
- Source: {data["name"]}{" (itself synthetic)" if data["synthetic"] else ""}; licence: {data["licence"] or "none stated"}.
- Split: {config.split["digest"][:16]} (seed {config.split["seed"]}).
  Never test a classifier on participants that this model was trained on or selected by.
- `config.json` holds salted hashes of the participants, `latents.safetensors` one code an image: pseudonymous, not anonymous. The folder
  stays personal data wherever the source is.{detail}

## Use and limits
Made to enlarge the training set of a classifier, and to study generative models. Not for diagnosis. It knows only the variation of
{data["n_train"]} images, may return images close to them, and carries over every bias of the source.

## How it was made
    {config.command or "(from Python)"}

Seed {config.seed}; {", ".join(f"{name} {number}" for name, number in config.versions.items())}.
"""

"""What a fit by default explains of held-out images and what it costs, beside 3,000 steps of the default before it, as a table in Markdown:

    python benchmarks/length.py --data demo --class AD --class CN --seeds 0 1

Both on the same splits, one thread. "Validation" is ``explained_validation`` of the fit, of few images and those that the weights were
chosen by; "test" is the same of people whom nothing has seen. ``--images`` keeps so many of a class, before the split.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tinycohort.augment.fitting.fit import fit_class
from tinycohort.augment.fitting.model import FittedModel, decode, encode
from tinycohort.augment.fitting.nearest import explained_variance
from tinycohort.augment.fitting.plan import FitPlan
from tinycohort.augment.fitting.settings import DEFAULT_TRAINING, FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.compute import computing_with, hardware
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import Split, split_cohort
from tinycohort.datasets.transforms import Preparation, prepare, space_of

DEFAULTS = {
    "before": FitSettings(arch="conv", latent_dim=16, training=TrainingSettings(steps=3000, jitter=1.0)),
    "16 dimensions": FitSettings(latent_dim=16, training=replace(DEFAULT_TRAINING, jitter=1.0)),
    "weaker jitter": FitSettings(training=replace(DEFAULT_TRAINING, jitter=1.0)),
    "now": FitSettings(),
}


def some(cohort: Cohort, n: int | None, seed: int) -> Cohort:
    """``n`` images of each class, by chance; all without it."""
    if n is None:
        return cohort
    rng, labels = np.random.default_rng(seed), cohort.table["label"].to_numpy()
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:n] for label in cohort.labels]
    return cohort.where(np.isin(np.arange(len(labels)), np.concatenate(chosen)))


def explained_of_test(model: FittedModel, cohort: Cohort, split: Split, settings: FitSettings) -> float:
    """As ``explained_validation``, of the test side."""
    members, like = cohort.of_class(model.config.label), space_of(cohort, settings.preparation)
    train, test = (prepare(split.side(members, side), settings.preparation, like=like).pixels for side in ("train", "test"))
    return explained_variance(test, decode(model.autoencoder, encode(model.autoencoder, test)), train.mean(dim=0))


def rows(arguments: argparse.Namespace) -> Iterator[str]:
    """One of the table for each fit."""
    for seed in arguments.seeds:
        cohort = some(read_cohort(arguments.data), arguments.images, seed)
        # Drawn here, also where sides are published: few are left of those.
        split = split_cohort(replace(cohort, table=cohort.table.drop(columns="split", errors="ignore")), seed=seed)
        for label in arguments.labels or cohort.labels:
            for name in arguments.defaults:
                settings = replace(DEFAULTS[name], preparation=Preparation(size=arguments.size), seed=seed)
                cpu, wall = time.process_time(), time.perf_counter()
                model = fit_class(FitPlan(cohort, split, label, settings))
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                found = model.config.diagnostics
                yield (
                    f"| {label} | {seed} | {name} | {model.config.data['n_train']} | {found['explained_validation']:.3f} | "
                    f"{explained_of_test(model, cohort, split, settings):.3f} | {found['best_epoch']} of {len(model.history)} | "
                    f"{cpu:.0f} | {wall:.0f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--class", dest="labels", action="append")
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))))
    parser.add_argument("--images", type=int, help="of a class, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--defaults", nargs="+", choices=list(DEFAULTS), default=list(DEFAULTS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{arguments.data}; {hardware()}, {arguments.threads} threads\n")
    print("| class | seed | default | images | validation | test | epoch kept | CPU, s | wall, s |\n|---|---|---|---|---|---|---|---|---|")
    with computing_with(arguments.threads):
        for row in rows(arguments):
            print(row, flush=True)


if __name__ == "__main__":
    main()

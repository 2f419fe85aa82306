"""How much of an FID is faint haze in the background? A study's samples once more, what is fainter than a bound set to 0.

Black is exactly 0 in most of a digit's image, and just above it in what a sigmoid draws; InceptionV3 sees the difference, which eyes hardly
does. The Fréchet distance to the real images, which are left as they are, of the samples as they come (bound 0) and without their haze:

    python benchmarks/haze.py studies/low-data --size 1000 --systems vae:gmm vae:riemannian --weights $INCEPTION

after ``augment study low-data --features inception-768 --weights $INCEPTION --out studies/low-data``, whose models it takes. The
last column: which share of the samples' voxels is haze, of 8 bit at least 1 and below the largest bound.
"""

import argparse
from pathlib import Path

import torch
from measuring import Row, publish, table

from tinycohort.experiments.engine.folder import read_config
from tinycohort.experiments.engine.systems import System
from tinycohort.experiments.fidelity.features import features_of
from tinycohort.experiments.fidelity.frechet import frechet_distance_of_features
from tinycohort.experiments.fidelity_study.cell import decoded, fitted_model, latents_of, split_of
from tinycohort.experiments.fidelity_study.data import StudyData, inception, real_sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--systems", nargs="+", required=True, help="such as vae:riemannian")
    parser.add_argument("--size", type=int, required=True, help="training images, as in the study")
    parser.add_argument("--bounds", type=float, nargs="+", default=[0.0, 0.1], help="in [0, 1] [0 0.1]")
    parser.add_argument("--weights", required=True, help="InceptionV3's")
    parser.add_argument("--dimension", default="768", help="of its features [%(default)s]")
    parser.add_argument("--run", type=int, default=0, help="of the study [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the draws [%(default)s]")
    parser.add_argument("--out", type=Path, help="write the table into this Markdown file as well")
    given = parser.parse_args()

    config = read_config(given.study)
    data, extractor = StudyData.load(given.study, config), inception(f"inception-{given.dimension}", given.weights)
    real = real_sample("test", extractor, data, given.study).features
    rows: list[Row] = [("system", *(f"bound {bound:g}" for bound in given.bounds), "haze")]
    for text in given.systems:
        system = System.parse(text)
        key = {"run": given.run, "n": given.size, "model": system.trained_as, "sampler": system.drawn_as}
        split = split_of(key, data, config)
        images = []
        for label, n in data.sizes.items():
            model = fitted_model(system, label, split, key, data, config, given.study)
            latents, _ = latents_of(system, model, n, given.seed)
            images.append(torch.cat(list(decoded(model, latents, torch.device("cpu")))))
        drawn = torch.cat(images)
        distances = [
            frechet_distance_of_features(real, features_of(extractor, torch.where(drawn < bound, 0, drawn).split(1000)))
            for bound in given.bounds
        ]
        haze = float(((drawn > 0.5 / 255) & (drawn < max(given.bounds))).float().mean())
        rows.append((f"`{text}`", *(f"{distance:.3f}" for distance in distances), f"{haze:.0%}"))
        print(rows[-1], flush=True)
    publish(table(rows), given.out)


if __name__ == "__main__":
    main()

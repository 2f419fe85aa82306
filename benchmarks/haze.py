"""How much of an FID is faint haze in the background? A study's samples once more, what is fainter than a bound set to 0.

Black is exactly 0 in most of a digit's image, and just above it in what a sigmoid draws; InceptionV3 sees the difference, which eyes hardly
does. The Fréchet distance to the real images, which are left as they are, of the samples as they come (bound 0) and without their haze:

    python benchmarks/haze.py studies/low-data --size 1000 --systems vae:gmm vae:riemannian --weights $INCEPTION

after ``augment study low-data --features inception-768 --weights $INCEPTION --out studies/low-data``, whose models it takes. The
last column: which share of the samples' voxels is haze, of 8 bit at least 1 and below the largest bound.
"""

import torch
from measuring import Row, publish, table
from studied import parser_of, samples, study_data

from tinycohort.experiments.fidelity.features import features_of
from tinycohort.experiments.fidelity.frechet import frechet_distance_of_features
from tinycohort.experiments.fidelity_study.data import REFERENCE, inception, real_sample


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--bounds", type=float, nargs="+", default=[0.0, 0.1], help="in [0, 1] [0 0.1]")
    given = parser.parse_args()
    data = study_data(given)
    extractor = inception(f"inception-{given.dimension}", given.weights)
    real = real_sample(REFERENCE, extractor, data, given.study).features
    rows: list[Row] = [("system", *(f"bound {bound:g}" for bound in given.bounds), "haze")]
    for text, drawn in samples(given, data):
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

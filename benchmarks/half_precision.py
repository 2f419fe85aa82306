"""How far bf16 moves an FID, and what it saves: a study's samples, scored by InceptionV3 in float32 and in bf16.

    python benchmarks/half_precision.py studies/low-data --size 1000 --systems vae:gmm vae:riemannian --weights $INCEPTION

after ``augment study low-data --features inception-768 --weights $INCEPTION --out studies/low-data``, whose models it takes. Both
precisions see the same samples and the same real images; the last row is the floor, images of the validation side.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from measuring import Row, cpu_seconds, publish, table

from tinycohort.experiments.engine.folder import read_config
from tinycohort.experiments.engine.systems import System
from tinycohort.experiments.fidelity.features import features_of
from tinycohort.experiments.fidelity.frechet import frechet_distance_of_features
from tinycohort.experiments.fidelity_study.cell import decoded, fitted_model, latents_of, split_of
from tinycohort.experiments.fidelity_study.data import HELD_OUT, REFERENCE, StudyData, inception


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--systems", nargs="+", required=True, help="such as vae:riemannian")
    parser.add_argument("--size", type=int, required=True, help="training images, as in the study")
    parser.add_argument("--weights", required=True, help="InceptionV3's")
    parser.add_argument("--dimension", default="768", help="of its features [%(default)s]")
    parser.add_argument("--run", type=int, default=0, help="of the study [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the draws [%(default)s]")
    parser.add_argument("--out", type=Path, help="write the table into this Markdown file as well")
    given = parser.parse_args()

    config = read_config(given.study)
    data = StudyData.load(given.study, config)
    extractors = {
        name: inception(f"inception-{given.dimension}{ending}", given.weights) for name, ending in (("float32", ""), ("bf16", "-bf16"))
    }
    rows: list[Row] = [("images", *extractors, "bf16 over float32", "features apart", "speed")]

    def features(images: torch.Tensor) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """By precision, and CPU seconds."""
        found: dict[str, np.ndarray] = {}
        seconds = {
            name: cpu_seconds(lambda name=name, extractor=extractor: found.update({name: features_of(extractor, images.split(256))}))
            for name, extractor in extractors.items()
        }
        return found, seconds

    real, _ = features(data.real(REFERENCE)[0])

    def add(title: str, images: torch.Tensor) -> None:
        found, seconds = features(images)
        distances = {name: frechet_distance_of_features(real[name], found[name]) for name in extractors}
        apart = np.linalg.norm(found["bf16"] - found["float32"]) / np.linalg.norm(found["float32"])
        rows.append(
            (
                title,
                *(f"{distance:.4f}" for distance in distances.values()),
                f"{distances['bf16'] / distances['float32']:.3f}",
                f"{apart:.1%}",
                f"{seconds['float32'] / seconds['bf16']:.1f}",
            )
        )
        print(rows[-1], flush=True)

    for text in given.systems:
        system = System.parse(text)
        key = {"run": given.run, "n": given.size, "model": system.trained_as, "sampler": system.drawn_as}
        split = split_of(key, data, config)
        images = []
        for label, n in data.sizes.items():
            model = fitted_model(system, label, split, key, data, config, given.study)
            latents, _ = latents_of(system, model, n, given.seed)
            images.append(torch.cat(list(decoded(model, latents, torch.device("cpu")))))
        add(f"`{text}`", torch.cat(images))
    add("real, validation side", data.real(HELD_OUT)[0])
    publish(table(rows), given.out)


if __name__ == "__main__":
    main()

"""How far bf16 moves an FID, and what it saves: a study's samples, scored by InceptionV3 in float32 and in bf16.

    python benchmarks/half_precision.py studies/low-data --size 1000 --systems vae:gmm vae:riemannian --weights $INCEPTION

after ``augment study low-data --features inception-768 --weights $INCEPTION --out studies/low-data``, whose models it takes. Both
precisions see the same samples and the same real images; the last row is the floor, images of the validation side.
"""

import numpy as np
from measuring import Row, cpu_seconds, publish, table
from studied import parser_of, samples, study_data
from torch import Tensor

from tinycohort.experiments.fidelity.features import features_of
from tinycohort.experiments.fidelity.frechet import frechet_distance_of_features
from tinycohort.experiments.fidelity_study.data import CHUNK, HELD_OUT, REFERENCE, inception


def main() -> None:
    given = parser_of(__doc__).parse_args()
    data = study_data(given)
    endings = {"float32": "", "bf16": "-bf16"}
    extractors = {name: inception(f"inception-{given.dimension}{ending}", given.weights) for name, ending in endings.items()}

    def features(images: Tensor) -> tuple[dict[str, np.ndarray], float]:
        """By precision, and how many times as fast bf16 is."""
        found: dict[str, np.ndarray] = {}
        seconds = {}
        for name, extractor in extractors.items():
            seconds[name] = cpu_seconds(
                lambda name=name, extractor=extractor: found.update({name: features_of(extractor, images.split(CHUNK))})
            )
        return found, seconds["float32"] / seconds["bf16"]

    real, _ = features(data.real(REFERENCE)[0])
    rows: list[Row] = [("images", *extractors, "bf16 over float32", "features apart", "speed")]

    def add(title: str, images: Tensor) -> None:
        found, speed = features(images)
        distances = {name: frechet_distance_of_features(real[name], found[name]) for name in extractors}
        ratio = distances["bf16"] / distances["float32"]
        apart = np.linalg.norm(found["bf16"] - found["float32"]) / np.linalg.norm(found["float32"])
        rows.append((title, *(f"{distance:.4f}" for distance in distances.values()), f"{ratio:.3f}", f"{apart:.1%}", f"{speed:.1f}"))
        print(rows[-1], flush=True)

    for text, drawn in samples(given, data):
        add(f"`{text}`", drawn)
    add("real, validation side", data.real(HELD_OUT)[0])
    publish(table(rows), given.out)


if __name__ == "__main__":
    main()

"""What the benchmarks of a finished study of fidelity share: its arguments, its data, and its systems' samples, drawn anew."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tinycohort.experiments.engine.study_config import RunContext
from tinycohort.experiments.engine.systems import System
from tinycohort.experiments.fidelity_study.cell import decoded, fitted_model, latents_of, split_of
from tinycohort.experiments.fidelity_study.config import FidelityConfig
from tinycohort.experiments.fidelity_study.data import StudyData


def parser_of(description: str | None) -> ArgumentParser:
    """With the arguments that say which study, systems and features."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--systems", nargs="+", required=True, help="such as vae:riemannian")
    parser.add_argument("--size", type=int, required=True, help="training images, as in the study")
    parser.add_argument("--weights", required=True, help="InceptionV3's")
    parser.add_argument("--dimension", default="768", help="of its features [%(default)s]")
    parser.add_argument("--run", type=int, default=0, help="of the study [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the draws [%(default)s]")
    parser.add_argument("--out", type=Path, help="write the table into this Markdown file as well")
    return parser


def study_data(given: Namespace) -> StudyData:
    """The real side of the study."""
    return StudyData.load(RunContext(given.study, FidelityConfig.load(given.study)))


def samples(given: Namespace, data: StudyData) -> Iterator[tuple[str, Tensor]]:
    """Each system as it is written, and as many images of it as the study scores, ``(n, 1, ...)``."""
    for text in given.systems:
        system = System.parse(text)
        key = {"run": given.run, "n": given.size, "model": system.trained_as, "sampler": system.drawn_as}
        split = split_of(key, data)
        images = []
        for label, n in data.sizes.items():
            model = fitted_model(system, label, split, key, data)
            latents, _ = latents_of(system, model, n, given.seed)
            images += decoded(model, latents, torch.device("cpu"))
        yield text, torch.cat(images)

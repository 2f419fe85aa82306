"""Where one run of a study of augmentation goes, beside the same run with nothing spared, as a table in Markdown:

    python benchmarks/study_run.py $OASIS_CORONAL --size 80x96 --people 20

A run is what ``augment evaluate --sizes 20`` does twenty times: one split, a generator a class, 300 samples a class with detail, and
every classifier on every arm. *Nothing spared*: fits take all of their steps, and registration is by MONAI's Warp with six squarings a
step. CPU seconds of this process, one thread, one run each on the same split.
"""

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: what its linear algebra makes of it is read once

import torch
from measuring import Row, command_of, publish, table
from monai.networks.blocks.warp import Warp
from torch import Tensor

from tinycohort.augment.detail import mosaic, registration
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import default_steps
from tinycohort.classifiers.training import FIXED_LENGTH
from tinycohort.datasets.common.compute import computes_in_bf16, hardware
from tinycohort.datasets.readers import Source
from tinycohort.datasets.transforms import Preparation
from tinycohort.experiments.augmentation_study import cell, command, generators
from tinycohort.experiments.augmentation_study.grid import cells_of
from tinycohort.experiments.engine.study_folder import claim

STAGES = {
    "fits of the generators": (generators, "fitted_once"),
    "detail, most of it registration": (mosaic, "add_detail"),
    "classifiers": (cell, "_train"),
    "predictions": (cell, "predict_probabilities"),
}


def warped_by_monai(images: Tensor, displacements: Tensor, mode: str = "bilinear") -> Tensor:
    """What ``datasets/warping.py`` does for ``registration``."""
    return Warp(mode, padding_mode="border")(images, displacements)


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Adds the CPU seconds of every stage to ``seconds``."""

    def counted(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return work(*arguments, **options)
            finally:
                seconds[stage] += time.process_time() - start

        return run

    with ExitStack() as patches:
        for stage, (module, name) in STAGES.items():
            patches.enter_context(mock.patch.object(module, name, counted(stage, getattr(module, name))))
        yield


def one_run(given: argparse.Namespace, *, spared: bool) -> dict[str, float]:
    """CPU seconds of each stage of a run, and of all of it."""
    size = tuple(map(int, given.size.split("x")))
    method = "vae:auto+classical detail=mosaic" + ("" if spared else f" steps={default_steps(size)}")
    seconds: dict[str, float] = defaultdict(float)
    with TemporaryDirectory() as folder, ExitStack() as patches:
        if not spared:
            patches.enter_context(mock.patch.object(registration, "warped", warped_by_monai))
            patches.enter_context(mock.patch.object(registration, "N_SQUARINGS_OF_A_STEP", registration.N_SQUARINGS))
        request = command.EvaluationRequest(
            source=Source(given.data, plane=given.plane),
            methods=("resampled+classical", method),
            modes=("synthetic-only n=300",),
            runs=1,
            sizes=(given.people,),
            networks=("cnn", "resnet"),
            fit=FitSettings(preparation=Preparation(size=size)),
            classifier=FIXED_LENGTH,
        )
        config = command.configuration_of(request)
        claim(Path(folder), config)
        start = time.process_time()
        with timed(seconds):
            for key in cells_of(config.grid):
                cell.run_cell(key, 0, Path(folder), device="cpu")
        seconds["all"] = time.process_time() - start
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the cohort")
    parser.add_argument("--plane", help="of its images, where there are several")
    parser.add_argument("--size", required=True, help="of the images, as 80x96")
    parser.add_argument("--people", default="20", help="of the smallest class, to learn from [%(default)s]")
    parser.add_argument("--out", type=Path, help="write the table into this Markdown file as well")
    given = parser.parse_args()
    torch.set_num_threads(1)
    plain, ours = one_run(given, spared=False), one_run(given, spared=True)
    rows: list[Row] = [("stage", "nothing spared (s)", "ours (s)", "ratio")]
    stages = [*STAGES, "all"]
    rows += [(stage, f"{plain[stage]:.0f}", f"{ours[stage]:.0f}", f"{plain[stage] / max(ours[stage], 1e-9):.1f}") for stage in stages]
    text = "\n\n".join(
        (
            "# One run of a study",
            f"Made by `{command_of(parser, given, __file__)}` on one thread of a processor that names itself {hardware()} "
            f"({'with' if computes_in_bf16(torch.device('cpu')) else 'without'} bf16 instructions), with torch {torch.__version__}.",
            table(rows),
        )
    )
    publish(text, given.out)


if __name__ == "__main__":
    main()

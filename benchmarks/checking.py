"""How fast ``augment check`` reads a cohort of many files, on one processor and on all, and how much memory it takes.

Run as ``python benchmarks/checking.py``. The volumes are noise, gzipped NIfTI, which decompresses as slowly as real ones; they are written
into a temporary folder. Each check is a process of its own; the two of a pair run one after the other, so that another job on the machine
disturbs both alike. The files are in the system's cache.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

from tinycohort.datasets.check import examine
from tinycohort.datasets.compute import hardware
from tinycohort.datasets.machine import available_processors
from tinycohort.datasets.readers import read_cohort

SHAPE = (48, 56, 48)


def write_volumes(folder: Path, n: int) -> None:
    """A BIDS cohort of ``n`` participants, 16 bit."""
    rng = np.random.default_rng(n)
    for person in range(n):
        path = folder / f"sub-{person:05d}/anat/sub-{person:05d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        voxels = rng.normal(500, 100, SHAPE).clip(0).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    rows = [f"sub-{person:05d}\t{'AD' if person % 2 else 'CN'}\n" for person in range(n)]
    (folder / "participants.tsv").write_text("participant_id\tdiagnosis\n" + "".join(rows), encoding="utf-8")
    (folder / "dataset_description.json").write_text('{"Name": "noise", "BIDSVersion": "1.9.0"}', encoding="utf-8")


def check(folder: Path, n: int, processors: int) -> tuple[float, float, float]:
    """Seconds of a check on so many processors, and MiB of memory before and at most."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
    before, start = resident("VmRSS"), time.perf_counter()
    found = examine(read_cohort(folder))
    seconds = time.perf_counter() - start
    assert found.sound
    assert sum(found.images.values()) == n
    return seconds, before, resident("VmHWM")


def resident(field: str) -> float:
    """MiB, from the kernel's account of this process: getrusage would count the parent's peak as well."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measured(n: int, repeats: int) -> list[tuple[str, ...]]:
    """Lines of the table for a cohort of ``n`` files."""
    every = available_processors()
    with tempfile.TemporaryDirectory() as folder:
        write_volumes(Path(folder), n)
        found: dict[int, list[tuple[float, float, float]]] = {1: [], every: []}
        for processors in [*found] * repeats:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                found[processors].append(pool.submit(check, Path(folder), n, processors).result())
    alone = [seconds for seconds, _, _ in found[1]]
    return [
        (
            f"{n:,}",
            str(processors),
            f"{median(seconds for seconds, _, _ in answers):.1f}",
            f"{n / median(seconds for seconds, _, _ in answers):.0f}",
            f"{median(one / seconds for one, (seconds, _, _) in zip(alone, answers, strict=True)):.2f}",
            f"{median(before for _, before, _ in answers):.0f}",
            f"{max(peak for _, _, peak in answers):.0f}",
        )
        for processors, answers in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[500, 5000], help="of each cohort [%(default)s]")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of checks [%(default)s]")
    given = parser.parse_args()
    header = ("files", "processors", "seconds", "files a second", "times as fast as one", "MiB before", "MiB at most")
    lines = [header, ("---",) * len(header), *(line for n in given.files for line in measured(n, given.repeats))]
    megabytes = np.prod(SHAPE) * 2 / 1e6
    print(
        f"Volumes of {' x '.join(map(str, SHAPE))} voxels, {megabytes:.2f} MB each before gzip; {available_processors()} of {hardware()}.\n"
    )
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()

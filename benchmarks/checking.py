"""How fast ``augment check`` reads a cohort of many files, on one processor and on all, and how much memory it takes.

Run as ``python benchmarks/checking.py``. The volumes are noise, gzipped NIfTI, which decompresses as slowly as real ones; they are written
into a temporary folder. Each check is a process of its own; the two of a pair run one after the other, so that another job on the machine
disturbs both alike, and beside each stands what SHA-256 of one array after another gains, in as many threads: what the machine has to give
at that moment. The files are in the system's cache.
"""

import argparse
import hashlib
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

from tinycohort.datasets.check import examine
from tinycohort.datasets.common.compute import hardware
from tinycohort.datasets.common.machine import available_processors
from tinycohort.datasets.readers import read_cohort

SHAPE = (48, 56, 48)
Times = tuple[float, float, float, float]


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


def check(folder: Path, n: int, processors: int) -> Times:
    """Seconds of a check on so many processors, MiB of memory before and at most, and seconds of hashing in so many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
    before, start = resident("VmRSS"), time.perf_counter()
    found = examine(read_cohort(folder))
    seconds = time.perf_counter() - start
    assert found.sound
    assert sum(found.images.values()) == n
    peak, block, start = resident("VmHWM"), bytes(2**25), time.perf_counter()
    with ThreadPoolExecutor(processors) as pool:
        list(pool.map(lambda _: hashlib.sha256(block).digest(), range(40)))
    return seconds, before, peak, time.perf_counter() - start


def resident(field: str) -> float:
    """MiB, from the kernel's account of this process: getrusage would count the parent's peak as well."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measured(n: int, repeats: int) -> list[tuple[str, ...]]:
    """Lines of the table for a cohort of ``n`` files."""
    every = available_processors()
    with tempfile.TemporaryDirectory() as folder:
        write_volumes(Path(folder), n)
        found: dict[int, list[Times]] = {1: [], every: []}
        for processors in [*found] * repeats:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                found[processors].append(pool.submit(check, Path(folder), n, processors).result())
    lines = []
    for processors, answers in found.items():
        seconds, before, peak, _ = zip(*answers, strict=True)
        gained, to_gain = (median(one[i] / answer[i] for one, answer in zip(found[1], answers, strict=True)) for i in (0, 3))
        numbers = (f"{median(seconds):.1f}", f"{n / median(seconds):.0f}", f"{gained:.2f}", f"{to_gain:.2f}")
        lines.append((f"{n:,}", str(processors), *numbers, f"{median(before):.0f}", f"{max(peak):.0f}"))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[500, 5000], help="of each cohort [%(default)s]")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of checks [%(default)s]")
    given = parser.parse_args()
    header = ("files", "processors", "seconds", "files a second", "times as fast as on one", "SHA-256 alone", "MiB before", "MiB at most")
    lines = [header, ("---",) * len(header), *(line for n in given.files for line in measured(n, given.repeats))]
    megabytes = np.prod(SHAPE) * 2 / 1e6
    print(
        f"Volumes of {' x '.join(map(str, SHAPE))} voxels, {megabytes:.2f} MB each before gzip; {available_processors()} of {hardware()}.\n"
    )
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()

"""The paper's tables at their own size, on a card that is there for minutes: each as far as it comes, and further when it is run again.

    python benchmarks/paper_tables.py --oasis $OASIS_CORONAL --mnist $MNIST --weights $INCEPTION --seconds 480 --jobs 6 --out tables
    python benchmarks/paper_tables.py --oasis $OASIS_CORONAL --device cpu --quick --out quick    # does it run at all

What a study has is taken up again, so that several short loans make one long one. How long each took stands in ``seconds.csv``, and what
was computed by then in each study's folder: ``augment report FOLDER`` makes its tables, whether or not it has ended.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tinycohort.datasets.common.compute import hardware

BASELINES = "original,resampled"
SAMPLERS = ("vae:normal", "vae:gmm", "vae:posterior", "vae:riemannian-paper", "vae:riemannian-released", "vae:auto")
DETAILED = "vae:auto+classical detail=mosaic"


@dataclass(frozen=True)
class Table:
    """A study of the paper's, the words of its command, and the most of the time that is left which it may take."""

    name: str
    words: tuple[str, ...]
    share: float


def tables(given: argparse.Namespace) -> list[Table]:
    """Those for which there are data, in the order in which they are wanted."""
    found, runs = [], "1" if given.quick else "20"
    if given.oasis:
        small = ("--steps", "2", "--epochs", "1", "--least-steps", "0", "--channels", "2") if given.quick else ()
        methods = (BASELINES, *SAMPLERS, "vae:riemannian-paper+classical", "vae:auto+classical", DETAILED)
        mode = "synthetic-only n=20" if given.quick else "synthetic-only"
        words = ("evaluate", "--data", given.oasis, "--preset", "paper-oasis", "--size", "176x208", "--protocol", "paper", "--mode", mode)
        found.append(Table("table-2", (*words, "--runs", runs, "--stratum", "age>=60", "--methods", ",".join(methods), *small), 0.7))
    if given.mnist:
        small = ("--epochs", "1", "--channels", "4", "--samples", "50") if given.quick else ("--samples", "10000")
        sizes, features = ("50", "cohort") if given.quick else ("1000,5000,10000,all", "cohort")
        if given.weights:
            features, small = "inception-768,cohort", (*small, "--weights", given.weights)
        words = ("study", "benchmark", "--data", "mnist", "--root", given.mnist, "--sizes", sizes, "--runs", "1" if given.quick else "2")
        found.append(Table("table-1", (*words, "--features", features, *small), 1.0))
    return found


def compute(table: Table, given: argparse.Namespace, seconds: float) -> tuple[float, bool]:
    """Start the study, or go on with it, for so many seconds; how many it took, and whether it has ended."""
    # Where packages were only unpacked there is no command.
    augment = (sys.executable, "-c", "from tinycohort.augment.cli import main; main()")
    command = [*augment, *table.words, "--device", given.device, "--jobs", str(given.jobs), "--out", str(given.out / table.name)]
    start = time.perf_counter()
    try:
        ended = subprocess.run(command, check=False, timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        ended = False
    return time.perf_counter() - start, ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oasis", help="the coronal cohort, as augment takes it by --data; without it no Table 2")
    parser.add_argument("--mnist", help="folder of MNIST's files; without it no Table 1")
    parser.add_argument("--weights", help="of InceptionV3; without them features of the cohort's own classifier alone")
    parser.add_argument("--seconds", type=float, default=480, help="in all [%(default)s]")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time [%(default)s]: with 16 cores 6, which share the card")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="where [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="a step or two of everything")
    parser.add_argument("--out", type=Path, required=True, help="folder of the studies")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    ends, rows, record = time.perf_counter() + given.seconds, [], given.out / "seconds.csv"
    for table in tables(given):
        took, ended = compute(table, given, table.share * (ends - time.perf_counter()))
        rows.append({"table": table.name, "seconds": round(took, 1), "ended": ended, "on": hardware()})
        before = pd.read_csv(record) if record.exists() else pd.DataFrame()
        pd.concat([before, pd.DataFrame(rows[-1:])]).to_csv(record, index=False)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()

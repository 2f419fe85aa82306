"""How much of what is planted does the audit find, and how many honest people does it call copies? On any cohort, without a model.

Of each class a part is held out and stands in for the synthetic images: nobody there is a copy, so who is called one is a false alarm.
Whoever has the image of somebody else, or may be the same person under two names, is left out. The others are planted, in every way that
the audit knows.

    python benchmarks/audit.py $OASIS_CORONAL --size 80x96 --out audit-coronal.csv
    python benchmarks/audit.py $PNEUMONIA/pneumoniamnist.npz --drop-copies --most-people 1000 --out audit-pneumonia.csv
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tinycohort.augment.commands.check import require_sound_cohort
from tinycohort.augment.release.gate import Gate
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.together import groups_of
from tinycohort.datasets.transforms import Preparation, prepare
from tinycohort.experiments.audit.audit import Finding, audit_class
from tinycohort.experiments.audit.material import AuditedClass, People
from tinycohort.experiments.audit.spaces import image_spaces
from tinycohort.experiments.engine.page import markdown_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--root")
    parser.add_argument("--plane")
    parser.add_argument("--size")
    parser.add_argument("--most-people", type=int, default=400, help="of a class; of more, as many drawn by lot")
    parser.add_argument("--drop-copies", action="store_true", help="leave out images that a benchmark with official sides has twice")
    parser.add_argument("--folds", type=int, default=3, help="each is held out once")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="table of the power, one row a kind and class")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    source = Source(given.data, plane=given.plane, root=given.root, drop_copies=given.drop_copies or None)
    cohort, _ = require_sound_cohort(read_cohort(source), sized=True, minimum=1)
    again = {who for group in groups_of(cohort.alike) for who in sorted(group)[1:]}
    cohort = cohort.where(~cohort.table["participant_id"].isin(again).to_numpy())
    size = tuple(map(int, given.size.split("x"))) if given.size else None
    rows = []
    for label in cohort.labels:
        members = cohort.of_class(label)
        rng = np.random.default_rng(given.seed)
        names = rng.permutation(np.unique(np.array(members.people)))[: given.most_people]
        members = members.where(np.isin(np.array(members.people), names))
        images, whose = prepare(members, Preparation(size=size)), np.array(members.people)
        for fold in range(given.folds):
            began = time.monotonic()
            out = np.isin(whose, names[fold :: given.folds])
            held_out, training = (People(images[np.flatnonzero(side)], tuple(whose[side].tolist())) for side in (out, ~out))
            nobody = People(images[np.zeros(0, dtype=int)], ())
            found = audit_class(AuditedClass(label, None, held_out, training, nobody), image_spaces(), Gate(), seed=given.seed + fold)
            rows += told(found, fold)
            alarms = f"{len(found.copies)} of {out.sum()} honest images called copies"
            print(f"{label}, fold {fold}: {alarms}, {time.monotonic() - began:.0f} s", flush=True)
            for row, why in found.copies.items():
                print(f"  {held_out.participants[row]}: {why}", flush=True)
            pd.DataFrame(rows).to_csv(given.out, index=False)
    table = pd.DataFrame(rows).groupby(["kind", "label"], sort=False)[["found", "planted"]].sum()
    told_by_kind = table.apply(lambda row: f"{row['found'] / row['planted']:.0%} of {row['planted']}", axis=1).unstack("label", sort=False)
    print(markdown_table(told_by_kind.reset_index()))


def told(finding: Finding, fold: int) -> list[dict[str, object]]:
    label, honest = finding.audited.label, len(finding.audited.synthetic.participants)
    rows = [{"kind": power.kind, "planted": power.planted, "found": power.found, "right": power.right} for power in finding.power]
    rows.append({"kind": "honest", "planted": honest, "found": len(finding.copies), "right": 0})
    return [{"label": label, "fold": fold, **row} for row in rows]


if __name__ == "__main__":
    main()

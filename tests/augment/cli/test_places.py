"""Where a cohort is, on the command line: by position or by option, once, and told at once if nothing is there."""

import subprocess
import sys

import pytest

from tinycohort.datasets import readers
from tinycohort.datasets.places import NAMED

HEAVY = ("torch", "monai", "nibabel", "pandas", "numpy")
NOWHERE = (
    *(["check", "no-such"], ["fit", "no-such"], ["fit", "--data", "no-such"], ["evaluate", "no-such"]),
    *(["evaluate", "demo", "--test-data", "no-such"], ["generate", "no-such"], ["interpolate", "model", "--data", "no-such"]),
    *(["show", "no-such"], ["fidelity", "no-such", "other"], ["audit", "no-such"], ["study", "low-data", "--data", "no-such"]),
    ["verify", "model", "--data", "no-such"],
)


def test_the_names_of_cohorts_are_told_without_their_readers():
    assert tuple(readers.NAMES) == NAMED


@pytest.mark.parametrize("words", NOWHERE, ids=" ".join)
def test_a_path_that_is_not_there_is_told_before_anything_heavy_is_imported(words):
    code = f"""
import sys
from tinycohort.augment import cli
sys.argv = ["augment", *{words!r}]
try:
    cli.main()
except SystemExit as end:
    print(end.code, *(name for name in {HEAVY!r} if name in sys.modules))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "3\n"
    assert answer.stderr.startswith("Error: There is no file or folder no-such, and no cohort of that name")


def test_a_cohort_is_given_by_position_or_option_once(augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "study.npz")
    assert augment("check", data).code == augment("check", "--data", data).code == augment("check", data, "--data", data).code == 0
    refused = augment("check", data, "--data", "demo")
    assert refused.code == 2
    assert f"The cohort is given twice, as {data} and as --data demo; give it once." in refused.err


def test_a_position_is_where_the_data_are(augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "study.npz")
    words = ("--class", "AD", "--latent-dim", 2, "--channels", 2, "--epochs", 2)
    assert augment("fit", data, *words, "--out", tmp_path / "models").code == 0
    data.rename(tmp_path / "moved.npz")
    made = augment("generate", tmp_path / "moved.npz", "--models", tmp_path / "models", "-n", 2, "--out", tmp_path / "made")
    assert made.code == 0
    assert "as decoded" not in made.words  # the training images, which detail is of, were found
    assert augment("generate", tmp_path / "moved.npz", "--sampler", "morph", "-n", 2, "--out", tmp_path / "morphs").code == 0


def test_classes_are_left_out_by_every_command(augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "study.npz", counts={"AD": 10, "CN": 12, "MCI": 3})
    assert augment("check", data).code == 3
    assert augment("check", data, "--classes", "AD,CN").code == 0
    words = ("--latent-dim", 2, "--channels", 2, "--epochs", 2, "--out", tmp_path / "models")
    assert augment("fit", data, "--classes", "AD,CN", *words).code == 0
    assert sorted(path.name for path in (tmp_path / "models").iterdir() if path.is_dir()) == ["AD", "CN"]
    assert augment("generate", "--models", tmp_path / "models", "-n", 2, "--out", tmp_path / "made").code == 0

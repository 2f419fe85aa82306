"""Whatever a reader is given, there is a result or one of our errors: never another exception, a hang, or memory that was only claimed.

Each reader gets sound inputs with parts replaced, which reach deep, and inputs with bytes changed anywhere. A few are tried always, and
thousands in the slow suite.
"""

import copy
import gzip
import io
import json
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from folders import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_studies import write_study

from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.fitting.model_config import MetricSettings
from tinycohort.augment.fitting.plan import FitPlan
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.augment.samplers.registry import read_sampler_settings
from tinycohort.datasets.check import examine
from tinycohort.datasets.common.custody import require_intact, seal
from tinycohort.datasets.common.errors import TinycohortError
from tinycohort.datasets.common.files import MANIFEST
from tinycohort.datasets.image_checks import look_at
from tinycohort.datasets.images import files_of, memory_to_read, notes_of, read_image
from tinycohort.datasets.layouts.benchmark_files import read_idx
from tinycohort.datasets.layouts.walk import images_below
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import Split, split_cohort
from tinycohort.datasets.synthetic_mark import is_marked
from tinycohort.datasets.transforms import Preparation
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.engine.study_folder import all_runs, read_config
from tinycohort.experiments.publish import publish

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="hangs and memory are told otherwise there")
SECONDS = 60  # that one input may take on a busy machine

# What inputs are made of.

NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 2**15, 2**31, 2**63, 10**30, 10**400, 1e-320, 1e308]),
    st.floats(allow_nan=True, allow_infinity=True),
)
TELLING = ["", "n/a", "nan", "inf", "0", "007", "-1", "1e999", "true", "AD", "train", "sub-01", "01", "../x", "/etc/passwd", '"', "a\nb"]
WORDS = st.one_of(st.text(max_size=20), st.sampled_from(TELLING))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)
GONE = object()
EDITS = st.lists(st.tuples(st.integers(0, 10**6), st.one_of(st.just(GONE), VALUES)), min_size=1, max_size=3)
# Bytes to change, most of them in the header, and how much is kept.
FLIPS = st.tuples(
    st.lists(st.tuples(st.one_of(st.integers(0, 400), st.integers(0, 10**6)), st.integers(0, 255)), min_size=0, max_size=6),
    st.one_of(st.just(1.0), st.floats(0, 1)),
)


def paths_in(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where something stands in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key)
        yield from paths_in(part, (*path, key))


def edited(sound: Any, edits: list[tuple[int, Any]]) -> Any:
    content = copy.deepcopy(sound)
    for number, value in edits:
        places = list(paths_in(content))
        if not places:
            return content
        *parents, key = places[number % len(places)]
        place = content
        for parent in parents:
            place = place[parent]
        if value is GONE:
            del place[key]
        else:
            place[key] = value
    return content


def changed(content: bytes, flips: tuple[list[tuple[int, int]], float]) -> bytes:
    changes, share = flips
    result = bytearray(content)
    for place, value in changes:
        if result:
            result[place % len(result)] = value
    return bytes(result[: round(share * len(result))])


def table(header: list[str], rows: list[list[str]], separator: str) -> bytes:
    return "".join(separator.join(row) + "\n" for row in (header, *rows)).encode()


def tables(names: list[str], values: list[str]) -> st.SearchStrategy[bytes]:
    """Tables with the columns that count, cells that count or are anything, and lines of any length."""
    cells, n = st.one_of(st.sampled_from(values), WORDS), len(names)
    anything = st.lists(st.lists(cells, min_size=1, max_size=6), max_size=8)
    header = st.lists(st.one_of(st.sampled_from(names), WORDS), min_size=1, max_size=6)
    right = st.lists(st.lists(cells, min_size=n, max_size=n), max_size=8)
    return st.one_of(
        st.builds(table, header, anything, st.sampled_from("\t,;")),
        st.builds(table, st.permutations(names), right, st.just("\t")),
        st.binary(max_size=200),
    )


# The readers: for each, inputs and what is done with one.

Reader = tuple[st.SearchStrategy, Callable[[Any], object]]


def config_json(folder, fakes, studies) -> Reader:
    model = shutil.copytree(studies["pictures"].models / "AD", folder / "AD")
    sound = json.loads((model / "config.json").read_text())

    def read(edits):
        (model / "config.json").write_text(json.dumps(edited(sound, edits)))
        seal(model)
        generate_cohort(GenerationRequest(model, [], n=1, sampler="normal"), folder / "out", force=True)

    return EDITS, read


def model_files(folder, fakes, studies) -> Reader:
    model = shutil.copytree(studies["pictures"].models / "AD", folder / "AD")
    sound = {path.name: path.read_bytes() for path in model.iterdir() if path.suffix in (".safetensors", ".json", ".csv")}

    def read(example):
        name, flips = example
        for other, content in sound.items():
            (model / other).write_bytes(changed(content, flips) if other == name else content)
        seal(model)
        generate_cohort(GenerationRequest(model, [], n=1, sampler="normal"), folder / "out", force=True)

    return st.tuples(st.sampled_from(sorted(sound)), FLIPS), read


def participants_tsv(folder, fakes, studies) -> Reader:
    fakes.pictures(folder)

    def read(content):
        (folder / "participants.tsv").write_bytes(content)
        cohort = read_cohort(folder)
        examine(cohort)
        split_cohort(cohort, seed=0)

    names = ["participant_id", "diagnosis", "image", "age", "sex", "session_id", "split", "synthetic", "label", "image_id"]
    values = [*fakes.people, "AD", "CN", "70", "M"]
    return tables(names[:6], [*values, "images/01.png"]) | tables(names, [*values, "train", "test"]), read


def oasis_table(folder, fakes, studies) -> Reader:
    fakes.oasis(folder)

    def read(content):
        (folder / "oasis_cross-sectional.csv").write_bytes(content)
        examine(read_cohort(folder))

    names = ["ID", "M/F", "Hand", "Age", "CDR", "Delay"]
    people = ["OAS1_9001_MR1", "OAS1_9003_MR1", "OAS1_9061_MR1", "OAS1_9061_MR2", "OAS1_9061"]
    return tables(names, [*people, "0", "0.5", "F", "74", "N/A"]), read


FIELDS = [nib.Nifti1Header.template_dtype.fields[name] for name in nib.Nifti1Header.template_dtype.names]


def as_field(value, kind: np.dtype) -> bytes:
    """A number, as near as its field can hold it; or bytes."""
    if not isinstance(value, bytes):
        if kind.kind == "f":
            value = struct.pack("<d" if kind.itemsize == 8 else "<f", max(-3e38, min(3e38, value)))
        else:
            value = (int(value) if isinstance(value, int) or np.isfinite(value) else -1).to_bytes(600, "little", signed=True)
    return value[: kind.itemsize].ljust(kind.itemsize, b"\0")


def nifti_header(folder, fakes, studies) -> Reader:
    content = gzip.decompress(fakes.volume(folder / "a.nii.gz", fakes.voxels(1)).read_bytes())
    pair = fakes.volume(folder / "b.img", fakes.voxels(1))
    header, voxels = pair.with_suffix(".hdr").read_bytes(), pair.read_bytes()

    def read(example):
        form, fields, extension, flips = example
        block = bytearray(header if form == ".img" else content)
        for place, element, value in fields:
            kind, offset = FIELDS[place % len(FIELDS)][:2]
            size = kind.base.itemsize
            start = offset + size * (element % (kind.itemsize // size))
            block[start : start + size] = as_field(value, kind.base)
        if form != ".img" and extension:
            block[348:352] = b"\1\0\0\0"
            block[352 : 352 + len(extension)] = extension
        result = changed(bytes(block), flips)
        path = folder / f"x{form}"
        if form == ".img":
            path.with_suffix(".hdr").write_bytes(result)
            path.write_bytes(voxels)
        else:
            path.write_bytes(gzip.compress(result, 1) if form == ".nii.gz" else result)
        is_marked(path)
        look_at(*read_image(path))

    values = st.one_of(NUMBERS, st.binary(min_size=1, max_size=16))
    fields = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 10), values), max_size=4)
    return st.tuples(st.sampled_from([".nii", ".nii.gz", ".img"]), fields, st.binary(max_size=24), FLIPS), read


def picture(folder, fakes, studies) -> Reader:
    sound = {kind: fakes.picture(folder / f"sound{kind}", 1, (40, 30)).read_bytes() for kind in (".png", ".jpg", ".tif", ".bmp")}

    def read(example):
        kind, flips = example
        path = folder / f"a{kind}"
        path.write_bytes(changed(sound[kind], flips))
        is_marked(path)
        look_at(*read_image(path))

    return st.tuples(st.sampled_from(sorted(sound)), FLIPS), read


def dicom_series(folder, fakes, studies) -> Reader:
    """A series with a slice whose header has other values, or whose bytes are others."""
    made = fakes.series(folder / "AD/P01", fakes.voxels(1, (4, 5, 3)))
    first = min(made.iterdir())
    sound = first.read_bytes()
    names = [element.keyword for element in pydicom.dcmread(first) if element.keyword != "PixelData"] + ["NumberOfFrames", "RescaleSlope"]

    def read(example):
        edits, flips = example
        content = sound
        if edits:
            one = pydicom.dcmread(io.BytesIO(sound))
            for number, value in edits:
                with suppress(Exception):  # what the library itself does not write
                    setattr(one, names[number % len(names)], value)
            written = io.BytesIO()
            with suppress(Exception):
                one.save_as(written)
                content = written.getvalue()
        first.write_bytes(changed(content, flips))
        notes_of(made)
        memory_to_read(made)
        images_below(folder)
        look_at(*read_image(made))

    values = st.one_of(st.none(), NUMBERS, WORDS, st.lists(NUMBERS, max_size=6))
    return st.tuples(st.lists(st.tuples(st.integers(0, 100), values), max_size=3), FLIPS), read


RAW = {
    "a.mha": b"NDims = 3\nDimSize = 4 5 6\nElementType = MET_SHORT\nElementSpacing = 1 2 3\nOffset = 1 2 3\n"
    b"CompressedData = True\nElementDataFile = LOCAL\n",
    "a.nrrd": b"NRRD0004\ntype: short\ndimension: 3\nspace: LPS\nsizes: 4 5 6\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n"
    b"encoding: gzip\nendian: little\nspace origin: (1,2,3)\n\n",
}


def raw_volume(folder, fakes, studies) -> Reader:
    voxels = fakes.voxels(1, (4, 5, 6)).astype("<i2").tobytes()
    sound = {"a.mha": RAW["a.mha"] + zlib.compress(voxels), "a.nrrd": RAW["a.nrrd"] + gzip.compress(voxels)}

    def read(example):
        name, words, flips = example
        lines = sound[name].split(b"\n")
        for number, word in words:
            place = number % 7
            head, mark, _ = lines[place].partition(b"=" if name == "a.mha" else b": ")
            lines[place] = head + mark + word.encode(errors="surrogatepass")
        (folder / name).write_bytes(changed(b"\n".join(lines), flips))
        memory_to_read(folder / name)
        files_of(folder / name)
        look_at(*read_image(folder / name))

    words = st.one_of(WORDS, NUMBERS.map(str), st.lists(NUMBERS, min_size=2, max_size=4).map(lambda row: " ".join(map(str, row))))
    return st.tuples(st.sampled_from(sorted(sound)), st.lists(st.tuples(st.integers(0, 20), words), max_size=3), FLIPS), read


def spreadsheet(folder, fakes, studies) -> Reader:
    openpyxl = pytest.importorskip("openpyxl", reason="the extra xlsx is not installed")
    fakes.pictures(folder)
    (folder / "participants.tsv").unlink()
    book = openpyxl.Workbook()
    for row in (["participant_id", "diagnosis", "age"], *([name, label, 70] for name, label in fakes.people.items())):
        book.active.append(row)
    book.save(folder / "people.xlsx")
    sound = (folder / "people.xlsx").read_bytes()
    with zipfile.ZipFile(folder / "people.xlsx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def read(example):
        name, flips = example
        if name in members:
            with zipfile.ZipFile(folder / "people.xlsx", "w") as archive:
                for member, content in members.items():
                    archive.writestr(member, changed(content, flips) if member == name else content)
        else:
            (folder / "people.xlsx").write_bytes(changed(sound, flips))
        examine(read_cohort(folder))

    return st.tuples(st.sampled_from(["whole", *sorted(members)]), FLIPS), read


def idx_file(folder, fakes, studies) -> Reader:
    def read(example):
        magic, dims, body, packed, flips = example
        content = bytes(magic) + b"".join(struct.pack(">I", side) for side in dims) + body
        path = folder / ("a.gz" if packed else "a")
        path.write_bytes(changed(gzip.compress(content, 1) if packed else content, flips))
        read_idx(path, 3)

    magic = st.one_of(st.just((0, 0, 8, 3)), st.tuples(*[st.integers(0, 255)] * 4))
    side = st.one_of(st.integers(0, 6), st.integers(0, 2**32 - 1))
    return st.tuples(magic, st.lists(side, min_size=2, max_size=4), st.binary(max_size=120), st.booleans(), FLIPS), read


def npz_file(folder, fakes, studies) -> Reader:
    sound = {name: fakes.arrays(folder / f"{name}.npz").read_bytes() for name in ("sound",)}
    with np.load(folder / "sound.npz", allow_pickle=False) as arrays:
        np.savez_compressed(folder / "packed.npz", **arrays)
    sound["packed"] = (folder / "packed.npz").read_bytes()

    def read(example):
        name, flips = example
        (folder / "a.npz").write_bytes(changed(sound[name], flips))
        examine(read_cohort(folder / "a.npz"))

    return st.tuples(st.sampled_from(sorted(sound)), FLIPS), read


def array_types(folder, fakes, studies) -> Reader:
    """Arrays of any type and shape under the names that are read."""

    def read(content):
        np.savez(folder / "a.npz", **content)
        examine(read_cohort(folder / "a.npz"))

    kinds = hnp.scalar_dtypes() | hnp.array_dtypes(max_size=2)
    arrays = kinds.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    arrays |= st.binary(min_size=1, max_size=6).map(lambda content: np.frombuffer(content, dtype="V1"))
    names = ("images", "labels", "participants", "synthetic", "train_images", "train_labels", "val_images", "val_labels")
    return st.dictionaries(st.sampled_from(names), arrays, max_size=5), read


def description(folder, fakes, studies) -> Reader:
    fakes.bids(folder)
    sound = json.loads((folder / "dataset_description.json").read_text()) | {"Synthetic": False, "Manifest": ""}

    def read(edits):
        (folder / "dataset_description.json").write_text(json.dumps(edited(sound, edits)))
        examine(read_cohort(folder))

    return EDITS, read


def manifest(folder, fakes, studies) -> Reader:
    (folder / "a").write_text("a")
    (folder / "b").mkdir()
    seal(folder)
    digests = st.sampled_from(["0" * 64, "0" * 63, (folder / MANIFEST).read_text()[:64]])
    lines = st.builds("{}  {}".format, digests, st.one_of(WORDS, st.sampled_from("ab")))

    def read(content):
        (folder / MANIFEST).write_bytes(content)
        require_intact(folder)

    return st.one_of(st.lists(st.one_of(lines, WORDS)).map(lambda parts: "\n".join(parts).encode()), st.binary()), read


def split_json(folder, fakes, studies) -> Reader:
    cohort = read_cohort(fakes.study(folder / "study.npz"))
    split_cohort(cohort, seed=0).save(folder / "sound.json")
    sound = json.loads((folder / "sound.json").read_text())

    def read(edits):
        (folder / "split.json").write_text(json.dumps(edited(sound, edits)))
        Split.load(folder / "split.json", cohort).side(cohort, "train")

    return EDITS, read


def study(folder, fakes, studies) -> Reader:
    made = write_study(folder / "study", old=True)
    sound = next((made / "runs").glob("*covariates*.json"))
    run, config = json.loads(sound.read_text()), (made / "config.toml").read_bytes()
    shutil.rmtree(made / "runs")

    def read(example):
        edits, flips = example
        (made / "config.toml").write_bytes(changed(config, flips))
        (made / "runs").mkdir(exist_ok=True)
        sound.write_text(json.dumps(edited(run, edits)))
        read_config(made)
        all_runs(made)

    return st.tuples(EDITS, FLIPS), read


def published_study(folder, fakes, studies) -> Reader:
    publish(write_study(folder / "study"), folder / "published")
    results = (folder / "published/results.csv").read_bytes()

    def read(flips):
        (folder / "published/results.csv").write_bytes(changed(results, flips))
        write_report(folder / "published")

    return FLIPS, read


def settings_of_a_fit(folder, fakes, studies) -> Reader:
    """Numbers as options give them, each of which is held against what the machine has before anything is made."""
    cohort = read_cohort(fakes.study(folder / "study.npz"))
    split = split_cohort(cohort, seed=0)

    def read(example):
        size, latent_dim, channels, batch_size, length, metric, setting = example
        settings = FitSettings(
            latent_dim=latent_dim,
            channels=channels,
            preparation=Preparation(size=size),
            training=TrainingSettings(batch_size=batch_size, **length),
            metric=MetricSettings(**metric),
        )
        read_sampler_settings("riemannian", [setting])
        plan = FitPlan(cohort, split, "AD", settings)
        plan.require_memory()
        assert plan.schedule.epochs >= 1

    # What lies between, the machine may grant: more than this test may take.
    whole = NUMBERS.filter(lambda value: isinstance(value, int) and not 64 < value < 2**24)
    small = st.integers(1, 64)
    size = st.none() | st.tuples(st.integers(8, 64), st.integers(8, 64) | whole) | st.lists(whole, min_size=1, max_size=4).map(tuple)
    names = st.sampled_from(["lam", "tau", "rho", "rho_scale"])
    written = st.builds("{}={}".format, st.sampled_from(["reach", "holds", "n_iterations"]), NUMBERS | WORDS)
    number = small | whole
    length = st.dictionaries(st.sampled_from(["epochs", "steps", "patience", "stop_after"]), number, max_size=2)
    return st.tuples(size, number, number, number, length, st.dictionaries(names, NUMBERS, max_size=2), written), read


READERS = (
    *(config_json, model_files, participants_tsv, oasis_table, nifti_header, picture, dicom_series, raw_volume, spreadsheet),
    *(idx_file, npz_file, array_types, description, manifest, split_json, study, published_study),
    settings_of_a_fit,
)


MANY = 3000  # inputs of each reader in the slow suite


def test_the_documentation_tells_how_many_inputs_are_tried():
    told = f"{len(READERS)} readers {MANY:,} inputs each, {MANY * len(READERS):,} together"
    assert told in (ROOT / "docs/guide/faults.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("n", [pytest.param(12, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_every_input_gives_a_result_or_one_of_our_errors(reader, n, fakes, studies, bounded, tmp_path):
    inputs, read = reader(tmp_path, fakes, studies)
    outcomes = {"read": 0, "refused": 0}

    @settings(max_examples=n, deadline=None, database=None, derandomize=n < 100, suppress_health_check=list(HealthCheck))
    @given(inputs)
    def attempt(example):
        # Each by itself: what hypothesis keeps of thousands of inputs is memory too.
        with bounded(SECONDS):
            try:
                read(example)
                outcomes["read"] += 1
            except TinycohortError:
                outcomes["refused"] += 1

    attempt()
    assert sum(outcomes.values()) >= n

"""What a stranger's model, cohort or study can try: each is refused in one sentence, takes no memory, runs nothing, and leaves its folder.

Damage that is no attack stands in test_model.py, test_check.py, test_readers.py and test_benchmarks.py, inputs at random in test_fuzz.py.
"""

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
import pydicom
import pytest
from made_studies import write_study
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.fitting.model import FittedModel
from tinycohort.datasets.check import examine
from tinycohort.datasets.cohort import CohortError
from tinycohort.datasets.common.custody import seal
from tinycohort.datasets.common.errors import DataError, TinycohortError, printable
from tinycohort.datasets.common.files import MANIFEST
from tinycohort.datasets.layouts.benchmark_files import read_idx
from tinycohort.datasets.layouts.participants import read_subjects
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.engine.study_folder import read_config

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and the memory of a process are told otherwise there")
CANARY = "hacked"


class Bomb:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


@pytest.fixture(autouse=True)
def _watched(frugal, monkeypatch, tmp_path):
    """No attack may take the memory that it claims, wait for ever, or run anything."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob(CANARY))


# Models.


def edited(folder, **changes):
    """A configuration that its author has sealed; ``a__b`` is b in a."""
    content = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        place, *keys = content, *name.split("__")
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    (folder / "config.json").write_text(json.dumps(content))
    seal(folder)


_listeners: list[list[str]] = []  # an audit hook cannot be taken away again


def _listen(event, arguments):
    if event == "open" and _listeners and isinstance(arguments[0], str | bytes):
        _listeners[-1].append(os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(_listen)


@contextmanager
def opened_files():
    """The files that Python opens inside the block, links followed."""
    _listeners.append([])
    try:
        yield _listeners[-1]
    finally:
        _listeners.pop()


def safetensors(header: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if claimed is None else claimed) + header


def terabytes() -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()


def overwritten(file, content):
    def attack(folder):
        (folder / file).write_bytes(content)
        seal(folder)

    return attack


def linked(file):
    """A file of the victim's, in place of one of the model's; without a manifest, as in models of earlier formats."""

    def attack(folder):
        old = json.loads((folder / "config.json").read_text()) | {"format": 2}
        (folder / "config.json").write_text(json.dumps({key: value for key, value in old.items() if key not in ("laws", "threads")}))
        (folder / MANIFEST).unlink()
        outside = folder.parent / f"outside-{file}"
        (folder / file).rename(outside)
        (folder / file).symlink_to(outside)

    return attack


def piped(file):
    def attack(folder):
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return attack


def lawless(sampler, **settings):
    """A law with settings that nobody has chosen; it is the one that is drawn from."""

    def attack(folder):
        laws = json.loads((folder / "config.json").read_text())["laws"]
        for law in laws["laws"]:
            if law["sampler"] == sampler:
                law["settings"] |= settings
        edited(folder, laws=laws | {"chosen": sampler})

    return attack


def beyond_numbers(name):
    """Numbers of the metric that float32 holds, and whose products it does not."""

    def attack(folder):
        with safe_open(folder / "metric.safetensors", "pt") as file:
            values = file.metadata()
        arrays = load_file(folder / "metric.safetensors")
        arrays[name][0], arrays[name][1:] = 3e38, 1e38
        save_file(arrays, folder / "metric.safetensors", values)
        seal(folder)

    return attack


MODELS = {
    "pickled weights": overwritten("model.safetensors", pickle.dumps(Bomb())),
    "pickled weights in a zip, as torch.save writes them": lambda folder: (
        shutil.make_archive(str(folder / "model"), "zip", folder),
        (folder / "model.zip").rename(folder / "model.safetensors"),
        seal(folder),
    ),
    "a pickle for a configuration": overwritten("config.json", pickle.dumps(Bomb())),
    "a model of a class that is given by name": lambda folder: edited(folder, model="os:system"),
    "images of a terabyte": lambda folder: edited(folder, architecture__shape=[2**20, 2**18], space__shape=[2**20, 2**18]),
    "a network of a terabyte": lambda folder: edited(folder, architecture__channels=2**17),
    "a network of gigabytes": lambda folder: edited(folder, architecture__channels=2**12),
    "latents of a terabyte": lambda folder: edited(folder, architecture__latent_dim=2**30),
    "a flow without end": lambda folder: edited(folder, model="vae-nf", model_settings={"length": 10**9}),
    "a header of safetensors of an exabyte": overwritten("model.safetensors", safetensors(b"{}", 2**60)),
    "weights of a terabyte": overwritten("model.safetensors", safetensors(terabytes())),
    "latents that the file does not hold": overwritten("latents.safetensors", safetensors(terabytes())),
    "a configuration nested without end": overwritten("config.json", b'{"format":' + b"[" * 10**6),
    "a number without end": overwritten("config.json", b'{"format": 1' + b"0" * 10**6 + b"}"),
    "a law of a billion people at a time": lawless("riemannian", crowding=10**9),
    "a law without an end": lawless("riemannian", width=1e300),
    "kernels without a width": lawless("kde", width=1e-300),
    "a mixture of a billion": lawless("mixture", n_components=10**9),
    **{f"{file}, a link": linked(file) for file in ("config.json", "model.safetensors", "latents.safetensors", "history.csv")},
    **{f"{file}, a pipe": piped(file) for file in ("config.json", "model.safetensors", MANIFEST)},
    "a metric beyond all numbers": beyond_numbers("centroids"),
    "precisions beyond all numbers": beyond_numbers("precisions"),
    "a manifest of empty lines": lambda folder: (folder / MANIFEST).write_bytes(b"\n" * 2**26),
    "a manifest of gigabytes": lambda folder: os.truncate(folder / MANIFEST, 2**32),
    "an older format, whose models have no manifest": lambda folder: (edited(folder, format=1), (folder / MANIFEST).unlink()),
    "a format that is true": lambda folder: edited(folder, format=True),
    "a manifest that leads out": lambda folder: (folder / MANIFEST).write_text(f"{'0' * 64}  ../../../../etc/passwd\n"),
}


@pytest.fixture
def model(studies, tmp_path):
    return shutil.copytree(studies["pictures"].models / "AD", tmp_path / "AD")


@pytest.mark.parametrize("attack", MODELS)
def test_models(model, attack):
    MODELS[attack](model)
    with pytest.raises(DataError) as told, opened_files() as opened:
        FittedModel.load(model)
    assert "\n" not in str(told.value)
    assert not [path for path in opened if "outside" in path]


@pytest.mark.parametrize(
    "settings", [{"log_threshold": 1e300}, {"log_threshold": -1e300}, {"width": 1e3}, {"width": 1e-3}, {"crowding": 10}]
)
def test_a_law_within_its_bounds_ends(model, tmp_path, settings):
    lawless("riemannian", **settings)(model)
    generate_cohort(GenerationRequest(model, [], n=300, file_format="png"), tmp_path / "cohort")
    assert len(list((tmp_path / "cohort/images").iterdir())) == 300


@pytest.mark.parametrize("label", ["../../out", "/tmp/out", "..", "a/b", "\x1b[2J", "<script>"])
def test_a_class_leads_nowhere(model, tmp_path, label):
    edited(model, label=label)
    before = {path for path in tmp_path.rglob("*") if "cohort" not in path.name}
    generate_cohort(GenerationRequest(model, [], n=2, sampler="normal", file_format="png"), tmp_path / "cohort")
    after = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "cohort") and "cohort" not in path.name}
    assert after == before
    assert len(list((tmp_path / "cohort/images").iterdir())) == 2
    assert set(read_cohort(tmp_path / "cohort").table["label"]) == {label}


# Cohorts.


def zeros(n_bytes: int) -> bytes:
    """Gzipped zeros: a thousandth of their size, by repeating a member, which gzip allows."""
    member = gzip.compress(bytes(2**24))
    return member * (n_bytes // 2**24)


def header(shape, kind=np.uint8, offset=352.0, extension=b"\0\0\0\0", slope=1.0, inter=0.0) -> bytes:
    import nibabel as nib

    plain = nib.Nifti1Header()
    plain.set_data_dtype(kind)
    plain.set_data_shape(shape)
    plain["vox_offset"] = offset
    plain["magic"] = b"n+1"
    plain["scl_slope"], plain["scl_inter"] = slope, inter
    return plain.binaryblock + extension


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = [(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)), *chunks, (b"IEND", b"")]
    framed = (struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


FIRST_VOLUME, FIRST_PICTURE = "sub-01/anat/sub-01_T1w.nii.gz", "images/01.png"


def replaced(kind, content, name=None):
    """The first image of a cohort, overwritten; by its bytes, or by a function that gives them."""

    def attack(fakes, folder):
        getattr(fakes, kind)(folder)
        first = folder / (FIRST_VOLUME if kind == "bids" else FIRST_PICTURE)
        first.unlink()
        (first.parent / (name or first.name)).write_bytes(content() if callable(content) else content)

    return attack


def named(path):
    """A table that names an image of the victim's."""

    def attack(fakes, folder):
        fakes.pictures(folder)
        shutil.copyfile(folder / "images/01.png", folder.parent / "private.png")
        images = [path.format(parent=folder.parent), *(f"images/0{n}.png" for n in range(2, 7))]
        fakes.participants(folder / "participants.tsv", image=images)

    return attack


def links(kind, name, target="private"):
    """A file that is a link out of the folder."""

    def attack(fakes, folder):
        getattr(fakes, kind)(folder)
        (folder / name).rename(folder.parent / target)
        (folder / name).symlink_to(folder.parent / target)

    return attack


def linked_folder(fakes, folder):
    fakes.bids(folder)
    (folder / "sub-01").rename(folder.parent / "private")
    (folder / "sub-01").symlink_to(folder.parent / "private", target_is_directory=True)


def linked_sidecar(fakes, folder):
    fakes.bids(folder)
    (folder.parent / "private").write_text('{"SkullStripped": true}')
    (folder / FIRST_VOLUME).with_name("sub-01_T1w.json").symlink_to(folder.parent / "private")


def pipe(kind, name):
    def attack(fakes, folder):
        getattr(fakes, kind)(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return attack


def undecodable(fakes, folder):
    """A name that is no text."""
    fakes.pictures(folder)
    os.rename(bytes(folder / FIRST_PICTURE), bytes(folder / "images") + b"/01_\xff\x1b[2J.png")  # noqa: PTH104
    (folder / "images").joinpath("02.png").unlink()


def series(attack):
    """A cohort of DICOM series in folders of classes, whose first series something is done to."""

    def attacked(fakes, folder):
        for number in range(4):
            label = "AD" if number % 2 else "CN"
            fakes.series(folder / f"{label}/{label}{number}", fakes.voxels(number))
        attack(fakes, folder / "AD/AD1")

    return attacked


def claims_rows(fakes, folder):
    for file in folder.iterdir():
        one = pydicom.dcmread(file)
        one.Rows = one.Columns = 65535
        one.save_as(file)


def slice_elsewhere(name):
    def attack(fakes, folder):
        (folder / "003.dcm").rename(folder.parents[2] / "private")
        (folder / name).symlink_to(folder.parents[2] / "private")

    return attack


def class_elsewhere(fakes, folder):
    (folder / "003.dcm").rename(folder / "003")  # known by its content alone, which is not looked at
    folder.parent.rename(folder.parents[2] / "private")
    folder.parent.symlink_to(folder.parents[2] / "private", target_is_directory=True)


def mha(packing, body, sides="8 9 10", data="LOCAL") -> bytes:
    head = f"NDims = 3\nDimSize = {sides}\nElementType = MET_SHORT\nCompressedData = {packing}\nElementDataFile = {data}\n"
    return head.encode() + body


def nrrd(encoding, body, sides="8 9 10") -> bytes:
    return f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sides}\nencoding: {encoding}\nendian: little\n\n".encode() + body


def linked_voxels(fakes, folder):
    fakes.pictures(folder)
    (folder / "images/01.png").unlink()
    (folder.parent / "private").write_bytes(bytes(1440))
    (folder / "images/01.mhd").write_bytes(mha(False, b"", data="01.raw"))
    (folder / "images/01.raw").symlink_to(folder.parent / "private")


def spreadsheet_bomb(fakes, folder):
    fakes.pictures(folder)
    (folder / "participants.tsv").unlink()
    with zipfile.ZipFile(folder / "people.xlsx", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/workbook.xml", "w") as member:
        for _ in range(1024):
            member.write(bytes(2**20))


def tiff(width, height) -> bytes:
    """The header of a TIFF of one strip that holds nothing."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, width * height % 2**32)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


COHORTS = {
    # Claims that the file does not hold, and files that are far larger than they claim.
    "a NIfTI of terabytes": (replaced("bids", header((30000, 30000, 30000)) + b"0" * 500, "sub-01_T1w.nii"), "truncated"),
    "a NIfTI of terabytes, gzipped": (replaced("bids", gzip.compress(header((30000, 30000, 30000)))), "truncated"),
    "a NIfTI whose gzip stream is a bomb": (
        replaced("bids", lambda: gzip.compress(header((8, 9, 10))) + zeros(2**31)),
        "bytes or more when it is decompressed",
    ),
    "a NIfTI whose extension is a bomb": (
        replaced("bids", lambda: gzip.compress(header((8, 9, 10), offset=2.0**31, extension=b"\1\0\0\0") + bytes(8)) + zeros(2**31)),
        "a header of",
    ),
    "a NIfTI whose extension has no end": (
        replaced("bids", lambda: gzip.compress(header((8, 9, 10), offset=1024.0, extension=b"\1\0\0\0") + bytes(8)) + zeros(2**31)),
        "bytes or more when it is decompressed",
    ),
    "a NIfTI of zeros, all of them there": (
        replaced("bids", lambda: gzip.compress(header((1024, 1024, 1024))) + zeros(2**30)),
        "1024 x 1024 x 1024 voxels, for which this machine has no memory",
    ),
    "a NIfTI with an offset that is no number": (replaced("bids", gzip.compress(header((8, 9, 10), offset=np.nan) + bytes(720))), ""),
    **{
        f"a NIfTI whose {name} is {value}": (
            replaced("bids", gzip.compress(header((8, 9, 10), **{name: value}) + bytes(range(144)) * 5)),
            f"scl_{name} is {value}, so nobody knows its intensities",
        )
        for name, value in (("slope", np.nan), ("slope", np.inf), ("slope", -np.inf), ("inter", np.nan), ("inter", np.inf))
    },
    "a description with half a character": (
        lambda fakes, folder: (fakes.bids(folder) / "dataset_description.json").write_text('{"Name": "\\ud800"}'),
        "a lone surrogate",
    ),
    "a table of lines": (
        lambda fakes, folder: (fakes.bids(folder) / "participants.tsv").write_text("participant_id\tdiagnosis\n" + "\n" * 2**25),
        "33,554,434 fields or empty lines, more than 10,000,000",
    ),
    "a table of gigabytes": (lambda fakes, folder: os.truncate(fakes.bids(folder) / "participants.tsv", 2**32), "more than the 67108864"),
    "a header of a pair of gigabytes": (
        lambda fakes, folder: (fakes.pairs(folder), os.truncate(folder / "images/01.hdr", 2**33)),
        "a header of 8589934592 bytes",
    ),
    "a PNG of gigabytes": (replaced("pictures", png(60000, 60000, (b"IDAT", bytes(10)))), "unreadable (Image size"),
    "a PNG beyond the memory": (replaced("pictures", png(13000, 13000, (b"IDAT", bytes(10)))), "for which this machine has no memory"),
    "a PNG whose pixels are not there": (replaced("pictures", png(5000, 5000, (b"IDAT", bytes(10)))), "do not fit the file"),
    "a PNG whose text is a bomb": (
        replaced("pictures", lambda: png(12, 10, (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28))), (b"IDAT", zlib.compress(bytes(130))))),
        "unreadable",
    ),
    "a picture of an unknown kind": (replaced("pictures", b"%!PS\n" + b"showpage\n" * 9), "unreadable"),
    "a MetaImage of terabytes": (replaced("pictures", mha(True, zlib.compress(b"0"), "30000 30000 30000"), "01.mha"), "truncated"),
    "a MetaImage whose stream is a bomb": (
        replaced("pictures", lambda: mha(True, zlib.compress(bytes(2**28))), "01.mha"),
        "bytes or more when it is decompressed",
    ),
    "an NRRD of terabytes": (replaced("pictures", nrrd("raw", b"0", "30000 30000 30000"), "01.nrrd"), "truncated"),
    "an NRRD whose gzip stream is a bomb": (
        replaced("pictures", lambda: nrrd("gzip", gzip.compress(bytes(1440)) + zeros(2**31)), "01.nrrd"),
        "bytes or more when it is decompressed",
    ),
    "a header of text without an end": (replaced("pictures", b"NRRD0004\n" + b"a" * 2**22, "01.nrrd"), "a header without an end"),
    "a TIFF of gigabytes": (replaced("pictures", tiff(60000, 60000), "01.tif"), "unreadable (Image size"),
    "a TIFF whose pixels are not there": (replaced("pictures", tiff(5000, 5000), "01.tif"), "do not fit the file"),
    "a DICOM series of gigabytes": (series(claims_rows), "for which this machine has no memory"),
    "a spreadsheet that is a bomb": (spreadsheet_bomb, "more than the 67108864 that a table may have"),
    # Images of the victim's.
    "a link to a slice": (series(slice_elsewhere("003.dcm")), "an image outside of the folder"),
    "a link to a slice without an extension": (series(slice_elsewhere("003")), "lie 2 mm apart"),
    "a link to a folder of a class": (series(class_elsewhere), "an image outside of the folder"),
    "a link to the voxels of a header": (linked_voxels, "an image outside of the folder"),
    "an absolute path": (named("{parent}/private.png"), "an image outside of the folder"),
    "a path upwards": (named("../private.png"), "an image outside of the folder"),
    "a path upwards, hidden": (named("images/../../private.png"), "an image outside of the folder"),
    "a link to an image": (links("pictures", FIRST_PICTURE), "an image outside of the folder"),
    "a link to a volume": (links("bids", FIRST_VOLUME), "an image outside of the folder"),
    "a link to the other file of a pair": (links("pairs", "images/01.hdr", "private.hdr"), "an image outside of the folder"),
    "a link to a folder": (linked_folder, "an image outside of the folder"),
    "a link to what is beside an image": (linked_sidecar, "beside it is a link out of the folder"),
    "a link to a table": (links("bids", "participants.tsv"), "is a link out of the folder"),
    "a link to a description": (links("bids", "dataset_description.json"), "is a link out of the folder"),
    # What never ends, and what is no text.
    "a pipe for an image": (pipe("pictures", FIRST_PICTURE), "the file is missing"),
    "a pipe for a table": (pipe("bids", "participants.tsv"), "has no participants.tsv"),
    "a description nested without end": (
        lambda fakes, folder: (fakes.bids(folder) / "dataset_description.json").write_text("[" * 10**6),
        "nested too deep",
    ),
    "a field without end": (
        lambda fakes, folder: fakes.participants(fakes.bids(folder) / "participants.tsv", age=["9" * 10**6] * 6),
        "cannot be read",
    ),
    "a name that rewrites the terminal": (undecodable, "no image"),
}


@pytest.mark.parametrize("attack", COHORTS)
def test_cohorts(augment, fakes, tmp_path, attack):
    prepare, says = COHORTS[attack]
    folder = tmp_path / "cohort"
    prepare(fakes, folder)
    with opened_files() as opened:
        answer = augment("check", "--data", folder)
    assert answer.code == 3, answer.err
    assert not [path for path in opened if "private" in path]  # to read it and refuse it then is too late
    assert "unforeseen" not in answer.err
    assert says in answer.words, answer.words
    assert "\x1b[2J" not in answer.err


def test_a_table_that_its_user_names_may_name_images_anywhere(fakes, tmp_path):
    named("{parent}/private.png")(fakes, tmp_path / "cohort")
    table = tmp_path / "cohort/participants.tsv"
    for cohort in (read_cohort(table), read_cohort(Source(str(tmp_path / "cohort"), table=str(table)))):
        assert cohort.table["image"][0] == str(tmp_path / "private.png")
        assert examine(cohort).sound
    (problem,) = read_cohort(tmp_path / "cohort").problems
    assert "--table" in problem.mend


def test_a_table_of_100_000_columns_ends(fakes, tmp_path):
    names = ["participant_id", "diagnosis", *(f"c{column}" for column in range(100_000))]
    rows = [[person, label, *["1"] * 100_000] for person, label in list(fakes.people.items())[2:4]]
    table = tmp_path / "participants.tsv"
    table.write_text("\n".join("\t".join(line) for line in (names, *rows)) + "\n")
    subjects = read_subjects(table, None)
    assert [subject.label for subject in subjects.rows] == ["AD", "CN"]
    assert subjects.rows[0].covariates["c99999"] == 1


# Arrays.


def array(claimed, kind="<f8", body=b"") -> bytes:
    """A ``.npy`` that claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": claimed})
    return file.getvalue() + body


def archive(*members: tuple[str, bytes], compress=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compress) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return file.getvalue()


def zeros_npz(n_bytes: int) -> bytes:
    """An honest archive of zeros, packed a thousandfold."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        with packed.open("images.npy", "w") as stream:
            stream.write(array((n_bytes // 2**14, 128, 128), "|u1"))
            for _ in range(n_bytes // 2**24):
                stream.write(bytes(2**24))
        packed.writestr("labels.npy", array((n_bytes // 2**14,), "|S1", b"a" * (n_bytes // 2**14)))
    return file.getvalue()


def objects(**content) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **content)
    return file.getvalue()


ARRAYS = {
    "an array of terabytes": (lambda: archive(("images.npy", array((10**6, 1000, 1000)))), "claims the shape"),
    "an array whose product overflows": (lambda: archive(("images.npy", array((2**32, 2**32, 2**32)))), "claims the shape"),
    "an archive that lies about its size": (
        lambda: lying(archive(("images.npy", array((10**6, 1000, 1000))), compress=zipfile.ZIP_DEFLATED), 8 * 10**12),
        "claims to be compressed more than can be|cannot be read",
    ),
    "an array of zeros, all of them there": (lambda: zeros_npz(2**30), "for which this machine has no memory"),
    "objects": (lambda: objects(images=np.zeros((2, 8, 8)), labels=np.array([Bomb(), Bomb()], dtype=object)), "never unpickled"),
    "an encrypted archive": (lambda: encrypted(archive(("images.npy", array((1, 8, 8), body=bytes(512))))), "is encrypted"),
    "a shape that is true": (lambda: archive(("images.npy", array((True, 8, 8), body=bytes(512)))), "sides are no whole numbers"),
    "labels that are bytes of no type": (lambda: labelled(np.array([b"a", b"b"], dtype="V1")), "'labels' .* is of type .V1"),
    "labels that are no time": (lambda: labelled(np.array(["NaT", "2020-01-01"], dtype="M8[D]")), "'labels' .* is of type datetime64"),
    "labels that are structures": (lambda: labelled(np.zeros(2, dtype="i4,f4")), "'labels' .* is of type"),
    "a pickle": (lambda: pickle.dumps(Bomb()), "cannot be read"),
    "a member that is a pickle": (lambda: archive(("images.npy", pickle.dumps(Bomb()))), "cannot be read"),
    "a member that leads out": (lambda: archive((f"../{CANARY}.npy", array((1,), body=bytes(8)))), "no array 'images'"),
    "a structure with objects": (lambda: archive(("images.npy", array((1,), [("a", "|O")]))), "never unpickled"),
    "a header that is code": (
        lambda: archive(("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 40) + b"__import__('os').system('touch hacked')\n")),
        "cannot be read",
    ),
}


def labelled(labels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, images=np.arange(128.0).reshape(2, 8, 8), labels=labels)
    return file.getvalue()


def encrypted(content: bytes) -> bytes:
    """An archive whose first member says that it is encrypted, in both of its headers."""
    result = bytearray(content)
    result[content.find(b"PK\3\4") + 6] |= 1
    result[content.find(b"PK\1\2") + 8] |= 1
    return bytes(result)


def lying(content: bytes, claimed: int) -> bytes:
    """An archive whose directory claims another size of its first member."""
    place = content.rfind(b"PK\x01\x02")
    return content[: place + 24] + struct.pack("<I", claimed % 2**32) + content[place + 28 :]


@pytest.mark.parametrize("attack", ARRAYS)
def test_arrays(tmp_path, attack):
    content, says = ARRAYS[attack]
    (tmp_path / "a.npz").write_bytes(content())
    with pytest.raises(DataError, match=says):
        read_cohort(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a", struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**31, 2**31)),
        ("a", struct.pack(">4B3I", 0, 0, 8, 3, 2**20, 28, 28) + bytes(100)),
        ("a.gz", gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**10, 2**10))),
        ("a.gz", lambda: gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 2**10, 2**10, 2**10)) + zeros(2**30)),
        ("a.gz", lambda: gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 10, 28, 28)) + zeros(2**31)),
    ],
    ids=["exabytes", "cut short", "terabytes, gzipped", "a gigabyte of zeros, gzipped", "more than it says, gzipped"],
)
def test_idx_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content() if callable(content) else content)
    with pytest.raises(DataError):
        read_idx(tmp_path / name, 3)


# Studies.


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "study")


@pytest.mark.parametrize("network", ["os:system", "tinycohort.classifiers.network:CNN"])
def test_a_study_that_names_code_needs_it_named_again(augment, study, tmp_path, network):
    config = (study / "config.toml").read_text()
    (study / "config.toml").write_text(config.replace("[grid]", f'[grid]\nnetworks = ["{network}"]', 1))
    answer = augment("evaluate", "--config", study / "config.toml", "--out", tmp_path / "again")
    assert answer.code == 2
    assert "a file runs no code by itself" in answer.words
    assert not (tmp_path / "again").exists()


def test_a_study_nested_without_end(study):
    (study / "config.toml").write_text("a = " + "[" * 10**5)
    for read in (read_config, lambda folder: evaluate.read_configuration(folder / "config.toml", ())):
        with pytest.raises(DataError, match="nested too deep"):
            read(study)


def test_the_report_of_a_study_is_no_page_of_its_author_s(study):
    config = (study / "config.toml").read_text()
    assert "command = " not in config
    (study / "config.toml").write_text(config.replace("[where", "[where]\ncommand = '<script>alert(1)</script>'\n\n[where", 1))
    write_report(study)
    assert "<script>" not in (study / "report.html").read_text(encoding="utf-8")


# What is shown.


def test_a_stranger_s_text_is_no_command_to_the_terminal(augment, fakes, tmp_path):
    assert printable("a\x1b[2J\r\x07b\u202e\udcff é\n") == "a\\x1b[2J\\r\\x07b\\u202e\\udcff é\n"
    assert str(TinycohortError("\x1b]0;x")) == "\\x1b]0;x"
    assert "\x1b" not in str(CohortError("\x1b", []))
    fakes.bids(tmp_path / "cohort")
    (tmp_path / "cohort/dataset_description.json").write_text(json.dumps({"Name": "\x1b[2J\x1b]0;owned\x07"}))
    answer = augment("check", "--data", tmp_path / "cohort")
    assert "\\x1b[2J" in answer.err
    assert "\x1b]0" not in answer.err
    Image.new("L", (4, 4)).save(tmp_path / "\x1b[2J.png")
    assert "\x1b[2J" not in augment("check", "--data", tmp_path / "\x1b[2J.png").err

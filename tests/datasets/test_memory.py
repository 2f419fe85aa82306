"""What reading and resizing take of memory is no more than they ask for, measured; and threads that share it wait for each other."""

import gzip
import threading
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from memory import grown_by, measured
from monai.data.meta_tensor import MetaTensor
from PIL import Image

from tinycohort.datasets.check import examine
from tinycohort.datasets.common import machine
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.common.machine import SharedMemory, bytes_of, is_too_much, require_memory
from tinycohort.datasets.image_checks import look_at
from tinycohort.datasets.images import memory_to_read, read_image
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.resizing import brought_to, memory_to_resize

SLACK = 32 * 2**20  # bytes that a process with many tests behind it takes for itself


def volume(path: Path, kind: str, slope: float, side: int) -> Path:
    header = nib.Nifti1Header()
    header.set_data_dtype(kind)
    header.set_data_shape((side,) * 3)
    header["vox_offset"], header["magic"], header["scl_slope"] = 352, b"n+1", slope
    voxels = np.random.default_rng(0).integers(0, 200, side**3, dtype=np.uint8).astype(kind)
    content = header.binaryblock + bytes(4) + voxels.tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


@measured
@pytest.mark.parametrize("slope", [1.0, 2.5])
@pytest.mark.parametrize(("name", "kind"), [("a.nii.gz", kind) for kind in ("uint8", "int16", "float32", "float64")] + [("a.nii", "int16")])
def test_reading_a_volume_takes_no_more_than_it_asks_for(tmp_path, name, kind, slope):
    path = volume(tmp_path / name, kind, slope, 224)
    look_at(*read_image(volume(tmp_path / f"small-{name}", kind, slope, 16)))
    took, asked = grown_by(lambda: look_at(*read_image(path))), memory_to_read(path)
    assert 0.5 * asked < took < asked + SLACK


@measured
@pytest.mark.parametrize("name", ["a.mgz", "a.mha", "a.nrrd", "series"])
def test_reading_other_formats_takes_no_more_than_they_ask_for(fakes, tmp_path, name):
    def write(side: int, path: Path) -> Path:
        voxels = np.random.default_rng(0).integers(0, 200, (side,) * 3).astype(np.int16)
        if name == "series":
            return fakes.series(path, voxels)
        if name == "a.mgz":
            nib.save(nib.MGHImage(voxels, np.eye(4)), path)
            return path
        sides = f"{side} {side} {side}"
        mha = f"NDims = 3\nDimSize = {sides}\nElementType = MET_SHORT\nCompressedData = True\nElementDataFile = LOCAL\n"
        nrrd = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sides}\nencoding: gzip\nendian: little\n\n"
        body = voxels.tobytes(order="F")
        path.write_bytes(mha.encode() + zlib.compress(body, 1) if name == "a.mha" else nrrd.encode() + gzip.compress(body, 1))
        return path

    path = write(224, tmp_path / name)
    look_at(*read_image(write(16, tmp_path / f"small-{name}")))
    took, asked = grown_by(lambda: look_at(*read_image(path))), memory_to_read(path)
    assert 0.5 * asked < took < asked + SLACK


@measured
@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA"])
def test_reading_a_picture_takes_no_more_than_it_asks_for(tmp_path, mode, extension):
    bands, kind = (1, np.uint16) if mode == "I;16" else (len(mode), np.uint8)
    pixels = np.random.default_rng(0).integers(0, 255, (4000, 5000, bands), dtype=kind)
    Image.fromarray(pixels.squeeze()).save(tmp_path / f"a{extension}", compress_level=1)
    with Image.open(tmp_path / f"a{extension}") as picture:
        assert picture.mode == mode
    took, asked = grown_by(lambda: look_at(*read_image(tmp_path / f"a{extension}"))), memory_to_read(tmp_path / f"a{extension}")
    assert 0.5 * asked < took < asked + SLACK


@measured
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((160, 160, 160), (24, 24, 24)),
        ((160, 160, 160), (150, 150, 150)),
        ((200, 120, 200), (40, 48, 40)),
        ((4000, 3000), (96, 64)),
    ],
)
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_bringing_an_image_to_its_size_takes_no_more_than_it_asks_for(shape, size, resize):
    image = MetaTensor(torch.rand(1, *shape))
    brought_to([8] * len(size), MetaTensor(torch.rand(1, *[16] * len(size))), resize, "percentile", "a")
    took = grown_by(lambda: brought_to(size, image, resize, "percentile", "a"))
    # The image itself was there before.
    took, asked = took + bytes_of(1, shape), memory_to_resize(shape, size, smoothed=resize == "stretch")
    assert 0.3 * asked < took < asked + SLACK


@measured
def test_the_many_voxels_of_a_result_are_asked_for(monkeypatch):
    image = MetaTensor(torch.rand(1, 16, 16))
    took = grown_by(lambda: brought_to((16, 1_000_000), image, "stretch", "percentile", "a"))
    assert 2 * bytes_of(1, (16, 1_000_000)) < took < bytes_of(5, (16, 1_000_000)) + SLACK
    monkeypatch.setattr(machine, "physical_memory", lambda: 2**27)
    with pytest.raises(UsageError, match="To bring an image to 16 x 400000000 this machine has no memory; choose a smaller --size"):
        brought_to((16, 400_000_000), image, "stretch", "percentile", "a")


def test_a_volume_that_cannot_be_smoothed_is_told_before_it_is(monkeypatch):
    image = MetaTensor(torch.rand(1, 100, 100, 100))
    monkeypatch.setattr(machine, "physical_memory", lambda: 2**28)
    told = r"a\.nii has 100 x 100 x 100 voxels, and this machine has no memory to bring it to 8 x 8 x 8; resample"
    with pytest.raises(DataError, match=told):
        brought_to((8, 8, 8), image, "stretch", "percentile", "a.nii")
    assert brought_to((8, 8, 8), image, "crop", "percentile", "a.nii").shape == (1, 8, 8, 8)
    assert brought_to((50, 50, 50), image, "stretch", "percentile", "a.nii").shape == (1, 50, 50, 50)


def test_memory_is_counted_in_whole_numbers_of_any_size(monkeypatch):
    monkeypatch.setattr(machine, "physical_memory", lambda: 1000)
    assert bytes_of(2**40, (2**40, 2**40)) == 2**122
    assert is_too_much(2**122)
    assert not is_too_much(500)
    assert is_too_much(501)
    assert not is_too_much(800, part=machine.IN_PASSING)
    require_memory(5, (5, 5))
    with pytest.raises(UsageError, match="For 6 images of 5 x 5 this machine has no memory; choose a smaller --size"):
        require_memory(6, (5, 5))


def test_threads_wait_until_there_is_memory_for_them(monkeypatch):
    monkeypatch.setattr(machine, "physical_memory", lambda: 1000)
    memory, held, most = SharedMemory(), [], []
    wide = threading.Barrier(2)

    def hold(n_bytes: int, *, together: bool) -> None:
        with memory.take(n_bytes):
            held.append(n_bytes)
            most.append(sum(held))
            if together:
                wide.wait(timeout=20)  # broken, if the two were not let in at once
            held.remove(n_bytes)

    def run(sizes: list[int], *, together: bool) -> None:
        threads = [threading.Thread(target=hold, args=(size,), kwargs={"together": together}) for size in sizes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
            assert not thread.is_alive()

    run([250, 250], together=True)
    assert max(most) == 500
    run([300] * 8 + [9000], together=False)
    assert max(most) == 9000  # by itself, so that it comes to an end, and is told as it is
    assert set(most[2:]) == {300, 9000}


def test_an_examination_reads_as_many_images_at_once_as_there_is_memory_for(fakes, monkeypatch, tmp_path):
    cohort = read_cohort(fakes.bids(tmp_path / "bids"))
    needed = memory_to_read(cohort.table["image"][0])
    at_once, most, lock = [], [], threading.Lock()

    def read(path):
        with lock:
            at_once.append(path)
            most.append(len(at_once))
        threading.Event().wait(0.05)
        with lock:
            at_once.remove(path)
        return read_image(path)

    monkeypatch.setattr("tinycohort.datasets.check.read_image", read)
    monkeypatch.setattr("tinycohort.datasets.check.available_processors", lambda: 8)
    assert examine(cohort).sound
    assert max(most) > 1
    most.clear()
    monkeypatch.setattr(machine, "physical_memory", lambda: 3 * needed)  # half of which is enough for one
    assert examine(cohort).sound
    assert max(most) == 1

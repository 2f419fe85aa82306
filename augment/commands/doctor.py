"""``augment doctor``: what this machine has of what the commands need, and what of it is broken."""

import importlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import NamedTuple

from ...datasets.common.machine import available_processors, free_memory, physical_memory
from .. import console

US = "tinycohort"
IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn", "tomli-w": "tomli_w"}
# By what is kept in them the variable that names a folder, and the folder without one.
DOWNLOADS = {
    "downloads of nilearn": ("NILEARN_DATA", "~/nilearn_data"),
    "downloads of OpenML": ("SCIKIT_LEARN_DATA", "~/scikit_learn_data"),
}
LEAST_DISK = 2**30  # bytes: a study with its models takes more
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


class Finding(NamedTuple):
    """A thing that was looked at, what was found, and what is wrong with it; empty if nothing is."""

    what: str
    found: str
    wrong: str = ""


def examine_machine() -> bool:
    """Show the packages, the machine and the places that matter here; whether nothing is broken."""
    packages, machine, extras = list(_packages()), [*_machine(), *_places()], list(_extras())
    console.show_table("packages", "Packages", ("package", "version", "what is wrong"), packages)
    console.show_table("extras", "What may be installed beside them, as pip install tinycohort[...]", ("extra", "", "lacks"), extras)
    console.show_table("machine", "This machine", ("what", "found", "what is wrong"), machine)
    broken = [finding for finding in (*packages, *machine) if finding.wrong]
    for finding in broken:
        console.warn(f"{finding.what}: {finding.wrong}.")
    if not broken:
        console.say("Nothing is broken.")
    return not broken


def _packages() -> Iterator[Finding]:
    """All that is needed always, imported as a command would: what is installed may be broken."""
    yield Finding("python", platform.python_version())
    yield Finding(US, version(US))
    for line in requires(US) or []:
        if _EXTRA.search(line):
            continue
        name = _name_in(line)
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding(name, "-", f"it is not installed: pip install '{line}'")
            continue
        try:
            importlib.import_module(IMPORTED_AS.get(name, name.replace("-", "_")))
        except Exception as error:  # whatever a broken package raises
            yield Finding(name, found, f"it cannot be imported ({type(error).__name__}: {error}); install it anew")
        else:
            yield Finding(name, found)


def _extras() -> Iterator[Finding]:
    lines = [(extra[1], _name_in(line)) for line in requires(US) or [] if (extra := _EXTRA.search(line))]
    for extra in metadata(US).get_all("Provides-Extra") or []:
        lacking = [name for owner, name in lines if owner == extra and not _is_installed(name)]
        yield Finding(extra, "not installed" if lacking else "installed", ", ".join(lacking))


def _machine() -> Iterator[Finding]:
    """What there is to compute with; of what torch knows, nothing where it cannot be imported."""
    yield Finding("system", f"{platform.system()} {platform.machine()}")
    available = free_memory()
    told = "" if available is None else f", {available / 2**30:.1f} free"
    yield Finding("memory", f"{physical_memory() / 2**30:.1f} GiB{told}")
    try:
        from ...datasets.common.compute import choose_device, computes_in_bf16, default_threads, hardware
    except ImportError:
        return
    device, variable = choose_device("auto"), os.environ.get("OMP_NUM_THREADS") or "not set"
    bf16 = computes_in_bf16(device)
    yield Finding("processors", f"{available_processors()}: {hardware()}")
    yield Finding("threads", f"{default_threads()} unless --threads says otherwise (OMP_NUM_THREADS is {variable})")
    yield Finding("device", "a GPU" if device.type == "cuda" else "the processor: torch finds no GPU")
    yield Finding(
        "bf16", "faster than float32: --precision auto takes it" if bf16 else "no faster than float32, which --precision auto takes"
    )


def _places() -> Iterator[Finding]:
    """Where is written to, and whether it can be."""
    places = {"this folder": Path.cwd(), "temporary files": Path(tempfile.gettempdir())}
    with suppress(ImportError):
        from ...datasets.demo import cache_folder

        places["cache of the demo"] = cache_folder()
    for what, variable in DOWNLOADS.items():
        places[what] = Path(os.environ.get(variable[0]) or variable[1]).expanduser()
    for what, folder in places.items():
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        full = free < LEAST_DISK
        wrong = "its disk is nearly full" if full else "" if os.access(there, os.W_OK) else f"{there} cannot be written to"
        yield Finding(what, f"{folder}{'' if folder.exists() else ', not there yet'}, {free / 2**30:.1f} GiB free", wrong)


def _name_in(requirement: str) -> str:
    found = _NAME.match(requirement)
    return found[0] if found else requirement


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True

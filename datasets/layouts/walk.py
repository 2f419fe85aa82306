"""The images that lie below a folder, whatever their format: what every layout without fixed paths begins with."""

import os
from pathlib import Path

from ..images import IMAGES, extension, stem


def images_below(folder: Path) -> list[Path]:
    """Every image below a folder, in the order of its folders; a pair counts once, by its header, and what is hidden does not."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        headers = {stem(name) for name in names if extension(name) == ".hdr"}
        for name in sorted(names):
            kind = extension(name)
            if kind in IMAGES and not name.startswith(".") and not (kind == ".img" and stem(name) in headers):
                found.append(Path(parent, name))
    return found

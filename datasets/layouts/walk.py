"""The images that lie below a folder, whatever their format: what every layout without fixed paths begins with."""

import os
from pathlib import Path

from ..common.custody import is_inside, outside_of
from ..formats import dicom
from ..formats.unread import UNREAD, command_for
from ..images import IMAGES, extension, stem


def images_below(folder: Path, within: Path | None = None) -> list[Path]:
    """Every image below a folder, in the order of its folders, and none that is hidden.

    A pair counts once, by its header, and a DICOM series by its folder. Folders that are links within the cohort are gone into, each once;
    one that leads to images out of it is returned itself, to be told.

    Parameters
    ----------
    folder : Path
    within : Path, optional
        The cohort that the folder is a part of, by default itself: no file is opened that a link leads to out of it.
    """
    root, found = within or folder, []
    for parent, names, leading_out in _files_below(folder, root):
        headers = {stem(name) for name in names if extension(name) == ".hdr"}
        images = [name for name in names if extension(name) in IMAGES and not (extension(name) == ".img" and stem(name) in headers)]
        is_slice = dicom.is_dicom if is_inside(parent, root) else dicom.is_named_so
        slices = [file for name in names if is_slice(file := parent / name)]
        if slices:
            # What leads out is not opened, and told when its image is.
            found += dicom.images_of(slices) if not outside_of(root, slices) else [parent]
        found += [parent / name for name in images] + [link for link in leading_out if _seems_to_hold_images(link)]
    return found


def conversion_below(folder: Path) -> str:
    """Of images below a folder that are in a format that is not read: which, and what converts one; empty if there are none."""
    unread = [parent / name for parent, names, _ in _files_below(folder, folder) for name in names if extension(name) in UNREAD]
    if not unread:
        return ""
    kind = extension(unread[0].name)
    count = sum(extension(file.name) == kind for file in unread)
    return f"; of {count} files {kind}, which are not read, `{command_for(unread[0].name, kind)}` converts one"


def _files_below(folder: Path, root: Path) -> list[tuple[Path, list[str], list[Path]]]:
    """The folders below one, itself first, the names of the files in each that are not hidden, and its links to folders out of ``root``."""
    found = []
    # What lies around the folder is not below it, whatever a link says.
    seen = {place.resolve() for place in (folder, *folder.parents)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = [Path(parent, name) for name in folders if not name.startswith(".")]
        links = {place for place in here if place.is_symlink()}
        leading_out = sorted(place for place in links if not is_inside(place, root))
        folders.clear()
        for place in sorted(here, key=lambda place: (place in links, place.name)):  # a folder has its own name rather than a link's
            if place not in leading_out and (real := place.resolve()) not in seen:
                seen.add(real)
                folders.append(place.name)
        folders.sort()
        found.append((Path(parent), sorted(name for name in names if not name.startswith(".")), leading_out))
    return found


def _seems_to_hold_images(link: Path) -> bool:
    """Whether names in a folder, or in those right in it, are of images: none is opened."""
    names = (place.name for depth in ("*", "*/*") for place in link.glob(depth))
    return any(extension(name) in (*IMAGES, *dicom.EXTENSIONS) for name in names)

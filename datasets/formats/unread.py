"""Formats of images that are not read here, and the one command that converts a file of each."""

_COMMANDS = {
    **dict.fromkeys((".mnc",), "mnc2nii {name} {stem}.nii"),
    **dict.fromkeys((".par", ".rec"), "dcm2niix -z y -o OUT FOLDER"),
    **dict.fromkeys((".head", ".brik"), "3dAFNItoNIFTI -prefix {stem}.nii {name}"),
    **dict.fromkeys((".gipl", ".vtk", ".vti", ".spr", ".lsm"), "c3d {name} -o {stem}.nii.gz"),
    **dict.fromkeys((".webp", ".gif", ".jp2", ".heic", ".avif", ".psd", ".pgm", ".ppm", ".svg"), "magick {name} {stem}.png"),
    **dict.fromkeys((".svs", ".ndpi", ".czi"), "vips copy {name} {stem}.png"),
    **dict.fromkeys((".npy", ".mat", ".h5", ".hdf5"), "numpy.savez('study.npz', images=images, labels=labels, participants=participants)"),
}
UNREAD = tuple(_COMMANDS)


def command_for(name: str, kind: str) -> str | None:
    """The command that converts a file of an extension to one that is read; ``None`` where none is known."""
    command = _COMMANDS.get(kind)
    return None if command is None else command.format(name=name, stem=name[: len(name) - len(kind)])

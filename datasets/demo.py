"""The demo cohort: simulated T1-weighted volumes of controls (CN) and of people with Alzheimer's disease (AD), made on first use.

Nobody in it exists. Every volume is one template, the MNI152 tissue maps that nilearn carries, deformed, aged and imaged at random,
so that the whole program can be tried without a download. It is no model of the disease, and nothing medical follows from it.

How AD and CN differ. With t = (age - 18) / 60, severity s = 0 in CN, and three independent standard normal deviates e:

- the wall of the lateral ventricles moves outwards by -0.7 + 2.0 t^2 + 1.8 s + 0.8 e mm;
- grey matter next to fluid is lost at a rate of 0.5 + 0.6 t + 0.6 s + 0.25 e;
- medial temporal tissue is lost at a rate of 0.15 + 0.25 t^2 + 0.8 s + 0.22 e.

In AD s is 0.8, 1.2 or 1.6 (CDR 0.5, 1 or 2: 60, 33 and 7 %) times a lognormal factor of 25 %. The default cohort's AD, against the
same people at the same age with s = 0, have 14 ml (SD 4) more fluid in and around the lateral ventricles, 8 % (SD 2) less grey matter
and 33 % (SD 8) less tissue around the hippocampi. Nothing else depends on the diagnosis but age: AD 76 (SD 7, 60 to 96); CN 18 to 96,
two fifths of them from 60. Sex, contrast, bias field, noise, head size and shape are drawn alike.

How separable they are, as balanced accuracy in ten stratified folds, 3 shufflings, of class-weighted logistic regression (C = 0.1):

============================================  ====================================  ==========================
features                                      120 participants, seeds 0, 1, 2, 3    600 participants, seed 7
============================================  ====================================  ==========================
20 principal components of the volumes        83, 88, 76, 91 (ages 60+: 62 to 76)   86 (ages 60+: 77)
age alone (C = 1)                             80, 87, 78, 81 (ages 60+: 56 to 68)   79 (ages 60+: 57)
the three quantities above (C = 1)            98, 97, 96, 94 (ages 60+: 87 to 97)   96 (ages 60+: 93)
============================================  ====================================  ==========================

So, as in OASIS-1, much of what tells AD from CN is age. The volumes were divided by their mean over the brain, and components fitted
within folds. The last row bounds what any classifier of the images can be expected to reach.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .common.errors import UsageError
from .common.files import whole_folder, write_json

RECIPE = 2  # part of the cache folder's name: to be raised with any change that changes a byte of the cohort
SHAPE = (40, 48, 40)
VOXEL = 4.0  # mm
FINE = 2.0  # mm: tissues are deformed at this resolution, then averaged to VOXEL, which gives partial volumes
ORIGIN = (-78.0, -112.0, -74.0)  # mm, MNI: centre of the first voxel; the grid spans -80..80, -114..78 and -76..84
AFFINE = np.array([[VOXEL, 0, 0, ORIGIN[0]], [0, VOXEL, 0, ORIGIN[1]], [0, 0, VOXEL, ORIGIN[2]], [0, 0, 0, 1.0]])
CENTRE = (0.0, -18.0, 0.0)  # mm, MNI: the point that stays when heads are scaled
HIPPOCAMPI = ((-28.0, -20.0, -16.0), (28.0, -20.0, -16.0))  # mm, MNI
HIPPOCAMPAL_WIDTH = (7.0, 12.0, 7.0)  # mm: standard deviations of the bump around each
VENTRICLES = ((-12.0, -10.0, 24.0), (12.0, -10.0, 24.0))  # mm, MNI: a point inside each lateral ventricle
DESCRIPTION = "SIMULATED from the MNI152 template by tinycohort"  # NIfTI's descrip holds 80 bytes
MNI_LICENCE = """\
For the MNI152 template, of which the volumes are made:
Copyright (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University.
Permission to use, copy, modify, and distribute this software and its documentation for any purpose and without fee is hereby granted,
provided that the above copyright notice appear in all copies. The authors and McGill University make no representations about the
suitability of this software for any purpose. It is provided "as is" without express or implied warranty. The authors are not responsible
for any data loss, equipment damage, property loss, or injury to subjects or patients resulting from the use or misuse of this software
package.
"""
DATASET_DESCRIPTION = {
    "Name": "tinycohort demo: SIMULATED brains, no real participants",
    "BIDSVersion": "1.9.0",
    "DatasetType": "derivative",
    "Simulated": True,
    "License": "Free for any purpose with the notice in LICENSE; Copyright (C) 1993-2004 Louis Collins, McGill University (template)",
    "Acknowledgements": "Deformed from the ICBM 152 2009a nonlinear symmetric template, as nilearn carries it.",
    "HowToAcknowledge": "Cite Fonov et al., NeuroImage 54(1):313-327, 2011, for the template.",
    "ReferencesAndLinks": ["https://doi.org/10.1016/j.neuroimage.2010.07.033"],
    "GeneratedBy": [{"Name": "tinycohort", "Description": f"Demo cohort, recipe {RECIPE}: simulated, not measured."}],
}
SIDECAR = {"SkullStripped": True, "Description": "Simulated T1-weighted image; 0 outside the brain"}
COLUMNS = {
    "diagnosis": {"Description": "Simulated diagnosis", "Levels": {"CN": "cognitively normal", "AD": "Alzheimer's disease"}},
    "age": {"Description": "Simulated age", "Units": "year"},
    "sex": {"Description": "Simulated sex, without effect on the image", "Levels": {"F": "female", "M": "male"}},
    "mmse": {"Description": "Simulated Mini-Mental State Examination, 0 to 30"},
    "cdr": {"Description": "Simulated Clinical Dementia Rating"},
    "simulated": {"Description": "yes: nobody was scanned"},
    "ventricle_expansion": {"Description": "How far the lateral ventricles' wall lies outside the template's", "Units": "mm"},
    "cortical_thinning": {"Description": "Rate of loss of grey matter next to fluid"},
    "temporal_atrophy": {"Description": "Rate of loss of tissue in the medial temporal lobes"},
}


@dataclass(frozen=True)
class Participant:
    """What was drawn of one simulated participant; ``simulate_tissues`` and ``acquire`` add no chance beyond its seeds.

    ``severity`` is 0 in a control. ``variation`` holds three standard normal deviates: how far the ventricles, the cortex and the
    medial temporal lobes are from what age and disease let expect.
    """

    participant_id: str
    diagnosis: str
    age: int
    sex: str
    mmse: int
    cdr: float
    severity: float
    variation: tuple[float, float, float]
    anatomy: np.random.SeedSequence
    scanner: np.random.SeedSequence

    @property
    def ventricle_expansion(self) -> float:
        """How far the wall of the lateral ventricles lies outside the template's, in mm."""
        return -0.7 + 2.0 * self._ageing**2 + 1.8 * self.severity + 0.8 * self.variation[0]

    @property
    def cortical_thinning(self) -> float:
        """Rate at which grey matter next to cerebrospinal fluid is lost, from 0."""
        return max(0.0, 0.5 + 0.6 * self._ageing + 0.6 * self.severity + 0.25 * self.variation[1])

    @property
    def temporal_atrophy(self) -> float:
        """Rate at which tissue in the medial temporal lobes is lost, from 0."""
        return max(0.0, 0.15 + 0.25 * self._ageing**2 + 0.8 * self.severity + 0.22 * self.variation[2])

    @property
    def _ageing(self) -> float:
        return (self.age - 18) / 60


@dataclass(frozen=True)
class Template:
    """Maps over the MNI152 template at 2 mm, (X, Y, Z) float32.

    ``tissues`` (3, X, Y, Z) holds grey matter, white matter and cerebrospinal fluid; ``outer`` is how much of a voxel's surroundings
    is fluid or outside the brain; ``temporal`` is 1 in the hippocampi and falls to 0 around them; ``outwards`` (3, X, Y, Z) points away
    from the lateral ventricles, has length 1 at their wall and fades within some 25 mm; ``to_voxel`` takes mm to voxels.
    """

    tissues: np.ndarray
    outer: np.ndarray
    temporal: np.ndarray
    outwards: np.ndarray
    to_voxel: np.ndarray


def draw_participant(seed: int, index: int) -> Participant:
    """Draw who one participant is, and the seeds of its anatomy and of its scan.

    Parameters
    ----------
    seed : int
        The cohort's seed.
    index : int
        Which participant, from 0; every fourth (3, 7, 11, ...) has AD.

    Returns
    -------
    Participant
        With ``dataclasses.replace(participant, severity=0.0)``, the same person without the disease.
    """
    clinic, anatomy, scanner = np.random.SeedSequence(seed, spawn_key=(index,)).spawn(3)
    rng = np.random.default_rng(clinic)
    sex = "F" if rng.random() < 0.6 else "M"
    variation = tuple(rng.standard_normal(3))
    if index % 4 == 3:
        age = _within(rng.normal(76, 7), 60, 96)
        cdr = float(rng.choice([0.5, 1.0, 2.0], p=[0.6, 0.33, 0.07]))
        severity = {0.5: 0.8, 1.0: 1.2, 2.0: 1.6}[cdr] * rng.lognormal(0, 0.25)
        mmse = _within(29 - 6 * severity + rng.normal(0, 2), 10, 30)
    else:
        lowest, highest = [(18, 34), (35, 59), (60, 96)][rng.choice(3, p=[0.4, 0.2, 0.4])]
        age, cdr, severity, mmse = int(rng.integers(lowest, highest + 1)), 0.0, 0.0, _within(rng.normal(29.2, 1), 26, 30)
    diagnosis = "AD" if severity else "CN"
    return Participant(f"sub-demo{index + 1:04d}", diagnosis, age, sex, mmse, cdr, severity, variation, anatomy, scanner)


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the tissue maps and derive from them where ageing and disease act."""
    from nilearn import datasets as nilearn_datasets
    from scipy import ndimage

    image = nilearn_datasets.load_mni152_gm_template(resolution=int(FINE))
    to_voxel = np.linalg.inv(image.affine)
    brain = nilearn_datasets.load_mni152_brain_mask(resolution=int(FINE)).get_fdata() > 0
    grey = image.get_fdata() * brain
    white = np.minimum(nilearn_datasets.load_mni152_wm_template(resolution=int(FINE)).get_fdata() * brain, 1 - grey)
    fluid = brain - grey - white

    labelled: Any = ndimage.label(fluid > 0.4)
    pools = labelled[0]
    ventricles = np.isin(pools, [pools[tuple(np.rint(_voxel(to_voxel, point)).astype(int))] for point in VENTRICLES])
    outside, within = (np.asarray(ndimage.distance_transform_edt(mask)) for mask in (~ventricles, ventricles))
    wall = FINE * (outside - within)
    # Smoothed, the gradient vanishes on the ventricles' middle surface, where outwards has no direction.
    wall = ndimage.gaussian_filter(wall, 1.0)
    outwards = np.asarray(np.gradient(wall, FINE)) * np.exp(-0.5 * (wall / 10) ** 2)

    outer = ndimage.gaussian_filter(np.where(ventricles, 0.0, 1 - grey - white), 1.0)
    grid = np.moveaxis(np.indices(grey.shape), 0, -1)
    offsets = [(grid - _voxel(to_voxel, point)) * FINE / HIPPOCAMPAL_WIDTH for point in HIPPOCAMPI]
    temporal = np.sum([np.exp(-0.5 * (offset**2).sum(axis=-1)) for offset in offsets], axis=0)
    maps = (np.stack([grey, white, fluid]), outer, temporal, outwards)
    return Template(*(values.astype(np.float32) for values in maps), to_voxel=to_voxel)


def simulate_tissues(participant: Participant) -> np.ndarray:
    """Simulate a participant's anatomy.

    Parameters
    ----------
    participant : Participant
        What ``draw_participant`` returns.

    Returns
    -------
    numpy.ndarray
        ``(3, 40, 48, 40)`` float32: the fractions of grey matter, white matter and cerebrospinal fluid in each voxel, in MNI space by
        ``AFFINE``.
    """
    from scipy import ndimage

    template, rng = load_template(), np.random.default_rng(participant.anatomy)
    fine_shape = tuple(int(n * VOXEL / FINE) for n in SHAPE)
    scale = rng.normal(0.96, 0.015, 3)
    bends = [2.0 * _smooth_field(rng, fine_shape, 40 / FINE) + 1.4 * _smooth_field(rng, fine_shape, 16 / FINE) for _ in range(3)]
    widening = np.exp(0.5 * _smooth_field(rng, template.outer.shape, 16 / FINE))

    axes = [first - (VOXEL - FINE) / 2 + FINE * np.arange(n) for first, n in zip(ORIGIN, fine_shape, strict=True)]
    grid = np.meshgrid(*((axis - c) / s + c for axis, c, s in zip(axes, CENTRE, scale, strict=True)), indexing="ij")
    points: Any = _voxel(template.to_voxel, np.stack(grid) + np.stack(bends))
    # Two thirds of the grid lie outside the brain and are left at 0.
    inside = np.asarray(ndimage.binary_dilation(ndimage.map_coordinates(template.tissues.sum(axis=0), points, order=0) > 0))
    points = points[:, inside]
    # A wall that moves outwards shows at each point what the template has further inwards.
    points -= participant.ventricle_expansion / FINE * np.stack([ndimage.map_coordinates(o, points, order=1) for o in template.outwards])

    grey, white, fluid = template.tissues
    temporal_loss = participant.temporal_atrophy * template.temporal
    grey_left = grey * np.exp(-participant.cortical_thinning * template.outer * widening - temporal_loss)
    white_left = white * np.exp(-temporal_loss)
    tissues = np.zeros((3, *fine_shape), dtype=np.float32)
    # What atrophy leaves empty fills with fluid.
    for tissue, values in zip(tissues, (grey_left, white_left, fluid + grey + white - grey_left - white_left), strict=True):
        tissue[inside] = ndimage.map_coordinates(values, points, order=1)
    fine = int(VOXEL / FINE)
    return tissues.reshape(3, SHAPE[0], fine, SHAPE[1], fine, SHAPE[2], fine).mean(axis=(2, 4, 6))


def acquire(tissues: np.ndarray, scanner: np.random.SeedSequence) -> np.ndarray:
    """Image an anatomy: contrast, bias field, noise and skull-stripping.

    Parameters
    ----------
    tissues : numpy.ndarray
        What ``simulate_tissues`` returns.
    scanner : numpy.random.SeedSequence
        Seed of the acquisition.

    Returns
    -------
    numpy.ndarray
        ``(40, 48, 40)`` int16, 0 outside the brain; white matter lies near 880 times the scan's gain.
    """
    rng = np.random.default_rng(scanner)
    intensities = rng.normal([0.56, 0.88, 0.10], [0.025, 0.02, 0.02])
    bias = np.exp(0.06 * _smooth_field(rng, SHAPE, 80 / VOXEL))
    signal = np.tensordot(intensities, tissues, 1) * bias
    noisy = np.hypot(signal + 0.02 * rng.standard_normal(SHAPE), 0.02 * rng.standard_normal(SHAPE))
    stripped = tissues.sum(axis=0) > 0.5 + 0.12 * _smooth_field(rng, SHAPE, 16 / VOXEL)
    return np.rint(1000 * rng.lognormal(0, 0.2) * noisy * stripped).astype(np.int16)


def demo_cohort_folder(seed: int = 0, participants: int = 120, cache: Path | None = None) -> Path:
    """Folder of the demo cohort, a BIDS dataset; it is made, in about 20 s, when it is not there yet.

    Participants 4, 8, 12, ... have AD, the others are CN. Participant k of a seed is the same in a cohort of any size.

    Parameters
    ----------
    seed : int
        From 0. The same seed gives the same bytes wherever the libraries are the same.
    participants : int
        At least 4.
    cache : Path, optional
        Folder that holds the datasets. By default ``$TINYCOHORT_CACHE``, else ``$XDG_CACHE_HOME/tinycohort``, else
        ``~/.cache/tinycohort``.

    Returns
    -------
    Path
        A folder with ``dataset_description.json``, ``LICENSE``, ``participants.tsv``, ``participants.json``, ``T1w.json`` and
        ``sub-demoNNNN/anat/sub-demoNNNN_T1w.nii.gz``. The table's last three columns say how much atrophy was simulated.

    Raises
    ------
    UsageError
        If ``seed`` or ``participants`` is too small.
    """
    if participants < 4 or seed < 0:
        raise UsageError(f"The demo cohort needs 4 participants or more and a seed from 0; {participants} and seed {seed} were asked for.")
    folder = Path(cache or cache_folder()) / f"demo-recipe{RECIPE}-seed{seed}-n{participants}"
    table = folder / "participants.tsv"
    if table.is_file():
        return folder
    try:
        with whole_folder(folder, force=True) as temporary:
            _write_dataset(temporary, [draw_participant(seed, index) for index in range(participants)])
            if table.is_file():
                raise FileExistsError(folder)
    except OSError:
        # Another process was faster. Its folder holds the same bytes and may be being read: it stays.
        if not table.is_file():
            raise
    return folder


def cache_folder() -> Path:
    """Where the demo cohort is kept, unless a folder is named: see ``demo_cohort_folder``."""
    if chosen := os.environ.get("TINYCOHORT_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tinycohort"


def _write_dataset(folder: Path, people: list[Participant]) -> None:
    import nibabel

    for person in people:
        image = nibabel.Nifti1Image(acquire(simulate_tissues(person), person.scanner), AFFINE)
        image.set_qform(AFFINE, code="mni")
        image.set_sform(AFFINE, code="mni")
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = DESCRIPTION
        path = folder / person.participant_id / "anat" / f"{person.participant_id}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nibabel.save(image, path)
    rows = [
        {
            **{column: getattr(person, column) for column in ("participant_id", "diagnosis", "age", "sex", "mmse", "cdr")},
            "simulated": "yes",
            **{column: round(getattr(person, column), 3) for column in ("ventricle_expansion", "cortical_thinning", "temporal_atrophy")},
        }
        for person in people
    ]
    pd.DataFrame(rows).to_csv(folder / "participants.tsv", sep="\t", index=False, lineterminator="\n")
    (folder / "LICENSE").write_text(MNI_LICENCE, encoding="utf-8")
    write_json(folder / "participants.json", COLUMNS)
    write_json(folder / "T1w.json", SIDECAR)
    write_json(folder / "dataset_description.json", DATASET_DESCRIPTION)


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> np.ndarray:
    """A Gaussian field over ``shape``: mean 0, variance 1, correlation exp(-(distance / width)^2 / 2), distances in voxels."""
    bases = [_bumps(n, width) for n in shape]
    field = rng.standard_normal([basis.shape[1] for basis in bases])
    for basis in bases:
        # The first axis goes and the last one comes: after all three the order is the old one.
        field = np.tensordot(field, basis, axes=(0, 1))
    return field


@lru_cache(maxsize=32)
def _bumps(n: int, width: float) -> np.ndarray:
    """Gaussian bumps along one axis, (n, number of bumps), each row of length 1."""
    centres = np.arange(-width, n + width, width / 1.5)
    bumps = np.exp(-(((np.arange(n)[:, None] - centres) / width) ** 2))
    return bumps / np.linalg.norm(bumps, axis=1, keepdims=True)


def _voxel(to_voxel: np.ndarray, millimetres: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Points (3, ...) in mm as voxel coordinates."""
    points = np.asarray(millimetres)
    return np.tensordot(to_voxel[:3, :3], points, 1) + to_voxel[:3, 3].reshape(3, *[1] * (points.ndim - 1))


def _within(value: float, lowest: int, highest: int) -> int:
    return int(np.clip(np.rint(value), lowest, highest))

"""The world that formats place voxels in: ours is nibabel's RAS, and DICOM's and ITK's is LPS."""

import numpy as np

_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])


def from_lps(affine: np.ndarray) -> np.ndarray:
    """An affine to mm in LPS, as one to mm in RAS: right is the other way than left, anterior than posterior."""
    return _TURN @ affine

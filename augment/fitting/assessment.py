"""How well a fit went: what every fit reports, and what its user must know."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.common.batches import in_batches
from ...datasets.transforms import Images
from ..autoencoders import Autoencoder, GaussianAutoencoder
from ..posterior import Posterior
from .model import decode, encode, place_of
from .model_config import EXPLAINS_LITTLE, poor_fit_warnings
from .nearest import explained_variance, nearest_images
from .settings import FitSettings

EXPLAINS_NOTHING = 0.05


@torch.no_grad()
def posterior_of(autoencoder: GaussianAutoencoder, images: Tensor, batch_size: int = 64) -> Posterior:
    """q(z|x) of images ``(n, 1, ...)``, in float32; computed where the weights are, and put where the images are."""
    place = place_of(autoencoder)
    parts = in_batches(lambda batch: autoencoder.posterior(batch.to(place)).to(images.device), images, batch_size)
    return Posterior(torch.cat([part.mean for part in parts]), torch.cat([part.log_var for part in parts]))


def assess(autoencoder: Autoencoder, train_images: Images, validation_images: Images, posterior: Posterior | None) -> dict[str, Any]:
    """What every fit reports: explained variance, use of the latent units, and how far held-out images are from training images.

    Distances are root-mean-square differences over voxels of images in [0, 1]: the yardstick for those of samples.
    """
    mean_image = train_images.pixels.mean(dim=0)
    found: dict[str, Any] = {}
    for side, images in (("train", train_images), ("validation", validation_images)):
        reconstructions = decode(autoencoder, encode(autoencoder, images.pixels))
        found[f"explained_{side}"] = explained_variance(images.pixels, reconstructions, mean_image)
    distances, _ = nearest_images(validation_images.pixels, train_images.pixels)
    found["held_out_nearest_median"] = float(np.median(distances))
    found["held_out_nearest_smallest"] = float(distances.min())
    # A decoded image is smooth, hence nearer to everything than a real one: the yardstick for samples is what held-out images decode to.
    distances, _ = nearest_images(reconstructions, train_images.pixels)
    found["held_out_decoded_nearest_median"] = float(np.median(distances))
    if posterior is not None:
        kl = posterior.kl().mean(dim=0)
        found |= {
            "active_units": int(posterior.active_units().sum()),
            "kl": float(kl.sum()),
            "kl_per_unit": [round(float(value), 4) for value in kl],
            "posterior_std_median": float(posterior.std.median()),
        }
    return found


def fit_warnings(diagnostics: dict[str, Any], settings: FitSettings) -> list[str]:
    """What a user must know before using the model, in plain words; empty if all is well."""
    found = poor_fit_warnings(diagnostics)
    if diagnostics.get("active_units", 1) == 0:
        calibrated = settings.model_settings.get("likelihood", "calibrated") == "calibrated"
        mend = "Train for more --steps, or lower --beta." if calibrated else "Lower --beta, or use --likelihood calibrated."
        found.append(f"the posterior has collapsed (no latent unit depends on the image): every sample will be the same mean image. {mend}")
    elif diagnostics["explained_train"] < EXPLAINS_NOTHING:
        share = diagnostics["explained_train"]
        than = (
            f"are no better than their mean image ({share:.0%} of the variance explained)"
            if share <= 0
            else f"explain {share:.0%} of the variance"
        )
        weaker = ", lower --jitter" if (settings.training.jitter or 0) > 1 else ""
        found.append(
            f"reconstructions of the training images {than}. Train for more --steps, raise --learning-rate{weaker}, or lower --beta."
        )
    elif found and diagnostics["explained_train"] >= 2 * EXPLAINS_LITTLE:
        more = ", train with --jitter 1" if settings.training.jitter == 0 else ""
        found.append(
            f"of the training images' variance it explains {diagnostics['explained_train']:.0%}: the model has learnt its images by heart, "
            f"and samples may be close to them. Add images, lower --latent-dim{more}."
        )
    return found

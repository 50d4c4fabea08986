"""Grids of images for reconstruction.py: what was reconstructed, and what generators draw."""

import numpy as np
import torch
from _common import RESULTS

from skmeta.inspection import ImageGridDisplay

# Methods in the grid of reconstructions, and in that of samples, by what stands at their rows.
SHOWN = {
    "lasso": "lasso, cosine basis",
    "CSGM": "CSGM, generator of GANReconstructor",
    "mixture": "mixture prior",
    "GAN": "GANReconstructor",
}
DRAWN = {
    "mixture": "mixture prior",
    "GAN": "CSGM, generator of GANReconstructor",
}
N_IMAGES = 10


def drawn(model):
    """A few images as the model's prior imagines them, or None where it has none to show."""
    if hasattr(model, "decode_"):
        codes = torch.randn(N_IMAGES, model.latent_, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return model.decode_(codes).clamp(0, 1).double().numpy()
    if hasattr(model, "prior_"):
        return model._draw_images(N_IMAGES, np.random.default_rng(0)).clip(0, 1)
    return None


def draw_grids(found, test, operator, Y):
    """Write reconstruction.png and reconstruction_samples.png; return what shows them in markdown.

    Parameters
    ----------
    found : dict of str to dict
        By method: ``shown``, its reconstructions of the first test images, and ``drawn``.
    test, operator, Y
        Test images, what measured them, and the measurements.
    """
    side = round(test.shape[1] ** 0.5)
    truth = {"truth": test[:N_IMAGES], "A'y": Y[:N_IMAGES] @ operator.matrix}
    rows = {row: found[name]["shown"] for row, name in SHOWN.items()}
    save({**truth, **rows}, side, "reconstruction")
    rows = {row: found[name]["drawn"] for row, name in DRAWN.items()}
    save({"real": test[:N_IMAGES], **rows}, side, "reconstruction_samples")
    return f"""
Images of the test part, m = {Y.shape[1]}; each row from its smallest value to its largest

![reconstructions](reconstruction.png)

Real images, and images as two priors imagine them; the GAN's are those of its generator alone

![samples](reconstruction_samples.png)
"""


def save(rows, side, name):
    """One picture; each row from its smallest to its largest value."""
    display = ImageGridDisplay.from_images(
        rows, (side, side), n_images=N_IMAGES, value_range="row", cmap="gray_r"
    )
    display.figure_.savefig(RESULTS / f"{name}.png", dpi=90, bbox_inches="tight")

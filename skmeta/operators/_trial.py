"""A nonlinear function, tried out before anything is trained or reconstructed with it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skmeta.operators._forward import NO_GRADIENT, ForwardModel

# How much rows may differ from what they are alone, relative to the largest measurement.
ROUNDING = 1e-3


def try_out(
    model: ForwardModel, n_features: int, image_range: tuple[float, float] | None = None
) -> None:
    """Refuse a function that does not keep its word: ValueError.

    Parameters
    ----------
    model : ForwardModel
        The function.
    n_features : int
        Pixels of an image.
    image_range : tuple of (float, float) or None, default=None
        Smallest and largest value of an image. Without it only the shape is looked at.
    """
    if image_range is None:
        _called(model, torch.full((2, n_features), 0.5, dtype=torch.float64))
        return
    low, high = image_range
    shares = np.random.default_rng(0).random((2, n_features)) * [[1.0], [0.5]]
    typical = torch.from_numpy(low + (high - low) * shares)
    with torch.no_grad():
        together = _called(model, typical)
        alone = torch.cat([_called(model, row[None]) for row in typical])
    _finite(together, "images like those of fit")
    if (together - alone).abs().max() > ROUNDING * together.abs().max():
        raise ValueError(
            "The ForwardModel lets images see each other: it measures an image alone differently "
            "from the same one among others, or at random. Let every row go by itself (x.amax(1, "
            "keepdim=True) in place of x.max(), say), without random numbers."
        )
    _differentiated(model, typical, "images like those of fit")
    for value in sorted({low, high}):
        place = f"an image with the value {value:g} in every pixel, as images of fit have it"
        flat = torch.full((1, n_features), value, dtype=torch.float64)
        _finite(_called(model, flat), place)
        _differentiated(model, flat, place)


def _called(model: ForwardModel, images: Tensor) -> Tensor:
    try:
        measured = model._measure(images)
    except Exception as error:  # whatever a function of the user's stumbles over
        number = "1 image" if len(images) == 1 else f"{len(images)} images"
        raise ValueError(
            f"The ForwardModel failed on {number} of {images.shape[1]} pixels: "
            f"{type(error).__name__}: {error}"
        ) from error
    return model._checked(measured, images)


def _finite(measured: Tensor, place: str) -> None:
    if not torch.isfinite(measured).all():
        raise ValueError(
            f"The ForwardModel gives NaN or infinite measurements of {place}. Keep away from where "
            "it has no value: torch.log(x.clamp_min(1e-3)), say."
        )


def _differentiated(model: ForwardModel, images: Tensor, place: str) -> None:
    """Take the derivative twice over, as reconstruction does."""
    point = images.clone().requires_grad_()
    with torch.enable_grad():
        measured = _called(model, point)
        if not measured.requires_grad:
            raise ValueError(NO_GRADIENT)
        dual = torch.ones_like(measured, requires_grad=True)
        try:
            slope = torch.autograd.grad(measured, point, dual, create_graph=True)[0]
            torch.autograd.grad(slope, dual, torch.ones_like(slope))
        except RuntimeError as error:  # constants, and slopes such as torch.round's
            raise ValueError(NO_GRADIENT) from error
    if not torch.isfinite(slope).all():
        raise ValueError(
            f"The ForwardModel is infinitely steep, or its gradient NaN, at {place}. Keep away "
            "from there: torch.sqrt(x.clamp_min(1e-3)) in place of torch.sqrt(x), say. See "
            "skmeta.operators.Gamma."
        )

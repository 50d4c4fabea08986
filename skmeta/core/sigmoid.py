"""The logistic sigmoid averaged over a normal distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Up to this standard deviation the normal density is the smoother of the two curves, seen from the
# sigmoid, and the sum runs over its standardised values; beyond it over the logistic density. Steps
# are no wider than what the trapezoid rule needs.
WIDE = 2.5
STEP, REACH = 0.4, 8.0
WIDE_STEP, WIDE_REACH = 0.8, 40.0
# Where four standard deviations hold no log odds above this, nor do as many about those that count
# most, the sigmoid is an exponential.
FAR = -16.0


def expected_log_odds(mean: Tensor, variance: Tensor) -> Tensor:
    """Log odds of an event whose log odds are known up to a normal distribution.

    That is ``logit(E[sigmoid(f)])`` for ``f ~ N(mean, variance)``: to five digits, fewer where the
    rarer side has a probability under 1e-14.

    Parameters
    ----------
    mean, variance : Tensors of the same shape
        Of the log odds; a variance may be 0.
    """
    # The rarer side is a sum of positive numbers, so that it keeps its digits however rare it is.
    low, variance = -mean.abs(), variance.clamp(min=0.0)
    deviation = variance.sqrt()
    wide = deviation > WIDE
    rare = torch.empty_like(mean)
    rare[~wide] = _narrow(low[~wide], deviation[~wide])
    rare[wide] = _wide(low[wide], deviation[wide])
    far = low + variance + 4 * deviation < FAR
    rare = torch.where(far, torch.exp(low + variance / 2), rare)
    # Where even the rarer side's exponent runs out, and no further: NaN stays NaN.
    rare = rare.clamp(min=torch.finfo(rare.dtype).tiny, max=0.5)
    return torch.copysign(torch.log1p(-rare) - rare.log(), mean)


def _narrow(mean: Tensor, deviation: Tensor) -> Tensor:
    """Sum over the normal distribution: sigmoids, weighted by its density."""
    total = torch.zeros_like(mean)
    for i in range(-round(REACH / STEP), round(REACH / STEP) + 1):
        z = i * STEP
        weight = STEP * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        total += weight * torch.sigmoid(mean + z * deviation)
    return total


def _wide(mean: Tensor, deviation: Tensor) -> Tensor:
    """Sum over the logistic distribution: normal tails, weighted by its density."""
    total = torch.zeros_like(mean)
    for i in range(-round(WIDE_REACH / WIDE_STEP), round(WIDE_REACH / WIDE_STEP) + 1):
        x = i * WIDE_STEP
        weight = WIDE_STEP / (8 * math.cosh(x / 2) ** 2)
        total += weight * torch.erfc((mean + x) / (-math.sqrt(2) * deviation))
    return total

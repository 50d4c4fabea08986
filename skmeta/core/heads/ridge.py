"""Ridge regression and its Bayesian reading, batched over tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from skmeta.core.numerics import FAR_SUPPORT

# Added to the diagonal in training, relative to its mean: rows of any size have a factor.
JITTER = 1e-10
# Longest rows, in units of the root of the penalty, whose products still tell the penalty from
# rounding errors; longer ones take a singular value decomposition of the rows themselves.
SQUARED = 1e4
# The longest that this can tell, relative to one over the rounding error.
LONGEST = 1e-3


def ridge_weights(features: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """Weights of T ridge regressions, (T, p, m).

    By Woodbury's identity in the space of the rows where these are fewer than the dimensions.
    Where no gradient is needed, rows may be of any length that leaves digits to tell the penalty.

    Parameters
    ----------
    features : Tensor of shape (T, n, p)
        Padded rows are zero.
    targets : Tensor of shape (T, n, m)
        Padded rows are zero.
    penalty : Tensor of shape ()
        Positive.

    Raises
    ------
    ValueError
        If no gradient is needed, and rows are so long that rounding errors would be the answer.

    References
    ----------
    Bertinetto, Henriques, Torr and Vedaldi (2019). Meta-learning with differentiable closed-form
    solvers. Equations 4 and 6.
    """
    # In double precision: products of large rows are not positive in single precision.
    z, y, penalty = features.double(), targets.double(), penalty.double()
    if torch.is_grad_enabled():
        return _by_products(z, y, penalty, JITTER).to(features.dtype)
    refuse_far(features, penalty)
    unit = penalty.sqrt()
    return (unit_weights(z / unit, y) / unit).to(features.dtype)


def refuse_far(features: Tensor, penalty: Tensor | float = 1.0) -> None:
    """Raise a ValueError if rows are too long for their digits: see :func:`ridge_weights`."""
    length = features.double().square().sum(-1).amax() / penalty if features.numel() else 0.0
    if not length < (LONGEST / torch.finfo(features.dtype).eps) ** 2:  # NaN, too
        raise ValueError(FAR_SUPPORT)


def unit_weights(z: Tensor, y: Tensor) -> Tensor:
    """:func:`ridge_weights` of rows in double precision, where the penalty is 1."""
    one = torch.ones((), dtype=z.dtype, device=z.device)
    found = _by_products(z, y, one, 0.0)
    far = torch.nonzero(_is_long(z)).flatten()
    if len(far):
        u, s, v = torch.linalg.svd(z[far], full_matrices=False)
        shrunk = (s / (1 + s.square()))[..., None]
        found[far] = v.mT @ (shrunk * (u.mT @ y[far]))
    return found


def unit_variance(z: Tensor, query: Tensor) -> Tensor:
    """Variance of the function at ``query`` (T, n_query) in :func:`posterior_at`.

    ``z`` has no more rows than columns; all is in double precision.
    """
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    factor = torch.linalg.cholesky_ex(eye + z @ z.mT)[0]
    known = torch.linalg.solve_triangular(factor, z @ query.mT, upper=False)
    found = query.square().sum(2) - known.square().sum(1)
    far = torch.nonzero(_is_long(z)).flatten()
    if len(far):
        _, s, v = torch.linalg.svd(z[far], full_matrices=False)
        seen = query[far] @ v.mT
        # What no row has seen, by itself: the difference of the squares would have no digit left.
        unseen = query[far] - seen @ v
        left = seen.square() / (1 + s.square())[:, None]
        found[far] = unseen.square().sum(2) + left.sum(2)
    return found.clamp(min=0)


def _is_long(z: Tensor) -> Tensor:
    """Which tasks (T, n, p) have a row whose square the penalty of 1 would be lost in."""
    return (z.square().sum(2) > SQUARED**2).any(1)


def _by_products(z: Tensor, y: Tensor, penalty: Tensor, jitter: float) -> Tensor:
    if z.shape[1] < z.shape[2]:
        return z.mT @ solve(z @ z.mT, y, penalty, jitter)
    return solve(z.mT @ z, z.mT @ y, penalty, jitter)


def solve(matrix: Tensor, right: Tensor, penalty: Tensor, jitter: float = JITTER) -> Tensor:
    """Solve (matrix + penalty I) w = right for positive semi-definite matrices.

    Of a matrix that is not finite, or not positive, the answer is NaN: training says so.
    """
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    added = penalty + jitter * diagonal.detach().mean(-1, keepdim=True)
    factor, failed = torch.linalg.cholesky_ex(matrix + torch.diag_embed(added.expand_as(diagonal)))
    found = torch.cholesky_solve(right, factor)
    return torch.where((failed > 0)[..., None, None], torch.nan, found)


def posterior_at(features: Tensor, residuals: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Bayesian linear regression with unit prior and unit noise, asked at query rows.

    In the space of the rows: what training needs, where rows are few.

    Parameters
    ----------
    features : Tensor of shape (T, n, p)
        Padded rows are zero.
    residuals : Tensor of shape (T, n, m)
        Targets less the prior mean; padded rows are zero.
    query : Tensor of shape (T, n_query, p)

    Returns
    -------
    mean : Tensor of shape (T, n_query, m)
        To be added to the prior mean.
    variance : Tensor of shape (T, n_query)
        Of the function, without the noise.
    """
    # In double precision, as above; and the variance is a difference of nearly equal numbers.
    z, rest, asked = features.double(), residuals.double(), query.double()
    one = torch.ones((), dtype=z.dtype, device=z.device)
    cross = z @ asked.mT
    found = solve(z @ z.mT, torch.cat([rest, cross], 2), one)
    m = rest.shape[2]
    mean = cross.mT @ found[..., :m]
    explained = (cross * found[..., m:]).sum(1)
    variance = (asked.square().sum(2) - explained).clamp(min=0)
    return mean.to(features.dtype), variance.to(features.dtype)

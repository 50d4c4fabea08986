"""Ridge regression and its Bayesian reading, batched over tasks."""

from __future__ import annotations

import torch
from torch import Tensor

# Added to the diagonal, relative to its mean: rows of any size have a factor.
JITTER = 1e-10


def ridge_weights(features: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """Weights of T ridge regressions, (T, p, m).

    By Woodbury's identity in the space of the rows where these are fewer than the dimensions.

    Parameters
    ----------
    features : Tensor of shape (T, n, p)
        Padded rows are zero.
    targets : Tensor of shape (T, n, m)
        Padded rows are zero.
    penalty : Tensor of shape ()
        Positive.

    References
    ----------
    Bertinetto, Henriques, Torr and Vedaldi (2019). Meta-learning with differentiable closed-form
    solvers. Equations 4 and 6.
    """
    # In double precision: products of large rows are not positive in single precision.
    z, y, penalty = features.double(), targets.double(), penalty.double()
    if features.shape[1] < features.shape[2]:
        found = z.mT @ solve(z @ z.mT, y, penalty)
    else:
        found = solve(z.mT @ z, z.mT @ y, penalty)
    return found.to(features.dtype)


def solve(matrix: Tensor, right: Tensor, penalty: Tensor) -> Tensor:
    """Solve (matrix + penalty I) w = right for positive semi-definite matrices.

    Of a matrix that is not finite, or not positive, the answer is NaN: training says so.
    """
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    added = penalty + JITTER * diagonal.detach().mean(-1, keepdim=True)
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

"""The same support vector machine for one task of many rows, by first-order steps.

Where a Newton step is dear, accelerated projected gradient on the dual takes over: a step costs two
products of the rows with the weights, and a projection of every row onto the simplex.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Newton's method factorises a matrix of the rows for each class; beyond so many multiplications it
# is left to this file.
DEAR = 5e7
MOST_STEPS = 2000
# Difference of primal and dual, relative to the primal, that ends the search.
GAP = 1e-4
CHECK_EVERY = 20


def is_large(n_rows: int, n_classes: int) -> bool:
    """Whether a task is one for this file."""
    return n_classes * n_rows**3 > DEAR


def svm_duals_large(
    features: Tensor, labels: Tensor, C: float, offsets: Tensor
) -> tuple[Tensor, float]:
    """Dual coefficients of one machine (n, n_classes), to a relative gap of 1e-4. No gradient.

    Also the gap that was reached: more, where rows are so long that the steps do not suffice.

    Parameters
    ----------
    features : Tensor of shape (n, n_dimensions)
        The rows.
    labels : Tensor of shape (n, n_classes)
        One-hot; every class has a row, or may have weight.
    C : float
        Largest weight of a row.
    offsets : Tensor of shape (n, n_classes)
        Scores before the task is learned.

    References
    ----------
    Beck and Teboulle (2009). A fast iterative shrinkage-thresholding algorithm for linear inverse
    problems. Section 4.

    O'Donoghue and Candes (2015). Adaptive restart for accelerated gradient schemes. Section 3.2.
    """
    margin = 1 - labels + offsets
    b = torch.full_like(labels, 1 / labels.shape[1])
    step = 1 / (C * _largest_eigenvalue(features)).clamp(min=1e-12)
    ahead, momentum = b, 1.0
    for i in range(MOST_STEPS):
        weights = C * (features.T @ (labels - ahead))
        new = project(ahead + step * (features @ weights + margin))
        restart = ((ahead - new) * (new - b)).sum() > 0
        following = 1.0 if restart else (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new if restart else new + (momentum - 1) / following * (new - b)
        b, momentum = new, following
        if i % CHECK_EVERY == CHECK_EVERY - 1:
            gap = _gap(features, labels, margin, b, C)
            if gap < GAP:
                break
    return C * (labels - b), gap


def _gap(features: Tensor, labels: Tensor, margin: Tensor, b: Tensor, C: float) -> float:
    """Relative difference of the primal objective and the dual one."""
    weights = C * (features.T @ (labels - b))
    size = weights.square().sum()
    losses = margin + features @ weights
    own = (labels * losses).sum(1)
    primal = size / 2 + C * (losses.amax(1) - own).sum()
    dual = C * ((b * margin).sum() - (labels * margin).sum()) - size / 2
    return float((primal - dual) / primal.abs().clamp(min=1e-12))


def _largest_eigenvalue(features: Tensor) -> Tensor:
    """Of the rows' product with themselves, a little rounded up."""
    gram = features.T @ features if features.shape[1] < features.shape[0] else features @ features.T
    return 1.0001 * torch.linalg.eigvalsh(gram)[-1]


def project(rows: Tensor) -> Tensor:
    """Nearest point of the simplex, for every row (Held, Wolfe and Crowder, 1974)."""
    ordered = rows.sort(1, descending=True).values
    above = (ordered.cumsum(1) - 1) / torch.arange(1, rows.shape[1] + 1, device=rows.device)
    count = (ordered > above).sum(1, keepdim=True)
    return (rows - above.gather(1, count - 1)).clamp(min=0)

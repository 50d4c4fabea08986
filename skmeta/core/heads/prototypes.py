"""Class means on ragged supports, and distances to them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from skmeta.core.learner import NEVER
from skmeta.core.tasks import TaskRows


def prototypes(embedded: TaskRows, n_classes: int) -> tuple[Tensor, Tensor]:
    """Mean embedding of every class of every task.

    Parameters
    ----------
    embedded : TaskRows
        ``x`` of shape (n_rows, n_dimensions), ``y`` class numbers below ``n_classes``.
    n_classes : int
        Columns to make.

    Returns
    -------
    means : Tensor of shape (T, n_classes, n_dimensions)
        Zero where a task lacks the class.
    present : bool Tensor of shape (T, n_classes)
        Whether the task has the class.
    """
    assert embedded.y is not None
    n_tasks, n_dimensions = embedded.n_tasks, embedded.x.shape[1]
    cell = embedded.task_of_row * n_classes + embedded.y
    sums = embedded.x.new_zeros(n_tasks * n_classes, n_dimensions)
    sums = sums.index_add(0, cell, embedded.x)
    counts = torch.bincount(cell, minlength=n_tasks * n_classes)
    means = sums / counts.clamp(min=1).unsqueeze(1)
    return means.reshape(n_tasks, n_classes, n_dimensions), (counts > 0).reshape(n_tasks, n_classes)


def whitening(embedded: TaskRows, means: Tensor, shrinkage: Tensor) -> Tensor:
    """What makes the rows of a task scatter alike in all directions around their class means.

    The covariance within classes, S, is shrunk towards the identity, the more the fewer rows there
    are: (n S + a I) / (n + a), with n the rows less the classes. (Bateni et al., 2020, shrink with
    fixed weights.)

    Parameters
    ----------
    embedded, means : TaskRows and Tensor
        As for :func:`prototypes`, and what it gives.
    shrinkage : Tensor
        How many rows the identity counts for, a.

    Returns
    -------
    Tensor of shape (T, n_dimensions, n_dimensions)
        The inverse of the triangular root of the covariance.
    """
    assert embedded.y is not None
    residuals = embedded.x - means[embedded.task_of_row, embedded.y]
    padded = TaskRows(residuals, embedded.y, embedded.offsets).padded()
    x = padded.x if padded.mask is None else padded.x * padded.mask.unsqueeze(2)
    n_classes = means.shape[1]
    cells = torch.bincount(
        embedded.task_of_row * n_classes + embedded.y, minlength=embedded.n_tasks * n_classes
    )
    n_present = (cells > 0).reshape(-1, n_classes).sum(1)
    n_free = (embedded.sizes.to(x.device) - n_present).clamp(min=0).to(x)[:, None, None]
    identity = torch.eye(x.shape[2], dtype=x.dtype, device=x.device)
    # n S is the sum of squares. Where no class has two rows, both are zero.
    covariance = (x.mT @ x + shrinkage * identity) / (n_free + shrinkage)
    root, failed = torch.linalg.cholesky_ex(covariance)
    root = torch.where(failed[:, None, None] > 0, torch.nan, root)  # it overflowed
    return torch.linalg.solve_triangular(root, identity.expand_as(root), upper=False)


def log_scores(
    embedded: TaskRows,
    means: Tensor,
    present: Tensor,
    distance: str,
    scale: Tensor,
    whiten: Tensor | None = None,
) -> Tensor:
    """Scores of every row for the classes of its task: (n_rows, n_classes), before a softmax.

    Parameters
    ----------
    embedded : TaskRows
        ``x`` of shape (n_rows, n_dimensions).
    means, present : Tensors
        As :func:`prototypes` gives them.
    distance : {"euclidean", "cosine", "mahalanobis"}
        Minus the squared Euclidean distance (Snell et al., 2017, equation 2), the cosine, or minus
        the squared distance after whitening.
    scale : Tensor
        Inverse temperature.
    whiten : Tensor or None, default=None
        As :func:`whitening` gives it, for the last.
    """
    padded = TaskRows(embedded.x, None, embedded.offsets).padded()
    if distance == "cosine":
        scores = F.normalize(padded.x, dim=-1) @ F.normalize(means, dim=-1).mT
    else:
        x = padded.x
        if whiten is not None:
            x, means = x @ whiten.mT, means @ whiten.mT
        rows = x.square().sum(-1, keepdim=True)
        centres = means.square().sum(-1).unsqueeze(1)
        scores = 2 * (x @ means.mT) - rows - centres
    scores = torch.where(present.unsqueeze(1), scale * scores, NEVER)
    return padded.flat(scores)

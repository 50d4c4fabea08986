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


def log_scores(
    embedded: TaskRows, means: Tensor, present: Tensor, distance: str, scale: Tensor
) -> Tensor:
    """Scores of every row for the classes of its task: (n_rows, n_classes), before a softmax.

    Parameters
    ----------
    embedded : TaskRows
        ``x`` of shape (n_rows, n_dimensions).
    means, present : Tensors
        As :func:`prototypes` gives them.
    distance : {"euclidean", "cosine"}
        Minus the squared Euclidean distance (Snell et al., 2017, equation 2), or the cosine.
    scale : Tensor
        Inverse temperature.
    """
    padded = TaskRows(embedded.x, None, embedded.offsets).padded()
    if distance == "cosine":
        scores = F.normalize(padded.x, dim=-1) @ F.normalize(means, dim=-1).mT
    else:
        rows = padded.x.square().sum(-1, keepdim=True)
        centres = means.square().sum(-1).unsqueeze(1)
        scores = 2 * (padded.x @ means.mT) - rows - centres
    scores = torch.where(present.unsqueeze(1), scale * scores, NEVER)
    return padded.flat(scores)

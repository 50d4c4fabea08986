"""Rows with labels, and priors, for the tests of logistic regression."""

import math

import torch

from skmeta.core.heads.logistic import Labelled
from skmeta.core.tasks import TaskRows


def draw_rows(sizes, n_classes, d=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), d, dtype=torch.float64, generator=generator)
    y = torch.randint(n_classes, (sum(sizes),), generator=generator)
    return TaskRows.from_sizes(x, y, torch.tensor(sizes))


def draw_prior(q, seed=0):
    """A mean and a dense root."""
    generator = torch.Generator().manual_seed(seed + 100)
    mean = 0.5 * torch.randn(q, dtype=torch.float64, generator=generator)
    root = torch.randn(q, q, dtype=torch.float64, generator=generator) / math.sqrt(q)
    return mean, root + torch.eye(q, dtype=torch.float64)


def levels(y):
    """Tasks (T, n) without columns: a constant and labels."""
    y = torch.as_tensor(y)
    return Labelled(torch.ones(*y.shape, 1).double(), y, torch.ones(y.shape).double())

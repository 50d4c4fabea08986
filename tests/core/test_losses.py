"""Losses against their definitions, and slopes against autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skmeta.core.losses import (
    NEVER,
    absolute_error,
    class_loss,
    huber,
    per_row,
    per_row_of_classes,
    poisson,
    quantile_loss,
    squared_error,
)

NUMBERS = {
    "squared": (squared_error, lambda o, y: (o - y) ** 2),
    "absolute": (absolute_error, lambda o, y: abs(o - y)),
    "huber": (huber, lambda o, y: (o - y) ** 2 / 2 if abs(o - y) < 1 else abs(o - y) - 0.5),
    "poisson": (
        poisson,
        lambda o, y: math.exp(o) - y + (y * math.log(y) - y * o if y > 0 else 0.0),
    ),
    "quantile": (quantile_loss(0.9), lambda o, y: 0.9 * (y - o) if y > o else 0.1 * (o - y)),
}


@pytest.mark.parametrize("name", NUMBERS)
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 4)), min_size=1, max_size=6))
def test_losses_of_numbers(name, pairs):
    loss, definition = NUMBERS[name]
    outputs = torch.tensor([[o] for o, _ in pairs], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[y] for _, y in pairs], dtype=torch.float64)
    values = loss(outputs, targets)
    wanted = torch.tensor([[definition(o, y)] for o, y in pairs], dtype=torch.float64)
    torch.testing.assert_close(values, wanted, rtol=1e-9, atol=1e-9)
    smooth = ((outputs - targets).abs() > 1e-9).flatten()  # no derivative at a kink
    (slope,) = torch.autograd.grad(values.sum(), outputs)
    torch.testing.assert_close(slope[smooth], loss.slope(outputs, targets)[smooth])


@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)])
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_loss_of_classes(weight, n_tasks, n_rows, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n_tasks, n_rows, 3, dtype=torch.float64, generator=generator)
    scores.requires_grad_()
    labels = torch.randint(0, 3, (n_tasks, n_rows), generator=generator)
    loss = class_loss(weight)
    values = loss(scores, labels)
    for t in range(n_tasks):
        for i in range(n_rows):
            label = int(labels[t, i])
            alone = scores[t, i].logsumexp(0) - scores[t, i, label]
            alone = alone if weight is None else alone * weight[label]
            torch.testing.assert_close(values[t, i], alone)
    (slope,) = torch.autograd.grad(values.sum(), scores)
    torch.testing.assert_close(slope, loss.slope(scores, labels))


def test_the_users_loss_of_numbers_sees_plain_rows():
    loss = per_row(nn.SmoothL1Loss(reduction="none"))
    outputs, targets = torch.randn(2, 3, 2), torch.randn(2, 3, 2)
    wanted = nn.functional.smooth_l1_loss(outputs, targets, reduction="none")
    torch.testing.assert_close(loss(outputs, targets), wanted)

    def of_rows(o, y):
        assert o.shape == y.shape == (6, 2)
        return (o - y).abs().sum(1)

    torch.testing.assert_close(per_row(of_rows)(outputs, targets), (outputs - targets).abs().sum(2))


def test_the_users_loss_of_classes_sees_only_classes_that_a_task_has():
    smooth = nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none")
    scores = torch.randn(2, 2, 3)
    scores[1, :, 2] = NEVER
    labels = torch.tensor([[0, 2], [1, 0]])
    values = per_row_of_classes(smooth)(scores, labels)
    torch.testing.assert_close(values[0], smooth(scores[0], labels[0]))
    torch.testing.assert_close(values[1], smooth(scores[1, :, :2], labels[1]))


def test_weights_inside_the_users_loss_follow_the_precision():
    weighted = per_row_of_classes(nn.CrossEntropyLoss(torch.tensor([1.0, 3.0]), reduction="none"))
    for dtype in (torch.float64, torch.float32):
        assert weighted(torch.zeros(2, 2, dtype=dtype), torch.tensor([0, 1])).dtype == dtype


@pytest.mark.parametrize("loss", [lambda o, y: (o - y).mean(), lambda o, y: 1.0])
def test_a_loss_that_is_one_number_is_refused(loss):
    with pytest.raises(ValueError, match="number for every row"):
        per_row(loss)(torch.zeros(3, 1), torch.zeros(3, 1))

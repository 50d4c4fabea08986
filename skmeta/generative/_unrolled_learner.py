"""Reconstruction from pairs by a learned iterative scheme, under an operator found from few."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from skmeta.core.inner import task_losses
from skmeta.core.learner import Learner, State
from skmeta.core.positive import Positive
from skmeta.core.tasks import Episodes, Padded, TaskRows

# Numbers that the operators of a batch of tasks may take.
BATCH_NUMBERS = 2**24
# Power iterations that tell how long a gradient step may be.
POWER_ITERATIONS = 12
TINY = 1e-9


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Element-wise."""
    return (outputs - targets).square()


class UnrolledLearner(Learner):
    """Every task has a linear operator; images are found by steps and a net that all tasks share.

    The operator of a task, with a constant, is ridge regression of its measurements on its images,
    shrunken towards an operator that all tasks share. From zero, an iteration goes down the misfit
    by a learned share of the longest safe step, and adds a learned correction.

    Parameters
    ----------
    net : Module
        From an image and its last step (n, 2 n_pixels) to a correction (n, n_pixels).
    n_measurements, n_pixels : int
        Sizes.
    n_iterations : int
        How many.
    """

    def __init__(self, net: nn.Module, n_measurements: int, n_pixels: int, n_iterations: int):
        super().__init__()
        self.net = net
        self.n_pixels = n_pixels
        self.common = nn.Parameter(torch.zeros(n_measurements, n_pixels + 1))
        self.penalty = Positive(torch.tensor(1.0))
        self.steps = nn.Parameter(torch.ones(n_iterations))
        self.gains = nn.Parameter(torch.full((n_iterations,), 0.1))

    @property
    def max_tasks(self) -> int:
        """Tasks at a time: each has an operator of its own."""
        return max(1, min(512, BATCH_NUMBERS // self.common.numel()))

    def episode_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Mean squared error of images under the operators that the supports tell."""
        operators = self._operators(episodes.support.padded())
        query = episodes.query.padded()
        return task_losses(squared_error, self._iterate(operators, query.x), query).mean()

    def condition(self, support: TaskRows) -> State:
        """Operators (T, n_measurements, n_pixels + 1)."""
        with torch.no_grad():
            return {"operator": self._operators(support.padded())}

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Images of the rows of T tasks."""
        padded = query.padded()
        with torch.no_grad():
            return padded.flat(self._iterate(state["operator"], padded.x))

    def _operators(self, support: Padded) -> Tensor:
        """Ridge regression towards the common operator, in its cheaper form."""
        assert support.y is not None
        images = torch.cat([support.y, torch.ones_like(support.y[..., :1])], 2)
        if support.mask is not None:
            images = images * support.mask.unsqueeze(2)
            left = (support.x - images @ self.common.T) * support.mask.unsqueeze(2)
        else:
            left = support.x - images @ self.common.T
        n, p = images.shape[1:]
        eye = torch.eye(min(n, p)).to(images)
        if n < p:
            factor = torch.linalg.cholesky(images @ images.mT + self.penalty() * eye)
            change = torch.cholesky_solve(left, factor).mT @ images
        else:
            factor = torch.linalg.cholesky(images.mT @ images + self.penalty() * eye)
            change = torch.cholesky_solve(images.mT @ left, factor).mT
        return self.common + change

    def _iterate(self, operators: Tensor, measured: Tensor) -> Tensor:
        """Images (T, n, n_pixels) of measurements (T, n, n_measurements)."""
        A, constant = operators[..., : self.n_pixels], operators[..., self.n_pixels]
        y = measured - constant.unsqueeze(1)
        longest = 1 / (_largest_square(A) + TINY)[:, None, None]
        x = y.new_zeros(*y.shape[:2], self.n_pixels)
        for step, gain in zip(self.steps, self.gains, strict=True):
            move = longest * ((y - x @ A.mT) @ A)
            x = x + step * move
            x = x + gain * self.net(torch.cat([x, move], 2).flatten(0, 1)).reshape(x.shape)
        return x


def _largest_square(A: Tensor) -> Tensor:
    """Square of the largest singular value of every matrix, nearly: (T,)."""
    v = A.new_ones(len(A), A.shape[2], 1)
    for _ in range(POWER_ITERATIONS):
        v = A.mT @ (A @ v)
        v = v / (v.norm(dim=1, keepdim=True) + TINY)
    return (A @ v).square().sum((1, 2))

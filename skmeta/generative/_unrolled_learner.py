"""Reconstruction from pairs by a learned iterative scheme, under an operator found from few."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator, Tensor, nn

from skmeta.core.inner import task_losses
from skmeta.core.learner import Learner, State
from skmeta.core.tasks import Episodes, Padded, TaskRows
from skmeta.generative._prior import shrunk_covariance
from skmeta.generative._unrolled_start import what_operators_share

# Numbers that the operators of a batch of tasks may take.
BATCH_NUMBERS = 2**24
# Steps that push the first image into the range.
RANGE_STEPS = 20
# Power iterations that tell how long these may be, and by how much they may miss.
POWER_ITERATIONS, MARGIN = 15, 1.2
TINY = 1e-9


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Element-wise."""
    return (outputs - targets).square()


class UnrolledLearner(Learner):
    """Every task has a linear operator; a net that all tasks share corrects the best linear image.

    The operator of a task, with a constant, is ridge regression of its measurements on its images,
    shrunken towards what operators have in common; what it leaves open counts as noise. The first
    image is the posterior mean under a Gaussian with the covariance of all images, pushed into
    their range. An iteration corrects it by the net, as far as the measurements leave it open: a
    correction passes in full where nothing was measured, and not at all where all is known.

    Training also draws operators from what the supports leave open, and measures images with them:
    so the net meets operators that are known exactly, and more of them than there are.

    Parameters
    ----------
    net : Module
        From an image and the standard deviations of its pixels (n, 2 n_pixels) to a correction
        (n, n_pixels).
    n_measurements, n_pixels : int
        Sizes.
    n_iterations : int
        How many.
    """

    common: Tensor
    noise: Tensor
    spread: Tensor
    covariance: Tensor
    mean: Tensor
    bounds: Tensor

    def __init__(self, net: nn.Module, n_measurements: int, n_pixels: int, n_iterations: int):
        super().__init__()
        self.net = net
        self.n_pixels = n_pixels
        # In closed form, before training.
        self.register_buffer("common", torch.zeros(n_measurements, n_pixels + 1))
        self.register_buffer("noise", torch.tensor(0.01))
        self.register_buffer("spread", torch.tensor(1.0 / n_pixels))
        self.register_buffer("covariance", torch.eye(n_pixels))
        self.register_buffer("mean", torch.zeros(n_pixels))
        self.register_buffer("bounds", torch.tensor([[-math.inf], [math.inf]]).repeat(1, n_pixels))
        # No correction at first: training starts from the closed form.
        self.gains = nn.Parameter(torch.zeros(n_iterations))

    @property
    def max_tasks(self) -> int:
        """Tasks at a time: each has an operator and a covariance of its own."""
        return max(1, min(512, BATCH_NUMBERS // max(self.common.numel(), self.n_pixels**2)))

    def start_from(self, rows: TaskRows, mean: np.ndarray, clip: bool) -> None:
        """Learn, in closed form, what images and operators are like; ``mean`` is that of images."""
        assert rows.y is not None
        images = rows.y.double().cpu().numpy()
        extremes = (images + mean).min(), (images + mean).max()
        lowest, highest = extremes if clip else (-math.inf, math.inf)
        found = {
            "covariance": shrunk_covariance(images, np.ones(len(images)), len(images)),
            "mean": mean,
            "bounds": np.array([lowest - mean, highest - mean]),
            **what_operators_share(rows, mean)._asdict(),
        }
        for name, value in found.items():
            getattr(self, name).copy_(torch.as_tensor(value))

    def episode_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Mean squared error of images, under the operators that the supports tell.

        In training supports are of any size, and half of the loss is the error under operators
        drawn from what they leave open, known exactly.
        """
        support, query = episodes.support.padded(), episodes.query.padded()
        if not self.training:
            found = self._images(*self._operators(support), query.x)
            return task_losses(squared_error, found, query).mean()
        support = _some(support, generator)
        told = self._images(*self._operators(support), query.x)
        operators, measured = self._drawn(support, query, generator)
        known = self._images(operators, self.noise.expand(len(operators)), measured)
        losses = [task_losses(squared_error, images, query).mean() for images in (told, known)]
        return torch.stack(losses).mean()

    def set_prior(self, rows: TaskRows) -> None:
        """Fix the answer before any support: that of an operator of which there are no pairs.

        It is what operators share, and how far they differ counts as noise. All pairs taken as one
        task would hide that they do. One task alone is the task to answer for.
        """
        none = TaskRows.single(rows.x[:0], None if rows.y is None else rows.y[:0])
        self._prior = self.condition(rows if rows.n_tasks == 1 else none)

    def overflows(self, state: State) -> bool:
        """Whether operators are so large that images measured by them have no finite variance."""
        size = state["operator"].square().sum((1, 2)) * (1 + self.covariance.trace())
        return not bool(torch.isfinite(size).all())

    def condition(self, support: TaskRows) -> State:
        """Operators (T, n_measurements, n_pixels + 1) and the noise with their errors (T,)."""
        operators, noise = self._operators(support.padded())
        return {"operator": operators, "noise": noise}

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Images of the rows of T tasks."""
        padded = query.padded()
        with torch.no_grad():
            return padded.flat(self._images(state["operator"], state["noise"], padded.x))

    @torch.no_grad()
    def _operators(self, support: Padded, centre: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Ridge regression towards what operators share, or other centres, in its cheaper form.

        With the variance of a measurement of a typical image: the noise, and what the error of the
        operator adds.
        """
        assert support.y is not None
        centre = self.common if centre is None else centre
        images = self._with_one(support.y)
        left = support.x - images @ centre.mT
        if support.mask is not None:
            mask = support.mask.unsqueeze(2)
            images, left = images * mask, left * mask
        penalty = (self.noise / self.spread).expand(len(images))
        average = self._with_one(torch.zeros_like(self.mean))[None]
        square = torch.block_diag(self.covariance, self.noise.new_zeros(1, 1))
        square = square + average.mT @ average
        if images.shape[1] < images.shape[2]:
            factor = _factor(images @ images.mT, penalty)
            change = torch.cholesky_solve(left, factor).mT @ images
            seen = torch.linalg.solve_triangular(factor, images, upper=False)
            open_ = square.trace() - ((seen @ square) * seen).sum((1, 2))
        else:
            factor = _factor(images.mT @ images, penalty)
            change = torch.cholesky_solve(images.mT @ left, factor).mT
            open_ = penalty * (torch.cholesky_inverse(factor) * square).sum((1, 2))
        return centre + change, self.noise + self.spread * open_.clamp(min=0)

    @torch.no_grad()
    def _drawn(self, support: Padded, query: Padded, generator: Generator) -> tuple[Tensor, Tensor]:
        """Operators that the supports allow, and what they measure of the queries' images."""
        assert query.y is not None

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(self.common)

        # A draw from the posterior is one from the prior, corrected by what that gets wrong.
        noise = self.noise.sqrt()
        prior = self.common + self.spread.sqrt() * normal(len(support.x), *self.common.shape)
        noisy = Padded(support.x + noise * normal(*support.x.shape), support.y, support.mask)
        operators = self._operators(noisy, prior)[0]
        measured = self._with_one(query.y) @ operators.mT
        return operators, measured + noise * normal(*measured.shape)

    def _images(self, operators: Tensor, noise: Tensor, measured: Tensor) -> Tensor:
        """Images (T, n, n_pixels) of measurements (T, n, n_measurements)."""
        with torch.no_grad():
            A, constant = operators[..., : self.n_pixels], operators[..., self.n_pixels]
            y = measured - (constant + A @ self.mean).unsqueeze(1)
            cross = A @ self.covariance
            gain = torch.cholesky_solve(cross, _factor(cross @ A.mT, noise))
            covariance = self.covariance - cross.mT @ gain
            first = self._into_range(y @ gain, covariance)
            std = covariance.diagonal(dim1=1, dim2=2).clamp(min=TINY).sqrt()
            std = std.unsqueeze(1).expand_as(first)
        x = first
        for share in self.gains:
            seen = torch.cat([x, std], 2).flatten(0, 1)
            change = share * self.net(seen).reshape(x.shape)
            x = first + change - (change @ A.mT) @ gain
        return x.clamp(self.bounds[0], self.bounds[1])

    def _into_range(self, images: Tensor, covariance: Tensor) -> Tensor:
        """Most likely images in the range: where a pixel must move, those that vary with it do.

        As :func:`skmeta.generative._projection.project`, for many covariances at once.
        """
        step = 1 / (MARGIN * _largest_eigenvalue(covariance) + TINY)[:, None, None]
        dual = ahead = torch.zeros_like(images)
        momentum = 1.0
        for _ in range(RANGE_STEPS):
            moved = ahead + step * (images - ahead @ covariance)
            inside = (moved / step).clamp(self.bounds[0], self.bounds[1])
            before, dual = dual, moved - step * inside
            momentum, last = (1 + math.sqrt(1 + 4 * momentum**2)) / 2, momentum
            ahead = dual + (last - 1) / momentum * (dual - before)
        return (images - dual @ covariance).clamp(self.bounds[0], self.bounds[1])

    def _with_one(self, images: Tensor) -> Tensor:
        """Images with their mean, as operators see them, and a one for the constant."""
        return torch.cat([images + self.mean, torch.ones_like(images[..., :1])], -1)


def _some(support: Padded, generator: Generator) -> Padded:
    """Any number of the pairs of every task, one at least."""
    n_tasks, n = support.x.shape[:2]
    sizes = torch.full((n_tasks,), n) if support.mask is None else support.mask.sum(1).cpu()
    kept = (torch.rand(n_tasks, generator=generator) * sizes).long() + 1
    mask = torch.arange(n) < kept[:, None]
    return Padded(support.x, support.y, mask.to(support.x.device))


def _factor(matrix: Tensor, diagonal: Tensor) -> Tensor:
    """Cholesky factors of matrices (T, n, n) with a number of each added to its diagonal."""
    # No less than rounding leaves, or there is none.
    lost = torch.finfo(matrix.dtype).eps * matrix.diagonal(dim1=1, dim2=2).sum(1)
    eye = torch.eye(matrix.shape[1]).to(matrix)
    return torch.linalg.cholesky(matrix + (diagonal + lost)[:, None, None] * eye)


def _largest_eigenvalue(matrix: Tensor) -> Tensor:
    """Of every matrix, nearly: (T,)."""
    v = matrix.diagonal(dim1=1, dim2=2).unsqueeze(2)
    for _ in range(POWER_ITERATIONS):
        v = matrix @ v
        v = v / (v.norm(dim=1, keepdim=True) + TINY)
    return (matrix @ v).norm(dim=1).squeeze(1)

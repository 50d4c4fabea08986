"""Codes of images beyond the learned steps: the most probable one, its spread, a net of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from skmeta.core.forward import make_forward
from skmeta.generative._gan_learner import TasksAdam
from skmeta.generative._residuals import Residuals, factorised

Images = Callable[[Tensor], Tensor]  # codes (n, d) -> images (n, n_pixels), row by row
# Damping of Levenberg-Marquardt: where it starts, and how it changes after a good or a bad step.
DAMPING, BETTER, WORSE = 0.1, 0.2, 5.0


def levenberg_marquardt(
    images: Images, z: Tensor, y: Tensor, residuals: Residuals, n_steps: int
) -> Tensor:
    """Move codes towards the most probable ones, each image with a damping of its own.

    Every image takes the same number of steps: nothing stops for all.

    Parameters
    ----------
    images : callable
        From codes to images.
    z : Tensor of shape (n, d)
        Where to start; the prior of a code is standard normal.
    y : Tensor of shape (n, n_measurements)
        Measurements.
    residuals : Residuals
        Of the operator.
    n_steps : int
        How many steps to take.

    Returns
    -------
    Tensor of shape (n, d)
    """
    z = z.detach()
    damping = z.new_full((len(z), 1, 1), DAMPING)
    least = energy(images, z, y, residuals)
    eye = torch.eye(z.shape[1]).to(z)
    for _ in range(n_steps):
        pushed = push_columns(jacobian(images, z), images(z), residuals)
        misfit = residuals.misfit(y, images(z)).detach()
        pull = torch.einsum("nmd,nm->nd", pushed, misfit) - z
        curvature = pushed.mT @ pushed + eye
        damped = curvature + damping * torch.diag_embed(curvature.diagonal(dim1=1, dim2=2))
        factor = factorised(damped)
        new = z + torch.cholesky_solve(pull[..., None], factor)[..., 0]
        found = energy(images, new, y, residuals)
        better = found < least
        z = torch.where(better[:, None], new, z)
        least = torch.where(better, found, least)
        damping = damping * torch.where(better, BETTER, WORSE)[:, None, None]
    return z


def best_of(codes: list[Tensor], images: Images, y: Tensor, residuals: Residuals) -> Tensor:
    """Of several codes for every image, the most probable one."""
    if len(codes) == 1:
        return codes[0]
    energies = torch.stack([energy(images, z, y, residuals) for z in codes])
    stacked = torch.stack(codes)
    return stacked[energies.argmin(0), torch.arange(len(y), device=y.device)]


def laplace_std(images: Images, z: Tensor, residuals: Residuals) -> Tensor:
    """Standard deviation of every pixel around a code, by the Gauss-Newton model: (n, n_pixels)."""
    wide = jacobian(images, z)
    pushed = push_columns(wide, images(z), residuals)
    factor = factorised(pushed.mT @ pushed + torch.eye(z.shape[1]).to(z))
    # What the correction takes back of a change of the code.
    n, p, d = wide.shape
    rows = wide.mT.reshape(n * d, p)
    kept = (rows - residuals.explained(rows)).reshape(n, d, p)
    spread = torch.linalg.solve_triangular(factor, kept, upper=False)
    return (spread.square().sum(1) + residuals.variance_left()).sqrt()


def jacobian(images: Images, z: Tensor) -> Tensor:
    """Derivative of every image in its code: (n, n_pixels, d)."""
    with torch.enable_grad():
        point = z.detach().requires_grad_()
        outputs = images(point)
        dual = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = torch.autograd.grad(outputs, point, dual, create_graph=True)
        # The transpose of the transposed derivative, for all directions at once.
        basis = torch.eye(z.shape[1]).to(z)[:, None].expand(-1, *z.shape)
        (columns,) = torch.autograd.grad(pulled, dual, basis, is_grads_batched=True)
    return columns.permute(1, 2, 0)


def push_columns(wide: Tensor, x: Tensor, residuals: Residuals) -> Tensor:
    """Derivatives of images (n, n_pixels, d) as those of whitened measurements (n, m, d)."""
    n, p, d = wide.shape
    rows = wide.mT.reshape(n * d, p)
    return residuals.push(x.repeat_interleave(d, 0), rows).reshape(n, d, -1).mT.detach()


def tune_generator(
    net: nn.Module,
    decode: Images,
    z: Tensor,
    y: Tensor,
    residuals: Residuals,
    n_steps: int,
    lr: float,
) -> Tensor:
    """Images after every one has tuned a generator of its own (IAGAN, Hussein et al., 2020).

    Parameters
    ----------
    net : Module
        The generator, from codes to images in standard units; left as it is.
    decode : callable
        From the net's outputs to images.
    z, y, residuals
        As for :func:`levenberg_marquardt`.
    n_steps : int
        Steps on code and weights together.
    lr : float
        Their rate.
    """
    forward = make_forward(net)
    weights = dict(net.named_parameters())
    own = TasksAdam(weights, len(z), lr, own={"code": z})
    for _ in range(n_steps):
        with torch.enable_grad():
            now = own.weights()
            code = now.pop("code")
            x = decode(forward(now, code[:, None])[0][:, 0])
            own.step((residuals.misfit(y, x).square().sum() + code.square().sum()) / 2)
    with torch.no_grad():
        now = own.weights(detached=True)
        code = now.pop("code")
        return decode(forward(now, code[:, None])[0][:, 0])


@torch.no_grad()
def energy(images: Images, z: Tensor, y: Tensor, residuals: Residuals) -> Tensor:
    """Twice the negative log-probability of every code, up to a constant: (n,)."""
    return residuals.misfit(y, images(z)).square().sum(1) + z.square().sum(1)

"""Batch normalisation whose statistics come from a task's support rows, never from its query."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Stats = tuple[tuple[Tensor, Tensor], ...]  # (mean, variance) of every layer


class SupportNorm(nn.Module):
    """Batch norm that either measures its input (``given`` is None) or uses given statistics.

    The statistics of a task are handed in and out explicitly, because running averages written
    inside the forward pass would mix tasks, and cannot be vectorised over them. ``prior_mean`` and
    ``prior_var`` are averages over training tasks: the answer before any support, and for a support
    with one value a channel, which has no variance.

    After :meth:`split_steps` every inner step has a scale, a shift and averages of its own;
    ``step`` says which to use.
    """

    prior_mean: Tensor
    prior_var: Tensor
    step = 0

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__()
        if layer.num_features is None:
            raise ValueError("A lazy batch norm has no size yet: give its number of features.")
        self.eps = layer.eps
        self.weight, self.bias = layer.weight, layer.bias
        like = layer.weight if layer.weight is not None else torch.empty(0)
        self.register_buffer("prior_mean", like.new_zeros(layer.num_features).detach())
        self.register_buffer("prior_var", like.new_ones(layer.num_features).detach())
        self.mask: Tensor | None = None
        self.given: tuple[Tensor, Tensor] | None = None
        self.measured: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and remember the statistics used until :meth:`used` is asked."""
        shape = (1, -1) + (1,) * (x.ndim - 2)
        if self.given is None:
            self.measured = self._measure(x)
        mean, var = self.used()
        scale = torch.rsqrt(var + self.eps)
        if self.weight is None:
            return (x - mean.reshape(shape)) * scale.reshape(shape)
        scale = scale * self._of_step(self.weight)
        shift = self._of_step(self.bias)
        return (x - mean.reshape(shape)) * scale.reshape(shape) + shift.reshape(shape)

    def split_steps(self, n_steps: int) -> None:
        """Give each of ``n_steps`` steps its own scale, shift and averages, all as they are now."""
        if self.weight is not None:
            self.weight = nn.Parameter(self.weight.detach().repeat(n_steps, 1))
            self.bias = nn.Parameter(self.bias.detach().repeat(n_steps, 1))
        self.prior_mean = self.prior_mean.repeat(n_steps, 1)
        self.prior_var = self.prior_var.repeat(n_steps, 1)

    def _of_step(self, values: Tensor) -> Tensor:
        """What a step uses; later steps than there are use the last."""
        return values if values.ndim == 1 else values[min(self.step, len(values) - 1)]

    def used(self) -> tuple[Tensor, Tensor]:
        """Return the statistics of the last forward pass."""
        stats = self.given if self.given is not None else self.measured
        assert stats is not None, "a batch norm of the module did not run"
        return stats

    def _measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        axes = (0, *range(2, x.ndim))
        per_row = x[0, 0].numel()
        if self.mask is None:
            if len(x) * per_row < 2:
                return self._of_step(self.prior_mean), self._of_step(self.prior_var)
            var, mean = torch.var_mean(x, axes, correction=0)
            return mean, var
        rows = self.mask.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        count = self.mask.sum() * per_row
        mean = (x * rows).sum(axes) / count.clamp(min=1)
        centred = (x - mean.reshape(1, -1, *(1,) * (x.ndim - 2))) * rows
        var = centred.square().sum(axes) / count.clamp(min=1)
        enough = count >= 2
        prior_mean, prior_var = self._of_step(self.prior_mean), self._of_step(self.prior_var)
        return torch.where(enough, mean, prior_mean), torch.where(enough, var, prior_var)


def use_support_statistics(module: nn.Module) -> list[SupportNorm]:
    """Replace every batch norm inside ``module``, in place; return the layers in order.

    A ``module`` that is itself a batch norm cannot be replaced from within: wrap it first.
    """
    layers = []
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            new = SupportNorm(child)
            setattr(module, name, new)
            layers.append(new)
        elif isinstance(child, SupportNorm):  # of another module that shares this part
            layers.append(child)
        else:
            layers += use_support_statistics(child)
    return layers


def update_prior(
    layers: list[SupportNorm], stats: Stats, step: int = 0, momentum: float = 0.1
) -> None:
    """Move the prior statistics towards those of a batch of tasks, shape (T, channels) each."""
    with torch.no_grad():
        for layer, (mean, var) in zip(layers, stats, strict=True):
            layer.step = step
            layer._of_step(layer.prior_mean).lerp_(mean.mean(0), momentum)
            layer._of_step(layer.prior_var).lerp_(var.mean(0), momentum)

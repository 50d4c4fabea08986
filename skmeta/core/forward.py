"""Running one module with different weights for each of many tasks, at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd

from skmeta.core.norm import Stats, SupportNorm, use_support_statistics

Weights = dict[str, Tensor]  # name -> (T, *shape)

# Convolutions with weights for each task become grouped ones under ``vmap``: on a CPU these are
# faster than a loop over tasks for so few rows of each, and slower for more.
FEW_ROWS = 10

# Applied row by row and element by element, so that they may run on (T, n, features) as they are.
_ELEMENTWISE = (
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.SiLU,
    nn.GELU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.LeakyReLU,
    nn.Softplus,
    nn.Hardtanh,
    nn.Identity,
)


class TaskForward:
    """Calls ``module`` on (T, n, ...) inputs with task-batched weights: (T, n, n_outputs).

    Weights are vectorised with ``vmap`` over the FORWARD pass only, so that one
    ``torch.autograd.grad`` of the summed losses gives every task's gradient exactly. (``vmap`` of a
    gradient is silently wrong to second order for batch, layer and instance norm.) A module that
    ``vmap`` cannot take, such as a GRU, runs task by task with the same answer; so does, on ragged
    tasks, one that lets rows see each other, because padding would be seen too; and one with
    convolutions, on a CPU and for more than a few rows of each task, because it is faster.

    Parameters
    ----------
    module : Module
        Its batch norms are replaced in place by :class:`~skmeta.core.norm.SupportNorm`.
    """

    def __init__(self, module: nn.Module) -> None:
        self.norms = use_support_statistics(module)
        self._module = module
        self._names = _names_of_weights(module)
        # A call swaps weights inside the one module that all adapted estimators share.
        self._one_at_a_time = threading.RLock()
        self._vectorised = True
        self._convolves = any(isinstance(layer, _ConvNd) for layer in module.modules())
        self._rows_are_independent: bool | None = None  # not known before the first ragged batch

    def __call__(
        self,
        weights: Weights,
        x: Tensor,
        mask: Tensor | None = None,
        stats: Stats | None = None,
        step: int = 0,
    ) -> tuple[Tensor, Stats]:
        """Return the outputs, and the normalisation statistics used.

        ``stats=None`` measures them on ``x`` (rows under ``mask`` only). ``step`` is the inner step
        whose weights a norm with weights for every step uses.
        """
        # The flash kernel of attention has no second derivative on a CPU.
        with self._one_at_a_time, sdpa_kernel(SDPBackend.MATH):
            for layer in self.norms:
                layer.step = step
            dear = self._convolves and x.device.type == "cpu" and x.shape[1] > FEW_ROWS
            if len(x) == 1 or dear:
                return self._task_by_task(weights, x, mask, stats)
            if mask is not None and self._vectorised and self._padding_shows(weights, x, mask):
                return self._task_by_task(weights, x, mask, stats)
            if self._vectorised:
                axes = (0, 0, None if mask is None else 0, None if stats is None else 0)
                try:
                    single = vmap(self._single, in_dims=axes, randomness="different")
                    return single(weights, x, mask, stats)
                except (RuntimeError, ValueError):
                    # An error of the module itself comes up again, unchanged, in the loop.
                    outputs = self._task_by_task(weights, x, mask, stats)
                    self._vectorised = False
                    return outputs
            return self._task_by_task(weights, x, mask, stats)

    def _task_by_task(
        self, weights: Weights, x: Tensor, mask: Tensor | None, stats: Stats | None
    ) -> tuple[Tensor, Stats]:
        outputs, measured = [], []
        for t in range(len(x)):
            given = None if stats is None else tuple((m[t], v[t]) for m, v in stats)
            own = {name: value[t] for name, value in weights.items()}
            rows = x[t] if mask is None else x[t][mask[t]]
            out, used = self._single(own, rows, None, given)
            # Real rows come first; padded ones need an output, which nobody reads.
            outputs.append(F.pad(out, (0, 0, 0, len(x[t]) - len(rows))))
            measured.append(used)
        stacked = tuple(
            (torch.stack([m for m, _ in layer]), torch.stack([v for _, v in layer]))
            for layer in zip(*measured, strict=True)
        )
        return torch.stack(outputs), stacked

    def _padding_shows(self, weights: Weights, x: Tensor, mask: Tensor) -> bool:
        """Whether padded rows change the outputs of real ones; tried once, on one task."""
        if self._rows_are_independent is None:
            t = int(mask.sum(1).argmin())
            own = {name: value[t] for name, value in weights.items()}
            training = self._module.training
            self._module.eval()  # dropout would hide what is looked for
            try:
                with torch.no_grad():
                    padded, _ = self._single(own, x[t], mask[t], None)
                    alone, _ = self._single(own, x[t][mask[t]], None, None)
            finally:
                self._module.train(training)
            self._rows_are_independent = torch.allclose(
                padded[mask[t]], alone, rtol=1e-3, atol=1e-5
            )
        return not self._rows_are_independent

    def _single(
        self, weights: Weights, x: Tensor, mask: Tensor | None, stats: Stats | None
    ) -> tuple[Tensor, Stats]:
        for i, layer in enumerate(self.norms):
            layer.mask = mask
            layer.given = None if stats is None else stats[i]
        try:
            named = {name: value for first, value in weights.items() for name in self._names[first]}
            out = functional_call(self._module, named, (x,), tie_weights=False)
            used = tuple(layer.used() for layer in self.norms)
        finally:
            # Nothing of this call may stay behind: under vmap these tensors die with it.
            for layer in self.norms:
                layer.mask = layer.given = layer.measured = None
        return out.reshape(len(x), -1), used


class StackForward:
    """The fast path for plain stacks of linear layers and element-wise activations.

    Weights carry the task axis, so that a layer is one batched matrix product.
    """

    norms: list[SupportNorm]

    def __init__(self, layers: list[tuple[str, str | None] | Callable[[Tensor], Tensor]]) -> None:
        self.norms = []  # a plain stack has none
        self._layers = layers

    def __call__(
        self,
        weights: Weights,
        x: Tensor,
        mask: Tensor | None = None,
        stats: Stats | None = None,
        step: int = 0,
    ) -> tuple[Tensor, Stats]:
        """Return the outputs and (as a stack has no normalisation) no statistics."""
        single = len(x) == 1
        hidden = x[0] if single else x
        for layer in self._layers:
            if not isinstance(layer, tuple):
                hidden = layer(hidden)
                continue
            weight = weights[layer[0]]
            bias = None if layer[1] is None else weights[layer[1]]
            if single:
                hidden = F.linear(hidden, weight[0], None if bias is None else bias[0])
            elif bias is None:
                hidden = torch.bmm(hidden, weight.mT)
            else:
                hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.mT)
        return (hidden.unsqueeze(0) if single else hidden), ()

    @property
    def has_gradients(self) -> bool:
        """Whether :meth:`gradients` knows the derivative of every activation."""
        return all(isinstance(layer, tuple | nn.ReLU | nn.Tanh) for layer in self._layers)

    def gradients(
        self, weights: Weights, x: Tensor, slope: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """Backpropagate by hand: the gradient of every weight, in the order of ``weights``.

        Written out, the inner gradient is a handful of batched products, and differentiating
        through it (second order) costs half of what autograd's double backward does.

        Parameters
        ----------
        weights : dict of name to Tensor of shape (T, ...)
            The weights of every task.
        x : Tensor of shape (T, n, n_features)
            Rows.
        slope : callable
            From the outputs (T, n, n_outputs) to the derivative of the loss in them.

        Returns
        -------
        list of Tensor of shape (T, ...)
        """
        hidden, inputs = x, []
        for layer in self._layers:
            if isinstance(layer, tuple):
                inputs.append(hidden)
                weight = weights[layer[0]]
                if layer[1] is None:
                    hidden = torch.bmm(hidden, weight.mT)
                else:
                    hidden = torch.baddbmm(weights[layer[1]].unsqueeze(1), hidden, weight.mT)
            else:
                hidden = layer(hidden)
                inputs.append(hidden)  # both derivatives below are functions of the output
        delta, found = slope(hidden), {}
        for i in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[i]
            if isinstance(layer, tuple):
                found[layer[0]] = torch.bmm(delta.mT, inputs[i])
                if layer[1] is not None:
                    found[layer[1]] = delta.sum(1)
                if i > 0:
                    delta = torch.bmm(delta, weights[layer[0]])
            elif isinstance(layer, nn.ReLU):
                delta = torch.ops.aten.threshold_backward(delta, inputs[i], 0)
            else:
                delta = torch.ops.aten.tanh_backward(delta, inputs[i])
        return [found[name] for name in weights]


class SharedForward:
    """Calls a module whose weights all tasks share: (T, n, ...) to (T, n, n_outputs).

    Parameters
    ----------
    module : Module
        Its batch norms are replaced in place, as by :class:`TaskForward`.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._by_task = TaskForward(module)  # batch norms tell tasks apart
        self.norms = self._by_task.norms

    def __call__(
        self, x: Tensor, mask: Tensor | None = None, stats: Stats | None = None
    ) -> tuple[Tensor, Stats]:
        """Return the outputs, and the normalisation statistics used."""
        if self.norms:
            return self._by_task({}, x, mask, stats)
        return self._module(x.flatten(0, 1)).reshape(*x.shape[:2], -1), ()


def with_head(body: nn.Module, head: nn.Linear) -> nn.Sequential:
    """The body with a linear layer on top, as one flat stack where it is one already."""
    if isinstance(body, nn.Sequential) and type(body) is nn.Sequential and not _has_hooks(body):
        return nn.Sequential(*body, head)
    return nn.Sequential(nn.Sequential(body, nn.Flatten()), head)


def split_head(module: nn.Module) -> tuple[nn.Module, nn.Linear] | None:
    """The two parts of a sequential module that ends in a linear layer; None of any other."""
    if not isinstance(module, nn.Sequential) or type(module) is not nn.Sequential:
        return None
    if len(module) < 2 or _has_hooks(module):
        return None
    head = module[-1]
    return (module[:-1], head) if type(head) is nn.Linear and not _has_hooks(head) else None


def make_forward(module: nn.Module) -> TaskForward | StackForward:
    """Pick the fastest exact way to run ``module`` with task-batched weights."""
    layers = _linear_stack(module)
    if layers is None:
        return TaskForward(module)
    return StackForward(layers)


def _linear_stack(module: nn.Module) -> list | None:
    """Names and activations of a plain stack of linear layers; None if it is anything else."""
    # A subclass with a forward of its own is not a plain stack, whatever its children are.
    if type(module).forward is not nn.Sequential.forward or _has_hooks(module):
        return None
    layers: list = []
    if len({id(child) for child in module._modules.values()}) < len(module._modules):
        return None  # a layer used twice shares its weights with itself
    for name, child in module.named_children():
        if _has_hooks(child):
            return None
        if type(child) is nn.Linear:
            if not all(p.requires_grad for p in child.parameters()):
                return None
            layers.append((f"{name}.weight", f"{name}.bias" if child.bias is not None else None))
        elif type(child) in _ELEMENTWISE:
            layers.append(child)
        else:
            return None
    return layers or None


def _names_of_weights(module: nn.Module) -> dict[str, list[str]]:
    """All names of a weight that several layers share, by the first of them.

    torch's own tying puts the wrong tensors back when one layer is used under two names.
    """
    names: dict[int, list[str]] = {}
    for prefix, layer in module.named_modules():  # a layer used twice comes once
        for name, parameter in layer.named_parameters(recurse=False):
            names.setdefault(id(parameter), []).append(f"{prefix}.{name}" if prefix else name)
    return {same[0]: same for same in names.values()}


def _has_hooks(module: nn.Module) -> bool:
    # Weight norm and the like work through hooks or parametrisations, which only a call respects.
    hooks: Mapping = {**module._forward_hooks, **module._forward_pre_hooks}
    return bool(hooks) or hasattr(module, "parametrizations")

"""Batched inner loops against the naive loop over tasks, values and meta-gradients, in float64."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from skmeta.core.forward import StackForward, TaskForward, make_forward
from skmeta.core.inner import adapt_weights, task_losses
from skmeta.core.losses import squared_error
from skmeta.core.norm import SupportNorm
from skmeta.core.tasks import TaskRows

# torch says so when vmap has to take an operation apart: slower, not wrong.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")

RATE, N_STEPS = 0.05, 3


class Recurrent(nn.Module):
    """Reads a row as a sequence."""

    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(2, 5, batch_first=True)
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        hidden, _ = self.rnn(x.reshape(len(x), 3, 2))
        return self.head(hidden[:, -1])


class Branching(nn.Module):
    """Decides on its values: vmap cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, x):
        out = self.layer(x)
        return out * 2 if float(out.detach().sum()) > 0 else out - 1


class Embedded(nn.Module):
    """Takes whole numbers."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.head = nn.Linear(24, 1)

    def forward(self, x):
        return self.head(self.table(x.long().clamp(0, 6)).flatten(1))


class Attention(nn.Module):
    """Attends over the parts of a row."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        parts = x.reshape(len(x), 3, 2)
        return self.head(self.attention(parts, parts, parts, need_weights=False)[0].flatten(1))


class SeesOtherRows(nn.Module):
    """Centres a row by the rows beside it: padding would move the centre."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, x):
        return self.layer(x - x.mean(0)).tanh()


class Scaled(nn.Sequential):
    """A stack with a forward of its own: the fast path must not take it."""

    def forward(self, x):
        return 3 * super().forward(x)


def image(*layers):
    return nn.Sequential(nn.Unflatten(1, (1, 2, 3)), *layers, nn.Flatten(), nn.LazyLinear(1))


def tied():
    """One layer under two names, and one weight in two layers."""
    layer, other = nn.Linear(6, 6), nn.Linear(6, 6)
    other.weight = layer.weight
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), other, nn.Linear(6, 1))


MODULES = {
    "mlp": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)
    ),
    "no bias": lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.GELU(), nn.Linear(8, 1)),
    "linear": lambda: nn.Sequential(nn.Linear(6, 1)),
    "own forward": lambda: Scaled(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)),
    "tied": tied,
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 1)
    ),
    "conv": lambda: image(nn.Conv2d(1, 4, 2, padding=1), nn.ReLU()),
    "max-pool": lambda: image(nn.Conv2d(1, 4, 2, padding=1), nn.MaxPool2d(2)),
    "batch norm 1d": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU(), nn.Linear(8, 1)
    ),
    "running batch norm": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)
    ),
    "plain batch norm": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 1)
    ),
    "batch norm 2d": lambda: image(nn.Conv2d(1, 4, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
    "layer norm": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1)
    ),
    "group norm": lambda: image(nn.Conv2d(1, 4, 2, padding=1), nn.GroupNorm(2, 4), nn.ReLU()),
    "instance norm": lambda: image(
        nn.Conv2d(1, 4, 2, padding=1), nn.InstanceNorm2d(4, affine=True), nn.ReLU()
    ),
    "embedding": Embedded,
    "attention": Attention,
    "sees other rows": SeesOtherRows,
    "gru": lambda: Recurrent(nn.GRU),
    "lstm": lambda: Recurrent(nn.LSTM),
    "branching": Branching,
}
FALLS_BACK = {"gru", "lstm", "branching"}
STACKS = {"mlp", "no bias", "linear"}


def build(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MODULES[name]().double()
        module(torch.zeros(3, 6, dtype=torch.float64))  # lazy layers learn their size
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            layer.reset_running_stats()
    return module


def make_tasks(name, sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), 6, dtype=torch.float64, generator=generator)
    if name == "embedding":
        x = torch.randint(0, 7, (sum(sizes), 6), generator=generator).double()
    y = torch.randn(sum(sizes), 1, dtype=torch.float64, generator=generator)
    return TaskRows.from_sizes(x, y, torch.tensor(sizes))


def naive(module, support, query, *, second_order, n_steps=N_STEPS):
    """MAML as in the paper: one task at a time, torch's own layers, nothing batched.

    Batch norms run on the batch they are given: on the support in the inner loop, and on the query
    with the support's statistics, by an eval-mode layer that was shown the support alone.
    """
    module = copy.deepcopy(module)
    parameters = {n: p.detach().requires_grad_() for n, p in module.named_parameters()}
    losses, outputs = [], []
    for t in range(support.n_tasks):
        s, q = support.slice_tasks(t, t + 1), query.slice_tasks(t, t + 1)
        weights = dict(parameters)
        for _ in range(n_steps):
            module.train()
            # A copy each time: torch leaves a layer that has two names with the wrong weights.
            out = functional_call(copy.deepcopy(module), weights, (s.x,))
            loss = (out - s.y).square().mean()
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=second_order)
            weights = {
                n: w - RATE * (g if second_order else g.detach())
                for (n, w), g in zip(weights.items(), gradients, strict=True)
            }
        out = query_forward(module, weights, s.x, q.x)
        outputs.append(out)
        losses.append((out - q.y).square().mean())
    loss = torch.stack(losses).mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return torch.cat(outputs), loss, dict(zip(parameters, gradients, strict=True))


def query_forward(module, weights, support, query):
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return functional_call(copy.deepcopy(module), weights, (query,))
    # Hooks put the support's own statistics, graph and all, in place of the query's.
    inputs = {}
    handles = [
        m.register_forward_pre_hook(lambda mod, args: inputs.update({mod: args[0]})) for m in norms
    ]
    functional_call(module, weights, (support,))
    for handle in handles:
        handle.remove()
    handles = []
    for m in norms:
        z = inputs[m]
        axes = (0, *range(2, z.ndim))
        mean, var = z.mean(axes), z.var(axes, unbiased=False)
        shape = (1, -1) + (1,) * (z.ndim - 2)

        def replace(mod, args, out, mean=mean, var=var, shape=shape):
            normal = (args[0] - mean.reshape(shape)) / (var.reshape(shape) + mod.eps).sqrt()
            if mod.weight is None:
                return normal
            # functional_call has put the adapted weights into the layer for this call
            return normal * mod.weight.reshape(shape) + mod.bias.reshape(shape)

        handles.append(m.register_forward_hook(replace))
    out = functional_call(module, weights, (query,))
    for handle in handles:
        handle.remove()
    return out


def batched(module, support, query, *, second_order, n_steps=N_STEPS):
    module = copy.deepcopy(module)
    forward = make_forward(module)
    parameters = dict(module.named_parameters())
    s, q = support.padded(), query.padded()
    weights = adapt_weights(
        forward,
        parameters,
        s,
        squared_error,
        lambda step: RATE,
        n_steps,
        second_order=second_order,
    )
    stats = forward(weights, s.x, s.mask)[1] if forward.norms else None
    out, _ = forward(weights, q.x, q.mask, stats)
    loss = task_losses(squared_error, out, q).mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return q.flat(out), loss, dict(zip(parameters, gradients, strict=True)), forward


def assert_same(name, sizes, query_sizes, second_order):
    module = build(name)
    support, query = make_tasks(name, sizes), make_tasks(name, query_sizes, seed=1)
    with sdpa_kernel(SDPBackend.MATH):  # the flash kernel has no second derivative on a CPU
        expected = naive(module, support, query, second_order=second_order)
    found = batched(module, support, query, second_order=second_order)
    tight = {"rtol": 1e-10, "atol": 1e-11}
    torch.testing.assert_close(found[0], expected[0], **tight)
    torch.testing.assert_close(found[1], expected[1], **tight)
    assert found[2].keys() == expected[2].keys()
    for key, gradient in expected[2].items():
        torch.testing.assert_close(found[2][key], gradient, **tight)
    # Not equal by being zero.
    assert max(float(g.abs().max()) for g in expected[2].values()) > 1e-4
    return found[3]


@pytest.mark.parametrize("second_order", [True, False], ids=["second", "first"])
@pytest.mark.parametrize("name", MODULES)
def test_equals_the_naive_loop(name, second_order):
    forward = assert_same(name, [4, 4, 4], [5, 5, 5], second_order)
    if name in STACKS:
        assert isinstance(forward, StackForward)
    else:
        assert isinstance(forward, TaskForward)
        assert forward._vectorised == (name not in FALLS_BACK)


@pytest.mark.parametrize("name", MODULES)
def test_one_task_and_ragged_tasks_equal_the_naive_loop(name):
    assert_same(name, [5], [3], True)
    assert_same(name, [2, 6, 3], [4, 2, 3], True)


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    query=st.integers(1, 5),
    second_order=st.booleans(),
    name=st.sampled_from(["mlp", "layer norm", "conv"]),
)
def test_any_ragged_tasks(sizes, query, second_order, name):
    assert_same(name, sizes, [query + i % 2 for i in range(len(sizes))], second_order)


def test_first_order_differs_from_second_order():
    module, support, query = build("mlp"), make_tasks("mlp", [4, 4]), make_tasks("mlp", [5, 5], 1)
    first = batched(module, support, query, second_order=False)[2]
    second = batched(module, support, query, second_order=True)[2]
    assert any(not torch.allclose(first[k], second[k], rtol=1e-3) for k in first)


@pytest.mark.parametrize("name", MODULES)
def test_a_forward_leaves_the_module_as_it_was(name):
    module = build(name)
    forward = make_forward(module)
    before = {n: (id(p), p.clone(), p.requires_grad) for n, p in module.named_parameters()}
    rows = make_tasks(name, [3, 3]).padded()
    weights = {n: (p.detach() + 1).expand(2, *p.shape) for n, p in module.named_parameters()}
    forward(weights, rows.x)
    for n, p in module.named_parameters():
        assert before[n][0] == id(p) and before[n][2] == p.requires_grad
        assert torch.equal(before[n][1], p)


@pytest.mark.parametrize("n_rows", [10, 11])
def test_convolutions_answer_alike_for_few_rows_and_for_many(n_rows):
    """By grouped convolutions, and task by task."""
    net = nn.Sequential(nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 2, 3), nn.Flatten()).double()
    weights = {n: torch.randn(3, *p.shape).double() for n, p in net.named_parameters()}
    x = torch.randn(3, n_rows, 36).double()
    found, _ = make_forward(net)(weights, x)
    for t in range(3):
        own = {name: value[t] for name, value in weights.items()}
        torch.testing.assert_close(found[t], functional_call(net, own, x[t]))


def test_padding_never_leaks_even_when_it_holds_infinities():
    module = build("batch norm 1d")
    forward = make_forward(module)
    rows = make_tasks("mlp", [2, 4]).padded()
    start = {n: p.expand(2, *p.shape) for n, p in module.named_parameters()}
    losses = task_losses(squared_error, forward(start, rows.x, rows.mask)[0], rows)
    rows.y[0, 2:] = float("inf")
    again = task_losses(squared_error, forward(start, rows.x, rows.mask)[0], rows)
    assert torch.equal(losses, again)


def test_task_weight_and_max_norm():
    module = build("mlp")
    forward = make_forward(module)
    rows = make_tasks("mlp", [3, 3]).padded()
    start = dict(module.named_parameters())

    def moved(**options):
        new = adapt_weights(
            forward, start, rows, squared_error, lambda step: 1.0, 1, second_order=False, **options
        )
        return torch.cat([(new[n] - start[n]).detach().flatten(1) for n in start], 1)

    full = moved()
    halved = moved(task_weight=torch.tensor([1.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(halved[0], full[0])
    torch.testing.assert_close(halved[1], full[1] / 2)
    short = moved(max_norm=float(full[0].norm()) / 4)
    torch.testing.assert_close(short[0], full[0] / 4)
    torch.testing.assert_close(moved(max_norm=1e6), full)


def test_a_support_of_one_value_a_channel_uses_the_prior_statistics():
    layer = SupportNorm(nn.BatchNorm1d(2).double())
    layer.prior_mean.copy_(torch.tensor([1.0, 2.0]))
    out = layer(torch.tensor([[1.0, 2.0]], dtype=torch.float64))
    torch.testing.assert_close(out, torch.zeros(1, 2, dtype=torch.float64))


def test_an_error_of_the_module_comes_up_unchanged():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            raise ValueError("no such door")

    forward = make_forward(Broken())
    with pytest.raises(ValueError, match="no such door"):
        forward({"weight": torch.zeros(2, 1)}, torch.zeros(2, 3, 2))


def test_adapted_estimators_share_one_module_safely_in_threads():
    module = build("layer norm")
    forward = make_forward(module)
    rows = make_tasks("layer norm", [200])
    many = [
        {n: (p.detach() + i).unsqueeze(0) for n, p in module.named_parameters()} for i in range(6)
    ]
    alone = [forward(weights, rows.x[None])[0] for weights in many]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: forward(many[i % 6], rows.x[None])[0], range(120)))
    for i, out in enumerate(together):
        assert torch.equal(out, alone[i % 6])


def test_steps_that_nothing_differentiates_are_forgotten():
    module = build("mlp")
    forward, rows = make_forward(module), make_tasks("mlp", [4, 4]).padded()
    start = dict(module.named_parameters())
    found = [
        adapt_weights(
            forward,
            start,
            rows,
            squared_error,
            lambda step: RATE,
            3,
            second_order=False,
            differentiable=kept,
        )
        for kept in (True, False)
    ]
    for name in start:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-12, atol=1e-14)
    depth, node = 0, found[1]["0.weight"].grad_fn
    while node is not None:
        node, depth = (node.next_functions or ((None, 0),))[0][0], depth + 1
    assert depth < 6

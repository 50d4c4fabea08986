"""ANIL, Reptile, MAML++ and heads from prototypes against loops over tasks, rows and steps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from skmeta.core.forward import with_head
from skmeta.core.learner import NEVER
from skmeta.core.losses import class_loss, squared_error
from skmeta.core.tasks import Episodes, TaskRows
from skmeta.nets import mlp
from skmeta.optimization._class_learner import OwnClassesLearner
from skmeta.optimization._learner import MAMLLearner
from skmeta.optimization._minibatches import Minibatches

N_STEPS = 3
LR = 0.1
OPTIONS = {
    "inner_lr": LR,
    "n_inner_steps": N_STEPS,
    "n_adapt_steps": N_STEPS,
    "n_support": 1,
}


def make(kind, module, rates=False, **options):
    """A learner in double precision, with rates that differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {**OPTIONS, "learn_inner_lr": rates, **options}
        if kind == "own":
            learner = OwnClassesLearner(module, 5, loss=class_loss(), **settings)
        else:
            learner = MAMLLearner(module, loss=squared_error, **settings)
        learner = learner.double()
        with torch.no_grad():
            for rate in learner.rates:
                rate.mul_(torch.rand_like(rate) + 0.5)
    return learner


def net(n_outputs, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mlp([2, 6, 5, n_outputs], "tanh")


def normed(n_outputs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, n_outputs))


def numbers(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), 2, dtype=torch.float64, generator=generator)
    y = torch.randn(sum(sizes), 1, dtype=torch.float64, generator=generator)
    return TaskRows.from_sizes(x, y, torch.tensor(sizes))


def labelled(labels, seed):
    """Rows with the given labels, a list a task."""
    sizes = [len(task) for task in labels]
    rows = numbers(sizes, seed)
    return TaskRows(rows.x, torch.tensor(sum(labels, [])), rows.offsets)


def each_task(episodes):
    for t in range(episodes.n_tasks):
        yield episodes.support.slice_tasks(t, t + 1), episodes.query.slice_tasks(t, t + 1)


def same_gradients(learner, loss, naive):
    """Values and gradients of every parameter agree."""
    torch.testing.assert_close(loss, naive, rtol=1e-9, atol=1e-12)
    parameters = list(learner.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    wanted = torch.autograd.grad(naive, parameters, allow_unused=True)
    assert any(g is not None and g.abs().max() > 0 for g in wanted)
    for a, b in zip(found, wanted, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(
            *(zero if g is None or not g.any() else g for g in (a, b)), rtol=1e-6, atol=1e-10
        )


# ---------------------------------------------------------------- ANIL


@pytest.mark.parametrize("rates", [False, "layer", "parameter", "step"])
@pytest.mark.parametrize("build", [net, normed])
@pytest.mark.parametrize("sizes", [[4, 4], [2, 5, 3]])
def test_anil_adapts_the_last_layer_alone(rates, build, sizes):
    learner = make("shared", build(1), rates, algorithm="anil")
    episodes = Episodes(numbers(sizes, 1), numbers(sizes[::-1], 2))
    losses = []
    for support, query in each_task(episodes):
        features, stats = run_body(learner.module[:-1], support.x)
        of_query, _ = run_body(learner.module[:-1], query.x, stats)
        w, b = learner.module[-1].weight, learner.module[-1].bias
        for step in range(N_STEPS):
            loss = (features @ w.T + b - support.y).square().mean()
            dw, db = torch.autograd.grad(loss, [w, b], create_graph=True)
            rw, rb = anil_rates(learner, rates, step, w.numel())
            w, b = w - rw.reshape(w.shape if rw.ndim else ()) * dw, b - rb * db
        losses.append((of_query @ w.T + b - query.y).square().mean())
    loss = learner.episode_loss(episodes, torch.Generator())
    same_gradients(learner, loss, torch.stack(losses).mean())


def run_body(layers, x, stats=None):
    """Layer by layer; batch norms by hand, with the statistics given or those of x."""
    for layer in layers:
        if hasattr(layer, "prior_mean"):
            stats = stats or (x.mean(0), x.var(0, unbiased=False))
            x = (x - stats[0]) / (stats[1] + layer.eps).sqrt() * layer.weight + layer.bias
        else:
            x = layer(x)
    return x, stats


def anil_rates(learner, kind, step, n_weights):
    if not kind:
        rate = torch.tensor(LR, dtype=torch.float64)
        return rate, rate
    if kind == "parameter":
        return learner.rates[0][:n_weights], learner.rates[0][n_weights:]
    rate = learner.rates[0][step if kind == "step" else 0, 0]
    return rate, rate


def test_anil_takes_a_module_that_is_no_stack():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(2, 5), nn.Linear(5, 1)

        def forward(self, x):
            return self.last(torch.tanh(self.first(x)))

    whole = Two()
    stack = nn.Sequential(whole.first, nn.Tanh(), whole.last)
    episodes = Episodes(numbers([4, 3], 1), numbers([2, 2], 2))
    found, wanted = (
        make("shared", m, algorithm="anil").episode_loss(episodes, torch.Generator())
        for m in (whole, stack)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


# ---------------------------------------------------------------- Reptile


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_minibatches_go_round_in_the_rows_of_a_task(sizes, step):
    support, query = [s for s, _ in sizes], [q for _, q in sizes]
    episodes = Episodes(numbers(support, 1), numbers(query, 2))
    batches = Minibatches(episodes, torch.Generator().manual_seed(0))
    rows = [torch.cat([s.x, q.x]) for s, q in each_task(episodes)]
    for t, n in enumerate(support):
        seen = []
        for i in range(step + 1):
            batch = batches(i)
            real = batch.x[t] if batch.mask is None else batch.x[t][batch.mask[t]]
            assert len(real) == n
            seen += [int((rows[t] == r).all(1).nonzero()) for r in real]
        # No row comes again before all have come.
        total = len(rows[t])
        for first in range(0, len(seen), total):
            window = seen[first : first + total]
            assert len(set(window)) == len(window)


@pytest.mark.parametrize("build", [net, normed])
@pytest.mark.parametrize("sizes", [[3, 3], [5, 4, 3]])
def test_reptile_moves_the_start_to_the_mean_of_adapted_weights(build, sizes):
    learner = make("shared", build(1), algorithm="reptile")
    episodes = Episodes(numbers(sizes, 1), numbers([4] * len(sizes), 2))
    loss = learner.episode_loss(episodes, torch.Generator().manual_seed(7))
    found = torch.autograd.grad(loss, list(learner.module.parameters()))
    batches = Minibatches(episodes, torch.Generator().manual_seed(7))
    start = {n: p.detach() for n, p in learner.module.named_parameters()}
    ends = []
    for t in range(len(sizes)):
        weights = {n: p.clone().requires_grad_() for n, p in start.items()}
        for step in range(N_STEPS):
            batch = batches(step)
            keep = slice(None) if batch.mask is None else batch.mask[t]
            out, _ = run_layers(learner.module, weights, batch.x[t][keep])
            error = (out - batch.y[t][keep]).square().mean()
            slopes = torch.autograd.grad(error, list(weights.values()))
            weights = {
                n: (w - LR * g).detach().requires_grad_()
                for (n, w), g in zip(weights.items(), slopes, strict=True)
            }
        ends.append(weights)
    for (name, p), g in zip(start.items(), found, strict=True):
        torch.testing.assert_close(
            g, p - torch.stack([w[name] for w in ends]).mean(0), rtol=1e-6, atol=1e-12
        )


def run_layers(module, weights, x, stats=None):
    """A sequential module with the given weights, batch norms by hand."""
    for i, layer in enumerate(module):
        own = {n.split(".")[1]: w for n, w in weights.items() if n.startswith(f"{i}.")}
        if hasattr(layer, "prior_mean"):
            stats = stats or (x.mean(0), x.var(0, unbiased=False))
            x = (x - stats[0]) / (stats[1] + layer.eps).sqrt() * own["weight"] + own["bias"]
        else:
            x = functional_call(layer, own, (x,)) if own else layer(x)
    return x, stats


# ---------------------------------------------------------------- MAML++


@pytest.mark.parametrize("progress", [0.0, 0.04, 0.099, 0.2])
def test_early_losses_fade(progress):
    learner = make("shared", net(1), algorithm="maml", multi_step_loss=True)
    learner.progress = progress
    episodes = Episodes(numbers([3, 4], 1), numbers([3, 2], 2))
    after = [[] for _ in range(N_STEPS)]
    for support, query in each_task(episodes):
        weights = dict(learner.module.named_parameters())
        for step in range(N_STEPS):
            error = (run_layers(learner.module, weights, support.x)[0] - support.y).square().mean()
            slopes = torch.autograd.grad(error, list(weights.values()), create_graph=True)
            weights = {n: w - LR * g for (n, w), g in zip(weights.items(), slopes, strict=True)}
            out, _ = run_layers(learner.module, weights, query.x)
            after[step].append((out - query.y).square().mean())
    early = max((1 - progress / 0.1), 0.03) / N_STEPS if progress < 0.1 else 0.0
    share = [early] * (N_STEPS - 1) + [1 - early * (N_STEPS - 1)]
    naive = sum(w * torch.stack(losses).mean() for w, losses in zip(share, after, strict=True))
    same_gradients(learner, learner.episode_loss(episodes, torch.Generator()), naive)
    learner.eval()  # held-out tasks are judged on the last step alone
    with torch.no_grad():
        found = learner.episode_loss(episodes, torch.Generator())
    torch.testing.assert_close(found, torch.stack(after[-1]).mean().detach(), rtol=1e-9, atol=0)


def test_derivative_order_rises_after_a_third_of_training():
    episodes = Episodes(numbers([3, 4], 1), numbers([3, 2], 2))

    def slope(progress=0.0, **options):
        learner = make("shared", net(1), **options)
        learner.progress = progress
        loss = learner.episode_loss(episodes, torch.Generator())
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, list(learner.parameters()))]
        )

    annealed = {"algorithm": "maml", "derivative_order_annealing": True}
    first, second = slope(algorithm="fomaml"), slope(algorithm="maml")
    assert not torch.allclose(first, second, rtol=1e-3)
    torch.testing.assert_close(slope(0.3, **annealed), first)
    torch.testing.assert_close(slope(0.34, **annealed), second)


@pytest.mark.parametrize("sizes", [[4, 4], [3, 5]])
def test_every_step_has_its_own_norm(sizes):
    learner = make("shared", normed(1), algorithm="maml", per_step_norm=True)
    norm = learner.module[1]
    assert norm.weight.shape == norm.prior_mean.shape == (N_STEPS + 1, 6)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for p in norm.parameters():
            p += torch.rand(p.shape, generator=generator, dtype=p.dtype)
    before = norm.prior_mean.clone()
    episodes = Episodes(numbers(sizes, 1), numbers([3, 3], 2))
    adapting = [n for n, _ in learner.module.named_parameters() if not n.startswith("1.")]
    losses, means = [], torch.zeros(N_STEPS + 1, 6, dtype=torch.float64)

    def run(weights, step, x, stats=None):
        of_step = {"1.weight": norm.weight[step], "1.bias": norm.bias[step]}
        return run_layers(learner.module, {**weights, **of_step}, x, stats)

    for support, query in each_task(episodes):
        weights = {n: p for n, p in learner.module.named_parameters() if n in adapting}
        for step in range(N_STEPS):
            out, stats = run(weights, step, support.x)
            means[step] += stats[0].detach() / 2
            error = (out - support.y).square().mean()
            slopes = torch.autograd.grad(error, list(weights.values()), create_graph=True)
            weights = {n: w - LR * g for (n, w), g in zip(weights.items(), slopes, strict=True)}
        _, stats = run(weights, N_STEPS, support.x)
        means[N_STEPS] += stats[0].detach() / 2
        losses.append((run(weights, N_STEPS, query.x, stats)[0] - query.y).square().mean())
    loss = learner.episode_loss(episodes, torch.Generator())
    torch.testing.assert_close(norm.prior_mean, before + 0.1 * (means - before))
    same_gradients(learner, loss, torch.stack(losses).mean())
    # What is adapted in use is what training saw.
    learner.eval()
    state = learner.condition(episodes.support)
    out = learner.predict(state, episodes.query)
    errors = [
        (out[a:b] - episodes.query.y[a:b]).square().mean()
        for a, b in zip(episodes.query.offsets, episodes.query.offsets[1:], strict=False)
    ]
    torch.testing.assert_close(torch.stack(errors), torch.stack(losses).detach())


# ---------------------------------------------------------------- classes of a task's own

LABELS = [
    [[0, 0, 1, 1], [0, 1, 0, 1]],
    [[0, 1, 2, 2, 0], [0, 1], [0, 0, 0]],  # ragged, unbalanced, and one of one class
]


@pytest.mark.parametrize("rates", [False, "layer", "parameter", "step"])
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
@pytest.mark.parametrize("labels", LABELS)
def test_head_starts_from_class_means(rates, algorithm, labels):
    learner = make("own", net(5), rates, algorithm=algorithm)
    support = labelled(labels, 1)
    query = labelled([sorted(set(task)) for task in labels], 2)
    episodes = Episodes(support, query)
    losses = [
        naive_own_loss(learner, algorithm, rates, own, other) for own, other in each_task(episodes)
    ]
    loss = learner.episode_loss(episodes, torch.Generator())
    same_gradients(learner, loss, torch.stack(losses).mean())


def naive_own_loss(learner, algorithm, rates, support, query):
    body = dict(learner.module.named_parameters())
    scale = (5.0 * learner.scale.slow_log).exp()
    features = run_layers(learner.module, body, support.x)[0]
    n_classes = int(support.y.max()) + 1
    means = torch.stack([features[support.y == c].mean(0) for c in range(n_classes)])
    weights = {"w": 2 * scale * means, "b": -scale * (means * means).sum(1)}
    if algorithm != "anil":
        weights = {**body, **weights}
    # Copies, so that a gradient in the body does not go through the head that it made.
    weights = {n: w * 1.0 for n, w in weights.items()}

    def scores(weights, x):
        own = {n: weights.get(n, p) for n, p in body.items()}
        return run_layers(learner.module, own, x)[0] @ weights["w"].T + weights["b"]

    for step in range(N_STEPS):
        loss = nn.functional.cross_entropy(scores(weights, support.x), support.y)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        if algorithm == "fomaml":
            slopes = [g.detach() for g in slopes]
        weights = {
            n: w - own_rate(learner, rates, list(weights), n, step, w) * g
            for (n, w), g in zip(weights.items(), slopes, strict=True)
        }
    return nn.functional.cross_entropy(scores(weights, query.x), query.y)


def own_rate(learner, kind, names, name, step, weight):
    if not kind:
        return LR
    if kind == "parameter":
        if name in ("w", "b"):
            return learner.rates[1 if name == "w" else 2]
        sizes = {n: p.numel() for n, p in learner.module.named_parameters()}
        at = sum(sizes[n] for n in names[: names.index(name)])
        return learner.rates[0][at : at + weight.numel()].reshape(weight.shape)
    layers = list(dict.fromkeys(n.split(".")[0] for n in names if n not in ("w", "b")))
    place = len(layers) if name in ("w", "b") else layers.index(name.split(".")[0])
    return learner.rates[0][step if kind == "step" else 0, place]


@pytest.mark.parametrize("algorithm", ["maml", "anil", "reptile"])
def test_ragged_ways_in_one_call_are_those_of_single_tasks(algorithm):
    learner = make("own", normed(5), algorithm=algorithm).eval()
    labels = [[0, 0, 1, 1, 2, 2], [0, 1], [0, 0, 0], [0, 1, 2, 3] * 12]  # several buckets
    support, query = labelled(labels, 1), labelled([[0, 0]] * 4, 2)
    scores = learner.predict_tasks(learner.condition_tasks(support), query)
    for t, task in enumerate(labels):
        n_classes = max(task) + 1
        state = learner.condition(support.slice_tasks(t, t + 1))
        alone = learner.predict(state, query.slice_tasks(t, t + 1))
        together = scores[2 * t : 2 * t + 2]
        torch.testing.assert_close(together[:, :n_classes], alone, rtol=1e-9, atol=1e-9)
        assert (together[:, n_classes:] == NEVER).all()


def test_prior_of_own_classes_is_the_nearest_class_mean():
    learner = make("own", net(5), algorithm="maml").eval()
    rows = labelled([[0, 1, 2] * 4], 1)
    learner.set_prior(rows)
    query = numbers([6], 2)
    features, others = learner.module(rows.x), learner.module(query.x)
    means = torch.stack([features[rows.y == c].mean(0) for c in range(3)])
    distances = torch.cdist(others, means).square()
    found = learner.predict(learner.prior(), TaskRows(query.x, None, query.offsets))
    torch.testing.assert_close(found.log_softmax(1), (-distances).log_softmax(1))


def test_a_body_that_is_no_stack_gets_a_head():
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 5)

        def forward(self, x):
            return self.layer(x).tanh().reshape(len(x), 1, 5)  # flattened before the head

    whole = with_head(Body(), nn.Linear(5, 3))
    assert whole(torch.zeros(4, 2)).shape == (4, 3)
    learner = make("own", Body(), algorithm="maml")
    stack = make("own", nn.Sequential(nn.Linear(2, 5), nn.Tanh()), algorithm="maml")
    with torch.no_grad():
        for a, b in zip(stack.module.parameters(), learner.module.parameters(), strict=True):
            a.copy_(b)
    episodes = Episodes(labelled(LABELS[1], 1), labelled([[0, 1], [0], [0, 0]], 2))
    torch.testing.assert_close(
        learner.episode_loss(episodes, torch.Generator()),
        stack.episode_loss(episodes, torch.Generator()),
    )

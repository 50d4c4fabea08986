"""MAMLLearner and MAMLRegressor against MAML written out for one task at a time."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from skmeta import MAMLRegressor
from skmeta.core.losses import squared_error
from skmeta.core.tasks import Episodes, TaskRows
from skmeta.datasets import make_sinusoids
from skmeta.nets import mlp
from skmeta.optimization._learner import MAX_INNER_NORM, MAMLLearner

N_STEPS = 3
RATES = [False, "layer", "parameter", "step"]


def learner_with(
    rates=False, *, second_order=True, n_support=4, n_adapt_steps=N_STEPS, module=None
):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = MAMLLearner(
            module or mlp([2, 6, 5, 1], "tanh"),
            loss=squared_error,
            inner_lr=0.1,
            learn_inner_lr=rates,
            n_inner_steps=N_STEPS,
            n_adapt_steps=n_adapt_steps,
            n_support=n_support,
            algorithm="maml" if second_order else "fomaml",
        ).double()
        with torch.no_grad():  # rates that differ, so that mixing them up shows
            for rate in learner.rates:
                rate.mul_(torch.rand_like(rate) + 0.5)
    return learner


def rows_of(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), 2, dtype=torch.float64, generator=generator)
    y = torch.randn(sum(sizes), 1, dtype=torch.float64, generator=generator)
    return TaskRows.from_sizes(x, y, torch.tensor(sizes))


def rate_of(learner, name, step):
    """The rate of a weight at a step, read off the parameters without the learner's help."""
    kind = learner.rates.learned
    named = dict(learner.module.named_parameters())
    if not kind:
        return 0.1
    if kind == "parameter":
        start = sum(p.numel() for n, p in list(named.items())[: list(named).index(name)])
        return learner.rates[0][start : start + named[name].numel()].reshape(named[name].shape)
    layer = ["0", "2", "4"].index(name.split(".")[0])
    step = min(step, N_STEPS - 1) if kind == "step" else 0
    return learner.rates[0][step, layer]


def naive_weights(learner, support, n_steps, second_order, n_support=4):
    weights = dict(learner.module.named_parameters())
    share = min(1.0, len(support.x) / n_support)
    for step in range(n_steps):
        out = functional_call(learner.module, weights, (support.x,))
        loss = share * (out - support.y).square().mean()
        grads = torch.autograd.grad(loss, list(weights.values()), create_graph=second_order)
        weights = {
            n: w - rate_of(learner, n, step) * (g if second_order else g.detach())
            for (n, w), g in zip(weights.items(), grads, strict=True)
        }
    return weights


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("sizes", [[4, 4, 4], [2, 6, 1]], ids=["equal", "ragged"])
def test_episode_loss_and_all_its_gradients(rates, second_order, sizes):
    learner = learner_with(rates, second_order=second_order)
    support, query = rows_of(sizes, 0), rows_of([5, 5, 3], 1)
    losses = []
    for t in range(3):
        weights = naive_weights(learner, support.slice_tasks(t, t + 1), N_STEPS, second_order)
        q = query.slice_tasks(t, t + 1)
        losses.append((functional_call(learner.module, weights, (q.x,)) - q.y).square().mean())
    expected = torch.stack(losses).mean()
    wanted = torch.autograd.grad(expected, list(learner.parameters()))
    found = learner.episode_loss(Episodes(support, query), torch.Generator())
    gradients = torch.autograd.grad(found, list(learner.parameters()))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for gradient, reference in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-11)
        assert reference.abs().max() > 1e-6


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("n_adapt_steps", [1, N_STEPS, 7])
def test_adaptation_takes_any_number_of_steps(rates, n_adapt_steps):
    learner = learner_with(rates, n_adapt_steps=n_adapt_steps)
    support, query = rows_of([3, 5], 2), rows_of([4, 4], 3)
    outputs = learner.predict(learner.condition(support), query)
    for t in range(2):
        own = naive_weights(learner, support.slice_tasks(t, t + 1), n_adapt_steps, False)
        expected = functional_call(learner.module, own, (query.slice_tasks(t, t + 1).x,))
        torch.testing.assert_close(outputs[4 * t : 4 * t + 4], expected, rtol=1e-10, atol=1e-12)


def test_many_ragged_tasks_in_buckets_equal_one_at_a_time():
    learner = learner_with("layer")
    sizes = [1, 40, 2, 3, 90, 5, 1, 17]
    support, query = rows_of(sizes, 4), rows_of([3, 1, 50, 2, 2, 9, 1, 4], 5)
    together = learner.predict_tasks(learner.condition_tasks(support), query)
    alone = [
        learner.predict(
            learner.condition(support.slice_tasks(t, t + 1)), query.slice_tasks(t, t + 1)
        )
        for t in range(len(sizes))
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=1e-12)
    assert len(list(support.buckets(learner.max_tasks))) > 1


def test_wild_support_rows_move_the_weights_a_bounded_way():
    learner = learner_with()
    rows = rows_of([4], 6)
    wild = TaskRows.single(rows.x, rows.y * 1e6)
    state = learner.condition(wild)
    start = dict(learner.module.named_parameters())
    moved = torch.cat([(state[n][0] - p.detach()).flatten() for n, p in start.items()]).norm()
    assert float(moved) <= N_STEPS * 0.1 * MAX_INNER_NORM * (1 + 1e-9)


def test_frozen_parameters_stay_and_an_all_frozen_module_is_refused():
    module = mlp([2, 6, 1])
    module[0].requires_grad_(False)
    learner = learner_with(module=module)
    state = learner.condition(rows_of([4], 7))
    assert set(state) == {"2.weight", "2.bias"}
    with pytest.raises(ValueError, match="requires a gradient"):
        learner_with(module=mlp([2, 1]).requires_grad_(False))


def test_batch_norm_statistics_are_the_support_s_and_stay_with_the_state():
    module = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    learner = learner_with(module=module)
    support, query = rows_of([5, 3], 8), rows_of([4, 4], 9)
    state = learner.condition(support)
    hidden = torch.bmm(support.slice_tasks(0, 1).x[None], state["0.weight"][:1].mT)
    hidden = hidden + state["0.bias"][:1, None]
    torch.testing.assert_close(state["norm/0/mean"][0], hidden[0].mean(0))
    torch.testing.assert_close(state["norm/0/var"][0], hidden[0].var(0, unbiased=False))
    together = learner.predict(state, query)
    one = TaskRows(query.x[:1], None, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(learner.predict(state, one)[0], together[0])


def test_prior_statistics_follow_the_training_tasks():
    module = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    learner = learner_with(module=module).train()
    norm = learner.forward_tasks.norms[0]
    episodes = Episodes(rows_of([5, 5], 0), rows_of([5, 5], 1))
    for _ in range(200):
        learner.episode_loss(episodes, torch.Generator())
    trained = norm.prior_mean.clone()
    learner.eval().episode_loss(episodes, torch.Generator())
    assert torch.equal(norm.prior_mean, trained)
    expected = learner.condition(episodes.support)["norm/0/mean"].mean(0)
    torch.testing.assert_close(trained, expected, rtol=1e-6, atol=1e-8)


@pytest.fixture(scope="module")
def sinusoids():
    return make_sinusoids(200, 25, random_state=0)


def error_after(model, n_support=5):
    X, y, groups = make_sinusoids(60, 30, random_state=1)
    errors = []
    for task in range(60):
        a, b = groups == task, np.arange(len(y)) % 30 < n_support
        predicted = model.adapt(X[a & b], y[a & b]).predict(X[a & ~b])
        errors.append(np.mean((predicted - y[a & ~b]) ** 2))
    return np.mean(errors)


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
def test_it_learns_to_learn(sinusoids, algorithm):
    X, y, groups = sinusoids
    model = MAMLRegressor(algorithm=algorithm, max_epochs=15, n_inner_steps=3, random_state=0)
    model.fit(X, y, groups=groups)
    # The variance of y is about 3.3, and an un-adapted model cannot do much better.
    assert error_after(model) < 1.5
    population = np.mean((model.predict(X) - y) ** 2)
    assert population > 2


def test_more_rows_and_more_steps_help(sinusoids):
    X, y, groups = sinusoids
    model = MAMLRegressor(max_epochs=15, n_inner_steps=3, random_state=0).fit(X, y, groups=groups)
    assert error_after(model, 15) < error_after(model, 5) < error_after(model, 1)


def test_first_order_takes_other_steps_than_second_order(sinusoids):
    X, y, groups = sinusoids
    fits = [
        MAMLRegressor(algorithm=a, max_epochs=1, random_state=0).fit(X, y, groups=groups)
        for a in ("maml", "fomaml")
    ]
    first, second = (f.meta_params_["module.0.weight"] for f in fits)
    assert not np.allclose(first, second, rtol=1e-4)


def naive_backtracking(module, x, y, rate, n_steps, n_retries):
    """Gradient descent of one task; a step that raises its loss is tried at a quarter."""
    weights = {n: p.detach().clone() for n, p in module.named_parameters()}
    length = 1.0

    def loss_of(values):
        return (torch.func.functional_call(module, values, (x,)) - y).square().mean()

    for _ in range(n_steps):
        leaves = {n: w.clone().requires_grad_() for n, w in weights.items()}
        before = loss_of(leaves)
        slopes = torch.autograd.grad(before, list(leaves.values()))
        norm = torch.cat([s.flatten() for s in slopes]).norm()
        shorten = min(1.0, 10.0 / float(norm))
        for _ in range(n_retries):
            step = length * rate * shorten
            new = {n: w - step * s for (n, w), s in zip(weights.items(), slopes, strict=True)}
            if loss_of(new) <= before:
                weights = new
                break
            length /= 4
    return weights


def test_backtracking_is_that_of_a_naive_loop():
    learner = learner_with("layer")
    with torch.no_grad():
        learner.rates[0].fill_(2.0)
    support = rows_of([5, 5, 5], 3)
    found = learner._descend(support, support.padded(), {}, N_STEPS, n_retries=5)
    for t in range(3):
        rows = support.slice_tasks(t, t + 1)
        expected = naive_backtracking(learner.module, rows.x, rows.y, 2.0, learner.n_adapt_steps, 5)
        for name, value in expected.items():
            torch.testing.assert_close(found[name][t], value, rtol=1e-9, atol=1e-11)


def test_levels_are_as_large_as_asked_for(sinusoids):
    X, y, groups = sinusoids
    y = y + np.random.default_rng(0).normal(scale=10.0, size=200)[groups]
    scaled = ((y - y.mean()) / y.std())[:, None]
    found = []
    for augmentation in (0, 0.7, "auto"):
        model = MAMLRegressor(augmentation=augmentation)
        train, valid = model._samplers(X, scaled, groups, torch.Generator().manual_seed(0))
        assert not hasattr(valid, "spread")
        found.append(float(getattr(train, "spread", 0)))
    assert found[:2] == [0, pytest.approx(0.7)]
    assert found[2] == pytest.approx(0.5 * 10 / y.std(), rel=0.1)


def test_a_value_far_out_moves_a_prediction_little_more_than_one_not_so_far(sinusoids):
    X, y, groups = sinusoids
    model = MAMLRegressor(max_epochs=1, random_state=0).fit(X, y, groups=groups)
    scaled = model._scaled(np.array([[2.0], [100.0], [-100.0]]) * X.std())
    assert abs(scaled[0, 0] - 2.0) < 0.1
    assert 7 < scaled[1, 0] < 8 and -8 < scaled[2, 0] < -7
    linear = MAMLRegressor(module=torch.nn.Linear(1, 1), max_epochs=1, random_state=0)
    linear.fit(X, y, groups=groups)
    np.testing.assert_array_equal(linear._scaled(np.array([[100.0]])), [[100.0]])


def test_steps_that_fly_off_are_taken_again_shorter():
    learner = learner_with("layer")
    tame = rows_of([4], 0)
    with torch.no_grad():
        expected = learner.condition(tame)
        learner.rates[0].mul_(40)  # far too long for any task
    sizes = [4, 2, 6]
    support = rows_of(sizes, 1)
    state = learner.condition(support)
    start = {n: p.expand(3, *p.shape) for n, p in learner.module.named_parameters()}
    with torch.no_grad():
        before = learner._support_losses(start, support.padded(), 0)
        after = learner._support_losses(state, support.padded(), N_STEPS)
    assert (after <= 2 * before + 0.01).all()
    wild = learner._descend(support, support.padded(), {}, N_STEPS)
    with torch.no_grad():
        assert (learner._support_losses(wild, support.padded(), N_STEPS) > 2 * before + 0.01).any()
    # A task of a batch ends up where it would alone.
    for t in range(3):
        alone = learner.condition(support.slice_tasks(t, t + 1))
        for name, value in alone.items():
            torch.testing.assert_close(state[name][t], value[0], rtol=1e-9, atol=1e-11)
    assert expected.keys() == state.keys()

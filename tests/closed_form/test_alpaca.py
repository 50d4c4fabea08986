"""ALPaCA against the textbook, its episode loss against a loop, and what it learns."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from skmeta import ALPaCARegressor, MAMLRegressor
from skmeta.closed_form._alpaca_learner import LEAST_NOISE, ALPaCALearner
from skmeta.core.tasks import Episodes, TaskRows
from skmeta.datasets import make_sinusoids
from skmeta.model_selection import predict_tasks


def learner(n_outputs=2, seed=0):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    made = ALPaCALearner(module, 4, 3, n_outputs, 5).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made


def rows(sizes, n_outputs=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (
        torch.randn(sum(sizes), width, dtype=torch.float64, generator=generator)
        for width in (3, n_outputs)
    )
    return TaskRows.from_sizes(x, y, torch.tensor(sizes))


def textbook(made, x, y, query):
    """Mean, and variance of a new observation, with precisions in the space of the weights."""

    def phi(x):
        return torch.cat([made.module(x), torch.ones(len(x), 1).double(), x], 1)

    root = made.root.tril()
    means, variances = [], []
    for j in range(y.shape[1]):
        noise = made.noise_sd().detach()[j].item() ** 2 + LEAST_NOISE**2
        prior = noise * root @ root.T
        precision = torch.linalg.inv(prior) + phi(x).T @ phi(x) / noise
        right = torch.linalg.solve(prior, made.mean_weights[:, j]) + phi(x).T @ y[:, j] / noise
        covariance = torch.linalg.inv(precision)
        means.append(phi(query) @ covariance @ right)
        variances.append((phi(query) @ covariance * phi(query)).sum(1) + noise)
    return torch.stack(means, 1), torch.stack(variances, 1)


def test_ragged_tasks_have_the_posterior_of_the_textbook():
    made, sizes = learner(), [1, 4, 9, 2]
    support, query = rows(sizes), rows([3, 1, 2, 5], seed=1)
    state = made.condition_tasks(support)
    mean = made.predict_tasks(state, query)
    variance = made.predict_tasks(state, query, "predict_variance")
    for t in range(4):
        s, q = support.slice_tasks(t, t + 1), query.slice_tasks(t, t + 1)
        expected = textbook(made, s.x, s.y, q.x)
        own = slice(int(query.offsets[t]), int(query.offsets[t + 1]))
        torch.testing.assert_close(mean[own], expected[0].detach(), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(variance[own], expected[1].detach(), rtol=1e-6, atol=1e-8)


def test_no_row_is_the_prior_and_rows_add_up():
    made = learner()
    made.set_prior(rows([3, 3]))
    query = rows([4], seed=1)
    expected = textbook(made, torch.zeros(0, 3).double(), torch.zeros(0, 2).double(), query.x)
    torch.testing.assert_close(made.predict(made.prior(), query), expected[0].detach())
    torch.testing.assert_close(made.predict_variance(made.prior(), query), expected[1].detach())
    whole, part = rows([6]), rows([6])
    first = TaskRows.single(part.x[:2], part.y[:2])
    second = TaskRows.single(part.x[2:], part.y[2:])
    merged = made.merge(made.condition(first), made.condition(second))
    # A root is one of many: what it says of the weights counts.
    said = [
        (root.mT @ root, root.mT @ state["rest"])
        for state in (merged, made.condition(whole))
        for root in [state["root"]]
    ]
    torch.testing.assert_close(*said)
    assert merged["root"].shape[1] == 6  # no more rows than were seen, or columns
    twice = made.merge(merged, merged)
    assert twice["root"].shape[1:] == (8, 8) and twice["rest"].shape[1:] == (8, 2)


def test_episode_loss_is_the_likelihood_from_some_of_the_rows_with_its_gradient():
    made, sizes = learner(), [5, 3, 1]
    episodes = Episodes(rows(sizes), rows([2, 4, 3], seed=1))
    found = made.episode_loss(episodes, torch.Generator().manual_seed(3))
    seen = torch.randint(0, 6, (3,), generator=torch.Generator().manual_seed(3))
    losses = []
    for t, size in enumerate(sizes):
        k = min(int(seen[t]), size)
        s, q = episodes.support.slice_tasks(t, t + 1), episodes.query.slice_tasks(t, t + 1)
        mean, variance = textbook(made, s.x[:k], s.y[:k], q.x)
        losses.append((0.5 * ((q.y - mean) ** 2 / variance + variance.log())).mean())
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)
    parameters = [made.mean_weights, made.root, made.module[0].weight]
    ours = torch.autograd.grad(found, [*parameters, made.noise_sd.slow_log])
    theirs = torch.autograd.grad(expected, parameters)  # the noise went through float
    for a, b in zip(ours, theirs, strict=False):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            made.noise_sd.slow_log[0] += sign * 1e-5
            values.append(made.episode_loss(episodes, torch.Generator().manual_seed(3)))
            made.noise_sd.slow_log[0] -= sign * 1e-5
    assert float(ours[-1][0]) == pytest.approx(float(values[0] - values[1]) / 2e-5, rel=1e-6)


@pytest.fixture(scope="module")
def sinusoids():
    X, y, groups = make_sinusoids(500, 20, random_state=0)
    return ALPaCARegressor(max_epochs=25, random_state=0).fit(X, y, groups=groups)


def test_sinusoids_are_met_from_five_points_better_than_by_gradient_steps(sinusoids):
    X, y, groups = make_sinusoids(200, 25, random_state=1)
    support = np.arange(len(y)) % 25 < 5
    data = X[support], y[support], groups[support], X[~support], groups[~support]
    error = np.mean((predict_tasks(sinusoids, *data) - y[~support]) ** 2)
    assert error < 0.3
    train = make_sinusoids(500, 20, random_state=0)
    steps = MAMLRegressor(max_epochs=10, random_state=0).fit(*train[:2], groups=train[2])
    assert error < 0.3 * np.mean((predict_tasks(steps, *data) - y[~support]) ** 2)


def test_intervals_hold_new_points_and_narrow_with_rows():
    rng = np.random.default_rng(0)
    X, y, groups = make_sinusoids(300, 20, random_state=0)
    noisy = y + 0.3 * rng.normal(size=len(y))
    sinusoids = ALPaCARegressor(max_epochs=25, random_state=0).fit(X, noisy, groups=groups)
    X, y, groups = make_sinusoids(100, 30, random_state=2)
    y = y + 0.3 * rng.normal(size=len(y))
    inside, widths = [], []
    for task in range(100):
        own = np.flatnonzero(groups == task)
        mean, std = sinusoids.adapt(X[own[:5]], y[own[:5]]).predict(X[own[5:]], return_std=True)
        inside.append(np.abs(y[own[5:]] - mean) < 1.645 * std)
        few = sinusoids.adapt(X[own[:2]], y[own[:2]]).predict(X[own[5:]], return_std=True)[1]
        widths.append(std.mean() / few.mean())
    assert 0.85 < np.mean(inside) < 0.96
    assert np.mean(widths) < 0.8


def test_update_is_adapt_on_all_rows(sinusoids):
    X, y, _ = make_sinusoids(1, 30, random_state=3)
    once = sinusoids.adapt(X[:8], y[:8]).predict(X[8:], return_std=True)
    twice = sinusoids.adapt(X[:3], y[:3]).update(X[3:8], y[3:8]).predict(X[8:], return_std=True)
    assert_allclose(once, twice, rtol=1e-8)

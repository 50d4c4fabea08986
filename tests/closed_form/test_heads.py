"""Linear heads on an embedding against one task at a time, and what estimators make of them."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits, make_moons
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.nn import functional as F  # noqa: N812

import skmeta
import skmeta.closed_form._head_learner as head_learner
from skmeta import MetaSVC, RidgeHeadClassifier, RidgeHeadRegressor
from skmeta.closed_form._head_learner import (
    ClassifierHeadLearner,
    RegressorHeadLearner,
    RidgeHead,
    SVMHead,
)
from skmeta.core.heads.svm import svm_duals
from skmeta.core.learner import NEVER
from skmeta.core.tasks import Episodes, TaskRows
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection import predict_tasks

CLASSIFIERS = [MetaSVC, RidgeHeadClassifier]


def make_learner(kind, n_classes=3, seed=0, **options):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh())
    if kind == "numbers":
        made = RegressorHeadLearner(module, 5, RidgeHead(), 2, **options)
    else:
        head = RidgeHead() if kind == "ridge" else SVMHead(0.5)
        made = ClassifierHeadLearner(module, 5, head, n_classes, scale=2.0, **options)
    made = made.double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return made


def rows(labels, seed=0, numbers=False):
    """``labels``: one list a task."""
    flat = [label for task in labels for label in task]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(flat), 3, dtype=torch.float64, generator=generator)
    y = torch.tensor(flat)
    if numbers:
        y = torch.randn(len(flat), 2, dtype=torch.float64, generator=generator)
    return TaskRows.from_sizes(x, y, torch.tensor([len(task) for task in labels]))


def naive_scores(made, kind, x, y, query, present):
    """One task: weights by the normal equations, or by one machine alone."""
    z, q = made.features(x), made.features(query)
    common = made.common_weights if made.common_weights is not None else 0 * z.new_zeros(6, 3)
    targets = y if kind == "numbers" else F.one_hot(y, 3).double()
    if kind == "svm":
        alpha = svm_duals((z @ z.T)[None], targets[None], present[None], 0.5, (z @ common)[None])[0]
        return made.scale() * (q @ (common + z.T @ alpha))
    penalty = made.head.penalty() * torch.eye(6)
    weights = common + torch.linalg.solve(z.T @ z + penalty, z.T @ (targets - z @ common))
    return q @ weights if kind == "numbers" else made.scale() * (q @ weights)


LABELS = [[0, 1, 2, 2], [1, 1, 0, 2, 1, 0, 2], [1], [0, 2]]
QUERY = [[0, 1], [2, 1, 0], [1, 1], [0, 2, 2, 0]]


@pytest.mark.parametrize("kind", ["svm", "ridge", "numbers"])
@pytest.mark.parametrize("shared", [True, False])
def test_ragged_tasks_equal_one_at_a_time(kind, shared):
    if kind == "numbers" and not shared:
        pytest.skip("classes only")
    made = make_learner(kind, 3 if shared else None)
    support, query = rows(LABELS, 0, kind == "numbers"), rows(QUERY, 1, kind == "numbers")
    found = made.predict_tasks(made.condition_tasks(support), query)
    for t in range(4):
        s, q = support.slice_tasks(t, t + 1), query.slice_tasks(t, t + 1)
        present = torch.ones(3, dtype=torch.bool)
        if kind != "numbers" and not shared:
            present = F.one_hot(s.y, 3).sum(0) > 0
        expected = naive_scores(made, kind, s.x, s.y, q.x, present)
        own = slice(int(query.offsets[t]), int(query.offsets[t + 1]))
        if kind == "numbers":
            torch.testing.assert_close(found[own], expected.detach(), rtol=1e-6, atol=1e-8)
            continue
        assert (found[own][:, ~present] == NEVER).all()
        torch.testing.assert_close(
            found[own][:, present], expected[:, present].detach(), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("kind", ["svm", "ridge", "numbers"])
@pytest.mark.parametrize("n_support", [None, 4])
def test_episode_loss_is_the_mean_over_tasks_with_its_gradient(kind, n_support):
    made = make_learner(kind, n_support=n_support)
    numbers = kind == "numbers"
    episodes = Episodes(rows(LABELS, 0, numbers), rows(QUERY, 1, numbers))
    seed = 5  # one of the four shows nothing
    found = made.episode_loss(episodes, torch.Generator().manual_seed(seed))
    shown = torch.full((4,), 99)
    if n_support:
        shown = torch.randint(0, 5, (4,), generator=torch.Generator().manual_seed(seed))
        assert 0 in shown
    losses = []
    for t in range(4):
        s, q = episodes.support.slice_tasks(t, t + 1), episodes.query.slice_tasks(t, t + 1)
        k = int(shown[t])
        out = naive_scores(made, kind, s.x[:k], s.y[:k], q.x, torch.ones(3, dtype=torch.bool))
        losses.append(((out - q.y) ** 2).mean() if numbers else F.cross_entropy(out, q.y))
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)
    wanted = [p for p in made.parameters() if p.requires_grad]
    for ours, theirs in zip(
        torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


def test_a_machine_of_many_rows_goes_the_other_way_and_arrives(monkeypatch):
    made = make_learner("svm")
    labels = np.random.default_rng(0).integers(0, 3, size=60).tolist()
    support, query = rows([labels, labels[:20]]), rows([[0] * 9, [0]], 1)
    exact = made.predict(made.condition(support), query)
    monkeypatch.setattr(head_learner, "is_large", lambda n, c: True)
    monkeypatch.setattr("skmeta.core.heads.svm_large.GAP", 1e-8)
    torch.testing.assert_close(
        made.predict(made.condition(support), query), exact, rtol=1e-2, atol=5e-3
    )


def test_batches_of_machines_are_split_without_a_difference(monkeypatch):
    made = make_learner("svm")
    support, query = rows(LABELS), rows(QUERY, 1)
    whole = made.predict(made.condition(support), query)
    monkeypatch.setattr(head_learner, "BATCH_NUMBERS", 200)
    torch.testing.assert_close(made.predict(made.condition(support), query), whole)


# ------------------------------------------------------------------- the estimators


def clinics(n_tasks=30, n_rows=24, seed=0):
    """Sick and well, with a level of the clinic's own and a bent border."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 2))
    odds = 3 * np.sin(2 * X[:, 0]) + 2 * X[:, 1] + rng.normal(0, 4, size=n_tasks)[groups]
    return X, np.where(odds + rng.logistic(size=len(X)) > 0, "sick", "well"), groups


def log_loss(model, proba, y):
    return -np.log(proba[np.arange(len(y)), np.searchsorted(model.classes_, y)]).mean()


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_new_clinics_are_learned_from_a_few_patients(kind):
    X, y, groups = clinics()
    model = kind(max_epochs=8, random_state=0).fit(X, y, groups=groups)
    X, y, groups = clinics(40, seed=1)
    support = np.arange(len(y)) % 24 < 8
    data = X[support], y[support], groups[support], X[~support], groups[~support]
    adapted = log_loss(model, predict_tasks(model, *data, method="predict_proba"), y[~support])
    before = log_loss(model, model.predict_proba(X[~support]), y[~support])
    assert adapted < 0.9 * before < 0.9 * np.log(2)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_rows_of_one_class_do_not_forget_the_other(kind):
    X, y, groups = clinics()
    model = kind(max_epochs=5, random_state=0).fit(X, y, groups=groups)
    sick = np.flatnonzero(y == "sick")[:4]
    adapted = model.adapt(X[sick], y[sick])
    assert list(adapted.classes_) == ["sick", "well"]
    proba = adapted.predict_proba(X)
    assert np.isfinite(proba).all() and (proba > 0).all()
    assert proba[:, 0].mean() > model.predict_proba(X)[:, 0].mean()


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_unseen_digits_from_five_of_each(kind):
    X, y = load_digits(return_X_y=True)
    known = y < 6
    model = kind(n_shot=5, max_epochs=5, random_state=0).fit(X[known], y[known])
    assert not model.shared_classes_
    population = model.predict(X[known])
    assert (population == y[known]).mean() > 0.9
    rng = np.random.default_rng(0)
    new = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:5] for c in range(6, 10)])
    rest = np.setdiff1d(np.flatnonzero(~known), new)
    adapted = model.adapt(X[new], y[new])
    assert list(adapted.classes_) == [6, 7, 8, 9]
    assert (adapted.predict(X[rest]) == y[rest]).mean() > 0.75


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_without_groups_it_is_an_ordinary_classifier(kind):
    X, y = make_moons(300, noise=0.15, random_state=0)
    with pytest.warns(SingleTaskWarning):
        model = kind(max_epochs=8, random_state=0).fit(X[:200], y[:200])
    assert (model.predict(X[200:]) == y[200:]).mean() > 0.9
    assert model.adapted_


def test_the_prior_of_many_classes_looks_at_some_rows_of_each(monkeypatch):
    X, y = load_digits(return_X_y=True)
    monkeypatch.setattr(SVMHead, "prior_numbers", 3000)
    model = MetaSVC(max_epochs=2, random_state=0).fit(X, y)
    assert model.state_["duals"].shape[1] == 300
    assert (model.predict(X) == y).mean() > 0.85


@pytest.mark.parametrize("kernel", [None, "linear", "cosine"])
def test_the_prior_of_very_many_classes_is_that_of_their_means(kernel, tmp_path, monkeypatch):
    monkeypatch.setattr(RidgeHead, "prior_numbers", 2**16)
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(np.arange(300), 3))
    X = rng.normal(size=(300, 4))[y] + 0.2 * rng.normal(size=(900, 4))
    kind = RidgeHeadClassifier if kernel is None else MetaSVC
    options = {} if kernel is None else {"kernel": kernel}
    model = kind((8,), max_epochs=1, tasks_per_batch=1, random_state=0, **options).fit(X, y)
    z = model.transform(X)
    if kernel == "cosine":
        z = z / np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12)
    means = np.array([z[y == c].mean(axis=0) for c in range(300)])
    distances = ((z[:100, None] - means) ** 2).sum(axis=2)
    scores = model.decision_function(X[:100])
    slope = np.ptp(scores[0]) / np.ptp(distances[0])
    centred = slope * (distances.mean(axis=1, keepdims=True) - distances)
    assert_allclose(scores - scores.mean(axis=1, keepdims=True), centred, rtol=1e-6, atol=1e-6)
    assert -np.log(model.predict_proba(X)[np.arange(900), y]).mean() < 0.9 * np.log(300)
    skmeta.save(model, tmp_path / "model")
    for again in (skmeta.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert_array_equal(again.predict_proba(X[:50]), model.predict_proba(X[:50]))


def test_class_means_are_as_sharp_as_rows_left_out_say():
    generator = torch.Generator().manual_seed(0)
    y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])  # nothing can be left out of the last class
    centres = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    z = 2 * centres[y] + torch.randn(10, 3, dtype=torch.float64, generator=generator)
    means = torch.stack([z[y == c].mean(0) for c in range(4)])
    found = head_learner._sharpness(z, y, means, -means.square().sum(1) / 2)

    def loss(sharpness):
        total = 0.0
        for i in range(9):
            others = torch.arange(10) != i
            left = torch.stack([z[(y == c) & others].mean(0) for c in range(4)])
            logs = F.log_softmax(-sharpness * (z[i] - left).square().sum(1) / 2, 0)
            total = total - logs[y[i]] - logs.mean() / 9
        return float(total)

    assert loss(found) <= min(loss(0.99 * found), loss(1.01 * found))
    assert head_learner._sharpness(z[[0, 3]], y[[0, 3]], means, means[:, 0]) == 1.0


def test_support_vectors_give_the_weights():
    X, y, groups = clinics()
    model = MetaSVC(max_epochs=2, C=0.05, random_state=0).fit(X, y, groups=groups)
    adapted = model.adapt(X[:20], y[:20])
    assert adapted.dual_coef_.shape == (20, 2)
    assert 0 < len(adapted.support_) <= 20
    others = np.setdiff1d(np.arange(20), adapted.support_)
    assert_allclose(adapted.dual_coef_[others], 0, atol=1e-7)
    assert (np.abs(adapted.dual_coef_) <= 0.05 + 1e-9).all()
    lengths, scale = model.learner_.lengths().tolist(), model.learner_.scale().item()
    embedded = np.column_stack([lengths[0] * model.transform(X), np.full(len(X), lengths[1])])
    weights = model.meta_params_["common_weights"] + embedded[:20].T @ adapted.dual_coef_
    own = scale * (embedded @ weights)
    multiple, share = adapted._calibration()
    before = scale * (embedded @ model.meta_params_["common_weights"])
    scores = multiple * (share * own + (1 - share) * before)
    assert_allclose(adapted.decision_function(X), scores[:, 1] - scores[:, 0], rtol=1e-4, atol=1e-5)
    for name in ("dual_coef_", "support_"):
        with pytest.raises(AttributeError, match=f"{name} is there after adapt"):
            getattr(model, name)
    with pytest.raises(NotFittedError):
        _ = MetaSVC().support_


def test_cosine_does_not_see_the_length_of_a_row():
    X, y, groups = clinics()
    model = MetaSVC(
        module=nn.Linear(2, 3, bias=False), kernel="cosine", max_epochs=2, random_state=0
    ).fit(X, y, groups=groups)
    adapted = model.adapt(X[:9], y[:9])
    assert_allclose(adapted.predict_proba(X), adapted.predict_proba(7 * X), rtol=1e-5)


def test_conv4():
    X, y = load_digits(return_X_y=True)
    options = {"n_way": 3, "n_shot": 1, "n_query": 1, "tasks_per_batch": 2, "max_epochs": 1}
    model = MetaSVC(module="conv4", image_shape=(8, 8), random_state=0, **options)
    model.fit(X[:400] / 16, y[:400])
    assert model.adapt(X[400:450] / 16, y[400:450]).predict_proba(X[450:460] / 16).shape == (10, 10)


def test_ridge_regression_of_new_tasks():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 20)
    X = rng.uniform(-2, 2, size=(1200, 1))
    phase = rng.uniform(0, 3, size=60)[groups]
    y = 5 + np.sin(2 * X[:, 0] + phase) + 0.05 * rng.normal(size=1200)
    train = groups < 40
    model = RidgeHeadRegressor(random_state=0).fit(X[train], y[train], groups=groups[train])
    support = ~train & (np.arange(1200) % 20 < 5)
    query = ~train & ~support
    data = X[support], y[support], groups[support], X[query], groups[query]
    adapted = np.mean((predict_tasks(model, *data) - y[query]) ** 2)
    assert adapted < 0.1
    assert adapted < 0.4 * np.mean((model.predict(X[query]) - y[query]) ** 2)
    one = model.adapt(X[support][:1], y[support][:1]).predict(X[query])
    assert np.abs(one - 5).max() < 4


def test_a_module_that_does_not_fit_is_refused_in_words():
    X, y, groups = clinics(6)
    with pytest.raises(ValueError, match="2 columns"):
        MetaSVC(module=nn.Linear(5, 3)).fit(X, y, groups=groups)

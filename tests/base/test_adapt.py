"""skmeta.adapt through everything that may hold a meta-estimator."""

import pickle

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

import skmeta
from skmeta.model_selection import TaskScorer, predict_tasks
from tests.base.tasks import alphabets, finite, maml, proto, wards, waves

X, Y, GROUPS = waves()
NEW, Y_NEW = X[:6] + 0.1, Y[:6] * 2


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


# ---- a meta-estimator itself


@pytest.mark.parametrize("make", [maml, proto])
def test_plain_estimator(make):
    data = waves() if make is maml else wards()
    model = make().fit(data[0], data[1], groups=data[2])
    new = skmeta.adapt(model, data[0][:5], data[1][:5])
    assert_array_equal(new.predict(data[0]), model.adapt(data[0][:5], data[1][:5]).predict(data[0]))
    assert new.adapted_ and not model.adapted_


# ---- Pipeline


def test_pipeline_transforms_with_the_fitted_steps():
    pipe = make_pipeline(MinMaxScaler(), maml()).fit(X, Y, mamlregressor__groups=GROUPS)
    before = pickle.dumps(pipe)
    new = skmeta.adapt(pipe, NEW, Y_NEW)
    scale, model = pipe[0].transform, pipe[1]
    assert_array_equal(
        new.predict(X), model.adapt(scale(NEW), Y_NEW).predict(scale(X))
    )  # the scaler is not fitted again, to six rows
    assert type(new) is Pipeline and new[0] is pipe[0] and new.steps[1][0] == "mamlregressor"
    assert new[1].adapted_ and new[1].learner_ is pipe[1].learner_
    assert pickle.dumps(pipe) == before


@pytest.mark.parametrize("empty", [None, "passthrough"])
def test_pipeline_with_an_empty_step(empty):
    pipe = Pipeline([("none", empty), ("scale", StandardScaler()), ("maml", maml())])
    pipe.fit(X, Y, maml__groups=GROUPS)
    assert finite(skmeta.adapt(pipe, NEW, Y_NEW).predict(X))


def test_nested_pipeline(routing):
    inner = make_pipeline(StandardScaler(), maml())
    pipe = make_pipeline(MinMaxScaler(), inner).fit(X, Y, groups=GROUPS)
    flat = make_pipeline(MinMaxScaler(), StandardScaler(), maml()).fit(X, Y, groups=GROUPS)
    assert pipe[1][1].n_tasks_ == 8
    assert_array_equal(
        skmeta.adapt(pipe, NEW, Y_NEW).predict(X), skmeta.adapt(flat, NEW, Y_NEW).predict(X)
    )
    assert not pipe[1][1].adapted_


def test_pipeline_of_a_classifier_keeps_its_other_methods():
    Xc, yc, groups = alphabets()
    pipe = make_pipeline(StandardScaler(), proto())
    pipe.fit(Xc, yc, protonetclassifier__groups=groups)
    new = skmeta.adapt(pipe, Xc[:16], yc[:16])
    assert_array_equal(new.classes_, ["0a", "0b"])
    assert new.predict_proba(Xc).shape == new[:1].transform(Xc)[:, :2].shape
    assert new.decision_function(Xc).shape == (len(Xc),)
    assert new.score(Xc[:16], yc[:16]) > 0.9
    assert len(pipe.classes_) == 18


def test_pipeline_without_support_rows():
    pipe = make_pipeline(StandardScaler(), maml()).fit(X, Y, mamlregressor__groups=GROUPS)
    for support in ((), (NEW,)):
        with pytest.raises(ValueError, match="X and y"):
            skmeta.adapt(pipe, *support)
    with pytest.raises(TypeError, match="colour"):
        skmeta.adapt(pipe, NEW, Y_NEW, colour="red")


def test_column_transformer_pipeline_with_frames(routing):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    df = pd.DataFrame(
        {
            "phase": np.where(rng.random(len(X)) < 0.2, np.nan, X[:, 0]),
            "kind": rng.choice(["a", "b"], len(X)),
            "note": "ignored",
        },
        index=rng.permutation(len(X)),
    )
    columns = ColumnTransformer(
        [
            ("number", make_pipeline(SimpleImputer(), StandardScaler()), ["phase"]),
            ("word", OneHotEncoder(handle_unknown="ignore"), ["kind"]),
        ]
    )
    for frames in (False, True):
        pipe = make_pipeline(columns, maml())
        if frames:
            columns.set_params(word__sparse_output=False)
            pipe[:-1].set_output(transform="pandas")
        pipe.fit(df, pd.Series(Y, index=df.index), groups=pd.Series(GROUPS))
        rows = df.iloc[[3, 50, 20]].assign(kind=["a", "new", "b"])
        new = skmeta.adapt(pipe, rows, pd.Series(Y[[3, 50, 20]], index=[7, 8, 9]))
        assert finite(new.predict(df)) and new[-1].adapted_
        assert hasattr(new[-1], "feature_names_in_") == frames
        assert_array_equal(new.predict(df.iloc[::-1])[::-1], new.predict(df))
        by_hand = pipe[-1].adapt(pipe[:-1].transform(rows), Y[[3, 50, 20]])
        assert_array_equal(by_hand.predict(pipe[:-1].transform(df)), new.predict(df))


# ---- TransformedTargetRegressor


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 2)])
def test_target_goes_through_the_fitted_transformer(shape):
    def targets(y):
        return np.column_stack([y, y * 3 + 100]) if shape == (-1, 2) else y.reshape(shape)

    wrapped = TransformedTargetRegressor(maml(), transformer=MinMaxScaler((0, 5)))
    wrapped.fit(X, targets(Y), groups=GROUPS)
    new = skmeta.adapt(wrapped, NEW, targets(Y_NEW))
    assert new.predict(X).shape == targets(Y).shape
    assert type(new) is TransformedTargetRegressor and new.transformer_ is wrapped.transformer_
    assert new.regressor_.adapted_ and not wrapped.regressor_.adapted_

    columns = wrapped.transformer_.transform(targets(Y_NEW).reshape(len(NEW), -1))
    inner = wrapped.regressor_.adapt(NEW, columns if len(shape) > 1 else columns[:, 0])
    back = wrapped.transformer_.inverse_transform(inner.predict(X).reshape(len(X), -1))
    assert_allclose(new.predict(X), back.reshape(targets(Y).shape))


@pytest.mark.parametrize("several", [False, True])
def test_target_with_func_and_inverse_func(several):
    def targets(y):
        y = np.exp(y)
        return np.column_stack([y, y**2]) if several else y

    wrapped = TransformedTargetRegressor(maml(), func=np.log, inverse_func=np.exp)
    wrapped.fit(X, targets(Y), groups=GROUPS)
    new = skmeta.adapt(wrapped, NEW, targets(Y_NEW).tolist())
    assert new.predict(X).shape == targets(Y).shape
    direct = wrapped.regressor_.adapt(NEW, np.log(targets(Y_NEW)))
    assert_allclose(new.predict(X), np.exp(direct.predict(X)))


def test_target_inside_and_outside_a_pipeline(routing):
    inner = TransformedTargetRegressor(maml(), transformer=StandardScaler())
    inside = make_pipeline(StandardScaler(), inner).fit(X, Y, groups=GROUPS)
    outside = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), maml()), transformer=StandardScaler()
    ).fit(X, Y, groups=GROUPS)
    first, second = (skmeta.adapt(model, NEW, Y_NEW).predict(X) for model in (inside, outside))
    assert_array_equal(first, second)
    assert first.shape == Y.shape


def test_target_missing():
    wrapped = TransformedTargetRegressor(maml()).fit(X, Y, groups=GROUPS)
    with pytest.raises(ValueError, match="X and y"):
        skmeta.adapt(wrapped, NEW)


# ---- searches


def searches():
    settings = {
        "cv": GroupKFold(2),
        "scoring": TaskScorer("neg_mean_squared_error", n_repeats=2),
        "error_score": "raise",
    }
    grid = {"mamlregressor__n_inner_steps": [1, 2]}
    pipe = make_pipeline(StandardScaler(), maml())
    return [
        GridSearchCV(pipe, grid, **settings),
        RandomizedSearchCV(pipe, grid, n_iter=2, random_state=0, **settings),
    ]


@pytest.mark.parametrize("search", searches(), ids=lambda search: type(search).__name__)
def test_search_gives_its_best_estimator_adapted(search, routing):
    search = clone(search).fit(X, Y, groups=GROUPS)
    new = skmeta.adapt(search, NEW, Y_NEW)
    assert type(new) is Pipeline
    best = search.best_estimator_
    assert best[-1].n_tasks_ == 8 and not best[-1].adapted_
    assert_array_equal(new.predict(X), skmeta.adapt(best, NEW, Y_NEW).predict(X))
    held = make_pipeline(MinMaxScaler(), clone(search)).fit(X, Y, groups=GROUPS)
    assert finite(skmeta.adapt(held, NEW, Y_NEW).predict(X))


@pytest.mark.parametrize("search", searches(), ids=lambda search: type(search).__name__)
def test_search_without_refit(search, routing):
    search = clone(search).set_params(refit=False).fit(X, Y, groups=GROUPS)
    with pytest.raises(ValueError, match=rf"{type(search).__name__} was run with refit=False"):
        skmeta.adapt(search, NEW, Y_NEW)


# ---- FrozenEstimator


def test_frozen_estimator_stays_frozen():
    model = maml().fit(X, Y, groups=GROUPS)
    new = skmeta.adapt(FrozenEstimator(model), NEW, Y_NEW)
    assert type(new) is FrozenEstimator
    assert_array_equal(clone(new).predict(X), model.adapt(NEW, Y_NEW).predict(X))
    pipe = make_pipeline(FrozenEstimator(StandardScaler().fit(X)), FrozenEstimator(model))
    assert finite(skmeta.adapt(pipe.fit(X, Y), NEW, Y_NEW).predict(X))


# ---- many tasks at once, through wrappers


def test_predict_tasks_through_wrappers_is_adapt_task_by_task():
    wrapped = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), maml()), transformer=StandardScaler()
    ).fit(X, Y, mamlregressor__groups=GROUPS)
    support = np.arange(len(X)) % 10 < 4
    together = predict_tasks(wrapped, X[support], Y[support], GROUPS[support], X, GROUPS)
    for task in np.unique(GROUPS):
        own = task == GROUPS
        new = skmeta.adapt(wrapped, X[support & own], Y[support & own])
        assert_allclose(together[own], new.predict(X[own]), rtol=1e-9)


# ---- what cannot adapt, and how to teach it


@pytest.mark.parametrize(
    "estimator",
    [
        Ridge().fit(X, Y),
        make_pipeline(StandardScaler(), Ridge()).fit(X, Y),
        TransformedTargetRegressor(Ridge()).fit(X, Y),
        FrozenEstimator(Ridge().fit(X, Y)),
        GridSearchCV(Ridge(), {"alpha": [1, 2]}, cv=2).fit(X, Y),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_nothing_inside_that_can_adapt(estimator):
    with pytest.raises(TypeError, match=r"Ridge cannot adapt.*skmeta\.adapt\.register"):
        skmeta.adapt(estimator, NEW, Y_NEW)


@pytest.mark.parametrize("thing", [None, 3, "model"])
def test_not_an_estimator(thing):
    with pytest.raises(TypeError, match=f"{type(thing).__name__} cannot adapt"):
        skmeta.adapt(thing, NEW, Y_NEW)


@pytest.mark.parametrize(
    "estimator",
    [maml(), make_pipeline(StandardScaler(), maml()), TransformedTargetRegressor(maml())],
    ids=lambda estimator: type(estimator).__name__,
)
def test_before_fit(estimator):
    with pytest.raises(NotFittedError):
        skmeta.adapt(estimator, NEW, Y_NEW)


class Clipped(RegressorMixin, BaseEstimator):
    """A user's own wrapper: predictions stay in a range."""

    def __init__(self, inner, low=-1.0, high=1.0):
        self.inner = inner
        self.low = low
        self.high = high

    def fit(self, X, y, groups=None):
        self.inner_ = clone(self.inner).fit(X, y, groups=groups)
        return self

    def predict(self, X):
        return np.clip(self.inner_.predict(X), self.low, self.high)


def test_register_teaches_a_wrapper():
    model = Clipped(maml()).fit(X, Y, groups=GROUPS)
    with pytest.raises(TypeError, match="Clipped cannot adapt"):
        skmeta.adapt(model, NEW, Y_NEW)

    @skmeta.adapt.register
    def _(estimator: Clipped, X=None, y=None, **task):
        new = Clipped(estimator.inner, estimator.low, estimator.high)
        new.inner_ = skmeta.adapt(estimator.inner_, X, y, **task)
        return new

    new = skmeta.adapt(model, NEW, Y_NEW)
    assert_array_equal(new.predict(X), np.clip(model.inner_.adapt(NEW, Y_NEW).predict(X), -1, 1))
    pipe = make_pipeline(StandardScaler(), Clipped(maml()))
    pipe.fit(X, Y, clipped__groups=GROUPS)
    assert skmeta.adapt(pipe, NEW, Y_NEW)[1].inner_.adapted_

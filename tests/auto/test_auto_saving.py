"""Pooled members in a file: what comes back, and what an altered file cannot do."""

import json
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.ensemble import HistGradientBoostingClassifier

import skmeta
from skmeta.auto import _base
from skmeta.auto._classifier import Classifiers
from skmeta.base._container import to_bytes
from skmeta.base._saved_trees import boosting_from_plain, boosting_to_plain
from skmeta.model_selection._predict import predict_tasks
from tests.base.test_saving import assert_answers, assert_same
from tests.base.test_saving_hostile import every_place, opened

POOLED = ("pooled logistic", "pooled boosting", "shifted")


def tasks(n_classes, n_tasks=5, n_rows=16):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 3)) * [1, 1e3, 1e-3]
    scores = 2 * X[:, 0] + rng.normal(size=n_tasks)[groups] + rng.logistic(size=len(X))
    return X, np.digitize(scores, [0.0] if n_classes == 2 else [-1.5, 1.5]) * 10, groups


@pytest.fixture(scope="module")
def fitted():
    """Blends in which all pooled members have a say, of two classes and of three."""
    found = {}
    candidates = Classifiers.candidates

    def pooled(*args):
        return {name: candidates(*args)[name] for name in POOLED}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifiers, "candidates", pooled)
        patch.setattr(_base, "blend_weights", lambda parts: np.full((len(parts), 3), 1 / 3))
        for n_classes in (2, 3):
            X, y, groups = tasks(n_classes)
            model = skmeta.AutoMetaClassifier(cv=2, n_support=(3,), n_repeats=1, random_state=0)
            found[n_classes] = model.fit(X, y, groups=groups)
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "blend.safetensors"


@pytest.mark.parametrize("n_classes", [2, 3])
def test_all_pooled_members_come_back_bit_for_bit(n_classes, fitted, path):
    model, (X, y, groups) = fitted[n_classes], tasks(n_classes)
    assert set(model.selected_) == set(POOLED)
    for estimator in (model, model.adapt(X[:6], y[:6])):
        skmeta.save(estimator, path)
        again = skmeta.load(path)
        assert_same(estimator, again)
        assert_answers(estimator, again, X)
        assert_answers(estimator.update(X[6:9], y[6:9]), again.update(X[6:9], y[6:9]), X)
        before = path.read_bytes()
        skmeta.save(again, path)
        assert path.read_bytes() == before
    data = (X[::2], y[::2], groups[::2], X[1::2], groups[1::2])
    assert_array_equal(
        predict_tasks(model, *data, method="predict_proba"),
        predict_tasks(again, *data, method="predict_proba"),
    )


def test_what_members_share_is_in_the_file_once(fitted, path):
    skmeta.save(fitted[2], path)
    content, _ = opened(path.read_bytes())
    kinds = [next(iter(entry)) for entry in content["objects"]]
    assert kinds.count("pooled") == 3 and kinds.count("boosting") in (1, 2)


def test_a_batch_of_tasks_is_refused(fitted, path):
    from skmeta.base._rows import TaskBatch

    X, y, groups = tasks(2)
    batch = TaskBatch(groups, groups, 5)
    with pytest.raises(ValueError, match="adapted to a batch of tasks"):
        skmeta.save(fitted[2].adapt(X, y, _batch=batch), path)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_boosting_of_labels(n_classes):
    rng = np.random.default_rng(1)
    X, codes = rng.normal(size=(90, 4)), np.arange(90) % n_classes * 3
    X[::7, 1] = np.nan
    model = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=3).fit(X, codes)
    again = boosting_from_plain(boosting_to_plain(model), 4)
    for method in ("predict", "predict_proba", "decision_function"):
        assert_array_equal(getattr(again, method)(X), getattr(model, method)(X))
    for one, other in zip(model.staged_predict_proba(X), again.staged_predict_proba(X),
                          strict=True):  # fmt: skip
        assert_array_equal(one, other)


# ---------------------------------------------------------------- files that somebody altered


@pytest.fixture(scope="module")
def file(fitted, tmp_path_factory):
    X, y, _ = tasks(3)
    path = tmp_path_factory.mktemp("files") / "it"
    skmeta.save(fitted[3].adapt(X[:6], y[:6]), path)
    return path.read_bytes()


def refused(content, arrays, path):
    """In which words a file is; any other exception than a plain ValueError is a failure."""
    used, words = json.dumps(content), ""
    path.write_bytes(to_bytes(content, {k: v for k, v in arrays.items() if json.dumps(k) in used}))
    try:
        skmeta.load(path)
    except ValueError as error:
        words = str(error)
    assert not words or (path.name in words and len(words) < 2000)
    return words


def places_of_parts(content):
    """Paths to all values in the pooled models and their trees."""
    for place in every_place(content["objects"]):
        if len(place) > 1 and place[1] in ("pooled", "boosting"):
            yield place


def at(content, place):
    node = content["objects"]
    for step in place:
        node = node[step]
    return node


def part_of(content, kind, has):
    """The first part of a kind, with a model of that kind."""
    for entry in content["objects"]:
        if kind in entry and (has is None or entry[kind]["dict"]["kind"] == has):
            return entry[kind]["dict"]
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("has", "where", "value", "words"),
    [
        (None, ("classes",), np.array([0, 2, 1]), "classes"),
        (None, ("classes",), np.array([0, 1]), "number of classes"),
        (None, ("classes",), np.array([0.0, 1.0, 2.0]), "classes"),
        (None, ("columns", 0), np.zeros(2), "fit together"),
        (None, ("columns", 2), np.zeros(3, dtype=np.float32), "fit together"),
        (None, ("model", "dict", "known"), np.array([0, 1]), "fit together"),
        (None, ("model", "dict", "known"), np.array([0, 1, 3]), "that there are not"),
        (None, ("model", "dict", "known"), np.array([-1, 1, 2]), "classes"),
        ("logistic", ("model", "dict", "model", "dict", "weights"), np.zeros((3, 2)), "fit"),
        ("logistic", ("model", "dict", "model", "dict", "weights"), np.zeros((9, 3)), "columns"),
        ("logistic", ("model", "dict", "model", "dict", "intercept"), np.zeros(1), "fit"),
    ],
)
def test_arrays_that_somebody_made_up(has, where, value, words, file, path):
    content, arrays = opened(file)
    part = part_of(content, "pooled", has)
    *way, last = where
    for step in way:
        part = part[step]
    part[last] = {"array": ["made up"]}
    arrays["made up"] = value
    assert re.search(words, refused(content, arrays, path))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("kind",), "frequencies"),
        (("kind",), "os.system"),
        (("parameters", "dict", "colour"), 1),
        (("model", "dict", "predict"), 1),
        (("model", "dict", "n_classes"), 10**12),
        (("choices",), [[1, "a", 2.0]]),
        (("choices",), [[1.5, None, 2.0]]),
        (("support",), [1, 2]),
        (("model", "dict", "model"), {"boosting": 10**6}),
        (("model", "dict", "model"), {"pooled": 0}),
        (("model", "dict", "model"), {"estimator": 0}),
    ],
)
def test_values_that_somebody_made_up(where, value, file, path):
    content, arrays = opened(file)
    part = part_of(content, "pooled", None)
    *way, last = where
    for step in way:
        part = part[step]
    part[last] = value
    assert refused(content, arrays, path)


@pytest.mark.parametrize(
    "classes", [[0, 1], [0, 1, 1], [2, 1, 0], [0], list(range(10**5)), [0.0, 1.0, 2.0]]
)
def test_trees_of_other_classes(classes, file, path):
    content, arrays = opened(file)
    arrays["made up"] = np.array(classes)
    part_of(content, "boosting", None)["classes"] = {"array": ["made up"]}
    assert refused(content, arrays, path)


def test_anything_in_the_place_of_anything(file, path):
    rng = np.random.default_rng(0)
    odd = [None, True, -1, 10**18, 1e308, "", [], [[]], {}, {"dict": {}}, {"float": "nan"},
           {"estimator": 0}, {"pooled": 0}, {"boosting": 0}, {"strings": [[0], []]}]  # fmt: skip
    content, arrays = opened(file)
    places = [place for place in places_of_parts(content) if len(place) > 2]
    counts = [0, 0]
    for index in rng.permutation(len(places))[:100]:
        content, arrays = opened(file)
        node, last = at(content, places[index][:-1]), places[index][-1]
        if rng.random() < 0.2:
            del node[last]
        else:
            node[last] = odd[rng.integers(len(odd))]
        counts[bool(refused(content, arrays, path))] += 1
    assert counts[1] > 50

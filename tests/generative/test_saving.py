"""skmeta.save and skmeta.load of what reconstructs images."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

import skmeta
from skmeta import operators as ops
from skmeta.base._container import from_bytes, to_bytes
from tests.generative.cases import secret_images
from tests.instances import reconstructor_names, small

NAMES = reconstructor_names()
A = ops.GaussianMeasurements(5, 12, random_state=0)
Y = (A @ secret_images(seed=1).T).T


def draws(rng):
    return ops.GaussianMeasurements(5, 12, random_state=rng)


@pytest.fixture(scope="module")
def fitted():
    cache = {}

    def get(name):
        if name not in cache:
            cache[name] = small(name).fit(secret_images())
        return cache[name]

    return get


@pytest.fixture
def around(tmp_path):
    def there_and_back(estimator, **given):
        skmeta.save(estimator, tmp_path / "model")
        return skmeta.load(tmp_path / "model", **given)

    return there_and_back


def assert_answers(one, other, X):
    for a, b in zip(
        one.predict(X, return_std=True), other.predict(X, return_std=True), strict=True
    ):
        assert_array_equal(a, b)
    assert str(one.get_params()) == str(other.get_params())
    assert one.adapted_ == other.adapted_ and one.n_features_in_ == other.n_features_in_


@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_is_what_was_saved(name, fitted, around, tmp_path):
    model = fitted(name)
    again = around(model)
    assert_answers(model, again, secret_images(seed=1))
    before = (tmp_path / "model").read_bytes()
    skmeta.save(again, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == before
    assert_answers(model.adapt(operator=A), again.adapt(operator=A), Y)
    # A matrix is in the file.
    adapted = model.adapt(operator=A.matrix, noise_std=np.full(5, 0.2))
    assert_answers(adapted, around(adapted), Y)
    calibrated = model.adapt(Y, secret_images(seed=1))
    assert_answers(calibrated, around(calibrated), Y)
    assert not hasattr(around(small(name)), "n_pixels_")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operator", [A, sparse.csr_array(A.matrix)], ids=["operator", "sparse"])
def test_an_operator_is_handed_back(name, operator, fitted, around):
    adapted = fitted(name).adapt(operator=operator)
    with pytest.raises(ValueError, match=r"operator=\.\.\."):
        around(adapted)
    assert_answers(adapted, around(adapted, operator=operator), Y)
    with pytest.raises(ValueError, match="images of 3 pixels"):
        around(adapted, operator=np.ones((5, 3)))
    with pytest.raises(ValueError, match="cannot be handed over"):
        around(fitted(name), operator=A)


@pytest.mark.parametrize("name", NAMES)
def test_a_callable_is_handed_back(name, around):
    model = small(name, operator=draws).fit(secret_images())
    assert_answers(model, around(model, operator=draws), Y)


@pytest.mark.parametrize("name", NAMES)
def test_no_row_in_a_file(name, fitted, tmp_path):
    X = secret_images()
    skmeta.save(fitted(name).adapt(Y, secret_images(seed=1)), tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    for rows in (X, secret_images(seed=1), Y):
        runs = [row[i : i + 3] for row in rows for i in range(len(row) - 2)]
        assert not [r for r in runs if r.tobytes() in data]


@pytest.mark.parametrize(
    "change",
    [
        lambda entry, arrays: entry["attributes"].update(n_pixels_=11),
        lambda entry, arrays: entry["attributes"].update(n_features_in_=-1),
        lambda entry, arrays: entry["attributes"].update(image_range_=3),
        lambda entry, arrays: entry["attributes"].update(prior_=None),
        lambda entry, arrays: entry["attributes"].update(predict=1),
        lambda entry, arrays: entry["frozen"].update(noise_std="os.system"),
        lambda entry, arrays: entry["frozen"].update(n_projection_steps=-1),
        lambda entry, arrays: arrays.update({"prior_/means": arrays["prior_/means"][:, :5]}),
        lambda entry, arrays: arrays.update({"prior_/pooled": -arrays["prior_/pooled"]}),
        lambda entry, arrays: arrays.update({"prior_/weights": arrays["prior_/weights"] * np.nan}),
        lambda entry, arrays: arrays.update({"prior_/loadings": np.zeros((3, 12))}),
    ],
    ids=range(11),
)
def test_altered_files_are_refused(change, tmp_path):
    path = tmp_path / "model"
    skmeta.save(small("MixturePriorReconstructor").fit(secret_images()), path)
    content, arrays = from_bytes(path.read_bytes())
    entry = json.loads(json.dumps(content["objects"][-1]))
    change(entry, arrays)
    content = {**content, "objects": [entry]}
    content.pop("sha256")
    path.write_bytes(to_bytes(content, arrays))
    with pytest.raises(ValueError, match="Cannot load"), np.errstate(all="ignore"):
        skmeta.load(path)

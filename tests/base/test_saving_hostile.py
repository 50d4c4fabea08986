"""skmeta.load and files that are damaged, altered, or made to do harm."""

import hashlib
import json
import re
import struct
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as write_safetensors

import skmeta
from skmeta.base._container import from_bytes, to_bytes
from tests.base.tasks import alphabets, maml, proto, waves
from tests.instances import small


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Bytes of files of each kind: trees, shared parts, task classes, private arrays."""
    X, y, groups = waves()
    letters, labels, tasks = alphabets()
    models = {
        "maml": maml(hidden_layer_sizes=(4,)).fit(X, y, groups=groups).adapt(X[:5], y[:5]),
        "proto": proto(hidden_layer_sizes=(4,)).fit(letters, labels, groups=tasks),
        "svc": small("MetaSVC", max_epochs=1).fit(letters, labels, groups=tasks),
        "gp": small("HierarchicalGPRegressor").fit(X, y, groups=groups).adapt(X[:5], y[:5]),
        "trees": skmeta.HierarchicalRidge(feature_regressor="boosting").fit(X, y, groups=groups),
        "unfitted": maml(),
    }
    path = tmp_path_factory.mktemp("files") / "it"
    found = {}
    for name, model in models.items():
        skmeta.save(model, path)
        found[name] = path.read_bytes()
    return found


@pytest.fixture
def refused(tmp_path):
    path = tmp_path / "pupils.safetensors"

    def check(data, words=""):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=re.escape(path.name)) as caught:
            skmeta.load(path)
        assert re.search(words, str(caught.value)), caught.value
        assert len(str(caught.value)) < 2000

    return check


@pytest.fixture
def loads_or_refused(tmp_path):
    path = tmp_path / "pupils.safetensors"

    def check(data):
        """Whether it was refused; any other exception than a plain ValueError is a failure."""
        path.write_bytes(data)
        words = ""
        try:
            skmeta.load(path)
        except ValueError as error:
            words = str(error)
        assert path.name in words or not words
        return bool(words)

    return check


def opened(data):
    """Content and arrays of a file, both to be changed."""
    content, arrays = from_bytes(data)
    del content["sha256"]
    return content, dict(arrays)


def sealed(text, arrays):
    """A file around any text, with a checksum that is right."""
    blank = "0" * 64
    text = text.replace('{"', f'{{"sha256":"{blank}","', 1)
    data = write_safetensors(arrays, {"skmeta": text})
    return data.replace(blank.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("name", ["maml", "unfitted"])
def test_a_file_cut_short_anywhere(name, files, refused):
    data = files[name]
    for length in {*range(0, len(data), 1 + len(data) // 150), 7, 8, 9, len(data) - 1}:
        refused(data[:length])
    refused(data + b"\0")
    refused(data + data)


@pytest.mark.parametrize("name", ["maml", "unfitted"])
def test_a_bit_flipped_anywhere(name, files, refused):
    rng = np.random.default_rng(0)
    for place in {*range(12), *rng.integers(len(files[name]), size=250).tolist()}:
        data = bytearray(files[name])
        data[place] ^= 1 << int(rng.integers(8))
        refused(bytes(data), "damaged")


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "noise"
    for noise in (data, struct.pack("<Q", len(data)) + data):
        path.write_bytes(noise)
        with pytest.raises(ValueError, match="noise"):
            skmeta.load(path)


def test_other_files(refused, tmp_path):
    import pickle

    refused(b"", "not a file of skmeta.save")
    refused(pickle.dumps(maml()), "not a file of skmeta.save")
    refused(write_safetensors({"weight": np.zeros(3)}), "not a file of skmeta.save")
    refused(struct.pack("<Q", 2**63) + b"{}", "not a file of skmeta.save")


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(
    "text",
    [
        '{"x":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"x":' + '{"tuple":[' * 50_000 + "]}" * 50_000 + "}",
        '{"format":1,"skmeta":"1","objects":[' + '{"dict":' * 30_000 + "1" + "}" * 30_000 + "]}",
        '{"format":NaN}',
        '{"format":1',
        '{"format":' + "9" * 10_000 + "}",
        '{"format":1,"skmeta":"0","objects":[]}',
        '{"format":1,"skmeta":"0","objects":{}}',
        '{"format":1,"skmeta":"0","objects":[1]}',
        '{"format":true,"skmeta":"0","objects":[]}',
        '{"format":"1","skmeta":"0","objects":[]}',
        '{"format":1}',
        '{"x":"\\ud800"}',
    ],
    ids=lambda text: text[:40],
)
def test_texts_that_no_save_writes(text, refused):
    refused(sealed(text, {}))


@pytest.mark.parametrize(
    "name",
    ["os.system", "posix.system", "antigravity", "MetaEstimator", "adapt", "Pipeline",
     "__version__", "builtins.eval", "skmeta.MAMLRegressor", "", None, 3, [], {}],
)  # fmt: skip
def test_no_class_but_the_public_estimators(name, files, refused):
    content, arrays = opened(files["unfitted"])
    content["objects"][-1]["class"] = name
    refused(to_bytes(content, arrays))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "name",
    ["__reduce__", "__class__", "__setstate__", "__dict__", "predict", "_make_learner", "fit",
     "_abc_impl", "meta_params_", "note", "_", "a b_", "_get_param_names",
     "_parameter_constraints"],
)  # fmt: skip
def test_no_attribute_but_those_of_a_fit(name, files, refused):
    content, arrays = opened(files["maml"])
    content["objects"][-1]["attributes"][name] = ["os.system", {"tuple": ["true"]}]
    refused(to_bytes(content, arrays), "attribute")


@pytest.mark.parametrize("tag", ["__reduce__", "py/object", "!!python/object", "object", "pickle"])
def test_no_object_but_plain_values(tag, files, refused):
    content, arrays = opened(files["unfitted"])
    content["objects"][-1]["parameters"]["lr"] = {tag: ["os.system", ["true"]]}
    refused(to_bytes(content, arrays), "holds an object")


@pytest.mark.parametrize(
    "packed",
    [
        {"array": ["nowhere"]},
        {"array": []},
        {"array": "learner_/prior/0.weight"},
        {"array": ["bytes", "|O", [1]]},
        {"array": ["bytes", "O", [1]]},
        {"array": ["bytes", "<U2", [1]]},
        {"array": ["bytes", "<U1", [1]]},
        {"array": ["bytes", "<U1", [10**18]]},
        {"array": ["bytes", "<U1", [-1]]},
        {"array": ["bytes", "<U0", [10**9]]},
        {"array": ["bytes", "<M8[eons]", [1]]},
        {"array": ["bytes", "i4,O", [1]]},
        {"array": ["bytes", ["a", "O"], [1]]},
        {"scalar": ["<f4", "zz"]},
        {"scalar": ["<f4", "00"]},
        {"scalar": ["|b1", "ff"]},
        {"scalar": ["|O", "0000000000000000"]},
        {"scalar": 3},
        {"strings": [[2], ["a"]]},
        {"strings": [[1], [3]]},
        {"strings": [[10**18], []]},
        {"items": [[[], 1]]},
        {"items": [[{"dict": {}}, 1]]},
        {"items": [[{"tuple": [[]]}, 1]]},
        {"items": [[1]]},
        {"float": "1e5"},
        {"float": []},
        {"dict": []},
        {"tuple": "ab"},
        {"tuple": [], "dict": {}},
        {},
        {"estimator": 0},
        {"estimator": -1},
        {"estimator": True},
        {"boosting": 0},
    ],
    ids=repr,
)
def test_values_that_no_save_writes(packed, files, refused):
    content, arrays = opened(files["unfitted"])
    arrays["bytes"] = np.full(4, 255, dtype=np.uint8)
    content["objects"][-1]["parameters"]["lr"] = packed
    content["objects"][-1]["parameters"]["n_query"] = {"array": ["bytes"]}
    refused(to_bytes(content, arrays))


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("name", ["maml", "proto", "svc", "gp", "trees"])
def test_arrays_of_other_names_types_and_shapes(name, files, refused, loads_or_refused):
    _, whole = opened(files[name])
    for key, array in whole.items():
        changes = {
            "longer": np.concatenate([array.ravel()] * 2 + [np.zeros(1, array.dtype)]),
            "wrapped": array[None],
            "none": array.ravel()[:0],
            "bytes": np.frombuffer(array.tobytes(), np.uint8),
            "broadcast": array.ravel()[:1],
        }
        for kind, changed in changes.items():
            if changed.shape == array.shape:
                continue
            content, arrays = opened(files[name])
            arrays[key] = changed
            bad = loads_or_refused(to_bytes(content, arrays))
            # What the weights are is checked; what only a later call reads need not be.
            assert bad or "learner_/arrays" not in key, (key, kind)
        content, arrays = opened(files[name])
        arrays[f"{key}2"] = arrays.pop(key)
        refused(to_bytes(content, arrays), "missing|lead|belong")
    content, arrays = opened(files[name])
    arrays["more"] = np.zeros(3)
    refused(to_bytes(content, arrays), "belong to nothing: \\['more'\\]")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("frozen", "hidden_layer_sizes", {"tuple": [10**6, 10**6]}),
        ("frozen", "hidden_layer_sizes", {"tuple": [10**18] * 3}),
        ("frozen", "hidden_layer_sizes", {"tuple": [0]}),
        ("frozen", "hidden_layer_sizes", "ab"),
        ("frozen", "module", "os.system"),
        ("frozen", "lr", "high"),
        ("frozen", "colour", 1),
        ("attributes", "n_features_in_", 10**15),
        ("attributes", "n_features_in_", -1),
        ("attributes", "n_features_in_", "one"),
        ("attributes", "n_outputs_", 10**15),
        ("attributes", "_target_shape", {"tuple": [10**15]}),
        ("attributes", "learner_", 1),
        ("attributes", "learner_", {"dict": {}}),
        ("attributes", "state_", {"dict": {}}),
        ("attributes", "y_scale_", "one"),
        ("attributes", "_query_tasks", [0]),
        ("parameters", "colour", 1),
    ],
)
def test_sizes_and_parameters_that_somebody_made_up(part, key, value, files, refused):
    content, arrays = opened(files["maml"])
    content["objects"][-1][part][key] = value
    arrays_of = json.dumps(content)
    arrays = {k: v for k, v in arrays.items() if json.dumps(k) in arrays_of}
    refused(to_bytes(content, arrays))


def every_place(node, steps=()):
    """Paths to all values of a JSON tree."""
    yield steps
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield from every_place(node[key], (*steps, key))


@pytest.mark.parametrize("name", ["maml", "proto", "gp", "trees"])
def test_anything_in_the_place_of_anything(name, files, loads_or_refused):
    """Loads (a history may say what it likes) or is refused in words; nothing else."""
    rng = np.random.default_rng(0)
    odd = [None, True, -1, 10**18, 1e308, "", "os.system", [], [[]], {}, {"dict": {}},
           {"tuple": [1]}, {"float": "nan"}, {"items": []}, {"estimator": 0},
           {"strings": [[0], []]}, {"scalar": ["<f8", "00" * 8]}]  # fmt: skip
    content, arrays = opened(files[name])
    places = [place for place in every_place(content) if place]
    counts = [0, 0]
    for index in rng.permutation(len(places))[:150]:
        content, arrays = opened(files[name])
        *way, last = places[index]
        node = content
        for step in way:
            node = node[step]
        if rng.random() < 0.2:
            del node[last]
        else:
            node[last] = odd[rng.integers(len(odd))]
        counts[loads_or_refused(to_bytes(content, arrays))] += 1
    assert counts[1] > 50


# ---------------------------------------------------------------- trees


@pytest.mark.parametrize(
    ("field", "change"),
    [
        (
            "left",
            lambda v, inner: np.where(inner, 0, v).astype(v.dtype),
        ),  # round in a circle for ever
        ("right", lambda v, inner: np.where(inner, 2**31, v).astype(v.dtype)),
        ("left", lambda v, inner: v.astype(np.int64)),
        ("feature_idx", lambda v, inner: np.where(inner, 10**12, v)),
        ("feature_idx", lambda v, inner: np.where(inner, -1, v)),
        ("is_leaf", lambda v, inner: np.zeros_like(v)),
        ("value", lambda v, inner: v[:-1]),
        ("num_threshold", lambda v, inner: v[:, None]),
    ],
)
def test_trees_that_would_lead_compiled_code_astray(field, change, files, refused):
    content, arrays = opened(files["trees"])
    entry = next(e for e in content["objects"] if "boosting" in e)["boosting"]["dict"]
    fields = entry["nodes"]["dict"]
    inner = arrays[fields["is_leaf"]["array"][0]] == 0
    assert inner.any()
    name = f"changed {field}"
    values = arrays[fields[field]["array"][0]]
    arrays[name] = change(values, inner)
    fields[field]["array"][0] = name
    used = json.dumps(content)
    refused(
        to_bytes(content, {k: v for k, v in arrays.items() if json.dumps(k) in used}),
        "its trees|of its",
    )


@pytest.mark.parametrize("sizes", [[0], [-1, 5], [10**6], []])
def test_trees_of_other_sizes(sizes, files, refused):
    content, arrays = opened(files["trees"])
    entry = next(e for e in content["objects"] if "boosting" in e)["boosting"]["dict"]
    arrays[entry["sizes"]["array"][0]] = np.array(sizes, dtype=np.int64)
    refused(to_bytes(content, arrays), "trees")

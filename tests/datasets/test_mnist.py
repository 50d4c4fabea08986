"""MNIST: the real test half, and small files of our own."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from skmeta.datasets import _mnist, fetch_mnist
from tests.datasets.files import BINARY_EDITS, change

pd = pytest.importorskip("pandas")


@pytest.mark.data
def test_mnist(local_data, no_network):
    test = fetch_mnist("test", data_home=local_data("mnist_t10k"), scaled=False)
    assert test.data.shape == (10000, 784) and test.data.dtype == np.uint8
    assert test.target.tolist()[:10] == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(test.target).tolist() == counts
    assert test.data.mean() == pytest.approx(33.7912, abs=1e-4)
    assert test.image_shape == (28, 28) and test.frame is None
    assert "groups" not in test, "a digit is a label, no task"
    # Upright and not mirrored: the first image is a 7, its stroke leans to the right.
    seven = test.data[0].reshape(test.image_shape) > 128
    assert seven[8, 6:20].sum() > 8 > seven[20].sum() and seven[12:].any()
    assert np.flatnonzero(seven[24]).mean() < np.flatnonzero(seven[12]).mean()
    for key in ("DESCR", "licence", "citation"):
        assert isinstance(test[key], str) and test[key]


@pytest.mark.data
def test_mnist_scaled_tuple_and_frame(local_data):
    home = local_data("mnist_t10k")
    plain = fetch_mnist("test", data_home=home, scaled=False)
    X, y = fetch_mnist("test", data_home=home, return_X_y=True)
    assert X.dtype == np.float32 and (X.min(), X.max()) == (0, 1)
    np.testing.assert_array_equal(np.rint(X * 255), plain.data)
    np.testing.assert_array_equal(y, plain.target)
    frames = fetch_mnist("test", data_home=home, scaled=False, as_frame=True)
    np.testing.assert_array_equal(frames.data, plain.data)
    assert frames.frame.columns.tolist() == [*plain.feature_names, "digit"]
    assert isinstance(frames.target, pd.Series) and frames.target.name == "digit"


@pytest.mark.data
def test_mnist_unpacked_is_fine(copied_data):
    home = copied_data("mnist_t10k")
    for path in list((home / "mnist_t10k").iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert fetch_mnist("test", data_home=home).data.shape == (10000, 784)


@pytest.mark.data
@pytest.mark.parametrize("edit", BINARY_EDITS.values(), ids=BINARY_EDITS)
@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_mnist_altered(copied_data, name, edit):
    home = copied_data("mnist_t10k")
    change(home / "mnist_t10k" / name, edit)
    with pytest.raises(ValueError, match=rf"{name} does not hold the expected values.*fresh copy"):
        fetch_mnist("test", data_home=home)


@pytest.mark.data
def test_mnist_torn_gzip(copied_data):
    home = copied_data("mnist_t10k")
    path = home / "mnist_t10k" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=rf"{path.name} cannot be unpacked.*fresh copy"):
        fetch_mnist("test", data_home=home)


@pytest.mark.data
def test_mnist_training_half_is_not_there(local_data, no_network):
    home = local_data("mnist_t10k")
    for subset in ("train", "all"):
        with pytest.raises(FileNotFoundError, match=r"mnist_train.*train-images-idx3-ubyte is mis"):
            fetch_mnist(subset, data_home=home)


def test_mnist_by_download(server, empty_cache, monkeypatch):
    url, pages, asked = server
    rng, halves, expected = np.random.RandomState(0), {}, {}
    for half, n_images in (("train", 6), ("test", 4)):
        folder, _, (images_name, _), (labels_name, _) = _mnist.HALVES[half]
        images = rng.randint(256, size=(n_images, 28, 28)).astype(np.uint8)
        labels = rng.randint(10, size=n_images).astype(np.uint8)
        expected[half] = images, labels
        files = {
            images_name: struct.pack(">4i", 0x803, n_images, 28, 28) + images.tobytes(),
            labels_name: struct.pack(">2i", 0x801, n_images) + labels.tobytes(),
        }
        halves[half] = [folder, n_images]
        for name, data in files.items():
            pages[f"/second/{name}.gz"] = gzip.compress(data)
            halves[half].append((name, hashlib.sha256(data).hexdigest()))
    monkeypatch.setattr(_mnist, "HALVES", halves)
    monkeypatch.setattr(_mnist, "MIRRORS", (f"{url}/first", f"{url}/second"))
    train = fetch_mnist(scaled=False)
    np.testing.assert_array_equal(train.data.reshape(-1, 28, 28), expected["train"][0])
    np.testing.assert_array_equal(train.target, expected["train"][1])
    everything = fetch_mnist("all", scaled=False)
    assert len(asked) == 8 and len(set(asked)) == 8, "each file once, at the second address"
    for key, place in (("data", 0), ("target", 1)):
        both = np.concatenate([expected[half][place] for half in ("train", "test")])
        np.testing.assert_array_equal(everything[key].ravel(), both.ravel())
    names = {path.name for path in (empty_cache / "mnist_train").iterdir()}
    assert names == {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"}
    fetch_mnist("all", download_if_missing=False)
    assert len(asked) == 8


def test_mnist_names_four_different_files():
    files = [file for half in _mnist.HALVES.values() for file in half[2:]]
    assert len({name for name, _ in files}) == len({checksum for _, checksum in files}) == 4


@pytest.mark.parametrize("subset", ["validation", None, 1, ["test"]])
def test_mnist_bad_subset(subset):
    with pytest.raises(ValueError, match='subset must be "train", "test" or "all"'):
        fetch_mnist(subset)

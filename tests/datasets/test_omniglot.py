"""Omniglot: the real background half, and small archives of our own."""

import hashlib
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from skmeta.datasets import _omniglot, fetch_omniglot
from tests.datasets.files import BINARY_EDITS, change, make_zip

pd = pytest.importorskip("pandas")

ARRAYS = "omniglot_background.npz"
N_CHARACTERS, N_DRAWERS = 5, 20


@pytest.fixture(scope="module")
def background():
    """The background half as bytes from 0 to 255."""
    home = os.environ.get("SKMETA_DATA_HOME")
    if not home or not (Path(home) / "omniglot").is_dir():
        pytest.skip("omniglot is not in SKMETA_DATA_HOME")
    return fetch_omniglot(data_home=home, scaled=False)


# -- the array file -------------------------------------------------------------------


@pytest.mark.data
def test_omniglot(background):
    assert background.data.shape == (19280, 784) and background.data.dtype == np.uint8
    assert background.image_shape == (28, 28) and background.frame is None
    assert background.feature_names[:2] == ["pixel_0_0", "pixel_0_1"]
    assert background.feature_names[-1] == "pixel_27_27" and len(background.feature_names) == 784
    np.testing.assert_array_equal(background.target, np.repeat(np.arange(964), 20))
    np.testing.assert_array_equal(background.drawer, np.tile(np.arange(1, 21), 964))
    alphabets, rows = np.unique(background.groups, return_counts=True)
    assert len(alphabets) == 30
    found = dict(zip(alphabets.tolist(), (rows // 20).tolist(), strict=True))
    assert (found["Greek"], found["Latin"], found["Tifinagh"]) == (24, 26, 55)
    assert (min(found.values()), max(found.values())) == (14, 55)
    for key in ("DESCR", "licence", "citation"):
        assert isinstance(background[key], str) and background[key]


@pytest.mark.data
def test_omniglot_names(background):
    names = background.target_names
    assert list(names) == list(range(964))
    assert names[0] == "Alphabet_of_the_Magi/character01" and names[963] == "Tifinagh/character55"
    of_rows = np.array([names[character] for character in background.target.tolist()])
    np.testing.assert_array_equal(np.char.partition(of_rows, "/")[:, 0], background.groups)


@pytest.mark.data
def test_omniglot_small_images_are_those_of_the_file(background, local_data):
    path = local_data("omniglot") / "omniglot" / ARRAYS
    with np.load(path) as arrays:
        published = arrays["images28"]
        np.testing.assert_array_equal(background.data.reshape(-1, 28, 28), published)
        np.testing.assert_array_equal(background.target, arrays["character"])


@pytest.mark.data
def test_omniglot_full_size(background, local_data):
    full = fetch_omniglot(data_home=local_data("omniglot"), size=105, scaled=False)
    assert full.data.shape == (19280, 11025) and full.image_shape == (105, 105)
    assert full.data.dtype == np.uint8
    for rows in np.array_split(full.data, 20):
        assert set(np.unique(rows)) == {0, 255}
    assert 0.05 < (full.data[::97] > 0).mean() < 0.1, "ink is rare"
    # The small images are their averages: Pillow's own answer, on some of them.
    image = pytest.importorskip("PIL.Image")
    for row in range(0, 19280, 1500):
        large = image.fromarray(full.data[row].reshape(105, 105))
        small = np.asarray(large.resize((28, 28), image.Resampling.BOX))
        np.testing.assert_array_equal(small.ravel(), background.data[row])


@pytest.mark.data
def test_omniglot_scaled_tuple_and_frame(background, local_data, no_network):
    home = local_data("omniglot")
    X, y, groups = fetch_omniglot(data_home=home, return_X_y_groups=True)
    assert X.dtype == np.float32 and (X.min(), X.max()) == (0, 1)
    np.testing.assert_array_equal(np.rint(X * 255), background.data)
    np.testing.assert_array_equal(y, background.target)
    np.testing.assert_array_equal(groups, background.groups)
    frames = fetch_omniglot(data_home=home, as_frame=True, scaled=False)
    assert frames.data.columns.tolist() == background.feature_names
    assert frames.frame.columns.tolist()[-2:] == ["character", "alphabet"]
    assert frames.frame.shape == (19280, 786)
    for key in ("data", "target", "groups", "drawer"):
        np.testing.assert_array_equal(frames[key], background[key])
        assert isinstance(frames[key], pd.DataFrame | pd.Series)
    assert frames.drawer.name == "drawer" and (frames.frame["pixel_0_0"].dtype == np.uint8)


@pytest.mark.data
@pytest.mark.parametrize("edit", BINARY_EDITS.values(), ids=BINARY_EDITS)
def test_omniglot_arrays_altered(copied_data, edit):
    home = copied_data("omniglot")
    change(home / "omniglot" / ARRAYS, edit)
    with pytest.raises(ValueError, match=rf"{ARRAYS} .*fresh copy"):
        fetch_omniglot(data_home=home)


@pytest.mark.data
@pytest.mark.parametrize("key", ["images105_packed", "character", "drawer", "character_names"])
def test_omniglot_arrays_with_other_values(copied_data, key):
    path = copied_data("omniglot") / "omniglot" / ARRAYS
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in ("images105_packed", "character", "drawer")}
        arrays["character_names"] = archive["character_names"]
    last = arrays[key][-1:] if arrays[key].ndim == 1 else arrays[key][-1, -1:]
    last[:] = "Zulu/character01" if key == "character_names" else 2000 % np.iinfo(last.dtype).max
    if key == "character_names":
        arrays[key][:1] = last
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=rf"{ARRAYS} does not hold the expected values"):
        fetch_omniglot(data_home=path.parents[1])


@pytest.mark.data
def test_omniglot_other_half_is_not_in_the_array_file(local_data, no_network):
    home = local_data("omniglot")
    for subset in ("evaluation", "all"):
        with pytest.raises(FileNotFoundError, match=r"images_evaluation\.zip is missing"):
            fetch_omniglot(subset, data_home=home)


# -- archives -------------------------------------------------------------------------


def drawings(seed, names):
    """Images of the named characters, one png a drawer, in a random order of the archive."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.RandomState(seed)
    ink = rng.uniform(size=(len(names) * N_DRAWERS, 105, 105)) < 0.1
    members = {}
    for row in rng.permutation(len(ink)):
        file = io.BytesIO()
        image.fromarray(~ink[row]).save(file, "PNG")
        number, drawer = row // N_DRAWERS, row % N_DRAWERS + 1
        name = f"images__{names[number]}/{900 - number:04d}_{drawer:02d}.png"
        members[name.replace("/", "__")] = file.getvalue()
    members["images__.DS__Store"] = b"not an image"
    return ink, members


@pytest.fixture
def archives(monkeypatch):
    """Two small archives that count as the published ones: name -> bytes, and their ink."""
    halves, found, inks = {}, {}, {}
    names = {
        "background": ["A_(b)/character01", "A_(b)/character02", "A_(b)/character10"],
        "evaluation": ["Z/character01", "Ö/character01"],
    }
    names["background"] += [f"B-c/character{number:02d}" for number in (1, 2)]
    for seed, half in enumerate(names):
        inks[half], members = drawings(seed, names[half])
        found[f"images_{half}.zip"] = data = make_zip(**members)
        checksum, start = hashlib.sha256(data).hexdigest(), 0 if half == "background" else 5
        halves[half] = (len(names[half]), 2, start, checksum)
    monkeypatch.setattr(_omniglot, "HALVES", halves)
    return found, inks


@pytest.fixture
def archive_home(archives, tmp_path):
    """A data home that holds both archives."""
    (tmp_path / "home" / "omniglot").mkdir(parents=True)
    for name, data in archives[0].items():
        (tmp_path / "home" / "omniglot" / name).write_bytes(data)
    return tmp_path / "home"


def test_omniglot_by_download(archives, server, empty_cache, monkeypatch):
    url, pages, asked = server
    pages.update({f"/{name}": data for name, data in archives[0].items()})
    monkeypatch.setattr(_omniglot, "BASE_URL", url)
    first = fetch_omniglot(size=105, scaled=False)
    assert asked == ["/images_background.zip"]
    np.testing.assert_array_equal(
        first.data.reshape(-1, 105, 105), archives[1]["background"] * np.uint8(255)
    )
    both = fetch_omniglot("all", size=105, scaled=False)
    assert asked == ["/images_background.zip", "/images_evaluation.zip"]
    again = fetch_omniglot("all", size=105, scaled=False, download_if_missing=False)
    np.testing.assert_array_equal(both.data, again.data)
    assert sorted(p.name for p in (empty_cache / "omniglot").iterdir()) == sorted(archives[0])


def test_omniglot_subsets_continue_each_other(archive_home, no_network):
    parts = [fetch_omniglot(half, data_home=archive_home) for half in ("background", "evaluation")]
    both = fetch_omniglot("all", data_home=archive_home)
    for key in ("data", "target", "groups", "drawer"):
        np.testing.assert_array_equal(both[key], np.concatenate([part[key] for part in parts]))
    assert both.target_names == {**parts[0].target_names, **parts[1].target_names}
    np.testing.assert_array_equal(both.target, np.repeat(np.arange(7), 20))
    np.testing.assert_array_equal(both.drawer, np.tile(np.arange(1, 21), 7))
    assert both.target_names[2] == "A_(b)/character10" and both.target_names[6] == "Ö/character01"
    assert list(dict.fromkeys(both.groups.tolist())) == ["A_(b)", "B-c", "Z", "Ö"]


@pytest.mark.data
def test_omniglot_archive_gives_the_arrays_of_the_array_file(local_data, tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    home = local_data("omniglot")
    expected = fetch_omniglot(data_home=home, scaled=False)
    rows = np.flatnonzero(np.isin(expected.groups, ["Alphabet_of_the_Magi", "Anglo-Saxon_Futhorc"]))
    full = fetch_omniglot(data_home=home, size=105, scaled=False).data[rows]
    members = {}
    with np.load(home / "omniglot" / ARRAYS) as arrays:
        names = arrays["character_names"][arrays["character"][rows]].tolist()
        numbers = arrays["char_number"][rows].tolist()
    for name, number, drawer, pixels in zip(
        names, numbers, expected.drawer[rows], full, strict=True
    ):
        file = io.BytesIO()
        image.fromarray(pixels.reshape(105, 105) == 0).save(file, "PNG")
        member = f"images_background/{name}/{number:04d}_{drawer:02d}.png"
        members[member] = file.getvalue()
    data = make_zip(**members)
    half = (len(rows) // 20, 2, 0, hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(_omniglot.HALVES, "background", half)
    (tmp_path / "omniglot").mkdir()
    (tmp_path / "omniglot" / "images_background.zip").write_bytes(data)
    found = fetch_omniglot(data_home=tmp_path, scaled=False)
    for key in ("data", "target", "groups", "drawer"):
        np.testing.assert_array_equal(found[key], expected[key][rows])
        assert found[key].dtype == expected[key].dtype or key == "groups"


@pytest.mark.parametrize("edit", BINARY_EDITS.values(), ids=BINARY_EDITS)
@pytest.mark.parametrize("half", ["background", "evaluation"])
def test_omniglot_archive_altered(archive_home, half, edit):
    change(archive_home / "omniglot" / f"images_{half}.zip", edit)
    with pytest.raises(ValueError, match=rf"images_{half}\.zip does not hold the expected values"):
        fetch_omniglot("all", data_home=archive_home)


def accept(home, half, data):
    """Put another archive in place and let its checksum pass."""
    (home / "omniglot" / f"images_{half}.zip").write_bytes(data)
    checksum = hashlib.sha256(data).hexdigest()
    _omniglot.HALVES[half] = (*_omniglot.HALVES[half][:3], checksum)


def test_omniglot_archive_that_lacks_an_image(archive_home):
    _, members = drawings(1, ["Z/character01", "Ö/character01"])
    members.pop("images__Z__character01__0900_07.png")
    accept(archive_home, "evaluation", make_zip(**members))
    message = r"images_evaluation\.zip holds 39 images of 2 characters from 2 alphabets, not 20 of"
    with pytest.raises(ValueError, match=message):
        fetch_omniglot("evaluation", data_home=archive_home)


@pytest.mark.parametrize("names", [["Z/character01"], ["Z/character01", "Z/character02"]])
def test_omniglot_archive_of_other_counts(archive_home, names):
    accept(archive_home, "evaluation", make_zip(**drawings(1, names)[1]))
    with pytest.raises(ValueError, match=r"images_evaluation\.zip holds .* from 1 alphabets, not"):
        fetch_omniglot("evaluation", data_home=archive_home)


def test_omniglot_archive_that_cannot_be_read(archive_home):
    image = pytest.importorskip("PIL.Image")
    small = io.BytesIO()
    image.fromarray(np.ones((28, 28), dtype=bool)).save(small, "PNG")
    for content in (b"no image", small.getvalue()):
        member = {"images__Z__character01__0900_01.png": content}
        for data in (make_zip(**member), b"no archive"):
            accept(archive_home, "evaluation", data)
            message = r"images_evaluation\.zip is not a readable archive of images"
            with pytest.raises(ValueError, match=message):
                fetch_omniglot("evaluation", data_home=archive_home)


def test_omniglot_archive_needs_pillow(archive_home, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"needs PIL.Image.*pip install 'pillow'"):
        fetch_omniglot("evaluation", data_home=archive_home)


def test_omniglot_asks_for_pillow_before_it_downloads(archives, server, empty_cache, monkeypatch):
    url, _, asked = server
    monkeypatch.setattr(_omniglot, "BASE_URL", url)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match="pillow"):
        fetch_omniglot()
    assert asked == []


@pytest.mark.data
def test_omniglot_array_file_needs_no_pillow(local_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert fetch_omniglot(data_home=local_data("omniglot"), scaled=False).data.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subset": "train"}, 'subset must be "background", "evaluation" or "all", got \'train\''),
        ({"subset": None}, 'subset must be "background"'),
        ({"size": 32}, "size must be 28 or 105, got 32"),
        ({"size": "28"}, "size must be 28 or 105"),
        ({"size": 28.0}, "size must be 28 or 105"),
        ({"size": [28, 28]}, "size must be 28 or 105"),
    ],
)
def test_omniglot_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fetch_omniglot(**arguments)

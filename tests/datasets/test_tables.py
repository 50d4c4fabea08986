"""Schools, landmines, grades and airfoils, on the real files that SKMETA_DATA_HOME must hold."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from skmeta.datasets import (
    _airfoil,
    _landmine,
    _school_exam,
    _student_performance,
    fetch_airfoil,
    fetch_landmine,
    fetch_school_exam,
    fetch_student_performance,
)
from tests.datasets.files import BINARY_EDITS, EDITS, change, make_zip

pd = pytest.importorskip("pandas")

# Folder -> fetcher, kind of the groups, name of the target and of the groups.
FETCHERS = {
    "ilea_school": (fetch_school_exam, "i", "score", "school"),
    "landmine": (fetch_landmine, "i", "mine", "field"),
    "airfoil": (fetch_airfoil, "i", "pressure", "spectrum"),
    "student_performance": (fetch_student_performance, "U", "G3", "task"),
}
FILES = {
    "ilea_school": ["school.mat"],
    "landmine": ["LandmineData.mat"],
    "airfoil": ["airfoil_self_noise.dat"],
    "student_performance": ["student-mat.csv", "student-por.csv"],
}
each = pytest.mark.parametrize("folder", FETCHERS)
pytestmark = pytest.mark.data


DAMAGED = [
    pytest.param(folder, name, edit, id=f"{name}: {label}")
    for folder, names in FILES.items()
    for name in names
    for label, edit in (BINARY_EDITS if name.endswith(".mat") else EDITS).items()
]


@pytest.fixture
def published():
    """Function: folder -> its files by name, read before ``empty_cache`` hides them."""
    home = os.environ.get("SKMETA_DATA_HOME", "")

    def read(folder):
        if not home or not (Path(home) / folder).is_dir():
            pytest.skip(f"{folder} is not in SKMETA_DATA_HOME")
        return {name: (Path(home) / folder / name).read_bytes() for name in FILES[folder]}

    return read


# -- all of them --------------------------------------------------------------------------------


@each
def test_frames(local_data, no_network, folder):
    fetch, _, target, groups = FETCHERS[folder]
    found = fetch(data_home=local_data(folder))
    assert list(found.data.columns) == found.feature_names
    assert list(found.frame.columns) == [*found.feature_names, target, groups]
    assert (found.data.dtypes == np.float64).all() and not found.frame.isna().any().any()
    assert (found.target.name, found.groups.name) == (target, groups)
    assert found.frame.index.equals(pd.RangeIndex(len(found.data)))
    for key in ("DESCR", "licence", "citation"):
        assert isinstance(found[key], str) and found[key]


@each
def test_arrays_and_tuple(local_data, folder):
    fetch, kind, _, _ = FETCHERS[folder]
    home = local_data(folder)
    frames, arrays = fetch(data_home=home), fetch(data_home=home, as_frame=False)
    assert arrays.frame is None and arrays.feature_names == frames.feature_names
    keys = ("data", "target", "groups")
    for key in keys:
        assert type(arrays[key]) is np.ndarray
        np.testing.assert_array_equal(arrays[key], frames[key])
    assert (arrays.data.dtype.kind, arrays.groups.dtype.kind) == ("f", kind)
    parts = fetch(data_home=home, return_X_y_groups=True)
    pd.testing.assert_frame_equal(parts[0], frames.data)
    pd.testing.assert_series_equal(parts[1], frames.target)
    pd.testing.assert_series_equal(parts[2], frames.groups)
    parts = fetch(data_home=home, return_X_y_groups=True, as_frame=False)
    for part, key in zip(parts, keys, strict=True):
        np.testing.assert_array_equal(part, arrays[key])


@pytest.mark.parametrize(("folder", "name", "edit"), DAMAGED)
def test_altered(copied_data, no_network, folder, name, edit):
    home = copied_data(folder)
    change(home / folder / name, edit)
    with pytest.raises(ValueError, match=rf"{name} .*fresh copy"):
        FETCHERS[folder][0](data_home=home)


@each
def test_missing_file_is_named(copied_data, no_network, folder):
    home = copied_data(folder)
    (home / folder / FILES[folder][-1]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{FILES[folder][-1]} is missing"):
        FETCHERS[folder][0](data_home=home)


@each
def test_repacked_is_fine(copied_data, folder):
    home = copied_data(folder)
    expected = FETCHERS[folder][0](data_home=home).frame
    for name in FILES[folder]:
        path = home / folder / name
        data = path.read_bytes()
        if not name.endswith(".mat"):
            data = data.replace(b"\n", b"\r\n")
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
        path.unlink()
    pd.testing.assert_frame_equal(FETCHERS[folder][0](data_home=home).frame, expected)


# -- downloads, as the publishers pack them -----------------------------------------------------


def fetch_twice(folder, cache, asked):
    """Fetch from the server, then from the cache, then with the cached files gone bad."""
    fetch = FETCHERS[folder][0]
    found = fetch()
    assert sorted(p.name for p in (cache / folder).iterdir()) == sorted(FILES[folder])
    n_asked = len(asked)
    pd.testing.assert_frame_equal(fetch(download_if_missing=False).frame, found.frame)
    assert len(asked) == n_asked
    change(cache / folder / FILES[folder][0], EDITS["half"])
    with pytest.raises(ValueError, match=rf"{FILES[folder][0]} .*delete it and call again"):
        fetch()
    return found


def test_school_by_download(published, server, empty_cache, monkeypatch):
    url, pages, asked = server
    pages["/school.mat"] = published("ilea_school")["school.mat"]
    monkeypatch.setattr(_school_exam, "URL", f"{url}/school.mat")
    assert fetch_twice("ilea_school", empty_cache, asked).data.shape == (15362, 27)
    assert asked == ["/school.mat"]


def test_landmine_by_download_from_the_second_address(published, server, empty_cache, monkeypatch):
    url, pages, asked = server
    pages["/other/LandmineData.mat"] = published("landmine")["LandmineData.mat"]
    addresses = (f"{url}/LandmineData.zip", f"{url}/other/LandmineData.mat")
    monkeypatch.setattr(_landmine, "URLS", addresses)
    assert fetch_twice("landmine", empty_cache, asked).data.shape == (14820, 9)
    assert asked == ["/LandmineData.zip", "/other/LandmineData.mat"]


def test_airfoil_by_download_without_column_names(published, server, empty_cache, monkeypatch):
    url, pages, asked = server
    rows = published("airfoil")["airfoil_self_noise.dat"].split(b"\n", 1)[1]
    pages["/noise.zip"] = make_zip(**{"airfoil_self_noise.dat": rows})
    monkeypatch.setattr(_airfoil, "URL", f"{url}/noise.zip")
    assert fetch_twice("airfoil", empty_cache, asked).data.shape == (1503, 5)


def test_students_by_download_of_an_archive_in_an_archive(
    published, server, empty_cache, monkeypatch
):
    url, pages, asked = server
    inner = make_zip(**published("student_performance"))
    pages["/student.zip"] = make_zip(**{".student.zip_old": b"", "student.zip": inner})
    monkeypatch.setattr(_student_performance, "URL", f"{url}/student.zip")
    assert fetch_twice("student_performance", empty_cache, asked).data.shape == (1044, 29)


# -- schools ------------------------------------------------------------------------------------


def test_school(local_data):
    school = fetch_school_exam(data_home=local_data("ilea_school"))
    data = school.data
    assert data.shape == (15362, 27)
    counts = school.groups.value_counts()
    assert sorted(counts.index) == list(range(1, 140))
    assert (counts.min(), counts.median(), counts.max()) == (22, 103, 251)
    assert (school.target.min(), school.target.max()) == (1, 70)
    assert school.target.mean() == pytest.approx(20.5973, abs=1e-4)
    assert not (data == 1).all().any(), "the constant column is still there"


def test_school_columns_mean_what_they_say(local_data):
    school = fetch_school_exam(data_home=local_data("ilea_school"))
    data, names = school.data, school.feature_names
    years, origins = names[:3], names[names.index("band_2") + 1 : names.index("mixed_school")]
    kinds = ["mixed_school", "boys_school", "girls_school"]
    faiths = ["maintained", "church_of_england", "roman_catholic"]
    for question in (years, origins, ["female", "male"], kinds, faiths):
        assert (data[question].sum(axis=1) == 1).all(), question
    assert len(origins) == 11
    bands = data[["band_1", "band_2", "band_3"]]
    assert bands.sum(axis=1).value_counts().to_dict() == {1: 15347, 0: 15}
    means = [school.target[bands[name] == 1].mean() for name in bands]
    np.testing.assert_allclose(means, [30.3, 19.2, 11.1], atol=0.05)
    assert data.loc[data["girls_school"] == 1, "male"].sum() == 0
    assert data.loc[data["boys_school"] == 1, "female"].sum() == 1
    assert (data[[*kinds, *faiths]].groupby(school.groups).nunique() == 1).all().all()


def test_school_against_the_coded_table(local_data):
    home = local_data("ilea_school")
    path = home / "ilea_school" / "ILEA567.csv"
    if not path.is_file():
        pytest.skip("the coded examination data are not in SKMETA_DATA_HOME")
    coded, school = pd.read_csv(path), fetch_school_exam(data_home=home)
    # Code of each answer -> the column that must be 1 there.
    answers = {
        "year": school.feature_names[:3],
        "gender": ["male", "female"],
        "vrband": [None, "band_3", "band_1", "band_2"],
        "ethnicity": [None, *school.feature_names[10:21]],
        "schoolgender": [None, "mixed_school", "boys_school", "girls_school"],
        "schooldenom": [None, "maintained", "church_of_england", "roman_catholic"],
    }
    answers["year"] = [None, *answers["year"]]
    for column, names in answers.items():
        for code, name in enumerate(names):
            if name is not None:
                np.testing.assert_array_equal(school.data[name], coded[column] == code)
    for name, column in (("free_meals", "fsm"), ("share_band_1", "vr1percent")):
        np.testing.assert_array_equal(school.data[name], coded[column])
    np.testing.assert_array_equal(school.target, coded["score"])
    np.testing.assert_array_equal(school.groups, coded["school"])


# -- landmines ----------------------------------------------------------------------------------


def test_landmine(local_data):
    mines = fetch_landmine(data_home=local_data("landmine"))
    assert mines.data.shape == (14820, 9)
    counts = mines.groups.value_counts(sort=False)
    assert counts.index.tolist() == list(range(1, 30))
    assert counts.tolist()[:4] == [690, 690, 689, 508]
    assert (counts.min(), counts.median(), counts.max()) == (445, 507, 690)
    found = mines.target.groupby(mines.groups).sum()
    assert found.tolist()[:5] == [40, 48, 39, 19, 22] and found.sum() == 904
    assert set(mines.target.unique()) == {0, 1}
    np.testing.assert_allclose(mines.data.iloc[0, :3], [1.3683079, 15.56627092, 7.36335866])


# -- airfoils -----------------------------------------------------------------------------------


def test_airfoil(local_data):
    noise = fetch_airfoil(data_home=local_data("airfoil"))
    assert noise.data.shape == (1503, 5)
    assert noise.frame.iloc[0].tolist() == [800, 0, 0.3048, 71.3, 0.00266337, 126.201, 1]
    assert noise.frame.iloc[-1].tolist() == [6300, 15.6, 0.1016, 39.6, 0.0528487, 104.204, 106]
    counts = noise.groups.value_counts()
    assert len(counts) == 106
    assert (counts.min(), counts.median(), counts.max()) == (8, 14, 19)
    assert (np.diff(noise.groups) >= 0).all(), "spectra are numbered in the order of the file"
    values = noise.data.groupby(noise.groups).nunique()
    np.testing.assert_array_equal(values["frequency"], counts.sort_index())
    assert (values.drop(columns="frequency") == 1).all().all()
    settings = noise.data[["chord", "angle", "velocity"]].drop_duplicates()
    assert len(settings) == 106, "no setting is in two spectra"


# -- grades -------------------------------------------------------------------------------------


def test_students(local_data):
    grades = fetch_student_performance(data_home=local_data("student_performance"))
    assert grades.data.shape == (1044, 29)
    assert not {"G1", "G2", "G3", "school"} & set(grades.feature_names)
    assert grades.groups.value_counts().to_dict() == {
        "GP mathematics": 349,
        "GP Portuguese": 423,
        "MS mathematics": 46,
        "MS Portuguese": 226,
    }
    assert (grades.target.min(), grades.target.max(), (grades.target == 0).sum()) == (0, 20, 53)
    means = grades.target.groupby(grades.groups).mean().round(2).to_dict()
    assert means["MS mathematics"] == 9.85 and means["GP Portuguese"] == 12.58


def test_students_earlier_grades_on_request(local_data):
    home = local_data("student_performance")
    grades = fetch_student_performance(data_home=home, earlier_grades=True)
    assert grades.feature_names[-2:] == ["G1", "G2"] and grades.data.shape == (1044, 31)
    correlation = grades.data["G2"].corr(grades.target.astype(float))
    assert correlation == pytest.approx(0.91, abs=0.005)
    without = fetch_student_performance(data_home=home)
    pd.testing.assert_frame_equal(grades.data.drop(columns=["G1", "G2"]), without.data)


def test_students_codes_stand_for_the_published_words(local_data):
    home = local_data("student_performance")
    grades = fetch_student_performance(data_home=home)
    folder = home / "student_performance"
    raw = pd.concat([pd.read_csv(folder / n, sep=";") for n in FILES["student_performance"]])
    assert grades.categorical_features == list(grades.categories)
    for name in grades.feature_names:
        values = grades.data[name]
        if name in grades.categories:
            values = [grades.categories[name][int(code)] for code in values]
        assert list(values) == raw[name].tolist(), name
    np.testing.assert_array_equal(grades.target, raw["G3"])


def test_pupils_in_both_subjects(local_data):
    home = local_data("student_performance")
    grades = fetch_student_performance(data_home=home)
    arrays = fetch_student_performance(data_home=home, as_frame=False)
    np.testing.assert_array_equal(arrays.pupil, grades.pupil)
    assert type(arrays.pupil) is np.ndarray and grades.pupil.name == "pupil"
    assert sorted(grades.pupil.unique()) == list(range(1, 663))
    mathematics = grades.groups.str.endswith("mathematics")
    pupils = grades.pupil[mathematics].to_frame().merge(grades.pupil[~mathematics].to_frame())
    assert len(pupils) == 382, "the number of pairs that the publisher states"
    assert pupils["pupil"].nunique() == 366
    # One school a pupil.
    assert (grades.groups.str[:2].groupby(grades.pupil).nunique() == 1).all()

"""The fetchers on the real files, which SKMETA_DATA_HOME must hold."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skmeta.datasets import _rdatasets, fetch_heart_disease, fetch_parkinsons, fetch_rdataset
from tests.datasets.files import EDITS, change

pd = pytest.importorskip("pandas")


# -- heart disease ------------------------------------------------------------------------------


@pytest.mark.data
def test_heart_disease(local_data, no_network):
    heart = fetch_heart_disease(data_home=local_data("heart_disease"))
    assert heart.data.shape == (920, 13) and list(heart.data.columns) == heart.feature_names
    assert (heart.data.dtypes == np.float64).all()
    assert heart.groups.value_counts(sort=False).to_dict() == {
        "cleveland": 303,
        "hungarian": 294,
        "switzerland": 123,
        "va": 200,
    }
    sick = heart.target.groupby(heart.groups).sum()
    assert sick.to_dict() == {"cleveland": 139, "hungarian": 106, "switzerland": 115, "va": 149}
    assert set(heart.target.unique()) == {0, 1}
    assert set(heart.categorical_features) < set(heart.feature_names)
    assert list(heart.frame.columns) == [*heart.feature_names, "disease", "hospital"]
    assert heart.data.iloc[0].tolist() == [63, 1, 1, 145, 233, 1, 2, 150, 0, 2.3, 3, 0, 6]
    for key in ("DESCR", "licence", "citation"):
        assert isinstance(heart[key], str) and heart[key]


@pytest.mark.data
def test_heart_disease_missing_values(local_data):
    heart = fetch_heart_disease(data_home=local_data("heart_disease"))
    missing = heart.data.isna().groupby(heart.groups).sum()
    assert missing["chol"].to_dict() == {
        "cleveland": 0,
        "hungarian": 23,
        "switzerland": 123,
        "va": 7 + 49,
    }
    assert missing["trestbps"].to_dict() == {
        "cleveland": 0,
        "hungarian": 1,
        "switzerland": 2,
        "va": 56 + 1,
    }
    assert missing.loc["cleveland"].sum() == 6
    assert heart.data[["chol", "trestbps"]].min().min() > 0
    assert heart.data["oldpeak"].min() == -2.6


@pytest.mark.data
def test_heart_disease_as_arrays_and_as_tuple(local_data):
    home = local_data("heart_disease")
    frames = fetch_heart_disease(data_home=home)
    arrays = fetch_heart_disease(data_home=home, as_frame=False)
    assert arrays.frame is None
    for key, kind in (("data", "f"), ("target", "i"), ("groups", "U")):
        assert type(arrays[key]) is np.ndarray and arrays[key].dtype.kind == kind
        np.testing.assert_array_equal(arrays[key], frames[key])
    X, y, groups = fetch_heart_disease(data_home=home, return_X_y_groups=True)
    pd.testing.assert_frame_equal(X, frames.data)
    pd.testing.assert_series_equal(y, frames.target)
    pd.testing.assert_series_equal(groups, frames.groups)
    parts = fetch_heart_disease(data_home=home, return_X_y_groups=True, as_frame=False)
    for part, key in zip(parts, ("data", "target", "groups"), strict=True):
        np.testing.assert_array_equal(part, arrays[key])


@pytest.mark.data
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("hospital", ["cleveland", "va"])
def test_heart_disease_altered(copied_data, hospital, edit):
    home = copied_data("heart_disease")
    change(home / "heart_disease" / f"processed.{hospital}.data", edit)
    with pytest.raises(ValueError, match=rf"processed\.{hospital}\.data .*fresh copy"):
        fetch_heart_disease(data_home=home)


@pytest.mark.data
def test_heart_disease_repacked_is_fine(copied_data):
    home = copied_data("heart_disease")
    for path in list((home / "heart_disease").glob("*.data")):
        data = path.read_bytes().replace(b"\n", b"\r\n").replace(b".0,", b",")
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
        path.unlink()
    assert fetch_heart_disease(data_home=home).data.shape == (920, 13)


@pytest.mark.data
def test_environment_variable(local_data, monkeypatch, no_network):
    monkeypatch.setenv("SKMETA_DATA_HOME", str(local_data("heart_disease")))
    assert fetch_heart_disease(download_if_missing=False).data.shape == (920, 13)


# -- parkinsons ---------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("target", "first", "other"),
    [("total_UPDRS", 34.398, "motor_UPDRS"), ("motor_UPDRS", 28.199, "total_UPDRS")],
)
def test_parkinsons(local_data, no_network, target, first, other):
    data_home = local_data("parkinsons_telemonitoring")
    parkinsons = fetch_parkinsons(data_home=data_home, target=target)
    assert parkinsons.data.shape == (5875, 19)
    assert (parkinsons.data.dtypes == np.float64).all()
    assert not parkinsons.data.isna().any().any()
    assert parkinsons.feature_names[:4] == ["age", "sex", "test_time", "Jitter(%)"]
    assert parkinsons.target.name == target and parkinsons.target.iloc[0] == first
    assert other not in parkinsons.frame.columns
    assert list(parkinsons.frame.columns) == [*parkinsons.feature_names, target, "subject#"]
    counts = parkinsons.groups.value_counts()
    assert sorted(counts.index) == list(range(1, 43))
    assert (counts.min(), counts.max()) == (101, 168)


@pytest.mark.data
def test_parkinsons_as_arrays_and_as_tuple(local_data):
    home = local_data("parkinsons_telemonitoring")
    frames = fetch_parkinsons(data_home=home)
    parts = fetch_parkinsons(data_home=home, as_frame=False, return_X_y_groups=True)
    for part, key, kind in zip(parts, ("data", "target", "groups"), "ffi", strict=True):
        assert type(part) is np.ndarray and part.dtype.kind == kind
        np.testing.assert_array_equal(part, frames[key])
    assert fetch_parkinsons(data_home=home, as_frame=False).frame is None


@pytest.mark.data
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_parkinsons_altered(copied_data, edit):
    home = copied_data("parkinsons_telemonitoring")
    change(home / "parkinsons_telemonitoring" / "parkinsons_updrs.data", edit)
    with pytest.raises(ValueError, match=r"parkinsons_updrs\.data .*fresh copy"):
        fetch_parkinsons(data_home=home)


@pytest.mark.parametrize("target", ["UPDRS", None, ["total_UPDRS"]])
def test_parkinsons_bad_target(target):
    with pytest.raises(ValueError, match='target must be "total_UPDRS" or "motor_UPDRS"'):
        fetch_parkinsons(target=target)


# -- rdatasets ----------------------------------------------------------------------------------

SHAPES = {
    "lme4/InstEval": (73421, 7),
    "lme4/VerbAgg": (7584, 9),
    "lme4/sleepstudy": (180, 3),
    "lme4/toenail": (1908, 5),
    "mlmRev/Chem97": (31022, 8),
    "mlmRev/Contraception": (1934, 6),
    "mlmRev/Exam": (4059, 10),
    "mlmRev/egsingle": (7230, 12),
    "nlme/bdf": (2287, 28),
}


@pytest.mark.data
@pytest.mark.parametrize("key", sorted(_rdatasets.CHECKSUMS))
def test_registered_rdatasets(local_data, no_network, key):
    package, name = key.split("/")
    loaded = fetch_rdataset(package, name, data_home=local_data(f"rdatasets/{package}"))
    assert loaded.frame.shape == SHAPES[key]
    assert "rownames" not in loaded.frame.columns
    assert (loaded.package, loaded.name) == (package, name)
    assert loaded.url.endswith(f"/csv/{key}.csv")
    assert len(loaded.DESCR) > 200


@pytest.mark.data
def test_sleepstudy_values(local_data):
    sleep = fetch_rdataset("lme4", "sleepstudy", data_home=local_data("rdatasets/lme4"))
    frame = sleep.frame
    assert frame.columns.tolist() == ["Reaction", "Days", "Subject"]
    assert frame.iloc[0].tolist() == [249.56, 0, 308]
    # Balanced: the fixed effects of the published mixed model are those of plain least squares.
    slope, intercept = np.polyfit(frame["Days"], frame["Reaction"], 1)
    assert (round(intercept, 3), round(slope, 3)) == (251.405, 10.467)


@pytest.mark.data
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("name", ["sleepstudy.csv", "VerbAgg.csv.gz"])
def test_registered_rdatasets_altered(copied_data, name, edit):
    home = copied_data("rdatasets/lme4")
    change(home / "rdatasets" / "lme4" / name, edit)
    with pytest.raises(ValueError, match=f"{name} .*fresh copy"):
        fetch_rdataset("lme4", name.split(".")[0], data_home=home)


def test_other_rdatasets_are_loaded_unverified(tmp_path, no_network):
    place = tmp_path / "rdatasets" / "pkg"
    place.mkdir(parents=True)
    (place / "t.csv").write_text('"","school","score"\n"1","A",3\n"2",NA,4\n')
    loaded = fetch_rdataset("pkg", "t", data_home=tmp_path)
    assert loaded.frame.columns.tolist() == ["school", "score"]
    assert loaded.frame["score"].tolist() == [3, 4] and loaded.frame["school"].isna().sum() == 1
    assert loaded.DESCR.startswith("Documentation: https://")
    (place / "t.doc.txt").write_text("A table.")
    assert fetch_rdataset("pkg", "t", data_home=tmp_path).DESCR == "A table."


@pytest.mark.parametrize(
    "bad",
    [
        "",
        ".",
        "..",
        "../lme4",
        "a/b",
        "a\\b",
        "/etc",
        "a..b",
        "x.",
        "-x",
        "x y",
        "x\n",
        "C:x",
        "a%2f",
        "é",
        "x?y",
        "x\0",
        None,
        3,
    ],
)
def test_bad_names(tmp_path, bad, no_network):
    with pytest.raises(ValueError, match="package must be a plain name"):
        fetch_rdataset(bad, "sleepstudy", data_home=tmp_path)
    with pytest.raises(ValueError, match="name must be a plain name"):
        fetch_rdataset("lme4", bad, data_home=tmp_path)


@pytest.mark.parametrize("name", ["sleepstudy", "diggle.cow", "state.x77", "a_b-c.1"])
def test_good_names_get_as_far_as_the_file(tmp_path, name, no_network):
    with pytest.raises(FileNotFoundError, match="is missing"):
        fetch_rdataset("pkg", name, data_home=tmp_path)


# -- floors -------------------------------------------------------------------------------------


def test_generators_need_no_heavy_import():
    code = (
        "import sys, importlib.util, types\n"
        "root = types.ModuleType('skmeta'); root.__path__ = sys.argv[1:]\n"
        "sys.modules['skmeta'] = root\n"  # the package without its other parts
        "import skmeta.datasets as d\n"
        "d.make_sinusoids(); d.make_pendulums(2, 2); d.make_digit_questions(n_rows=2)\n"
        "print(sorted({'torch', 'skorch', 'pooch'} & set(sys.modules)))\n"
        "print(sorted(m for m in sys.modules if m.startswith('skmeta.') and 'datasets' not in m))\n"
    )
    root = Path(_rdatasets.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "['skmeta._optional']"]  # which imports nothing

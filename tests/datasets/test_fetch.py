"""The common machinery: files and downloads (from a server of our own)."""

import sys

import pytest

from skmeta.datasets import _heart_disease, _rdatasets, fetch_heart_disease, fetch_rdataset
from skmeta.datasets._fetch import find_files, find_present
from tests.datasets.files import make_zip

pd = pytest.importorskip("pandas")

TABLE = b'rownames,who,score\n1,"a",1.5\n2,None,NA\n3,NA,-0.25\n'


def find(url, names=("one.csv",), **options):
    options = {"data_home": None, "download_if_missing": True, **options}
    return find_files("some/place", list(names), url, **options)


# -- downloads ----------------------------------------------------------------------------------


def test_download_once_then_cache(server, empty_cache, capfd):
    url, pages, asked = server
    pages["/one.csv"] = TABLE
    (path,) = find(f"{url}/one.csv")
    assert path == empty_cache / "some" / "place" / "one.csv"
    assert path.read_bytes() == TABLE
    assert find(f"{url}/one.csv", download_if_missing=False) == [path]
    assert asked == ["/one.csv"]
    assert [p.name for p in path.parent.iterdir()] == ["one.csv"], "something was left behind"
    assert capfd.readouterr() == ("", "")


def test_download_archive(server, empty_cache):
    url, pages, _ = server
    pages["/all.zip"] = make_zip(one=b"1", inner__two=b"22", three=b"333")
    one, two = find(f"{url}/all.zip", ["one", "two"])
    assert (one.read_bytes(), two.read_bytes()) == (b"1", b"22")
    assert sorted(p.name for p in one.parent.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("body", [b"<html>sign in</html>", make_zip(other=b"1"), make_zip()[:9]])
def test_wrong_archive_is_refused_and_not_kept(server, empty_cache, body):
    url, pages, _ = server
    pages["/all.zip"] = body
    with pytest.raises(ValueError, match=r"not the expected archive.*nothing was kept"):
        find(f"{url}/all.zip")
    assert list((empty_cache / "some" / "place").iterdir()) == []


def test_broken_connection_keeps_nothing(server, empty_cache):
    url, pages, _ = server
    pages["/broken.csv"] = TABLE
    with pytest.raises(OSError, match=r"Could not download .*SKMETA_DATA_HOME"):
        find(f"{url}/broken.csv")
    assert list((empty_cache / "some" / "place").iterdir()) == []


def test_nothing_there(server, empty_cache):
    url, _, _ = server
    with pytest.raises(FileNotFoundError, match=r"nothing at http.*check the names"):
        find(f"{url}/absent.csv")


def test_no_network(empty_cache, no_network):
    with pytest.raises(OSError, match=r"Could not download https.*let data_home or SKMETA_DATA"):
        fetch_heart_disease()
    with pytest.raises(OSError, match=r"Could not download https.*lme4/sleepstudy.csv"):
        fetch_rdataset("lme4", "sleepstudy")


def test_download_not_allowed(empty_cache, no_network):
    with pytest.raises(FileNotFoundError, match=r"not in the cache.*download_if_missing is False"):
        fetch_heart_disease(download_if_missing=False)
    assert not empty_cache.exists()


@pytest.mark.parametrize("module", ["pooch", "pandas"])
def test_missing_dependency_names_the_extra(empty_cache, monkeypatch, module):
    # None in sys.modules is Python's own mark for "cannot be imported".
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {module}.*pip install 'skmeta\[data\]'"):
        fetch_heart_disease()


def test_rdataset_by_download(server, empty_cache, monkeypatch):
    url, pages, _ = server
    pages["/csv/pkg/some.table.csv"] = TABLE
    monkeypatch.setattr(_rdatasets, "BASE_URL", url)
    loaded = fetch_rdataset("pkg", "some.table")
    assert loaded.url == f"{url}/csv/pkg/some.table.csv"
    documentation = f"{url}/doc/pkg/some.table.html"
    assert loaded.DESCR.split(": ", 1) == ["Documentation", documentation]
    assert (empty_cache / "rdatasets" / "pkg" / "some.table.csv").read_bytes() == TABLE


@pytest.fixture
def heart_home(local_data):
    """The data home, found before ``empty_cache`` hides it."""
    return local_data("heart_disease")


@pytest.mark.data
def test_heart_disease_by_download(heart_home, server, empty_cache, monkeypatch):
    url, pages, asked = server
    files = {path.name: path.read_bytes() for path in (heart_home / "heart_disease").iterdir()}
    pages["/heart.zip"] = make_zip(**files)
    monkeypatch.setattr(_heart_disease, "URL", f"{url}/heart.zip")
    heart = fetch_heart_disease()
    assert heart.data.shape == (920, 13)
    assert len(list((empty_cache / "heart_disease").iterdir())) == 4
    pd.testing.assert_frame_equal(fetch_heart_disease().frame, heart.frame)
    assert asked == ["/heart.zip"]


# -- several addresses, other archives ------------------------------------------------------------


def test_next_address_when_one_fails(server, empty_cache):
    url, pages, asked = server
    pages["/sorry.zip"] = b"<html>moved</html>"
    pages["/one.csv"] = TABLE
    (path,) = find([f"{url}/absent.csv", f"{url}/sorry.zip", f"{url}/one.csv", f"{url}/never"])
    assert path.read_bytes() == TABLE
    assert asked == ["/absent.csv", "/sorry.zip", "/one.csv"]
    assert [p.name for p in path.parent.iterdir()] == ["one.csv"], "something was left behind"


def test_no_address_works(server, empty_cache):
    url, pages, _ = server
    pages["/sorry.zip"] = b"<html>moved</html>"
    message = (
        r"No address worked. There is nothing at .*absent\.csv.*sorry\.zip sent is not the exp"
    )
    with pytest.raises(OSError, match=message):
        find([f"{url}/absent.csv", f"{url}/sorry.zip"])
    assert list((empty_cache / "some" / "place").iterdir()) == []


def test_gzipped_download_stays_gzipped(server, empty_cache):
    url, pages, asked = server
    pages["/one.csv.gz"] = b"packed"
    (path,) = find(f"{url}/one.csv.gz")
    assert path.name == "one.csv.gz" and path.read_bytes() == b"packed"
    assert find(f"{url}/one.csv.gz") == [path] and len(asked) == 1


def test_archive_itself_can_be_kept(server, empty_cache):
    url, pages, _ = server
    pages["/all.zip"] = make_zip(one=b"1")
    (path,) = find(f"{url}/all.zip", ["all.zip"])
    assert path.name == "all.zip" and path.read_bytes() == pages["/all.zip"]


def test_archive_inside_an_archive(server, empty_cache):
    url, pages, _ = server
    inner = make_zip(**{"x.csv": b"other"}), make_zip(**{"deep__one.csv": TABLE})
    pages["/all.zip"] = make_zip(**{"a.zip": inner[0], "b.zip": inner[1], "b.zip_old": b"junk"})
    assert find(f"{url}/all.zip")[0].read_bytes() == TABLE
    pages["/deeper.zip"] = make_zip(**{"all.zip": pages["/all.zip"]})
    with pytest.raises(ValueError, match=r"not the expected archive.*holds no x\.csv"):
        find(f"{url}/deeper.zip", ["x.csv"])  # one level down, not two
    pages["/torn.zip"] = make_zip(**{"a.zip": b"junk"})
    with pytest.raises(ValueError, match="not the expected archive"):
        find(f"{url}/torn.zip", ["two.csv"])


def test_find_present(empty_cache, tmp_path, monkeypatch):
    assert find_present("some/place", "one.csv") is None
    place = empty_cache / "some" / "place"
    place.mkdir(parents=True)
    (place / "one.csv.gz").touch()
    assert find_present("some/place", "one.csv") == place / "one.csv.gz"
    assert find_present("some/place", "one.csv", data_home=tmp_path) is None
    monkeypatch.setenv("SKMETA_DATA_HOME", str(tmp_path))
    assert find_present("some/place", "one.csv") is None


# -- local folders ------------------------------------------------------------------------------


def test_data_home_is_used_as_it_is(tmp_path, no_network):
    place = tmp_path / "some" / "place"
    place.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"one.csv is missing. A folder given by data_home"):
        find("https://x.invalid/one.csv", data_home=tmp_path)
    (place / "one.csv.gz").write_bytes(b"")
    assert find("", data_home=str(tmp_path)) == [place / "one.csv.gz"]
    (place / "one.csv").write_bytes(b"")
    assert find("", data_home=tmp_path) == [place / "one.csv"]


def test_argument_goes_before_environment(tmp_path, monkeypatch, no_network):
    for home in ("a", "b"):
        (tmp_path / home / "some" / "place").mkdir(parents=True)
        (tmp_path / home / "some" / "place" / "one.csv").touch()
    monkeypatch.setenv("SKMETA_DATA_HOME", str(tmp_path / "a"))
    assert find("")[0].relative_to(tmp_path).parts[0] == "a"
    assert find("", data_home=tmp_path / "b")[0].relative_to(tmp_path).parts[0] == "b"


def test_bad_data_home(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"data_home points at .*not a folder"):
        find("", data_home=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="data_home must be a path or None, got 3"):
        find("", data_home=3)
    monkeypatch.setenv("SKMETA_DATA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"SKMETA_DATA_HOME points at .*not a folder"):
        find("")

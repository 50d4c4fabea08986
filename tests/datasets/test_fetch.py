"""The common machinery: files, downloads (from a server of our own), checksums."""

import gzip
import hashlib
import http.server
import io
import struct
import sys
import threading
import zipfile

import numpy as np
import pytest

from skmeta.datasets import _heart_disease, _rdatasets, fetch_heart_disease, fetch_rdataset
from skmeta.datasets._fetch import check_frame, find_files, frame_checksum, read_table

pd = pytest.importorskip("pandas")

TABLE = b'rownames,who,score\n1,"a",1.5\n2,None,NA\n3,NA,-0.25\n'


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine: its address and a dict path -> bytes to fill."""
    pages, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = pages.get(self.path)
            self.send_response(404 if body is None else 200)
            # A body shorter than announced is a connection that broke.
            length = len(body or b"") + (100 if self.path.startswith("/broken") else 0)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    httpd = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", pages, asked
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def make_zip(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


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


# -- reading and checking -----------------------------------------------------------------------


def test_read_table_packed_or_not(tmp_path):
    plain, packed = tmp_path / "t.csv", tmp_path / "t.csv.gz"
    plain.write_bytes(TABLE)
    packed.write_bytes(gzip.compress(TABLE))
    table = read_table(plain)
    assert table["who"].iloc[:2].tolist() == ["a", "None"], "None is text, NA is missing"
    assert table.isna().sum().tolist() == [0, 1, 1]
    pd.testing.assert_frame_equal(table, read_table(packed))


@pytest.mark.parametrize("cut", [5, 20, -9, -1])
def test_truncated_gzip(tmp_path, cut):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(TABLE)[:cut])
    with pytest.raises(ValueError, match=r"t\.csv\.gz is not a readable table.*fresh copy"):
        read_table(path)


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n1,2,3\n", b"a\n\xff\xfe\n"])
def test_unreadable_table(tmp_path, data):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"t\.csv is not a readable table"):
        read_table(path)


def test_checksum_is_the_written_byte_form():
    frame = pd.DataFrame({"n": [1, 2], "x": [-0.0, np.nan], "s": ["é", None]})

    def text(data):
        return struct.pack("<q", len(data)) + data

    nan = np.array([np.nan], "<f8").tobytes()
    expected = text(b"n") + b"number" + text(struct.pack("<dd", 1, 2))
    expected += text(b"x") + b"number" + text(struct.pack("<d", 0) + nan)
    expected += text(b"s") + b"text+" + text("é".encode()) + b"-" + text(b"")
    assert frame_checksum(frame) == hashlib.sha256(expected).hexdigest()


def test_checksum_tells_values_apart_and_not_their_storage():
    base = pd.DataFrame({"x": [0.0, 1.0, np.nan], "s": ["ab", "c", None]})
    odd_nan = np.array([0, 0, 0xFFF8000000000001], dtype="<u8").view("<f8")
    odd_nan[:2] = -0.0, 1.0
    assert frame_checksum(base) == frame_checksum(base.assign(x=odd_nan))
    assert frame_checksum(base) == frame_checksum(base.astype({"s": object}))
    assert frame_checksum(base[["x"]].head(2)) == frame_checksum(base[["x"]].head(2).astype(int))
    others = [
        base.assign(x=[0.0, 1.0, 2.0]),
        base.assign(x=[1.0, 0.0, np.nan]),
        base.assign(s=["a", "bc", None]),
        base.assign(s=["ab", "c", "None"]),
        base.assign(s=["ab", "c", ""]),
        base.rename(columns={"x": "z"}),
        base[["s", "x"]],
        base.head(2),
    ]
    digests = {frame_checksum(frame) for frame in [base, *others]}
    assert len(digests) == 1 + len(others)


def test_check_frame_names_the_file(tmp_path):
    frame = pd.DataFrame({"x": [1.0]})
    check_frame(frame, frame_checksum(frame), tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"t\.csv does not hold the expected values.*delete it"):
        check_frame(frame, "0" * 64, tmp_path / "t.csv")

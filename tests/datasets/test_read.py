"""Reading and checking files."""

import gzip
import hashlib
import io
import struct

import numpy as np
import pytest
from scipy.io import savemat

from skmeta.datasets._read import (
    array_checksum,
    check_arrays,
    check_frame,
    frame_checksum,
    read_bytes,
    read_cells,
    read_npz,
    read_table,
)

pd = pytest.importorskip("pandas")

TABLE = b'rownames,who,score\n1,"a",1.5\n2,None,NA\n3,NA,-0.25\n'


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


# -- bytes, arrays ------------------------------------------------------------------------------


def test_read_bytes(tmp_path):
    plain, packed = tmp_path / "t", tmp_path / "t.gz"
    plain.write_bytes(TABLE)
    packed.write_bytes(gzip.compress(TABLE))
    known = hashlib.sha256(TABLE).hexdigest()
    assert read_bytes(plain) == read_bytes(plain, known) == read_bytes(packed, known) == TABLE
    plain.write_bytes(TABLE[:-1])
    with pytest.raises(ValueError, match=r"t does not hold the expected values.*fresh copy"):
        read_bytes(plain, known)
    packed.write_bytes(gzip.compress(TABLE)[:-9])
    with pytest.raises(ValueError, match=r"t\.gz cannot be unpacked.*fresh copy"):
        read_bytes(packed)


def cells(*parts):
    column = np.empty((1, len(parts)), dtype=object)
    for place, part in enumerate(parts):
        column[0, place] = part
    return column


def test_read_cells(tmp_path):
    X = [np.arange(6, dtype=np.uint8).reshape(3, 2), np.array([[7.5, 8.5]])]
    y = [np.array([[1], [0], [1]], dtype=np.uint8), np.array([[0]])]
    path = tmp_path / "tasks.mat"
    savemat(path, {"inputs": cells(*X), "outputs": cells(*y), "more": 1})
    data, target, tasks = read_cells(path, "inputs", "outputs")
    np.testing.assert_array_equal(data, [[0, 1], [2, 3], [4, 5], [7.5, 8.5]])
    np.testing.assert_array_equal(target, [1, 0, 1, 0])
    np.testing.assert_array_equal(tasks, [1, 1, 1, 2])
    assert data.dtype == target.dtype == np.float64
    path.with_name("tasks.mat.gz").write_bytes(gzip.compress(path.read_bytes()))
    again = read_cells(path.with_name("tasks.mat.gz"), "inputs", "outputs")
    np.testing.assert_array_equal(again[0], data)


def test_read_cells_that_do_not_fit(tmp_path):
    path = tmp_path / "tasks.mat"
    savemat(path, {"X": cells(np.ones((2, 3)), np.ones((1, 3))), "Y": cells(np.ones((3, 1)))})
    for outputs in ("Y", "absent"):
        with pytest.raises(ValueError, match=r"tasks\.mat is not a readable MATLAB file.*fresh c"):
            read_cells(path, "X", outputs)


def test_read_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(3), b=np.array(["x"]))
    found = read_npz(path, ["a", "b"])
    assert found["a"].tolist() == [0, 1, 2] and found["b"].tolist() == ["x"]
    with pytest.raises(ValueError, match=r"a\.npz is not a readable npz file"):
        read_npz(path, ["a", "c"])


def test_npz_is_never_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([{"pickled": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"a\.npz is not a readable npz file .*allow_pickle=False"):
        read_npz(path, ["a"])
    single = io.BytesIO()
    np.save(single, np.arange(3))
    path.write_bytes(single.getvalue())
    with pytest.raises(ValueError, match=r"a\.npz is not a readable npz file"):
        read_npz(path, ["a"])


def test_array_checksum_tells_arrays_apart_and_not_their_storage(tmp_path):
    base = np.arange(6).reshape(2, 3)
    assert array_checksum(base) == array_checksum(base.astype(np.float32))
    assert array_checksum(base) == array_checksum(np.asfortranarray(base))
    assert array_checksum(np.array(["ab", "c"])) == array_checksum(np.array(["ab", "c"], "<U9"))
    others = [
        (base.reshape(3, 2),),
        (base + 1,),
        (base[0], base[1]),
        (base.astype(np.uint8),),
        (np.array(["ab", "c"]),),
        (np.array(["a", "bc"]),),
        (np.array(["abc"]),),
    ]
    digests = {array_checksum(base), *(array_checksum(*arrays) for arrays in others)}
    assert len(digests) == 1 + len(others)
    check_arrays([base], array_checksum(base), tmp_path / "t.mat")
    with pytest.raises(ValueError, match=r"t\.mat does not hold the expected values"):
        check_arrays([base + 1], array_checksum(base), tmp_path / "t.mat")

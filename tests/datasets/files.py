"""Files for these tests: archives, and ways in which a file is damaged."""

import gzip
import io
import zipfile


def make_zip(**members):
    """Bytes of a zip archive; two underscores in a name stand for a slash."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


def change(path, edit):
    """Rewrite one file through a function of its bytes, gzipped or not."""
    packed = path.suffix == ".gz"
    data = path.read_bytes()
    data = edit(gzip.decompress(data) if packed else data)
    path.write_bytes(gzip.compress(data, 1) if packed else data)


def one_digit_changed(data):
    place = max(data.rfind(digit) for digit in (b"1", b"2", b"3"))
    return data[:place] + b"4" + data[place + 1 :]


def byte_changed(data, share):
    place = int(len(data) * share)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


EDITS = {
    "half": lambda data: data[: len(data) // 2],
    "last row gone": lambda data: data[: data.rstrip().rfind(b"\n")],
    "digit": one_digit_changed,
    "empty": lambda data: b"",
    "a web page": lambda data: b"<html>\n<p>moved, sorry\n</html>",
}

BINARY_EDITS = {
    "half": EDITS["half"],
    "byte early": lambda data: byte_changed(data, 0.1),
    "byte late": lambda data: byte_changed(data, 0.3),
    "last bytes gone": lambda data: data[:-100],
    "empty": EDITS["empty"],
    "a web page": EDITS["a web page"],
}

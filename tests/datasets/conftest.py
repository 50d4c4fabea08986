"""Where the real data sets are, and a guard that keeps these tests off the network."""

import http.server
import os
import shutil
import socket
import threading
from pathlib import Path

import pytest


@pytest.fixture
def local_data():
    """Function: folder of one data set -> the data home that holds it, or skip."""

    def find(folder):
        home = os.environ.get("SKMETA_DATA_HOME")
        if not home or not (Path(home) / folder).is_dir():
            pytest.skip(f"{folder} is not in SKMETA_DATA_HOME")
        return Path(home)

    return find


@pytest.fixture
def copied_data(local_data, tmp_path):
    """Function: folder of one data set -> a data home of our own, with a writable copy of it."""

    def copy(folder):
        home = tmp_path / "home"
        target = home / folder
        target.mkdir(parents=True)
        for source in (local_data(folder) / folder).iterdir():
            shutil.copyfile(source, target / source.name)
        return home

    return copy


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """No data home, an empty download cache."""
    pooch = pytest.importorskip("pooch")
    cache = tmp_path / "cache"
    monkeypatch.delenv("SKMETA_DATA_HOME", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: cache / project)
    return cache / "skmeta"


@pytest.fixture
def no_network(monkeypatch):
    """Every connection fails."""

    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


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

"""Downloads from a server on this machine: whole, wrong, refused, broken off and interrupted."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from metarl.supervised.download import OMNIGLOT_FILES, fetch_files

pytest.importorskip("pooch")

CONTENT = bytes(range(256)) * 4096  # 1 MB
CHECKSUM = {"data.zip": "sha256:" + hashlib.sha256(CONTENT).hexdigest()}


class Handler(BaseHTTPRequestHandler):
    """The first folder of an address says how the file comes."""

    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        way = self.path.split("/")[1]
        if way == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        try:
            if way == "good":
                self.wfile.write(CONTENT)
            elif way == "wrong":
                self.wfile.write(CONTENT[:-1] + b"x")
            else:
                self.wfile.write(CONTENT[: len(CONTENT) // 2])
                self.wfile.flush()
                time.sleep(60 if way == "slow" else 0)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """Address of the server, and the paths that it was asked for."""
    handler = type("AskedHandler", (Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        http.block_on_close = False
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}", handler.asked  # type: ignore[attr-defined]
        http.shutdown()


def test_a_file_is_fetched_once(server: tuple[str, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    address, asked = server
    for _ in range(2):
        fetch_files(f"{address}/good/", CHECKSUM, tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder" / "data.zip").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["data.zip"]
    assert asked == ["/good/data.zip"]
    assert "100%" in capfd.readouterr().err  # the progress bar


def test_a_damaged_file_is_fetched_again(server: tuple[str, list[str]], tmp_path: Path):
    (tmp_path / "data.zip").write_bytes(CONTENT[:1000])
    fetch_files(f"{server[0]}/good/", CHECKSUM, tmp_path, progress=False)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("way", "error", "message"),
    [
        ("wrong", ValueError, r"data\.zip has not the checksum sha256:.*nothing of it was kept; try again"),
        ("missing", OSError, r"refused .*data\.zip \(404.*download the file in another way and give its folder"),
        ("broken", (OSError, ValueError), r"broke off|has not the checksum"),
    ],
)
def test_a_failed_download_leaves_nothing(
    server: tuple[str, list[str]], tmp_path: Path, way: str, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        fetch_files(f"{server[0]}/{way}/", CHECKSUM, tmp_path / "new" / "folder", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_hold_something_stay(server: tuple[str, list[str]], tmp_path: Path):
    both = CHECKSUM | {"other.zip": "sha256:" + 64 * "0"}
    with pytest.raises(ValueError, match=r"other\.zip has not the checksum"):
        fetch_files(f"{server[0]}/good/", both, tmp_path / "new", progress=False)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["data.zip"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has not the checksum"):
        fetch_files(f"{server[0]}/wrong/", CHECKSUM, tmp_path / "empty", progress=False)
    assert (tmp_path / "empty").is_dir()


def test_a_failed_download_leaves_other_files(server: tuple[str, list[str]], tmp_path: Path):
    (tmp_path / "data.zip").write_bytes(b"of another version")
    with pytest.raises(ValueError, match="has not the checksum"):
        fetch_files(f"{server[0]}/wrong/", CHECKSUM, tmp_path, progress=False)
    assert (tmp_path / "data.zip").read_bytes() == b"of another version"
    assert [p.name for p in tmp_path.iterdir()] == ["data.zip"]


def test_no_network_is_explained(tmp_path: Path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        port = http.server_address[1]  # free again, and nobody listens, after this
    with pytest.raises(OSError, match=r"could not be reached.*check the network and try again, or download"):
        fetch_files(f"http://127.0.0.1:{port}/", CHECKSUM, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(server: tuple[str, list[str]], tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"METARL_DATA names another folder"):
        fetch_files(f"{server[0]}/good/", CHECKSUM, tmp_path / "file" / "below", progress=False)


def test_a_full_disk_is_named_and_nothing_is_left(server: tuple[str, list[str]], tmp_path: Path):
    """A limit on the size of files fails a write as a full disk does, with another number of error."""
    script = (
        "import resource, signal, sys, pathlib\n"
        "from metarl.supervised.download import fetch_files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"fetch_files({server[0] + '/good/'!r}, {CHECKSUM!r}, pathlib.Path(sys.argv[1]), False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "OSError: cannot write data.zip into" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(server: tuple[str, list[str]], tmp_path: Path):
    script = (
        "import sys, pathlib\n"
        "from metarl.supervised.download import fetch_files\n"
        f"fetch_files({server[0] + '/slow/'!r}, {CHECKSUM!r}, pathlib.Path(sys.argv[1]), False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not any(path.stat().st_size for path in tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    assert list(tmp_path.iterdir()) == []


def test_without_pooch_the_message_says_what_to_install(tmp_path: Path):
    script = (
        "import sys, pathlib\nsys.modules['pooch'] = None\n"
        "from metarl.supervised.download import fetch_omniglot\n"
        "fetch_omniglot(pathlib.Path(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (
        "ValueError: downloading needs the package pooch; install it with: pip install 'metarl[fewshot]'" in done.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_the_official_checksums_are_sha256():
    assert sorted(OMNIGLOT_FILES) == ["images_background.zip", "images_evaluation.zip"]
    for checksum in OMNIGLOT_FILES.values():
        kind, digits = checksum.split(":")
        assert (kind, len(bytes.fromhex(digits))) == ("sha256", 32)

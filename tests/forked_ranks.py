"""Command lines as several processes, without `torchrun`'s seconds of start: forked from one that has imported all.

python forked_ranks.py reads jobs as JSON lines, {"argv", "size", "folder", "restarts", "apart"}, runs each in its
folder as processes with the variables that `torchrun` sets, and answers a JSON line with what each printed, what it
said on standard error, and its exit code. apart: {"1": [...]}, another command line for one of them.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


class Ranks:
    """The forking process, seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(
        self,
        folder: Path,
        size: int,
        *argv: object,
        restarts: int = 0,
        apart: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        """Run a command line as so many processes in a folder; `ended` waits for them."""
        job = {"argv": [str(a) for a in argv], "size": size, "folder": str(folder), "restarts": restarts}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**job, "apart": {str(r): a for r, a in (apart or {}).items()}}) + "\n")
        self._process.stdin.flush()

    def ended(self) -> list[Ended]:
        """How each process of the job begun first ended."""
        assert self._process.stdout is not None
        return [Ended(**facts) for facts in json.loads(self._process.stdout.readline())]

    def run(self, folder: Path, size: int, *argv: object, **options: Any) -> list[Ended]:
        """Both."""
        self.start(folder, size, *argv, **options)
        return self.ended()

    def close(self) -> None:
        """End the forking process."""
        self._process.communicate(timeout=60)


def run_job(job: dict[str, Any]) -> list[dict[str, Any]]:
    """What each process did."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    children = []
    for rank in range(job["size"]):
        child = os.fork()
        if child == 0:
            os._exit(be_rank(job, rank, port, folder))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    texts = [{name: (folder / f"{name}-{rank}").read_text() for name in ("out", "err")} for rank in range(len(codes))]
    return [{"code": code, **text} for code, text in zip(codes, texts, strict=True)]


def be_rank(job: dict[str, Any], rank: int, port: int, folder: Path) -> int:
    """Run the command line as one of the processes, with its output in files; returns the exit code."""
    from metarl.cli import main

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{name}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": str(job["size"]), "LOCAL_WORLD_SIZE": str(job["size"])}
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(job["restarts"])
    code = main(job["apart"].get(str(rank), job["argv"]))
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    import metarl.commands.train_command  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(run_job(json.loads(line))), flush=True)

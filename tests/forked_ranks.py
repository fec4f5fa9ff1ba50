"""Command lines as several processes, without `torchrun`'s seconds of start: forked from one that has imported all.

python forked_ranks.py reads jobs as JSON lines, {"size", "argv", "folder", "restarts", "apart"}, runs each as processes
with the variables that `torchrun` sets, and answers a JSON line with what each printed, said on standard error, and its
exit code. apart: {"1": [...]}, another command line for one of the processes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any


def run_job(job: dict[str, Any]) -> list[dict[str, Any]]:
    """What each process did."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder, size = Path(job["folder"]), job["size"]
    folder.mkdir(parents=True, exist_ok=True)
    children = {}
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os._exit(be_rank(job, rank, port, folder))
        children[rank] = child
    codes = {rank: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for rank, child in children.items()}
    return [
        {"code": codes[rank], **{name: (folder / f"{name}-{rank}").read_text() for name in ("out", "err")}}
        for rank in range(size)
    ]


def be_rank(job: dict[str, Any], rank: int, port: int, folder: Path) -> int:
    """Run the command line as one of the processes, with its output in files; returns the exit code."""
    from metarl.cli import main

    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{name}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": str(job["size"]), "LOCAL_WORLD_SIZE": str(job["size"])}
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(job.get("restarts", 0))
    code = main(job.get("apart", {}).get(str(rank), job["argv"]))
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    import metarl.commands.train_command  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(run_job(json.loads(line))), flush=True)

"""The `metarl` command: finds the subcommand, runs it, and turns errors into one clear line and an exit code.

Exit codes: 0 done, 1 an operation failed (a file or device), 2 wrong input, 130 interrupted.
METARL_DEBUG=1 in the environment shows the traceback of an error.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "meta-train a policy on a family of tasks, or resume a run",
    "evaluate": "return on held-out tasks after 0, 1, 2, 3 gradient steps",
    "baseline": "train an oracle or a pretrained policy to compare with",
    "adapt": "adapt a trained run to one task and save the policy",
    "export": "a policy as a file for Stable-Baselines3, ONNX or PyTorch",
    "push": "share a policy: a folder or the Hugging Face hub",
    "pull": "fetch a shared policy",
    "fewshot": "learn to tell classes apart from a few images: train, evaluate",
    "regression": "learn to fit functions from a few points: train, evaluate",
    "record": "video of the policy before and after adaptation",
    "report": "runs as one HTML page: curves, videos, results",
    "list": "environments, their tasks, presets and pretrained policies",
    "check": "whether an environment of your own keeps the contract, in words",
    "bench": "measure the simulator and a meta-iteration",
    "demo": "train, evaluate and record half-cheetah-dir: the whole job in one go",
}


ADVICE = {
    errno.ENOSPC: "free some space, then run it again (a run: with --resume)",
    errno.EDQUOT: "your quota is used up: free some space, then run it again",
    errno.EFBIG: "the size of files is limited ('ulimit -f'): raise the limit, then run it again",
}
"""What to do about what is no fault of the file named."""


def usage() -> str:
    """Help of the top level."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        f"usage: metarl COMMAND [options]\n\n{rows}\n\n"
        "'metarl COMMAND --help' explains its options. 'metarl --version' prints the version.\n"
        "An environment of your own: my_module:MyFamily or my_file.py:MyFamily in place of ENV, and the same behind\n"
        "--import for commands that take a run.\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, where a failure can still be reported
        return code
    except KeyboardInterrupt as interrupt:
        return _fail(str(interrupt) or "interrupted", 130)
    except BrokenPipeError:  # the reader of our output went away, as in `metarl list | head`
        _forget_output()
        return 1
    except SystemExit as end:  # --help, after printing it
        return end.code if isinstance(end.code, int) else 0
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        if os.environ.get("METARL_DEBUG") or (isinstance(error, RuntimeError) and not _without_memory(error)):
            raise
        wrong_input = isinstance(error, ValueError | FileNotFoundError)
        code = _fail(_one_line(error), 2 if wrong_input else 1)
        try:
            sys.stdout.flush()
        except OSError:  # it was the output that failed: a full disk
            _forget_output()
        return code


def _without_memory(error: BaseException) -> bool:
    """torch says so by RuntimeErrors of its own."""
    said = str(error)
    return "can't allocate memory" in said or "out of memory" in said


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        import metarl

        print(f"metarl {metarl.__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(COMMANDS)}"
        raise ValueError(f"unknown command {name!r}; {hint}")
    # Where it may keep its font cache is no concern of our users.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    rest = arguments[1:]
    # Training imports them itself, once it can tell the other processes of an error.
    if name != "train" and any(token.startswith("--import") or ":" in token for token in rest):
        from metarl.plugins import import_named

        rest = import_named(name, rest)
    return int(importlib.import_module(f"metarl.commands.{name}_command").main(rest))


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError | RuntimeError):
        said = " ".join(str(error).rpartition("] ")[2].split())
        return f"out of memory{f': {said}' if said else ''}; use fewer tasks or trajectories, or a smaller network"
    said = " ".join(str(error).split()) or type(error).__name__
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, OSError) and reason.errno in ADVICE:
            return f"{said}; {ADVICE[reason.errno]}"
        reason = reason.__cause__
    return said


def _fail(message: str, code: int) -> int:
    print(f"metarl: {message}", file=sys.stderr)
    return code


def _forget_output() -> None:
    """Send what is still buffered nowhere, or the interpreter complains about it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())

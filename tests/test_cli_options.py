"""The command line as a whole: help, wrong names and options, exit codes, what it imports."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import call, fails, start_process, train_small

import metarl
from metarl.cli import COMMANDS, main
from metarl.commands.parsing import one_line


def test_usage_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "--help")
    assert (code, err) == (0, "")
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert call(capsys, "-h") == (0, out, "")
    assert call(capsys) == (2, out, "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version") == (0, f"metarl {metarl.__version__}\n", "")


GROUPS = ("fewshot", "regression")
WITH_OPTIONS = [name for name in COMMANDS if name not in GROUPS] + [
    f"{name} {part}" for name in GROUPS for part in ("train", "evaluate")
]


def test_help_of_a_group_of_commands_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "fewshot", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: metarl fewshot train")
    assert all(f"\n  {name} " in out for name in ("omniglot", "maml++", "paper"))
    assert "oracle" not in out
    assert call(capsys, "fewshot") == (2, out, "")
    assert "\n  oracle " in call(capsys, "regression", "--help")[1]


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_help_explains_every_option(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    code, out, err = call(capsys, *name.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: metarl {name}")
    assert "None" not in out
    entries: list[str] = []
    for row in (line.strip("│ ") for line in out.splitlines()):
        if row.startswith("--") and row.strip("-"):
            entries.append(row)
        elif entries and row[:1] not in ("", "╭", "╰", "─", "-"):
            entries[-1] += " " + row
    assert entries
    for entry in entries:
        assert re.search(r"[A-Z][a-zA-Z]+.*\((default: .+|required)\)| [a-z]+: .*\(default: .+\)", entry), entry


@pytest.mark.parametrize(
    ("name", "positional"),
    [
        ("train", "ENV"),
        ("evaluate", "RUN"),
        ("bench", "rollout"),
        ("fewshot train", "DATASET"),
        ("regression evaluate", "RUN"),
    ],
)
def test_help_shows_the_positional_argument(name: str, positional: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = call(capsys, *name.split(), "--help")[1]
    assert positional in out.splitlines()[0]
    assert any(line.strip("│ ").startswith(positional) for line in out.splitlines())


def test_help_of_train_shows_the_environments_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["point-nav"], ["--preset", "paper", "point-nav"]):
        out = call(capsys, "train", *argv, "--help")[1]
        assert "Inner step size alpha" in out
        assert "(default: 0.5)" in out
    assert "--resume RUN" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["xyz"], "unknown command 'xyz'; allowed: train, evaluate"),
        (["train", "half-cheetah-vell"], "unknown environment 'half-cheetah-vell'; did you mean half-cheetah-vel"),
        (["train", "--seed", "1", "half-cheetah-vell"], "did you mean half-cheetah-vel"),
        (["train", "half-cheetah-dir", "ant-dir"], "ant-dir"),
        (["train", "--preset", "defaul"], "unknown preset 'defaul'; did you mean default?"),
        (["train", "--env.protocol", "finn2018"], "unknown protocol 'finn2018'; did you mean finn2017?"),
        (["train", "--algo.inner-lr", "-1"], "inner_lr is -1.0, but must be positive"),
        (["train", "--algo.inner-lr", "x"], "--algo.inner-lr: could not convert string to float: 'x'"),
        (["train", "--algo.inner-lr", "nan"], "inner_lr is nan"),
        (["train", "--algo.inner-lr"], "Missing value for argument '--algo.inner-lr'"),
        (["train", "--algo.gae-lambda", "2"], "gae_lambda is 2.0, but must be in [0, 1]"),
        (["train", "--algo.inner-lrr", "1"], "did you mean --algo.inner-lr"),
        (["train", "--algo.surrogate", "ratios"], "did you mean ratio"),
        (["train", "--iterations", "0"], "iterations is 0, but must be at least 1"),
        (["train", "--threads", "-1"], "--threads is -1, but must be at least 0"),
        (["train", "--policy.hidden-sizes", "0"], "hidden_sizes is (0,)"),
        (["train", "--resume"], "Missing value for argument '--resume'"),
        (["train", "--resume", "nowhere"], "there is no run folder nowhere"),
        (["train", "--resume", "nowhere", "--seed", "3"], "--seed"),
        (["evaluate"], "Missing from metarl evaluate: RUN"),
        (["evaluate", "nowhere"], "there is no run folder nowhere"),
        (["evaluate", "nowhere", "--tasks", "0"], "--tasks is 0, but must be at least 1"),
        (["evaluate", "nowhere", "--seed", "-1"], "--seed is -1, but must be at least 0"),
        (["evaluate", "nowhere", "--step", "1"], "did you mean --steps"),
        (["adapt", "nowhere"], "--task"),
        (["adapt", "nowhere", "--task", "forward"], "there is no run folder nowhere"),
        (["adapt", "nowhere", "--task", "1", "--steps", "-1"], "--steps is -1"),
        (["adapt", "nowhere", "--task", "1", "--trajectories", "-1"], "--trajectories is -1"),
        (["record", "nowhere", "--task", "forward"], "there is no run folder nowhere"),
        (["record", "nowhere", "--task", "1", "--backend", "egll"], "--backend is 'egll'; did you mean egl"),
        (["record", "nowhere", "--task", "1", "--out", "x.avi"], "--out is x.avi, but must end in .mp4"),
        (["record", "nowhere", "--task", "1", "--width", "8"], "--width is 8, but must be at least 16"),
        (["bench"], "rollout|iteration|supervised"),
        (["bench", "rollot"], "did you mean rollout"),
        (["bench", "rollout", "--env", "ant-dri"], "unknown environment 'ant-dri'; did you mean ant-dir"),
        (["bench", "rollout", "--tasks", "0"], "--tasks is 0"),
        (["list", "--jsn"], "did you mean --json"),
        (["demo", "--iterations", "-1"], "--iterations is -1"),
    ],
)
def test_wrong_input_gets_one_clear_line_and_exit_code_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in fails(capsys, *argv)
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_an_error_box_becomes_one_line() -> None:
    assert one_line("plain text\nin two lines") == "plain text in two lines"
    assert one_line("Title\n-----\n first\n second\n ------\n more\n") == "first second"
    assert one_line("╭─ Title ─╮\n│ first │\n│ second │\n│ ───── │\n│ more │\n╰────╯") == "first second"


def test_errors_of_several_lines_become_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, code, said in (
        (ValueError("one\n  two"), 2, "metarl: one two\n"),
        (OSError(5, "Input/output error"), 1, "metarl: [Errno 5] Input/output error\n"),
        (
            OSError(28, "No space left on device"),
            1,
            "metarl: [Errno 28] No space left on device; free some space, then run it again (a run: with --resume)\n",
        ),
        (
            RuntimeError("[alloc] can't allocate memory: 9 bytes"),
            1,
            "metarl: out of memory: can't allocate memory: 9 byt"
            "es; use fewer tasks or trajectories, or a smaller network\n",
        ),
        (FileNotFoundError("gone"), 2, "metarl: gone\n"),
        (MemoryError(), 1, "metarl: out of memory; use fewer tasks or trajectories, or a smaller network\n"),
        (KeyboardInterrupt(), 130, "metarl: interrupted\n"),
        (KeyboardInterrupt("stopped after 3"), 130, "metarl: stopped after 3\n"),
    ):

        def failing(argv: list[str], error: BaseException = error) -> int:
            raise error

        monkeypatch.setattr("metarl.commands.list_command.main", failing)
        assert call(capsys, "list") == (code, "", said)


def test_metarl_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METARL_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown command"):
        main(["trian"])


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["trian"]])
def test_the_top_level_imports_neither_torch_nor_mujoco(argv: list[str]) -> None:
    code = (
        "import sys; from metarl.cli import main; main(sys.argv[1:]);"
        "print(sorted({'torch', 'mujoco', 'tyro', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_has_a_module_with_help() -> None:
    for name in COMMANDS:
        module = importlib.import_module(f"metarl.commands.{name}_command")
        assert callable(module.main)


def test_python_m_metarl_without_home_display_or_network(tmp_path: Path) -> None:
    """As in a container without a home folder: nothing but the table on standard output, nothing on standard error."""
    run = train_small(tmp_path / "run")
    environment = {"HOME": "/proc/none", "XDG_CONFIG_HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "DISPLAY": ""}
    process = start_process(
        "evaluate", run, "--tasks", "2", "--steps", "1", "--threads", "1", environment={**environment, "TMPDIR": "/tmp"}
    )
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "random initialisation" in out
    assert (run / "evaluation.png").stat().st_size > 10_000


def test_a_closed_or_full_output_is_no_traceback() -> None:
    process = start_process("list")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "metarl", "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("metarl: [Errno 28] No space left on device; free some space")
    assert done.stderr.count("\n") == 1

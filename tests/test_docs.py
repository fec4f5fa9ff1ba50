"""README and documentation are true to the code: commands parse, links lead somewhere, names exist, Python compiles.

Nothing is run: what the parsers of the command line accept has the right names, options and values.
"""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from metarl.algorithms.registry import ALGORITHMS
from metarl.cli import COMMANDS
from metarl.commands import baseline_command, evaluate_command, supervised_evaluate, supervised_train, train_command
from metarl.commands.parsing import parse_args
from metarl.envs import family_names
from metarl.plugins import import_named

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)([^\n]*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^(?:\w+=\S+ |\$ |\w+=\$\()*(?:torchrun .*-m |\.venv/bin/)?metarl ")
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")
NAME = re.compile(r"`(metarl(?:\.\w+)+)`|^::: (metarl[\w.]*)$", re.MULTILINE)
SHELL = ("", "sh", "bash", "console")


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, what follows it, content) of each block of code."""
    return FENCE.findall(page.read_text())


def command_lines(page: Path) -> list[str]:
    """Arguments of every `metarl ...` in a page's blocks."""
    found = []
    for language, _, content in blocks(page):
        if language in SHELL:
            for line in content.replace("\\\n", " ").splitlines():
                start = COMMAND.match(line.strip())
                if start:
                    found.append(line.strip()[start.end() :])
    return found


def parse(arguments: Sequence[str]) -> None:
    """What `metarl` does with its arguments before it does anything. ValueError for wrong ones."""
    name, rest = arguments[0], list(arguments[1:])
    if name in ("--help", "--version") or rest[-1:] == ["--help"]:
        return
    rest = import_named(name, rest)
    if name in ("fewshot", "regression"):
        kind = supervised_evaluate.FewshotArgs if name == "fewshot" else supervised_evaluate.RegressionArgs
        if rest[0] == "evaluate":
            parse_args(kind, rest[1:], "")
        elif "--resume" in rest:
            parse_args(supervised_train.ResumeArgs, rest[1:], "")
        else:
            supervised_train.parse(name, rest[1:])
    elif name == "train" and "--resume" in rest:
        parse_args(train_command.ResumeArgs, rest, "")
    elif name == "baseline" and "--resume" in rest:  # whose settings lie in a folder that is not here
        parse_args(baseline_command.Args, rest, "")
    elif name in OWN:
        OWN[name](rest)
    else:
        parse_args(importlib.import_module(f"metarl.commands.{name}_command").Args, rest, "")


OWN: dict[str, Callable[[list[str]], Any]] = {
    "train": train_command.parse,
    "baseline": baseline_command.parse,
    "evaluate": lambda rest: parse_args(evaluate_command.Args, evaluate_command.with_default_folder(rest), ""),
}


@pytest.fixture
def a_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_stays: None) -> Path:
    """A working folder with the files that the pages speak of."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    family = (ROOT / "examples" / "swing_up.py").read_text().replace("SwingUp", "MyFamily").replace("swing-up", "mine")
    for name in ("my_file", "my_module"):
        (tmp_path / f"{name}.py").write_text(family.replace('"mine"', f'"{name.replace("_", "-")}"'))
    swing = [content for _, _, content in blocks(PAGES[0]) if "class Swing(" in content]
    (tmp_path / "swing.py").write_text(swing[0])
    titled = [content for page in PAGES for _, title, content in blocks(page) if 'title="settings.toml"' in title]
    (tmp_path / "settings.toml").write_text(titled[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_line_is_accepted(a_users_folder: Path) -> None:
    seen: set[tuple[str, ...]] = set()
    for page in PAGES:
        for line in command_lines(page):
            # Without a comment, without the end of $(...), and RUN for RUN...
            arguments = [part.rstrip(".)") for part in shlex.split(line, comments=True)]
            if tuple(arguments) in seen:
                continue
            try:
                parse(arguments)
            except (ValueError, OSError) as error:
                pytest.fail(f"{page.relative_to(ROOT)}: metarl {line}\n{error}")
            seen.add(tuple(arguments))
    assert set(COMMANDS) <= {arguments[0] for arguments in seen}, "every command is shown somewhere"


@pytest.mark.parametrize("line", ["trian", "train no-such-env", "train point-nav --iteration 3", "evaluate"])
def test_wrong_command_lines_are_not(line: str) -> None:
    with pytest.raises((ValueError, ImportError)):
        parse(shlex.split(line))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Within the repository; `make docs` follows the anchors of the site."""
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if not re.match(r"https?://|#|mailto:", target):
            path = (page.parent / target.partition("#")[0]).resolve()
            made = path.parent.name == "examples" and path.suffix == ".md"
            assert made or path.exists(), f"{page.name}: {target}"
            assert path.is_relative_to(ROOT), f"{page.name}: {target} leaves the repository"


def test_every_name_can_be_imported() -> None:
    found = {one or other for page in PAGES for one, other in NAME.findall(page.read_text())}
    assert len(found) > 60
    for name in sorted(found):
        value: Any = importlib.import_module("metarl")
        path = "metarl"
        for part in name.split(".")[1:]:
            path += f".{part}"
            try:
                value = getattr(value, part)
            except AttributeError:
                value = importlib.import_module(path)


def test_every_python_block_compiles() -> None:
    for page in PAGES:
        for language, _, content in blocks(page):
            if language == "python":
                compile(content, str(page), "exec")


def test_pages_name_every_family_and_algorithm() -> None:
    readme, train = PAGES[0].read_text(), (ROOT / "docs" / "train.md").read_text()
    assert [name for name in family_names() if f"`{name}`" not in readme] == []
    assert [name for name in ALGORITHMS if f"`{name}`" not in train] == []

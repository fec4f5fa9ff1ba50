"""The Makefile's targets and messages, the pinned torch, and what must not stand in a tracked file."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("help", "demo", "install", "test", "lint", "format", "docs", "links", "wheel", "clean", "distclean")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # `make test` hands its own variables down to the tests; these runs must not see them.
    inherited = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "PYTHON", "VENV")
    env = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(["make", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def fake_python(folder: Path, cases: str) -> Path:
    """A command that answers the Makefile's questions about a Python: `cases` are shell patterns on its code."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\ncase "$2" in\n{cases}\nesac\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_target_exists(target: str) -> None:
    result = make("--dry-run", target)
    assert result.returncode == 0, result.stderr


@needs_make
def test_help_is_the_default_and_lists_every_target() -> None:
    assert re.findall(r"^  make (\w+)", make().stdout, re.MULTILINE) == list(TARGETS)


@needs_make
@pytest.mark.parametrize("target", ["demo", "test", "lint", "docs"])
def test_every_install_is_constrained(checkout: Path, target: str) -> None:
    installs = [line for line in make("--dry-run", target, cwd=checkout).stdout.splitlines() if "pip install" in line]
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)


@needs_make
def test_second_run_installs_nothing(checkout: Path) -> None:
    stamps = [checkout / ".venv" / name for name in (".created", ".installed", ".installed-test")]
    stamps[0].parent.mkdir()
    for stamp in stamps:
        stamp.touch()
    assert "pip install" not in make("--dry-run", "test", cwd=checkout).stdout
    os.utime(checkout / "pyproject.toml", (2**32, 2**32))
    assert "pip install" in make("--dry-run", "test", cwd=checkout).stdout


@needs_make
def test_old_python_is_named(checkout: Path) -> None:
    python = fake_python(checkout, "*platform*) echo 3.9.2 ;;\n*) exit 1 ;;")
    result = make("test", f"PYTHON={python}", cwd=checkout)
    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr
    assert f"{python} is 3.9.2" in result.stderr
    assert not (checkout / ".venv").exists()


@needs_make
def test_missing_venv_module_is_explained(checkout: Path) -> None:
    python = fake_python(checkout, "*platform*) echo 3.11.2 ;;\n*ensurepip*) exit 1 ;;\n*) exit 0 ;;")
    result = make("test", f"PYTHON={python}", cwd=checkout)
    assert result.returncode != 0
    assert "python3-venv" in result.stderr
    assert not (checkout / ".venv").exists()


@needs_make
def test_links_are_relative_and_made_once(checkout: Path) -> None:
    (checkout / "metarl").mkdir()
    for _ in range(2):
        result = make("links", cwd=checkout)
        assert result.returncode == 0, result.stderr
    links = {path.name: os.readlink(path) for path in (checkout / "metarl").iterdir()}
    assert links == {"envs": "../envs", "policies": "../policies", "videos": "../videos"}


def test_constraints_pin_torch() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines), lines
    assert any(line.startswith("torch==") for line in lines)


def test_installed_distribution_brings_metarl_only() -> None:
    top_level = importlib.metadata.distribution("metarl").read_text("top_level.txt")
    assert top_level is not None
    assert top_level.split() == ["metarl"]


def test_packages_are_mapped_from_folders_that_exist() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert all((ROOT / folder / "__init__.py").is_file() for folder in setuptools["package-dir"].values())
    assert set(setuptools["package-dir"]) <= set(setuptools["packages"])


def test_tracked_files_name_no_package_index_and_no_machine() -> None:
    git = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listing = subprocess.run(git, capture_output=True, text=True, check=False) if shutil.which("git") else None
    if listing is None or listing.returncode != 0:
        pytest.skip("not a git checkout")
    index = re.compile(r"--(extra-)?index-url|--find-link[s]|https?://[^\s\"'`)]+/(simple|whl)\b")
    machine = re.compile(r"(?<![\w.~])/(root|home|work|Users)/\w")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        if not (ROOT / name).is_file():
            continue  # deleted, not committed yet
        text = (ROOT / name).read_bytes().decode(errors="ignore")
        found += [f"{name}: {match[0]}" for pattern in (index, machine) for match in pattern.finditer(text)]
    assert not found

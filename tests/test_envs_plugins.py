"""Families from outside: example files, packages with an entry point, and what is wrong with broken ones, in words."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import call, fails

from metarl.envs import Family, family_class, family_names, import_family, make_family, plugin_problems, registry
from metarl.envs.entry_points import offered

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SMALL = ("--iterations", "1", "--meta-batch", "2", "--trajectories", "2", "--env.horizon", "5", "--threads", "1")

pytestmark = pytest.mark.usefixtures("nothing_stays")


def python(*arguments: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Another process, in another folder, with a folder of packages."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.stem)
def test_examples_import_only_the_public_interface(file: Path) -> None:
    """Names without an underscore, of metarl and its documented modules; nothing of ours by a relative path."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "metarl":
            assert node.level == 0
            assert not any(part.startswith("_") for part in (node.module or "").split("."))
            assert not any(alias.name.startswith("_") for alias in node.names)
        assert not (isinstance(node, ast.ImportFrom) and node.level)


@pytest.mark.parametrize("file", ["swing_up", "other_gravity"])
def test_examples_run_from_another_folder(file: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / f"{file}.py", tmp_path)
    result = python("-W", "error", f"{file}.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_a_file_is_trained_evaluated_recorded_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(EXAMPLES / "swing_up.py", tmp_path / "swing_up.py")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "swing-up-default-modern-seed0"
    code, out, err = call(capsys, "train", "swing_up:SwingUp", *SMALL)
    assert (code, err) == (0, "")
    assert f"next: metarl evaluate runs/{run.name} --import swing_up:SwingUp" in out
    assert json.loads((run / "config.json").read_text())["config"]["env"]["name"] == "swing-up"
    for arguments in (
        ("evaluate", str(run), "--tasks", "2", "--steps", "1"),
        ("record", str(run), "--task", "1.0", "--width", "64", "--height", "48"),
        ("train", "--resume", str(run), "--iterations", "2", "--threads", "1"),
    ):
        code, _, err = call(capsys, *arguments, "--import", "swing_up.py")
        assert (code, err) == (0, "")
    assert (run / "videos" / "1.0.mp4").stat().st_size > 1000
    assert "swing-up" in call(capsys, "list", "--import=swing_up:SwingUp")[1]


def test_a_run_alone_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Opening a stranger's folder must not run their code, even from inside it."""
    run, stranger = tmp_path / "run", tmp_path / "swing_up.py"
    assert call(capsys, "train", EXAMPLES / "swing_up.py:SwingUp", *SMALL, "--out", run)[0] == 0
    registry._FAMILIES.pop("swing-up")
    sys.modules.pop("swing_up")
    stranger.write_text("raise SystemExit('a stranger ran this')\n")
    monkeypatch.chdir(tmp_path)
    said = fails(capsys, "evaluate", run, "--tasks", "2", code=2)
    assert "unknown environment 'swing-up'" in said
    assert "--import my_module:MyFamily" in said


BROKEN = {
    "syntax.py": "def broken(:\n",
    "failing.py": "import numpy\n\nraise RuntimeError('no such robot')\n",
    "empty.py": "x = 1\n",
    "wrong.py": "class Robot:\n    name = 'robot'\n",
}


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("syntax:Robot", "cannot import syntax: SyntaxError"),
        ("failing:Robot", "cannot import failing: failing.py, line 3: RuntimeError: no such robot"),
        ("absent:Robot", "cannot import absent: ModuleNotFoundError"),
        ("absent.py:Robot", "there is no file absent.py"),
        ("empty:Robot", "empty has no Robot; it defines no family"),
        ("swing_up:SwingDown", "swing_up has no SwingDown; did you mean SwingUp?"),
        ("wrong:Robot", "wrong:Robot is not a family: derive the class from metarl.envs.Family"),
    ],
)
def test_a_class_that_cannot_be_used_is_explained(
    reference: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in BROKEN.items():
        (tmp_path / name).write_text(text)
    shutil.copy(EXAMPLES / "swing_up.py", tmp_path / "swing_up.py")
    monkeypatch.chdir(tmp_path)
    for command in (("train", reference), ("list", "--import", reference)):
        assert said in fails(capsys, *command, code=2)
    for module in ("syntax", "failing", "empty", "wrong", "swing_up"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize("arguments", [("--import",), ("--import", "--json"), ("--import=",)])
def test_import_needs_a_module(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--import needs a module" in fails(capsys, "list", *arguments, code=2)


# -- packages ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package installed as a user would, without a network."""
    source = shutil.copytree(EXAMPLES / "plugin_package", tmp_path_factory.mktemp("source") / "package")
    target = tmp_path_factory.mktemp("site")
    pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(target),
    ]
    result = python(*pip, str(source), cwd=target)
    assert result.returncode == 0, result.stderr
    return target


def test_an_installed_package_is_found_without_an_import(site: Path, tmp_path: Path) -> None:
    script = (
        "import sys, gymnasium, metarl\n"
        "assert 'metarl_balance' not in sys.modules and 'mujoco' not in sys.modules\n"
        "env = gymnasium.make('metarl/Balance-v0', task='0.5,0.3')\n"
        "env.reset(seed=0)\n"
        "from metarl.cli import main\n"
        f"code = main(['train', 'balance', *{SMALL!r}, '--out', 'run', '--quiet'])\n"
        "print(env.observation_space.shape, code, main(['list']))\n"
    )
    result = python("-W", "error", "-c", script, cwd=tmp_path, path=site)
    assert result.returncode == 0, result.stderr
    assert "(4,) 0 0" in result.stdout
    assert "  balance " in result.stdout
    assert (tmp_path / "run" / "policy" / "model.safetensors").is_file()


def fake_package(site: Path, name: str, points: str, module: str = "") -> None:
    """An installed package, as its metadata and one module."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[metarl.envs]\n{points}\n")
    (site / f"{name}.py").write_text(module)


def test_broken_packages_are_named_and_leave_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = "from metarl.envs.point import PointNav\nclass Mine(PointNav):\n    name = 'mine'\n    title = 'mine'\n"
    fake_package(tmp_path, "plug_fine", "mine = plug_fine:Mine", fine)
    fake_package(tmp_path, "plug_raises", "raises = plug_raises:Robot", "raise RuntimeError('old version')\n")
    fake_package(tmp_path, "plug_absent", "absent = plug_nowhere:Robot")
    fake_package(tmp_path, "plug_noclass", "noclass = plug_noclass:Robot")
    fake_package(tmp_path, "plug_nofamily", "nofamily = plug_nofamily:Robot", "class Robot: pass\n")
    fake_package(tmp_path, "plug_othername", "othername = plug_fine:Mine")
    fake_package(tmp_path, "plug_builtin", "ant-dir = plug_fine:Mine")
    fake_package(tmp_path, "plug_badname", "Bad_Name = plug_fine:Mine")
    fake_package(tmp_path, "plug_twice", "mine = plug_twice:Mine")
    monkeypatch.syspath_prepend(str(tmp_path))
    offered.cache_clear()
    assert "mine" in family_names()
    assert issubclass(family_class("mine"), Family)
    assert family_class("ant-dir").__module__ == "metarl.envs.ant"
    problems = " | ".join(plugin_problems())
    assert "plug_builtin offers 'ant-dir', which is the name of a built-in environment" in problems
    assert "plug_badname offers 'Bad_Name', which is not lower-case words" in problems
    assert "plug_twice offers 'mine', and so does plug_fine, which is used" in problems
    for name, said in {
        "raises": "package plug_raises cannot be used: importing plug_raises:Robot raised RuntimeError: old version",
        "absent": "importing plug_nowhere:Robot raised ModuleNotFoundError",
        "noclass": "importing plug_noclass:Robot raised AttributeError",
        "nofamily": "plug_nofamily:Robot is not a class derived from",
        "othername": "the class calls itself 'mine'; give both the same name",
    }.items():
        with pytest.raises(ValueError, match="cannot be used") as error:
            make_family(name)
        assert said in str(error.value)
    code, out, err = call(capsys, "list")
    assert (code, err) == (0, "")
    assert "  mine " in out
    assert out.count("not usable: ") == 8
    for package in ("plug_fine", "plug_raises", "plug_noclass", "plug_nofamily"):
        sys.modules.pop(package, None)


def test_import_family_registers_a_class_once() -> None:
    reference = str(EXAMPLES / "other_gravity.py") + ":OtherGravity"
    family = import_family(reference)
    assert import_family(reference) is family
    assert family_class("half-cheetah-gravity") is family

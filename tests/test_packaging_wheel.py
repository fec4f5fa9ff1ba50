"""The built wheel holds the tree's files, no more and no fewer, and imports from another folder.

The editable install that everything else runs on finds a subpackage whether or not pyproject.toml lists it; only the
wheel shows what a user gets.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Folder in the tree -> folder in the wheel. pyproject.toml says the same; this is what it is checked against.
FOLDERS = {"metarl": "metarl", "envs": "metarl/envs", "policies": "metarl/policies", "videos": "metarl/videos"}


def copy_tree(target: Path) -> Path:
    """Copy what a wheel is built from, since building leaves files behind. Links and recorded videos stay out."""
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for name in FOLDERS:

        def ignored(folder: str, entries: list[str], name: str = name) -> list[str]:
            paths = [Path(folder, entry) for entry in entries]
            output = [path.name for path in paths if name == "videos" and path.suffix != ".py"]
            return output + [path.name for path in paths if path.is_symlink() or path.name == "__pycache__"]

        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    return target


def expected_files(tree: Path) -> set[str]:
    """Paths in the wheel of every file that stands in the four folders: modules, py.typed, assets."""
    return {
        f"{inside}/{path.relative_to(tree / folder).as_posix()}"
        for folder, inside in FOLDERS.items()
        for path in (tree / folder).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def build_wheel(tree: Path, out: Path) -> Path:
    """Build as pip does after resolving, by the backend that pyproject.toml names: no index and no network."""
    out.mkdir(exist_ok=True)
    script = f"from setuptools import build_meta\nbuild_meta.build_wheel({str(out)!r})"
    result = subprocess.run([sys.executable, "-c", script], cwd=tree, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = out.glob("metarl-*.whl")
    return wheel


def packaged_files(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if ".dist-info/" not in name]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert importlib.util.find_spec("setuptools"), "setuptools is missing: install metarl[test]"
    return copy_tree(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def test_wheel_holds_exactly_the_tree(source: Path, wheel: Path) -> None:
    packaged, expected = packaged_files(wheel), expected_files(source)
    missing, unexpected = expected - set(packaged), set(packaged) - expected
    assert not missing, f"not in the wheel, add to packages or package-data in pyproject.toml: {sorted(missing)}"
    assert not unexpected, f"in the wheel, not in the tree: {sorted(unexpected)}"
    assert len(packaged) == len(set(packaged))
    assert "metarl/py.typed" in packaged


def test_wheel_has_no_other_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"metarl"}


def test_wheel_has_command_and_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {name.split(".dist-info/")[-1]: name for name in archive.namelist() if ".dist-info/" in name}
        assert "metarl = metarl.cli:main" in archive.read(texts["entry_points.txt"]).decode()
        assert "License-Expression: MIT" in archive.read(texts["METADATA"]).decode()
    assert "licenses/LICENSE" in texts


def test_forgotten_subpackages_are_noticed(source: Path, tmp_path: Path) -> None:
    """The comparison above is worth something only if it fails where it should."""
    tree = tmp_path / "tree"
    shutil.copytree(source, tree, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for folder in FOLDERS:
        (tree / folder / "forgotten").mkdir()
        (tree / folder / "forgotten" / "__init__.py").touch()
    missing = expected_files(tree) - set(packaged_files(build_wheel(tree, tmp_path / "wheel")))
    assert missing == {f"{inside}/forgotten/__init__.py" for inside in FOLDERS.values()}


def test_a_pretrained_policy_is_packed(source: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(source, tree, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    policy = tree / "metarl" / "pretrained" / "ant-dir-modern"
    policy.mkdir(exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        (policy / name).touch()
    packaged = set(packaged_files(build_wheel(tree, tmp_path / "wheel")))
    assert packaged == expected_files(tree)
    assert "metarl/pretrained/ant-dir-modern/model.safetensors" in packaged


def test_links_for_type_checkers_change_nothing(source: Path, wheel: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(source, tree, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for folder in FOLDERS:
        if folder != "metarl":
            (tree / "metarl" / folder).symlink_to(Path("..", folder))
    assert sorted(packaged_files(build_wheel(tree, tmp_path / "wheel"))) == sorted(packaged_files(wheel))


def test_wheel_imports_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    modules = [inside.replace("/", ".") for inside in FOLDERS.values()]
    script = f"import {', '.join(modules)}\nfor m in ({', '.join(modules)},): print(m.__file__)"
    result = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(site / inside / "__init__.py") for inside in FOLDERS.values()]

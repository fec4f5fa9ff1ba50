"""Which package may import which, read from the source.

envs and policies stand alone, videos may use envs, metarl may use all. Supervised learning must not import envs:
few-shot classification needs no MuJoCo.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("envs", "policies", "videos")
ALLOWED = {"envs": {"envs"}, "policies": {"policies"}, "videos": {"videos", "envs"}}
# Pictures are drawn on request only: envs must not need videos in order to import or to step.
LAZY_EXCEPTIONS = {("envs/frames.py", "videos")}


def sources(package: str) -> list[Path]:
    # Links beside the package (`metarl/envs`), for type checkers, are not part of it.
    return [p for p in sorted((ROOT / package).rglob("*.py")) if not any(q.is_symlink() for q in p.parents)]


def package_of(path: Path) -> str:
    """Dotted name of the package that a source file belongs to: envs/ant.py is in metarl.envs."""
    parts = path.relative_to(ROOT).parts[:-1]
    return ".".join(parts if parts[0] == "metarl" else ("metarl", *parts))


def imports(path: Path) -> list[tuple[str, bool]]:
    """(full dotted name, whether it runs when the module is imported) of every import in a file."""
    found = []

    def visit(node: ast.AST, at_import: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            at_import = False
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package_of(path).split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            found.extend((f"{base}.{alias.name}", at_import) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child, at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(ast.parse(path.read_text()), True)
    return found


def our_package(name: str) -> str | None:
    """envs, policies, videos or metarl for one of our modules, else None; a bare `envs` counts as ours too."""
    parts = name.split(".")
    if parts[0] in OURS:
        return parts[0]
    if parts[0] != "metarl":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in OURS else "metarl"


@pytest.mark.parametrize("package", OURS)
def test_packages_import_only_what_they_may(package: str) -> None:
    assert sources(package)
    wrong = []
    for path in sources(package):
        file = path.relative_to(ROOT).as_posix()
        for name, at_import in imports(path):
            used = our_package(name)
            excused = not at_import and (file, used) in LAZY_EXCEPTIONS
            if used is not None and used not in ALLOWED[package] and not excused:
                wrong.append(f"{file} imports {name}")
    assert wrong == []


@pytest.mark.parametrize(("package", "library"), [("envs", "torch"), ("policies", "mujoco"), ("videos", "torch")])
def test_packages_need_only_their_own_libraries(package: str, library: str) -> None:
    assert [p.name for p in sources(package) if any(name.split(".")[0] == library for name, _ in imports(p))] == []


def test_supervised_learning_does_not_import_environments() -> None:
    for path in sources("metarl/supervised"):
        assert [name for name, _ in imports(path) if our_package(name) in ("envs", "videos")] == [], path


def test_imports_inside_a_package_are_relative_and_across_absolute() -> None:
    wrong = []
    for package in OURS:
        for path in sources(package):
            names = [
                (n.module or "", n.level)
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.ImportFrom)
            ]
            wrong += [f"{package}/{path.name}: {m}" for m, level in names if not level and our_package(m) == package]
            wrong += [f"{package}/{path.name}: bare {m}" for m, level in names if not level and m.split(".")[0] in OURS]
    assert wrong == []


def test_only_the_simulator_uses_mujoco_batch() -> None:
    for package in (*OURS, "metarl"):
        for path in sources(package):
            if path.relative_to(ROOT).as_posix() != "envs/simulator.py":
                assert [name for name, _ in imports(path) if name.startswith("mujoco.batch")] == [], path


def test_stable_baselines3_is_not_imported_at_the_start() -> None:
    """It takes seconds; only the adapter, and functions that need it, may."""
    for package in (*OURS, "metarl"):
        for path in sources(package):
            if path.name not in ("sb3_vec_env.py", "sb3.py", "sb3_export.py"):
                eager = [
                    name for name, at_import in imports(path) if at_import and name.startswith("stable_baselines3")
                ]
                assert eager == [], path

"""Sharing policies: folders as on the hub, and what strangers may put into them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_runs import call, fails, train_small

from metarl import load_policy
from metarl.hub import local_folder, pull, push


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with an evaluation and a video."""
    from metarl.cli import main

    run = train_small(tmp_path_factory.mktemp("hub") / "run")
    assert main(["evaluate", str(run), "--tasks", "4", "--steps", "1"]) == 0
    size = ["--width", "32", "--height", "32"]
    assert main(["record", str(run), "--task", "0.1,0.2", "--gif", "--backend", "raycast", *size]) == 0
    return run


@pytest.fixture
def shared(run: Path, tmp_path: Path) -> Path:
    """A pushed folder, to be tampered with."""
    push(run, str(tmp_path / "shared"))
    return tmp_path / "shared"


def test_push_and_pull_through_a_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "push", run, "./shared") == (0, "shared\n", "")
    files = sorted(p.relative_to("shared").as_posix() for p in Path("shared").rglob("*") if p.is_file())
    films = [f"videos/0.1_0.2.{suffix}" for suffix in ("gif", "json", "mp4")]
    assert files == ["README.md", "config.json", "evaluation.json", "evaluation.png", "model.safetensors", *films]
    card = Path("shared/README.md").read_text()
    evaluation = json.loads((run / "evaluation.json").read_text())
    for text in (
        "library_name: ",
        "![0.1_0.2](videos/0.1_0.2.gif)",
        f"{evaluation['meta-trained']['mean'][1]:.1f} +- {evaluation['meta-trained']['ci95'][1]:.1f}",
        "metarl train point-nav",
        "metarl pull shared",
        "iterations: 2",
    ):
        assert text in card
    header = card.split("---")[1]
    for row in header.strip().splitlines():
        json.loads(row.partition(": ")[2])
    assert call(capsys, "pull", "./shared", "--out", "mine") == (0, "mine\n", "")
    for file in files:
        assert Path("mine", file).read_bytes() == Path("shared", file).read_bytes()
    assert torch.equal(load_policy("mine").theta, load_policy(run).theta)
    # What was pulled adapts like the run's own policy.
    for folder in ("mine", run):
        assert call(capsys, "adapt", folder, "--task", "0.1,0.1", "--out", f"{Path(folder).name}-adapted")[0] == 0
    assert torch.equal(load_policy("mine-adapted").theta, load_policy("run-adapted").theta)
    assert call(capsys, "push", "run-adapted", "./again")[0] == 0
    assert "adapted to the goal" in Path("again/README.md").read_text()
    assert call(capsys, "push", run, "./shared")[0] == 0, "pushing again updates the folder"


def test_the_example_in_the_card_runs(shared: Path, tmp_path: Path) -> None:
    card = (shared / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    scope: dict[str, Any] = {}
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec(code, scope)
    finally:
        os.chdir(before)
    assert scope["action"].shape == (2,)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_by_another_name_is_not_executed(kind: str, shared: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    evil = pickle.dumps(Evil(mark))
    if kind == "torch":
        buffer = io.BytesIO()
        torch.save(Evil(mark), buffer)
        content = buffer.getvalue()
    else:
        content = evil
    record = json.loads((shared / "config.json").read_text())
    del record["model_sha256"], record["record_sha256"]
    (shared / "config.json").write_text(json.dumps(record))
    for name in ("model.pt", "pytorch_model.bin", "checkpoint.pt", "vec_normalize.pkl"):
        (shared / name).write_bytes(content)
    out = pull(str(shared), tmp_path / "harmless")
    assert not list(out.glob("*.p*t*")), "only the files of a policy are taken"
    (shared / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        pull(str(shared), tmp_path / "mine")
    with pytest.raises(ValueError, match="is damaged"):
        load_policy(shared)
    assert not (tmp_path / "mine").exists()
    assert not mark.exists()
    pickle.loads(evil)
    assert mark.exists(), "the planted code does not work"


def test_links_and_paths_that_lead_elsewhere(shared: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("private")
    (shared / "README.md").unlink()
    (shared / "README.md").symlink_to(secret)
    with pytest.raises(ValueError, match="not a plain file"):
        pull(str(shared), tmp_path / "mine")
    (shared / "README.md").unlink()
    (shared / "videos" / "film.mp4").symlink_to(secret)
    with pytest.raises(ValueError, match="not a plain file"):
        pull(str(shared), tmp_path / "mine")
    (shared / "videos" / "film.mp4").unlink()
    os.mkfifo(shared / "evaluation.pipe")  # of no concern, as no other name than a policy's
    (shared / "model.safetensors").rename(shared / "elsewhere")
    (shared / "model.safetensors").symlink_to("../shared/elsewhere")
    with pytest.raises(ValueError, match="not a plain file"):
        pull(str(shared), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_too_large_a_file(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.hub.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="more than the 1,000 of a policy"):
        pull(str(shared), tmp_path / "mine")


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["../../etc/passwd", "point-nav/../x", "os:system", "__import__('os')", "a" * 100_000]),
    st.lists(st.one_of(st.integers(), st.text(max_size=3), st.floats()), max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
PATHS = [
    *[(name,) for name in ("format", "env", "policy", "task", "kind", "algo", "algorithm", "seed", "model_sha256")],
    *[("env", name) for name in ("name", "protocol", "oracle", "horizon", "extra")],
    *[("policy", name) for name in ("hidden_sizes", "activation", "init_std", "min_std", "normalise_obs")],
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), value=ODD)
def test_odd_settings_load_or_are_refused(path: tuple[str, ...], value: Any, run: Path, tmp_path: Path) -> None:
    """Any value anywhere in config.json: the policy loads, or there is a ValueError."""
    folder = tmp_path / "odd"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes((run / "policy" / "model.safetensors").read_bytes())
    record = json.loads((run / "policy" / "config.json").read_text())
    del record["record_sha256"]  # else every change is refused
    table = record if len(path) == 1 else record[path[0]]
    table[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(record))
    with contextlib.suppress(ValueError):  # any other exception is a failure
        assert load_policy(folder).theta.isfinite().all()


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '"text"', "\x00\xff"])
def test_what_is_no_table_of_settings(text: str, shared: Path) -> None:
    (shared / "config.json").write_text(text)
    with pytest.raises(ValueError, match="damaged"):
        load_policy(shared)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weight_0", lambda t: t.double()),
        ("weight_0", lambda t: t * float("nan")),
        ("weight_0", lambda t: t[:1]),
        ("obs_std", lambda t: -t),
        ("obs_std", lambda t: t[:1]),
        ("inner_step_size", lambda t: torch.zeros(3)),
    ],
)
def test_odd_tensors_are_refused(name: str, change: Any, shared: Path) -> None:
    tensors = safetensors.torch.load_file(shared / "model.safetensors")
    tensors[name] = change(tensors[name]).contiguous()
    safetensors.torch.save_file(tensors, shared / "model.safetensors")
    record = json.loads((shared / "config.json").read_text())
    del record["model_sha256"], record["record_sha256"]
    (shared / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="damaged"):
        load_policy(shared)


def test_targets() -> None:
    assert local_folder("owner/name-1.0") is None
    for target in ("./a", "/a/b", "~/a", "../a/b", "."):
        assert local_folder(target) is not None
    for target in ("name", "a/b/c", "owner/", "owner/na me", ""):
        with pytest.raises(ValueError, match="write a folder as"):
            local_folder(target)


def test_wrong_uses(run: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "exists already" in fails(capsys, "pull", shared, "--out", run)
    assert "there is no folder" in fails(capsys, "pull", tmp_path / "none", "--out", tmp_path / "x")
    assert "no policy folder" in fails(capsys, "push", tmp_path, tmp_path / "x")
    assert "a folder has none" in fails(capsys, "pull", shared, "--out", tmp_path / "x", "--revision", "main")
    (tmp_path / "file").touch()
    assert "cannot write to" in fails(capsys, "push", run, tmp_path / "file" / "x", code=1)


def test_without_the_extra(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", None)
    assert "pip install metarl[hub]" in fails(capsys, "push", run, "owner/name")
    assert "pip install metarl[hub]" in fails(capsys, "pull", "owner/name", "--out", tmp_path / "x")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "is this machine online"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_when_the_hub_cannot_be_reached(environment: dict[str, str], said: str, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")
    code = "import sys; from metarl.cli import main; sys.exit(main(sys.argv[1:]))"
    for argv in (["pull", "owner/name", "--out", str(tmp_path / "x")], ["push", str(run), "owner/name"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *argv],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_none", **environment},
        )
        assert (done.returncode, done.stdout) == (1, "")
        last = done.stderr.splitlines()[-1]
        assert last.startswith("metarl: the hub repository owner/name cannot be reached")
        assert said in last
        assert "Traceback" not in done.stderr


def test_what_the_hub_is_asked_for(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client itself is replaced: it needs a network. What it gives back is checked like any folder."""
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")
    remote = tmp_path / "remote"

    class Api:
        endpoint = "https://hub"

        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
            assert (repo, private, exist_ok) == ("owner/name", True, True)

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            assert repo_id == "owner/name"
            push(folder_path, str(remote))

    def download(repo: str, *, local_dir: Path, allow_patterns: list[str], **_: Any) -> None:
        assert repo == "owner/name"
        assert "model.safetensors" in allow_patterns
        assert not any(pattern.endswith(("*", ".pt", ".pkl", ".py")) for pattern in allow_patterns)
        push(remote, str(local_dir))

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "snapshot_download", download)
    assert push(run, "owner/name", private=True) == "https://hub/owner/name"
    pulled = pull("owner/name", tmp_path / "mine")
    assert torch.equal(load_policy(pulled).theta, load_policy(run).theta)

"""Policies shared as folders: `model.safetensors`, `config.json`, a model card, results and videos.

A target is a folder (`./folder`, `/folder`, `~/folder`) or a repository of the Hugging Face hub (`owner/name`), which
needs the extra `hub`. What comes from elsewhere is data only: tensors and JSON are parsed, nothing is unpickled.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from .model_card import model_card
from .runs import RunFolder, read_json, write_atomic
from .saved_policy import load_policy

REQUIRED = ("model.safetensors", "config.json")
OPTIONAL = ("README.md", "evaluation.json", "evaluation.png")
PATTERNS = [*REQUIRED, *OPTIONAL, "videos/*.mp4", "videos/*.gif", "videos/*.json"]
MAX_BYTES = 200_000_000
"""Of one file; a policy here has some hundred kB."""
_VIDEO = re.compile(r"\w[\w.,+=-]*\.(mp4|gif|json)", re.ASCII)
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)

Result = TypeVar("Result")


def local_folder(target: str) -> Path | None:
    """The folder that a target names, None for a hub repository. ValueError if it is neither."""
    if target.startswith((".", "/", "~")):
        return Path(target).expanduser()
    if _REPO.fullmatch(target):
        return None
    raise ValueError(f"{target!r} is neither owner/name on the hub nor a folder; write a folder as ./{target}")


def push(source: Path, target: str, *, private: bool = False) -> str:
    """Write a run's policy, or a policy folder, with its model card to a folder or the hub; returns where it is.

    source: a run folder, whose evaluation.json and videos go along, or a policy folder. private: of a repository that
    is made. FileNotFoundError without a policy, ValueError for a damaged one, OSError if the target cannot be written.
    """
    folder = local_folder(target)
    with tempfile.TemporaryDirectory(prefix="metarl-push-") as made:
        packed = Path(made)
        _pack(source, packed, target if folder is None else folder.resolve().name)
        if folder is not None:
            _write(packed, folder)
            return str(folder)
        return _hub(lambda: _upload(packed, target, private), target)


def pull(target: str, out: Path, *, revision: str | None = None) -> Path:
    """Fetch a policy from a folder or the hub into the new folder `out`, which is returned.

    Only the files of a policy are taken, and only plain ones. The policy is loaded once before `out` appears. revision:
    a branch, tag or commit of the hub. FileNotFoundError if there is none, ValueError if it is damaged or `out` is not
    empty, OSError if it cannot be fetched or written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already; choose another with --out")
    folder = local_folder(target)
    if folder is not None and revision is not None:
        raise ValueError("--revision goes with a hub repository; a folder has none")
    with tempfile.TemporaryDirectory(prefix="metarl-pull-") as made:
        checked = Path(made, "checked")
        if folder is None:
            folder = Path(made, "fetched")
            _hub(lambda: _download(target, Path(made, "fetched"), revision), target)
        elif not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        _take(folder, checked)
        try:
            load_policy(checked)
        except ValueError as error:
            raise ValueError(str(error).replace(str(checked), target)) from error
        _write(checked, out)
    return out


def _pack(source: Path, packed: Path, name: str) -> None:
    """The files to share, from a run or a policy folder, and their model card."""
    policy = load_policy(source)
    run = RunFolder(source)
    is_run = not (source / "model.safetensors").exists()
    for file in REQUIRED:
        shutil.copyfile((run.policy if is_run else source) / file, packed / file)
    for file in OPTIONAL[1:]:
        if (source / file).is_file():
            shutil.copyfile(source / file, packed / file)
    videos = []
    if run.videos.is_dir():
        (packed / "videos").mkdir()
        for video in sorted(run.videos.iterdir()):
            if video.is_file() and _VIDEO.fullmatch(video.name):
                shutil.copyfile(video, packed / "videos" / video.name)
                videos.append(PurePosixPath("videos", video.name))
    evaluation = read_json(run.evaluation) if run.evaluation.is_file() else None
    command = read_json(run.config).get("command", "") if is_run else ""
    try:
        card = model_card(policy.record, name=name, evaluation=evaluation, videos=videos, train_command=command)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run.evaluation} is damaged ({error!r}); make it anew with 'metarl evaluate'") from error
    write_atomic(packed / "README.md", card)


def _take(folder: Path, checked: Path) -> None:
    """Copy the plain files of a policy, and no others. ValueError for links and what is too large."""
    checked.mkdir()
    files = [folder / name for name in (*REQUIRED, *OPTIONAL) if os.path.lexists(folder / name)]
    videos = folder / "videos"
    if videos.is_dir() and not videos.is_symlink():
        files += [file for file in sorted(videos.iterdir()) if _VIDEO.fullmatch(file.name)]
    missing = [name for name in REQUIRED if folder / name not in files]
    if missing:
        raise FileNotFoundError(f"{folder} is no policy: it has no {' and no '.join(missing)}")
    for file in files:
        if file.is_symlink() or not file.is_file():
            raise ValueError(f"{file} is not a plain file, so it is not taken; ask for the policy as plain files")
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"{file} has {file.stat().st_size:,} bytes, more than the {MAX_BYTES:,} of a policy")
        copy = checked / file.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)


def _write(packed: Path, out: Path) -> None:
    """Copy a folder's files to another, which is made; each is the old one or the whole new one."""
    try:
        for file in sorted(packed.rglob("*")):
            if file.is_file():
                copy = out / file.relative_to(packed)
                copy.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(copy, file.read_bytes())
    except OSError as error:
        raise OSError(f"cannot write to {out}: {error.strerror or error}; choose another folder") from error


def _upload(packed: Path, repo: str, private: bool) -> str:
    from huggingface_hub import HfApi

    api = HfApi(library_name="metarl")
    api.create_repo(repo, private=private, exist_ok=True)
    api.upload_folder(repo_id=repo, folder_path=packed, commit_message="Policy from metarl push")
    return f"{api.endpoint}/{repo}"


def _download(repo: str, folder: Path, revision: str | None) -> Any:
    from huggingface_hub import snapshot_download

    return snapshot_download(
        repo, revision=revision, local_dir=folder, allow_patterns=PATTERNS, library_name="metarl", max_workers=2
    )


def _hub(call: Callable[[], Result], repo: str) -> Result:
    """Call the hub; its errors in one line that says what to do. Tokens are huggingface_hub's own business."""
    try:
        with _no_progress_bars():
            return call()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "huggingface_hub":
            raise
        raise ValueError("huggingface_hub is not installed; 'pip install metarl[hub]' installs it") from None
    except Exception as error:  # the hub, its HTTP client and the disk raise many kinds
        kind, said = type(error).__name__, " ".join(str(error).split())[:300]
        hint = "is this machine online, and does the repository exist?"
        if kind in ("RepositoryNotFoundError", "GatedRepoError", "LocalTokenNotFoundError") or "401" in said:
            hint = "does it exist, and are you logged in ('hf auth login', or HF_TOKEN)?"
        if "HF_HUB_OFFLINE" in said:
            hint = "HF_HUB_OFFLINE is set; unset it"
        raise OSError(f"the hub repository {repo} cannot be reached ({kind}: {said}); {hint}") from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()

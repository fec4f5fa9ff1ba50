"""The README of a shared policy: what it is, how to use it, results and video, as Markdown with the hub's header."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

_FACTS = ("algorithm", "iterations", "env_steps", "seed")


def model_card(
    record: Mapping[str, Any],
    *,
    name: str,
    evaluation: Mapping[str, Any] | None = None,
    videos: Sequence[PurePosixPath] = (),
    train_command: str = "",
) -> str:
    """Markdown from recorded facts alone; a section without facts is left out.

    record: the policy's config.json. name: of the repository, for the title and the commands. evaluation: a run's
    evaluation.json. videos: paths inside the repository. train_command: the one that made the run.
    """
    env, protocol = record["env"]["name"], record["env"]["protocol"]
    adapted = record.get("task") is not None
    kind = "adapted policy" if adapted else str(record.get("kind", "policy"))
    sections = [
        _header(env, evaluation),
        f"# {name.rpartition('/')[2]}\n",
        f"{kind[:1].upper()}{kind[1:]} for the environment family `{env}` ({protocol}), made with metarl.\n"
        + (f"It is adapted to the goal {record.get('goal') or record['task']}.\n" if adapted else ""),
        _films(videos),
        _results(evaluation),
        _use(name, adapted),
        _made(record, evaluation, train_command),
    ]
    return "\n".join(section for section in sections if section)


def _header(env: str, evaluation: Mapping[str, Any] | None) -> str:
    # JSON is YAML; quoted, no text can end the header or a line of it.
    header: dict[str, Any] = {
        "library_name": "metarl",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["metarl", "meta-learning", "reinforcement-learning", env],
    }
    if evaluation is not None:
        metrics = [
            {"type": "mean_return", "name": f"return after {_steps(i)}", "value": round(float(mean), 3)}
            for i, mean in enumerate(evaluation["meta-trained"]["mean"])
        ]
        task = {"type": "reinforcement-learning", "name": "adaptation to held-out tasks"}
        result = {"task": task, "dataset": {"name": env, "type": env}, "metrics": metrics}
        header["model-index"] = [{"name": env, "results": [result]}]
    rows = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())
    return f"---\n{rows}\n---\n"


def _films(videos: Sequence[PurePosixPath]) -> str:
    shown = [f"![{video.stem}]({video})" for video in videos if video.suffix == ".gif"]
    linked = [f"- [{video.name}]({video})" for video in videos if video.suffix == ".mp4"]
    return "\n".join(["## Before and after adaptation", "", *shown, *linked, ""]) if shown or linked else ""


def _results(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return ""
    names = [n for n in ("meta-trained", "random initialisation", "pretrained", "oracle") if n in evaluation]
    columns = len(evaluation["meta-trained"]["mean"])
    rows = []
    for name in names:
        means, widths = evaluation[name]["mean"], evaluation[name]["ci95"]
        cells = [
            f"{mean:.1f}" + ("" if width is None else f" +- {width:.1f}")  # one task has no interval
            for mean, width in zip(means, widths, strict=True)
        ]
        rows.append(f"| {name} | {' | '.join(cells + [''] * (columns - len(cells)))} |")
    return "\n".join(
        [
            "## Results",
            "",
            f"Return on {evaluation['n_tasks']} held-out tasks, {evaluation['trajectories']} episodes each, after",
            "gradient steps on the task; mean and 95 % interval over tasks.",
            "",
            f"| policy | {' | '.join(_steps(i) for i in range(columns))} |",
            f"|---{'|---' * columns}|",
            *rows,
            "",
        ]
    )


def _use(name: str, adapted: bool) -> str:
    folder = name.rpartition("/")[2]
    lines = ["## Use", "", "```sh", "pip install 'metarl[hub]'", f"metarl pull {name} --out {folder}"]
    if not adapted:
        lines.append(f"metarl adapt {folder} --task TASK")
    lines += [f"metarl export {folder} --to onnx", "```", "", "```python", "from metarl import load_policy", ""]
    lines += [f'policy = load_policy("{folder}")', "env = policy.make_env()", "obs, _ = env.reset(seed=0)"]
    return "\n".join([*lines, "action = policy.act(obs)", "```", ""])


def _made(record: Mapping[str, Any], evaluation: Mapping[str, Any] | None, train_command: str) -> str:
    commands = [c for c in (train_command, evaluation["command"] if evaluation else "") if c]
    facts = [f"- {key.replace('_', ' ')}: {record[key]}" for key in _FACTS if record.get(key) is not None]
    facts += [f"- {package} {version}" for package, version in record.get("versions", {}).items()]
    shown = ["```sh", *commands, "```", ""] if commands else []
    return "\n".join(["## How it was made", "", *shown, *facts, ""])


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"

"""Run folders written by hand, with every number known, and a reader of HTML pages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from metarl.config import TrainConfig
from metarl.envs import ProtocolName
from metarl.presets import preset
from metarl.runs import create_run
from metarl.videos import mp4_writer

VOID = {"meta", "br"}
META = {"mean": [-31.25, 504.75, 503.5, 501.125], "ci95": [6.25, 4.125, 3.75, 2.5]}
RANDOM = {"mean": [-36.5, -15.0625, -3.3125, 6.875], "ci95": [9.0625, 9.1875, 7.4375, 7.25]}
BASELINES = {"random": RANDOM["mean"], "pretrained": [10.5, 95.25, 120.0, 130.75], "oracle": 640.5}
SCORE = [0.008, 0.8, 0.79, 0.79]


def write_run(
    path: Path,
    *,
    env: str = "half-cheetah-dir",
    protocol: ProtocolName = "finn2017",
    iterations: int = 30,
    seed: int = 0,
    evaluated: bool = True,
    baselines: bool = True,
    filmed: bool = False,
) -> Path:
    """A run folder whose curves rise from -30 to about 500."""
    config: TrainConfig = replace(preset(env, "default", protocol), iterations=iterations, seed=seed)
    create_run(path, config, f"metarl train {env} --env.protocol {protocol} --seed {seed}")
    rows = [
        {
            "iteration": i,
            "return_before": -30.0 + math.sin(i),
            "return_after": 500.0 - 530.0 * 0.85**i + 3.0 * seed,
            "env_steps": 160_000 * (i + 1),
            "wall_s": 4.0 * (i + 1),
        }
        for i in range(iterations)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if evaluated:
        write_evaluation(path, env, protocol, iterations, baselines)
    if filmed:
        write_video(path / "videos" / "forward.mp4")
    return path


def write_evaluation(
    path: Path, env: str, protocol: str, iterations: int, with_baselines: bool, **changes: Any
) -> None:
    """evaluation.json as `metarl evaluate` writes it."""
    result = {
        "env": env,
        "protocol": protocol,
        "iterations": iterations,
        "env_steps": 160_000 * iterations,
        "train_wall_s": 4.0 * iterations,
        "command": f"metarl evaluate {path.name}",
        "n_tasks": 40,
        "trajectories": 20,
        "seed": 1000,
        "meta-trained": META,
        "random initialisation": RANDOM,
        "groups": {"run forward": {**META, "n_tasks": 20}, "run backward": {**META, "n_tasks": 20}},
        **({"baselines": BASELINES, "score": SCORE} if with_baselines else {}),
        **changes,
    }
    (path / "evaluation.json").write_text(json.dumps(result))


def write_video(path: Path, frames: int = 4, description: str = "run forward") -> None:
    """A video of moving noise with the JSON beside it."""
    rng = np.random.default_rng(0)
    with mp4_writer(path, 64, 48, 20) as video:
        for _ in range(frames):
            video.append(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    facts = {
        "description": description,
        "frames": frames,
        "fps": 20.0,
        "panels": [
            {"title": "before adaptation", "return": 12.34},
            {"title": "after 1 gradient step", "return": 520.96},
        ],
        "metadata": {"command": "metarl record RUN --task forward"},
    }
    path.with_suffix(".json").write_text(json.dumps(facts))


class Page(HTMLParser):
    """A page's elements and text; AssertionError if a tag is not closed or closed twice."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> without a start"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((tuple(self._open), data))

    def texts(self, tag: str) -> list[str]:
        """Texts inside elements of a kind, a text node each."""
        return [data for path, data in self.words if tag in path]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """What a reader sees, and titles."""
        hidden = {"style", "script", "head"}
        return " ".join(data for path, data in self.words if not hidden & set(path))

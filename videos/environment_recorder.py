"""Gymnasium environments on film by their own pictures: the same before | after as `recorder`, without a MuJoCo model.

The episodes run side by side while they are filmed, each from the same seed, so that no picture has to be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from metarl.envs import GymnasiumFamily
from metarl.envs.env_worker import Rows

from .compose import BAR_RGB, Caption, compose
from .episode import Act
from .film_files import PanelFacts, Recording, check_film, film_stride, write_facts, write_frames

ActPanel = tuple[str, Act]
"""A title, such as "after 1 gradient step", and the policy that acts."""
BACKEND = "environment"


def record_environments(
    family: GymnasiumFamily,
    goal: Float[np.ndarray, " goal"],
    panels: Sequence[ActPanel],
    seed: int,
    path: str | Path,
    *,
    width: int = 480,
    height: int = 360,
    gif: str | Path | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Recording:
    """Run and film one episode a panel, all of one task and from one seed.

    goal: (goal,) of the task in the family's units. seed: of each environment's reset.
    path, gif, metadata: as in `recorder.record`.
    width, height: of the box in pixels that an environment's picture is fitted into, in proportion.

    Raises ValueError as `record` does, and for a family that cannot be filmed; ChildProcessError for an environment
    that raises, in the words of `ProcessSimulator`; OSError when a file cannot be written.
    """
    path, gif = Path(path), None if gif is None else Path(gif)
    check_film(path, panels)
    goal = np.asarray(goal, dtype=np.float64)
    episodes = _Episodes(family, goal, panels, seed, width, height)
    try:
        recording = write_frames(episodes.frames(), path, gif, family.spec.control_dt_s, BACKEND)
    finally:
        episodes.close()
    write_facts(recording, family, goal, episodes.facts(), metadata, {})
    return recording


def check_pictures(family: GymnasiumFamily, goal: Float[np.ndarray, " goal"]) -> None:
    """Make the first picture of a task and throw it away; raises what `record_environments` would."""
    episodes = _Episodes(family, np.asarray(goal, dtype=np.float64), [("", lambda obs: obs)], 0, 32, 32)
    try:
        next(episodes.frames())
    finally:
        episodes.close()


class _Episodes:
    """One row a panel, in this process."""

    def __init__(
        self,
        family: GymnasiumFamily,
        goal: np.ndarray,
        panels: Sequence[ActPanel],
        seed: int,
        width: int,
        height: int,
    ) -> None:
        n, spec = len(panels), family.spec
        self._family, self._goal, self._panels, self._seed = family, goal, panels, seed
        self._size = (width, height)
        self._row = {
            "goal": np.tile(goal, (n, 1)),
            "action": np.zeros((n, spec.act_dim)),
            "obs": np.zeros((n, spec.obs_dim - (spec.goal_dim if family.oracle else 0))),
            "reward": np.zeros((n, 1)),
            "active": np.ones(n, dtype=np.uint8),
            "terminated": np.zeros(n, dtype=np.uint8),
            "diverged": np.zeros(n, dtype=np.uint8),
        }
        self._rows = Rows(family, self._row, family.filmed_env)
        self._steps, self._returns = np.zeros(n, dtype=int), np.zeros(n)

    def frames(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Run the episodes; a frame every `film_stride` steps, and the last one in any case."""
        stride = film_stride(self._family.spec.control_dt_s)
        try:
            self._rows.reset([self._seed] * len(self._panels))
            yield self._frame()
            for t in range(1, self._family.horizon + 1):
                self._act()
                self._rows.step()
                active = self._row["active"].astype(bool)
                self._steps[active] += 1
                self._returns[active] += self._row["reward"][active, 0]
                self._row["active"][:] = active & ~self._row["terminated"].astype(bool)
                over = t == self._family.horizon or not self._row["active"].any()
                if over or t % stride == 0:
                    yield self._frame()
                if over:
                    return
        except (ValueError, OSError):
            raise
        except Exception as error:
            raise ChildProcessError(_explained(self._family, self._rows.doing, error)) from error

    def facts(self) -> list[PanelFacts]:
        """What happened in each panel."""
        return [
            PanelFacts(title, float(total), int(steps), bool(ended), self._ending(i))
            for i, ((title, _), total, steps, ended) in enumerate(
                zip(self._panels, self._returns, self._steps, self._row["terminated"], strict=True)
            )
        ]

    def close(self) -> None:
        """Close the environments."""
        self._rows.close()

    def _act(self) -> None:
        obs = np.concatenate([self._row["obs"], self._row["goal"]], axis=1) if self._family.oracle else self._row["obs"]
        for i in np.flatnonzero(self._row["active"]).tolist():
            action = np.asarray(self._panels[i][1](obs[i].copy()), dtype=np.float64)
            self._row["action"][i] = np.clip(action, -1.0, 1.0)

    def _frame(self) -> np.ndarray:
        dt_s = self._family.spec.control_dt_s
        pictures, captions = [], []
        for i, picture in enumerate(self._rows.pictures()):
            t = int(self._steps[i])
            fields = ("time", f"{t * dt_s:.2f} s"), ("step", str(t)), ("return", f"{self._returns[i]:.1f}")
            pictures.append(boxed(_checked(self._family, picture), *self._size))
            captions.append(Caption(self._panels[i][0], fields, self._ending(i)))
        return compose(f"Goal: {self._family.describe(self._goal)}", self._family.name, pictures, captions)

    def _ending(self, i: int) -> str:
        if self._row["diverged"][i]:
            return "diverged"
        # Environments say that an episode is over, not whether that is good.
        return "ended" if self._row["terminated"][i] and self._steps[i] < self._family.horizon else ""


def boxed(picture: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "height width 3"]:
    """The picture scaled in proportion to fit width x height, in the middle of a plain ground."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(scale * picture.shape[1])), max(1, round(scale * picture.shape[0]))
    ground = Image.new("RGB", (width, height), BAR_RGB)
    fitted = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    ground.paste(fitted, ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(ground)


def _checked(family: GymnasiumFamily, picture: Any) -> np.ndarray:
    image = np.asarray(picture)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"{family.name} cannot be filmed: render() of its environment returned "
            f"{type(picture).__name__} {image.shape} {image.dtype}, not a picture (height, width, 3) uint8"
        )
    return image


def _explained(family: GymnasiumFamily, doing: str, error: Exception) -> str:
    hint = (
        "; MuJoCo environments need MUJOCO_GL=egl (or osmesa) in the environment where there is no display, Box2D and "
        "classic control need pygame: pip install 'gymnasium[classic-control]'"
        if doing in ("render", "make_env")
        else ""
    )
    return f"{family.name}: {doing} of the environment raised {type(error).__name__}: {error}{hint}"

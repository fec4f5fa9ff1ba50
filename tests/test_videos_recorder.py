"""Recordings read back: frames, speed, captions' facts, and what is left behind by a failure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageSequence

from metarl.envs import Family, family_class, family_names, make_family
from metarl.videos import Episode, film_files, record, run_episode
from metarl.videos.caption import ending, status_fields
from metarl.videos.recorder import frame_times

# imageio-ffmpeg's reader leaves its pipes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

SMALL = {"width": 96, "height": 72, "backend": "raycast"}


def _goal(family: Family) -> np.ndarray:
    return family.tasks.sample(1, np.random.default_rng(0)).goal[0]


def _random_act(family: Family, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    return lambda obs: rng.uniform(-1, 1, family.spec.act_dim)


def _read(path: Path) -> tuple[dict, np.ndarray]:
    """The video's metadata and frames (frame, height, width, 3)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    frames = np.stack([np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader])
    reader.close()
    return meta, frames


@pytest.mark.parametrize(
    ("name", "protocol"), [(name, protocol) for name in family_names() for protocol in family_class(name).protocols]
)
def test_every_family_is_recorded(name: str, protocol: str, tmp_path: Path) -> None:
    family = make_family(name, protocol)
    goal = _goal(family)
    panels = [
        (title, run_episode(family, goal, _random_act(family, seed), np.random.default_rng(7), horizon=6))
        for seed, title in enumerate(("before adaptation", "after 1 gradient step"))
    ]
    recording = record(family, goal, panels, tmp_path / "videos" / "clip.mp4", metadata={"seed": 7}, **SMALL)
    meta, frames = _read(recording.mp4)
    control_fps = 1 / family.spec.control_dt_s
    stride = math.ceil(control_fps / 60 - 1e-9)
    expected_fps = control_fps / stride
    assert recording.fps == pytest.approx(expected_fps)
    assert meta["fps"] == pytest.approx(expected_fps, abs=0.01)
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert len(frames) == recording.frames == len(range(0, 7, stride))
    assert frames.shape[1:3] == (recording.height, recording.width)
    assert recording.height % 2 == 0
    assert recording.width % 2 == 0
    facts = json.loads(recording.json.read_text())
    assert (facts["env"], facts["protocol"], facts["description"]) == (name, protocol, family.describe(goal))
    assert list(facts["goal"].values()) == goal.tolist()
    assert facts["metadata"] == {"seed": 7}
    assert facts["backend"] == "raycast"
    assert [panel["title"] for panel in facts["panels"]] == ["before adaptation", "after 1 gradient step"]
    assert [panel["return"] for panel in facts["panels"]] == [float(e.reward.sum()) for _, e in panels]
    assert [panel["steps"] for panel in facts["panels"]] == [6, 6]


@pytest.mark.parametrize("name", ["half-cheetah-vel", "ant-goal", "point-nav"])
def test_episode_is_complete_and_repeatable(name: str) -> None:
    family = make_family(name)
    goal = _goal(family)
    one, same, other = (
        run_episode(family, goal, _random_act(family, seed), np.random.default_rng(3), 5) for seed in (0, 0, 1)
    )
    assert one.qpos.shape == (6, family.model.nq)
    assert one.obs.shape == (5, family.spec.obs_dim)
    assert one.action.shape == (5, family.spec.act_dim)
    assert all(values.shape == (5,) for values in one.info.values())
    assert one.total_return == one.reward.sum()
    np.testing.assert_array_equal(one.qpos, same.qpos)
    np.testing.assert_array_equal(one.qpos[0], other.qpos[0])  # before and after adaptation start alike
    assert not np.array_equal(one.qpos[-1], other.qpos[-1])
    np.testing.assert_array_equal(one.qpos[0], family.reset(np.random.default_rng(3))[0])


def test_reward_and_info_are_those_of_the_family() -> None:
    family = make_family("half-cheetah-vel")
    episode = run_episode(family, np.array([1.5]), _random_act(family, 0), np.random.default_rng(0), 8)
    velocity = np.diff(episode.qpos[:, 0]) / family.spec.control_dt_s
    np.testing.assert_allclose(episode.info["x_velocity"], velocity, rtol=1e-9)
    cost = 0.05 * (episode.action**2).sum(axis=1)
    np.testing.assert_allclose(episode.reward, -np.abs(velocity - 1.5) - cost, rtol=1e-9)


def test_wrong_episodes_are_explained() -> None:
    family = make_family("point-nav")
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"expected \(2,\)"):
        run_episode(family, np.zeros(2), lambda obs: np.zeros((1, 2)), rng)
    with pytest.raises(ValueError, match="at least 1"):
        run_episode(family, np.zeros(2), lambda obs: np.zeros(2), rng, horizon=0)
    with pytest.raises(ValueError, match="goal components"):
        run_episode(family, np.zeros(3), lambda obs: np.zeros(2), rng)


def _arriving_and_wandering() -> tuple[Family, np.ndarray, Episode, Episode]:
    family = make_family("point-nav")
    goal = np.array([0.25, 0.1])
    wander = run_episode(family, goal, lambda obs: np.array([-0.3, 0.2]), np.random.default_rng(0), 12)
    arrive = run_episode(family, goal, lambda obs: (goal - obs[:2]) / 0.1, np.random.default_rng(0), 12)
    return family, goal, wander, arrive


def test_panel_of_a_shorter_episode_stands_still_and_says_why(tmp_path: Path) -> None:
    family, goal, wander, arrive = _arriving_and_wandering()
    assert arrive.terminated
    assert arrive.steps < 6
    recording = record(
        family,
        goal,
        [("before", wander), ("after", arrive)],
        tmp_path / "a.mp4",
        width=160,
        height=120,
        backend="raycast",
    )
    frames = _read(recording.mp4)[1].astype(int)
    assert len(frames) == 13
    half = frames.shape[2] // 2

    def moved(first: int, last: int, part: slice) -> float:
        return float(np.abs(frames[first, :, part] - frames[last, :, part]).max())

    left, right = slice(0, half - 4), slice(half + 4, None)
    assert moved(8, 12, right) < 30  # the codec's own noise
    assert moved(8, 12, left) > 90
    assert moved(0, 4, right) > 90
    facts = json.loads(recording.json.read_text())
    assert [panel["ending"] for panel in facts["panels"]] == ["", "arrived"]
    green = (frames[..., 1] - frames[..., 0] > 50) & (frames[..., 1] - frames[..., 2] > 40)  # the word "arrived"
    assert green[12, :, right].sum() > 5
    assert green[0].sum() == 0


def test_fallen_ant_is_said_to_have_fallen() -> None:
    family = make_family("ant-dir")
    episode = run_episode(family, np.array([1.0]), _random_act(family, 0), np.random.default_rng(0), 3)
    fallen = Episode(**{**episode.__dict__, "terminated": True})
    assert ending(episode, None) == ""
    assert ending(fallen, family.marker(np.array([1.0]))) == "fell"
    assert ending(Episode(**{**fallen.__dict__, "diverged": True}), None) == "diverged"


def test_status_fields() -> None:
    family, goal, _, arrive = _arriving_and_wandering()
    fields = dict(status_fields(arrive, 2, 0.05, family.marker(goal), np.array([0.25, 0.4])))
    assert fields["time"] == "0.10 s"
    assert fields["distance"] == "0.30 m"
    assert fields["return"] == f"{arrive.reward[:2].sum():.1f}"
    zeros = np.zeros(4)
    ant = make_family("ant-dir-2d")
    info = {"x_velocity": np.array([0.0, 1.0, 1.0, 1.0]), "y_velocity": np.array([0.0, 1.0, 1.0, 1.0])}
    episode = Episode(np.zeros((5, 15)), zeros[:, None], zeros[:, None], zeros, info, False, False)
    heading = dict(status_fields(episode, 4, 0.25, ant.marker(np.array([1.0, 0.0])), np.zeros(2)))
    assert heading["speed"] == "1.41 m/s"  # over the last half second
    assert heading["heading"] == "45 deg"
    straight = dict(status_fields(episode, 4, 0.25, None, np.zeros(2)))
    assert straight["velocity"] == "1.00 m/s"


def test_gif_metadata_and_progress(tmp_path: Path) -> None:
    family = make_family("half-cheetah-dir", "finn2017")
    goal = np.array([-1.0])
    episode = run_episode(family, goal, _random_act(family, 0), np.random.default_rng(0), 20)
    calls: list[tuple[int, int]] = []
    recording = record(
        family,
        goal,
        [("only", episode)],
        tmp_path / "a.mp4",
        gif=tmp_path / "a.gif",
        metadata={"return": np.float64(1.5), "goal": np.arange(2), "checkpoint": Path("run/best")},
        progress=lambda done, total: calls.append((done, total)),
        **SMALL,
    )
    assert recording.frames == 11
    assert recording.fps == pytest.approx(50)
    assert calls == [(i + 1, 11) for i in range(11)]
    with Image.open(tmp_path / "a.gif") as gif:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(gif)]
        assert gif.info["duration"] == 40  # 25 a second: real time
        assert gif.info["loop"] == 0
    assert len(frames) == 6
    assert frames[0].size == (recording.width, recording.height)
    metadata = json.loads(recording.json.read_text())["metadata"]
    assert metadata == {"return": 1.5, "goal": [0, 1], "checkpoint": str(Path("run/best"))}


@pytest.mark.parametrize(
    ("steps", "stride", "times"), [(4, 1, [0, 1, 2, 3, 4]), (4, 2, [0, 2, 4]), (5, 2, [0, 2, 4, 5])]
)
def test_frame_times_end_with_the_last_state(steps: int, stride: int, times: list[int]) -> None:
    assert frame_times(steps, stride) == times


def test_failure_leaves_the_old_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, goal, wander, _ = _arriving_and_wandering()
    path = tmp_path / "a.mp4"
    path.write_bytes(b"older video")
    path.with_suffix(".json").write_text("{}")

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(family, goal, [("a", wander)], path, progress=stop, **SMALL)
    assert path.read_bytes() == b"older video"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.mp4"]

    monkeypatch.setattr(film_files, "write_gif", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        record(family, goal, [("a", wander)], tmp_path / "b.mp4", gif=tmp_path / "b.gif", **SMALL)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.mp4"]


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    family, goal, wander, _ = _arriving_and_wandering()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*a\.mp4.*choose a folder"):
        record(family, goal, [("a", wander)], tmp_path / "file" / "a.mp4", **SMALL)


def test_wrong_requests_are_explained(tmp_path: Path) -> None:
    family, goal, wander, _ = _arriving_and_wandering()
    with pytest.raises(ValueError, match="at least one"):
        record(family, goal, [], tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"end in \.mp4"):
        record(family, goal, [("a", wander)], tmp_path / "a.gif")

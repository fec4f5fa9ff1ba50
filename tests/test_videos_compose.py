"""Captions, layout and encoding of plain frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metarl.videos import Caption, compose, mp4_writer, side_by_side, write_gif
from metarl.videos.compose import BAR_RGB, GAP_PX, captioned, even, fitted, with_trail
from metarl.videos.encode import replacing, shrink, stride_for

CAPTION = Caption("before adaptation", (("time", "1.00 s"), ("return", "-12.5")))


def _frame(value: int, height: int = 72, width: int = 97) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


@pytest.mark.parametrize("width", [64, 97, 480])
@pytest.mark.parametrize("panels", [1, 2, 3])
def test_composed_frames_are_even_and_hold_the_pictures(width: int, panels: int) -> None:
    frames = [_frame(90 + 20 * i, 71, width) for i in range(panels)]
    out = compose("Goal: run at 1.00 m/s", "half-cheetah-vel, modern", frames, [CAPTION] * panels)
    assert out.dtype == np.uint8
    assert out.shape[0] % 2 == 0
    assert out.shape[1] in (panels * width + (panels - 1) * GAP_PX, panels * width + (panels - 1) * GAP_PX + 1)
    for i, frame in enumerate(frames):
        part = out[:, i * (width + GAP_PX) : i * (width + GAP_PX) + width]
        assert (part == frame[0, 0]).all(axis=-1).sum() >= 71 * width


def test_caption_changes_with_its_words_only() -> None:
    frame = _frame(120, 360, 480)
    plain = captioned(frame, CAPTION)
    noted = captioned(frame, Caption(CAPTION.title, CAPTION.fields, "fell"))
    changed = np.argwhere((plain != noted).any(axis=-1))
    assert len(changed) > 20
    assert changed[:, 1].min() > 400  # the right end of the title bar
    assert changed[:, 0].max() < 40
    other = captioned(frame, Caption(CAPTION.title, (("time", "1.00 s"), ("return", "-99.9"))))
    assert (plain != other).any(axis=-1)[:, :240].sum() == 0  # columns do not move when a number changes


def test_long_titles_are_shortened_to_fit() -> None:
    assert fitted("short", 16, 400) == "short"
    assert fitted("a very long title of a panel", 16, 100).endswith("...")
    assert fitted("anything", 16, 2) == ""


def test_side_by_side_wants_equal_sizes() -> None:
    out = side_by_side([_frame(10), _frame(200)])
    assert out.shape == (72, 2 * 97 + GAP_PX, 3)
    assert (out[:, 97 : 97 + GAP_PX] == BAR_RGB).all()
    with pytest.raises(ValueError, match="differ in size"):
        side_by_side([_frame(0), _frame(0, 70)])
    with pytest.raises(ValueError, match="one caption a picture"):
        compose("", "", [_frame(0)], [])


def test_trail_is_drawn_on_a_copy() -> None:
    frame = _frame(255)
    out = with_trail(frame, np.array([[10.0, 10.0], [60.0, 10.0]]))
    assert frame.min() == 255
    assert (out[10, 12:58] != 255).any(axis=-1).all()
    assert (out[40:] == 255).all()
    np.testing.assert_array_equal(with_trail(frame, np.array([[10.0, 10.0]])), frame)


def test_even_pads_by_repeating() -> None:
    assert even(_frame(7, 5, 9)).shape == (6, 10, 3)
    assert (even(_frame(7, 5, 9)) == 7).all()


@pytest.mark.parametrize(("fps", "limit", "stride"), [(20, 60, 1), (100, 60, 2), (60, 60, 1), (1 / 0.02, 25, 2)])
def test_stride(fps: float, limit: float, stride: int) -> None:
    assert stride_for(fps, limit) == stride


def test_gif_is_limited(tmp_path: Path) -> None:
    frames = [shrink(_frame(40 * i, 100, 300), 150) for i in range(5)]
    assert frames[0].shape == (50, 150, 3)
    write_gif(frames, tmp_path / "a.gif", 20)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (5, (150, 50), 50)
    with pytest.raises(ValueError, match="at most 25"):
        write_gif(frames, tmp_path / "b.gif", 50)
    with pytest.raises(ValueError, match="needs frames"):
        write_gif([], tmp_path / "b.gif", 20)
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]


def test_mp4_writer_refuses_and_cleans_up(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even"), mp4_writer(tmp_path / "a.mp4", 97, 72, 20):
        pass
    with (
        pytest.raises(ValueError, match=r"expected \(72, 96, 3\)"),
        mp4_writer(tmp_path / "a.mp4", 96, 72, 20) as video,
    ):
        video.append(_frame(0))
    assert not list(tmp_path.iterdir())


def test_replacing_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]

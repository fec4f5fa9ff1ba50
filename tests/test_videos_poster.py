"""Stills of videos."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metarl.videos import mp4_writer, poster_jpeg


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames, 10 a second, from black to white."""
    path = tmp_path / "video.mp4"
    with mp4_writer(path, 64, 48, 10) as frames:
        for i in range(10):
            frames.append(np.full((48, 64, 3), 25 * i, dtype=np.uint8))
    return path


@pytest.mark.parametrize(("at_s", "grey"), [(0.0, 0), (0.5, 125), (0.9, 225), (60.0, 0)])
def test_the_frame_at_a_time(video: Path, at_s: float, grey: int) -> None:
    with Image.open(io.BytesIO(poster_jpeg(video, at_s))) as still:
        assert still.size == (64, 48)
        assert np.asarray(still).mean() == pytest.approx(grey, abs=6)


def test_it_is_made_smaller_but_never_larger(video: Path) -> None:
    for max_width, size in ((32, (32, 24)), (640, (64, 48))):
        with Image.open(io.BytesIO(poster_jpeg(video, max_width=max_width))) as still:
            assert still.size == size


def test_what_is_no_video(video: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        poster_jpeg(tmp_path / "none.mp4")
    for content in (b"", b"not a video", video.read_bytes()[:60]):
        (tmp_path / "odd.mp4").write_bytes(content)
        with pytest.raises(ValueError, match=r"odd\.mp4 is damaged"):
            poster_jpeg(tmp_path / "odd.mp4")

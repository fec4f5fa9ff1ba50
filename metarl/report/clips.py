"""A run's videos as data URLs for the page, each with a still."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from metarl.videos import poster_jpeg

from .numbers import value_text
from .run_record import RunRecord, Video

# Where the still is taken: robots are under way, and the captions' numbers say something.
_POSTER_SHARE = 0.6


@dataclass(frozen=True)
class Clip:
    """One video of a page."""

    title: str
    text: str
    """What it shows, in a line."""
    mp4: str | None
    """data: URL, or None if it is left out."""
    poster: str | None
    """data: URL of a still."""
    left_out: str
    """Why there is no video, or ""."""


def read_clips(record: RunRecord, max_mb: float) -> list[Clip]:
    """The run's videos; one above max_mb megabytes, and one that does not decode, is left out and says so.

    Raises OSError if a file cannot be read.
    """
    return [_read_clip(video, max_mb) for video in record.videos]


def _read_clip(video: Video, max_mb: float) -> Clip:
    title, text = _title(video), _text(video)
    size_mb = video.path.stat().st_size / 1e6
    if size_mb > max_mb:
        reason = f"{video.path} is left out: {size_mb:.1f} MB, more than --video-mb {max_mb:g} allows"
        return Clip(title, text, None, None, reason)
    try:
        still = poster_jpeg(video.path, _poster_at_s(video))
    except ValueError as error:
        return Clip(title, text, None, None, f"left out: {error}")
    return Clip(title, text, _data_url("video/mp4", video.path.read_bytes()), _data_url("image/jpeg", still), "")


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _title(video: Video) -> str:
    description = video.facts.get("description")
    return f"Goal: {description}" if isinstance(description, str) else video.path.stem


def _text(video: Video) -> str:
    panels = video.facts.get("panels")
    parts = []
    for panel in panels if isinstance(panels, list) else []:
        value = panel.get("return") if isinstance(panel, dict) else None
        if isinstance(value, int | float):
            parts.append(f"{panel.get('title')}: return {value_text(float(value))}")
    return "; ".join(parts)


def _poster_at_s(video: Video) -> float:
    frames, fps = video.facts.get("frames"), video.facts.get("fps")
    if isinstance(frames, int | float) and isinstance(fps, int | float) and fps > 0:
        return _POSTER_SHARE * frames / fps
    return 0.0

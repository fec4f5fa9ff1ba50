"""A still of a video, as a small JPEG: what a page shows before it is played."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg

_TIMEOUT_S = 60


def poster_jpeg(path: Path, at_s: float = 0.0, max_width: int = 640) -> bytes:
    """The frame at at_s (s), at most max_width pixels wide; the first one if the video is shorter.

    Raises ValueError for a file that is not a video that can be decoded, OSError if it cannot be read.
    """
    path.stat()  # a missing file is an OSError of its own
    said = ""
    for start_s in (at_s, 0.0):
        command = [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-ss", f"{start_s:.3f}", "-i", str(path)),
            *("-frames:v", "1", "-vf", rf"scale='min({max_width},iw)':-2", "-q:v", "4"),
            *("-f", "image2pipe", "-c:v", "mjpeg", "-"),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"{path} cannot be decoded within {_TIMEOUT_S} s; record it again") from error
        if done.stdout.startswith(b"\xff\xd8"):
            return done.stdout
        said = " ".join(done.stderr.decode(errors="replace").split())
    raise ValueError(f"{path} is damaged: {said[:200] or 'it has no frames'}; record it again")

"""Frames to files: MP4 for players and browsers, GIF for README pages.

A file appears under its name only when it is complete: it is written beside it under a temporary name and then renamed,
so that an error or a kill leaves an older file as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8
from PIL import Image

GIF_MAX_FPS = 25.0  # browsers slow down what is much faster
_GIF_COLOURS = 128
_PALETTE_FRAMES = 8


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the folder of `path`; renames it to `path` on success, deletes it on failure.

    Makes the folder. Raises OSError, naming the path and the reason, when the folder cannot be made or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise OSError(
            f"cannot write {path}: {error.strerror or error}; choose a folder that you may write to"
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files for the owner only; give the permissions of a file that was opened in the usual way.
        umask = os.umask(0)
        os.umask(umask)
        with writing(path):
            temporary.chmod(0o666 & ~umask)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """An OSError that names the file, which the system does not for a full disk, and says that an older one stays."""
    try:
        yield
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}; an older one is untouched") from error


@contextlib.contextmanager
def mp4_writer(path: Path, width: int, height: int, fps: int | float) -> Iterator[Mp4Frames]:
    """Write an H.264 MP4 that plays everywhere (yuv420p, index at the front); complete or not there at all.

    width, height: of the frames, even. fps: frames a second of playing time.
    Raises ValueError for an odd size, OSError when it cannot be written.
    """
    if width % 2 or height % 2:
        raise ValueError(f"frames of {width} x {height} pixels: yuv420p needs an even width and height")
    with replacing(path) as temporary:
        frames = Mp4Frames(temporary, width, height, fps, path)
        try:
            yield frames
            frames.finish()
        finally:
            frames.stop()


class Mp4Frames:
    """The open end of an MP4 being written: `append` frames in order."""

    def __init__(self, file: Path, width: int, height: int, fps: int | float, path: Path) -> None:
        self._shape, self._path = (height, width, 3), path
        self.count = 0
        """Frames appended so far."""
        raw = ["-f", "rawvideo", "-s", f"{width}x{height}", "-pix_fmt", "rgb24"]
        coded = ["-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "20"]
        rate = ["-r", str(Fraction(fps).limit_denominator())]
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error"]
        command = [*ffmpeg, *raw, *rate, "-i", "-", *coded, "-movflags", "+faststart", str(file)]
        self._encoder = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,  # one of its own, which Ctrl-C in the terminal does not reach
        )

    def append(self, frame: UInt8[np.ndarray, "height width 3"]) -> None:
        """Encode one more frame. ValueError for another shape or type, OSError if ffmpeg cannot go on."""
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(f"got a frame {frame.shape} {frame.dtype}, expected {self._shape} uint8")
        assert self._encoder.stdin is not None
        left = np.ascontiguousarray(frame).data.cast("B")
        try:
            while left:
                left = left[self._encoder.stdin.write(left) :]
        except OSError:  # it has gone away, and can say why
            self.finish()
            raise
        self.count += 1

    def finish(self) -> None:
        """Wait for the end of the video. OSError with what ffmpeg says if it is not whole."""
        assert self._encoder.stdin is not None
        assert self._encoder.stderr is not None
        self._encoder.stdin.close()
        said = self._encoder.stderr.read().decode(errors="replace").split("\n")
        if self._encoder.wait():
            reason = next((line.rpartition(": ")[2].strip() for line in said if ": " in line), "it stopped")
            numbers = [number for number in errno.errorcode if os.strerror(number) == reason]
            raise OSError(f"cannot write {self._path}: ffmpeg says: {reason}; an older one is untouched") from (
                OSError(numbers[0], reason) if numbers else None
            )

    def stop(self) -> None:
        """Leave no process and no open pipe behind."""
        if self._encoder.poll() is None:
            self._encoder.kill()
        for pipe in (self._encoder.stdin, self._encoder.stderr):
            if pipe is not None:
                pipe.close()
        self._encoder.wait()


def write_gif(frames: Sequence[UInt8[np.ndarray, "height width 3"]], path: Path, fps: int | float) -> None:
    """Write a GIF that loops, with one palette for all frames; complete or not there at all.

    fps: at most GIF_MAX_FPS; rounded to the hundredths of a second in which GIF counts a frame's duration.
    Raises ValueError for no frames or too many a second, OSError when it cannot be written.
    """
    if not frames or not 0 < fps <= GIF_MAX_FPS:
        raise ValueError(f"a GIF needs frames and at most {GIF_MAX_FPS:g} a second; got {len(frames)} at {fps:g}")
    sample = np.concatenate([frames[i] for i in np.linspace(0, len(frames) - 1, _PALETTE_FRAMES).astype(int)])
    palette = Image.fromarray(sample).quantize(_GIF_COLOURS, method=Image.Quantize.MEDIANCUT)
    images = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    duration_ms = 10 * round(100 / fps)
    with replacing(path) as temporary, writing(path):
        images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=duration_ms,
            loop=0,
            optimize=True,
        )


def shrink(frame: UInt8[np.ndarray, "height width 3"], max_width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The frame scaled down to max_width, in proportion; as it is when it is not wider."""
    height, width = frame.shape[:2]
    if width <= max_width:
        return frame
    size = (max_width, max(1, round(height * max_width / width)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def stride_for(fps: int | float, max_fps: int | float) -> int:
    """Every how many frames to keep so that fps / stride is at most max_fps."""
    return max(1, int(np.ceil(fps / max_fps - 1e-9)))

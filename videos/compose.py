"""Pictures to video frames: captions, trails, side by side. Pure functions on RGB arrays."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

BAR_RGB = (23, 27, 37)
TEXT_RGB = (240, 243, 248)
LABEL_RGB = (146, 156, 176)
GOOD_RGB = (108, 214, 138)
BAD_RGB = (255, 122, 104)
GOAL_RGB = (255, 150, 122)
TRAIL_RGB = (33, 69, 133)
GAP_PX = 4


@dataclass(frozen=True)
class Caption:
    """The words of one panel."""

    title: str
    fields: tuple[tuple[str, str], ...]
    """(label, value) pairs, written below the picture in columns of equal width, so that numbers do not jump."""
    note: str = ""
    """How the episode ended; written beside the title."""


def compose(
    headline: str,
    subtitle: str,
    frames: Sequence[UInt8[np.ndarray, "height width 3"]],
    captions: Sequence[Caption],
) -> UInt8[np.ndarray, "out_height out_width 3"]:
    """One video frame: the headline above captioned panels from left to right; height and width are even.

    frames: one picture a panel, all of one size. ValueError when there are none, or not as many captions.
    """
    if not frames or len(frames) != len(captions):
        raise ValueError(f"got {len(frames)} pictures and {len(captions)} captions; give one caption a picture")
    panels = side_by_side([captioned(f, c) for f, c in zip(frames, captions, strict=True)])
    return even(np.concatenate([banner(headline, subtitle, panels.shape[1]), panels]))


def side_by_side(frames: Sequence[UInt8[np.ndarray, "height width 3"]]) -> UInt8[np.ndarray, "height out_width 3"]:
    """Frames of one size from left to right with GAP_PX between them. ValueError when their sizes differ."""
    if len({frame.shape for frame in frames}) != 1:
        raise ValueError(f"pictures to be set side by side differ in size: {[frame.shape for frame in frames]}")
    gap = np.full((frames[0].shape[0], GAP_PX, 3), BAR_RGB, dtype=np.uint8)
    parts = [part for frame in frames for part in (gap, frame)][1:]
    return np.concatenate(parts, axis=1)


def banner(headline: str, subtitle: str, width: int) -> UInt8[np.ndarray, "bar width 3"]:
    """A bar with the headline on the left and the subtitle, if there is room, on the right."""
    size = _font_px(width // 2)
    bar = Image.new("RGB", (width, 2 * size), BAR_RGB)
    draw = ImageDraw.Draw(bar)
    margin = size // 2
    shown = fitted(headline, size + 1, width - 2 * margin)
    draw.text((margin, size), shown, GOAL_RGB, _font(size + 1), anchor="lm")
    room = width - 3 * margin - int(_font(size + 1).getlength(shown))
    if _font(size - 2).getlength(subtitle) <= room:
        draw.text((width - margin, size), subtitle, LABEL_RGB, _font(size - 2), anchor="rm")
    return np.asarray(bar)


def captioned(frame: UInt8[np.ndarray, "height width 3"], caption: Caption) -> UInt8[np.ndarray, "out_height width 3"]:
    """The picture with its title above and its fields below."""
    width = frame.shape[1]
    size = _font_px(width)
    margin = size // 2
    top = Image.new("RGB", (width, 2 * size - 2), BAR_RGB)
    draw = ImageDraw.Draw(top)
    note_width = int(_font(size).getlength(caption.note)) + margin if caption.note else 0
    title = fitted(caption.title, size, width - 2 * margin - note_width)
    draw.text((margin, size - 1), title, TEXT_RGB, _font(size), anchor="lm")
    if caption.note:
        rgb = GOOD_RGB if caption.note == "arrived" else BAD_RGB
        draw.text((width - margin, size - 1), caption.note, rgb, _font(size), anchor="rm")
    bottom = Image.new("RGB", (width, 3 * size), BAR_RGB)
    draw = ImageDraw.Draw(bottom)
    column = (width - margin) // max(1, len(caption.fields))
    for index, (label, value) in enumerate(caption.fields):
        x = margin + index * column
        draw.text((x, size * 0.85), fitted(label, size - 4, column - 2), LABEL_RGB, _font(size - 4), anchor="lm")
        draw.text((x, size * 2.05), fitted(value, size - 1, column - 2), TEXT_RGB, _font(size - 1), anchor="lm")
    return np.concatenate([np.asarray(top), frame, np.asarray(bottom)])


def with_trail(
    frame: UInt8[np.ndarray, "height width 3"], trail_px: Float[np.ndarray, "n 2"]
) -> UInt8[np.ndarray, "height width 3"]:
    """A copy of the picture with the way gone so far, (column, row) in pixels."""
    image = Image.fromarray(frame)
    line = [(float(x), float(y)) for x, y in trail_px]
    if len(line) > 1:
        ImageDraw.Draw(image).line(line, fill=TRAIL_RGB, width=max(1, frame.shape[1] // 200), joint="curve")
    return np.array(image)


def even(frame: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "even_height even_width 3"]:
    """The frame with its last row or column repeated where its size is odd, which yuv420p does not allow."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else frame


def fitted(text: str, size: int, width_px: int | float) -> str:
    """The text, shortened with dots to fit width_px at a font size in pixels."""
    font = _font(size)
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "...") > width_px:
        text = text[:-1]
    return text + "..." if text else ""


def _font_px(panel_width: int) -> int:
    return int(np.clip(panel_width / 30, 10, 40))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=max(6, size))

"""Figures without a window, for every picture with axes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def figure_file(path: Path, size: tuple[float, float], gap: float = 0.02, dpi: int = 110) -> Iterator[Figure]:
    """A matplotlib figure, written to `path` as a PNG at the end, whole, or not at all.

    size: width and height (inches); gap: between rows of panels, as a share of their height. matplotlib is imported
    here, since few commands draw and it takes its time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(hspace=gap))
    FigureCanvasAgg(figure)
    yield figure
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format="png")
    write_atomic(path, picture.getvalue())

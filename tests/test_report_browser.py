"""The report in headless Chromium, where one is installed: it fits a phone, runs its script and plays its video."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recorded_runs import write_run

from metarl.cli import main

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
)
PHONE, DESKTOP = (390, 844), (1280, 900)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (Debian: apt-get install chromium)")

# The page in a frame as wide as a phone; what is measured in it becomes the text of the outer page.
FRAME = """<!DOCTYPE html><body style="margin:0"><iframe id="frame" width="{width}" height="{height}" style="border:0"
srcdoc="{page}"></iframe><pre id="measured"></pre><script>
frame.onload = () => {{  // which waits for the video's first picture
  const inner = frame.contentDocument, root = inner.documentElement, video = inner.querySelector("video");
  const small = [...inner.querySelectorAll("figure > svg .tick")].map((t) => t.getBoundingClientRect().height);
  const beyond = (e) => e.getBoundingClientRect().right > {width} + 1 && !e.closest(".scroll");
  const wide = [...inner.querySelectorAll("main *:not(svg *)")].filter(beyond).map((e) => e.tagName);
  measured.textContent = JSON.stringify({{ width: root.scrollWidth, height: root.scrollHeight, wide, video: video.src,
    seconds: video.duration, error: video.error && video.error.message, tick: Math.min(...small) }});
}};
</script>"""


def browse(target: Path, scratch: Path, *options: str) -> tuple[str, str]:
    """Open a file in a browser without a screen; its standard output and error.

    The output goes to files and the browser's helpers die with it: one that hangs would keep a pipe open.
    """
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={scratch / 'profile'}", *options, target.as_uri()]
    out, err = scratch / "out.txt", scratch / "err.txt"
    with open(out, "wb") as out_file, open(err, "wb") as err_file:
        process = subprocess.Popen(command, stdout=out_file, stderr=err_file, start_new_session=True)
        try:
            assert process.wait() == 0, err.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return out.read_text(), err.read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    run = write_run(folder / ("a-run-with-quite-a-long-name-" * 4), filmed=True)
    write_run(folder / "other", seed=1)
    assert main(["report", str(run), str(folder / "other"), "--out", str(folder / "page.html")]) == 0
    return folder / "page.html"


def test_it_fits_a_phone_and_plays_its_video(page: Path, tmp_path: Path) -> None:
    frame = tmp_path / "frame.html"
    width, height = PHONE
    frame.write_text(FRAME.format(width=width, height=height, page=html.escape(page.read_text())))
    out, err = browse(frame, tmp_path, "--dump-dom", f"--window-size={width},{height}")
    found = re.search(r'<pre id="measured">(.*?)</pre>', out, re.DOTALL)
    assert found, err
    measured = json.loads(html.unescape(found[1]))
    assert measured["width"] == width
    assert measured["wide"] == []
    assert measured["tick"] > 8  # px: legible
    assert measured["video"].startswith("blob:")
    assert measured["error"] is None
    assert measured["seconds"] == pytest.approx(0.2, abs=0.06)
    assert "CONSOLE" not in err, err


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_paints_in_light_and_dark(page: Path, tmp_path: Path, size: tuple[int, int], dark: bool) -> None:
    shot = tmp_path / "shot.png"
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    _, err = browse(page, tmp_path, f"--screenshot={shot}", f"--window-size={size[0]},{size[1]}", *theme)
    assert "CONSOLE" not in err, err
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("L"), dtype=float)
    assert (pixels[2, 2] < 60) == dark  # the ground
    assert len(np.unique(pixels)) > 50
    assert pixels.std() > 10

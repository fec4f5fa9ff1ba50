"""`metarl report RUN...`: runs as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.commands.checks import check_writable
from metarl.commands.parsing import parse_args
from metarl.report import report_page
from metarl.report.clips import read_clips
from metarl.report.run_record import read_runs
from metarl.runs import json_text, write_atomic

OutPath = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: RUN/report.html; report.html for several runs)"),
]


@dataclass(frozen=True)
class Args:
    """Write one HTML page on one or several runs: curves, videos, returns on held-out tasks, settings, commands.

    It needs nothing beside itself and no network, on a phone or a desktop, in light or dark.
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders made by 'metarl train'."""
    out: OutPath = None
    """The page; one that is there already is replaced."""
    video_mb: float = 8.0
    """Largest video to put in, in megabytes; 0 for none."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl report")
    if not args.runs:
        raise ValueError("no run is named; give one or more: metarl report RUN...")
    if not args.video_mb >= 0:
        raise ValueError(f"--video-mb is {args.video_mb}, but must be at least 0")
    if args.out is not None and args.out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out is {args.out}, but must end in .html")
    records = read_runs(args.runs)
    out = args.out or (records[0].path / "report.html" if len(records) == 1 else Path("report.html"))
    check_writable(out.parent)
    clips = {record.label: read_clips(record, args.video_mb) for record in records}
    page = report_page(records, clips).encode()
    try:
        write_atomic(out, page)
    except OSError as error:
        raise OSError(f"cannot write {out}: {error.strerror or error}; choose another with --out") from error
    left_out = [clip.left_out for each in clips.values() for clip in each if clip.left_out]
    if args.json:
        print(json_text({"report": str(out), "bytes": len(page), "videos_left_out": left_out}), end="")
        return 0
    for text in left_out:
        print(f"video {text}")
    print(f"report: {out} ({len(page) / 1e6:.1f} MB)")
    return 0

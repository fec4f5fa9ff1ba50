"""Metrics of a run as JSON lines, CSV and TensorBoard events, one row an iteration."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class MetricsWriter:
    """Appends rows to `metrics.jsonl`, `metrics.csv` and TensorBoard events in a run folder.

    n_rows: rows kept from an earlier part of the run; later ones, written after its last checkpoint, are dropped, so
    that a resumed run's files equal those of an uninterrupted one.
    """

    def __init__(self, folder: Path, n_rows: int = 0) -> None:
        self._jsonl_path, self._csv_path = folder / "metrics.jsonl", folder / "metrics.csv"
        rows = read_metrics(self._jsonl_path)[:n_rows] if self._jsonl_path.exists() else []
        # Open for the life of this object, which closes them.
        self._jsonl = open(self._jsonl_path, "w")  # noqa: SIM115
        self._csv = open(self._csv_path, "w", newline="")  # noqa: SIM115
        self._csv_writer: csv.DictWriter[str] | None = None
        self._board: Any = None
        self._board_folder, self._purge_step = folder / "tensorboard", n_rows
        for row in rows:
            self._write_files(row)

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row; it is on disk when this returns."""
        self._write_files(row)
        if self._board is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # protobuf and tensorboard deprecations that a user cannot act on
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(self._board_folder), purge_step=self._purge_step, flush_secs=10)
        for name, value in row.items():
            if name != "iteration":
                self._board.add_scalar(name, value, int(row["iteration"]))

    def _write_files(self, row: Mapping[str, float]) -> None:
        self._jsonl.write(json.dumps(dict(row)) + "\n")
        self._jsonl.flush()
        if self._csv_writer is None:
            self._csv_writer = csv.DictWriter(self._csv, list(row))
            self._csv_writer.writeheader()
        self._csv_writer.writerow(row)
        self._csv.flush()

    def close(self) -> None:
        """Flush and close the files."""
        self._jsonl.close()
        self._csv.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics.jsonl; a last line cut off by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows

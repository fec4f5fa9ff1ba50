"""Metrics of a run as JSON lines, CSV and TensorBoard events, one row an iteration."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from .event_file import EventFile
from .files import finite, write_atomic


class MetricsWriter:
    """Appends rows to `metrics.jsonl`, `metrics.csv` and TensorBoard events in a run folder.

    n_rows: iterations kept from an earlier part of the run; later rows, written after its last checkpoint, are
    dropped, so that a resumed run's files equal those of an uninterrupted one. The rows that stay are never at risk:
    files are replaced as a whole, then appended to. Raises OSError naming the folder if it cannot be written.
    """

    def __init__(self, folder: Path, n_rows: int = 0) -> None:
        self._folder, self._n_rows = folder, n_rows
        jsonl_path, csv_path = folder / "metrics.jsonl", folder / "metrics.csv"
        kept = []
        if jsonl_path.exists():
            kept = [row for row in read_metrics(jsonl_path) if row["iteration"] < n_rows]
        self._columns = list(kept[0]) if kept else []
        with self._explained():
            write_atomic(jsonl_path, "".join(map(_json_line, kept)))
            write_atomic(csv_path, "".join(self._csv_lines(kept, header=bool(kept))))
            # Open for the life of this object, which closes them.
            self._jsonl = open(jsonl_path, "a")  # noqa: SIM115
            self._csv = open(csv_path, "a", newline="")  # noqa: SIM115
        self._board: EventFile | None = None

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row; it is with the operating system when this returns."""
        header = not self._columns
        self._columns = self._columns or list(row)
        with self._explained():
            self._jsonl.write(_json_line(row))
            self._jsonl.flush()
            self._csv.writelines(self._csv_lines([row], header))
            self._csv.flush()
            if self._board is None:
                self._board = EventFile(self._folder / "tensorboard", self._n_rows)
            for name, value in row.items():
                if name != "iteration":
                    self._board.add(int(row["iteration"]), tag=name, simple_value=float(value))

    def _csv_lines(self, rows: Sequence[Mapping[str, float]], header: bool) -> list[str]:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(finite(dict(row)) for row in rows)
        return text.getvalue().splitlines(keepends=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(f"cannot write metrics in {self._folder}: {error.strerror or error}") from error

    def close(self) -> None:
        """Flush and close the files. OSError if what is left cannot be written."""
        with self._explained(), ExitStack() as stack:  # closes each, even if another fails
            stack.callback(self._jsonl.close)
            stack.callback(self._csv.close)
            if self._board is not None:
                stack.callback(self._board.close)

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics.jsonl; a line that is damaged, as the last one by a crash, is left out. null becomes NaN."""
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("iteration"), int):
            rows.append({name: math.nan if value is None else value for name, value in row.items()})
    return rows


def _json_line(row: Mapping[str, float]) -> str:
    return json.dumps(finite(dict(row)), allow_nan=False) + "\n"

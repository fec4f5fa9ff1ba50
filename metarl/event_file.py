"""TensorBoard's event files, written in the calling thread.

TensorBoard's own writer, and torch's on top of it, leave the writing to a thread: on a full disk that prints a
traceback, and the caller may never hear of it.
"""

from __future__ import annotations

import io
import itertools
import os
import socket
import time
import warnings
from pathlib import Path
from typing import Any

_NUMBER = itertools.count()


class EventFile:
    """A new file of events in a folder, which is made. An event is with the operating system when `add` returns.

    purge_step: events of earlier files from this step on are hidden; None for none. Raises OSError if it cannot be
    written; the events before are then still there.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # protobuf and tensorboard deprecations that a user cannot act on
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._records = Event, Summary, RecordWriter
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads a folder's files in the order of their names.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBER)}"
        # Unbuffered: what is left in a buffer when the disk is full cannot be got rid of.
        self._file = open(folder / name, "xb", buffering=0)  # noqa: SIM115  # open for the life of this object
        try:
            self._write(file_version="brain.Event:2")
            if purge_step is not None:
                self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        except BaseException:
            self._file.close()
            raise

    def add(self, step: int, **value: Any) -> None:
        """One summary value at a step: tag, and simple_value or image."""
        self._write(step=step, summary=self._summary(value=[self._summary.Value(**value)]))

    def close(self) -> None:
        """Close the file; harmless twice."""
        self._file.close()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, **fields: Any) -> None:
        record, start = io.BytesIO(), self._file.tell()
        self._records(record).write(self._event(wall_time=time.time(), **fields).SerializeToString())
        left = record.getbuffer()
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.seek(start)
            self._file.truncate()  # part of a record would hide what comes after it
            raise

"""A run's metrics in Weights & Biases, for those who ask for it. Needs the extra `wandb`."""

from __future__ import annotations

import dataclasses
import os
from types import TracebackType
from typing import Any

from .checkpoint import TrainState
from .config import TrainConfig, config_to_dict
from .runs import RunFolder, write_atomic
from .train import IterationRecord

ID_FILE = "wandb_id.txt"


class WandbLog:
    """Sends each iteration's numbers; a run that is resumed goes on in the same W&B run.

    Login, entity and offline mode are W&B's own: `wandb login`, WANDB_API_KEY, WANDB_ENTITY, WANDB_MODE=offline.
    """

    def __init__(self, project: str) -> None:
        """Raises ValueError if the package is missing, before anything long begins."""
        try:
            import wandb
        except ImportError:
            raise ValueError("wandb is not installed; 'pip install metarl[wandb]' installs it") from None
        self._wandb = wandb
        self._project = project
        self._run: Any = None

    def start(self, config: TrainConfig, state: TrainState, run: RunFolder) -> None:
        """Begin or go on. OSError if W&B refuses, saying how to do without it."""
        id_file = run.path / ID_FILE
        known = id_file.read_text().strip() if id_file.is_file() else None
        try:
            self._run = self._wandb.init(
                project=self._project,
                name=run.path.name,
                id=known,
                # Offline there is nobody to ask for the part before.
                resume="allow" if known and os.environ.get("WANDB_MODE") != "offline" else None,
                dir=run.path,
                config=config_to_dict(config),
                settings=self._wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:  # W&B raises kinds of its own
            said = " ".join(str(error).split())[:300]
            raise OSError(
                f"W&B does not start ({said}); 'wandb login', or WANDB_MODE=offline, or no --log.wandb"
            ) from error
        if known is None:
            write_atomic(id_file, f"{self._run.id}\n")

    def iteration(self, record: IterationRecord) -> None:
        """Send one row; W&B writes it in a process of its own."""
        row = dataclasses.asdict(record)
        self._run.log({name: value for name, value in row.items() if name != "iteration"}, step=row["iteration"])

    def __enter__(self) -> WandbLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)

"""What every process of a run but the first does: compute for its share of the tasks; write nothing, say nothing."""

from __future__ import annotations

import json
from contextlib import closing

from .config import TrainConfig, config_from_dict
from .devices import device_of
from .group import Group
from .interrupts import sigterm_as_interrupt
from .train import first_state, iterations
from .workers import Workers


def assist(group: Group) -> None:
    """Train along with the group's first process, which is in `metarl.train`, with the settings that it sends."""
    order = json.loads(group.receive())
    config = config_from_dict(TrainConfig(), order["config"], "settings of the first process")
    workers = Workers(order["threads"], group)
    with sigterm_as_interrupt(), closing(workers):
        family = config.env.make()
        state = first_state(config, family, None, workers, device_of(order["device"], group))
        with closing(iterations(config, family, state, workers)) as updates:
            for _ in updates:
                pass

"""Goal-parameterised environment families and their batched simulator. Needs numpy, mujoco and gymnasium only.

Names load on first use: `import metarl` registers the Gymnasium ids from here, and must not wait for MuJoCo.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .registry import (
    family_class,
    family_names,
    import_family,
    make_family,
    make_task_family,
    plugin_problems,
    register,
)

if TYPE_CHECKING:
    from .dynamics import task_model
    from .family import Family, Marker, State
    from .gym_env import MetaEnv
    from .gymnasium_family import GymnasiumFamily
    from .sb3_vec_env import MetaSB3VecEnv
    from .simulator import Simulator
    from .spec import EnvSpec
    from .task_family import PROTOCOLS, ProtocolName, RowSimulator, Step, TaskFamily
    from .tasks import (
        ChoiceTasks,
        ContinuousTasks,
        Split,
        TaskDistribution,
        Tasks,
        forward_backward,
        uniform_arc,
        uniform_box,
        uniform_disc,
    )
    from .vec_env import MetaVectorEnv

_MODULE_OF = {
    "PROTOCOLS": "task_family",
    "Family": "family",
    "Marker": "family",
    "ProtocolName": "task_family",
    "State": "family",
    "MetaEnv": "gym_env",
    "GymnasiumFamily": "gymnasium_family",
    "MetaSB3VecEnv": "sb3_vec_env",
    "Simulator": "simulator",
    "Step": "task_family",
    "RowSimulator": "task_family",
    "TaskFamily": "task_family",
    "task_model": "dynamics",
    "EnvSpec": "spec",
    "ChoiceTasks": "tasks",
    "ContinuousTasks": "tasks",
    "Split": "tasks",
    "TaskDistribution": "tasks",
    "Tasks": "tasks",
    "forward_backward": "tasks",
    "uniform_arc": "tasks",
    "uniform_box": "tasks",
    "uniform_disc": "tasks",
    "MetaVectorEnv": "vec_env",
}

__all__ = [
    "PROTOCOLS",
    "ChoiceTasks",
    "ContinuousTasks",
    "EnvSpec",
    "Family",
    "GymnasiumFamily",
    "Marker",
    "MetaEnv",
    "MetaSB3VecEnv",
    "MetaVectorEnv",
    "ProtocolName",
    "RowSimulator",
    "Simulator",
    "Split",
    "State",
    "Step",
    "TaskDistribution",
    "TaskFamily",
    "Tasks",
    "family_class",
    "family_names",
    "forward_backward",
    "import_family",
    "make_family",
    "make_task_family",
    "plugin_problems",
    "register",
    "task_model",
    "uniform_arc",
    "uniform_box",
    "uniform_disc",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

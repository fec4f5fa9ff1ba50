"""Goal-parameterised environment families and their batched simulator. Needs numpy, mujoco and gymnasium only."""

from .family import PROTOCOLS, Family, Marker, ProtocolName, State
from .registry import family_class, family_names, make_family, register
from .simulator import Simulator, Step
from .spec import EnvSpec
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

__all__ = [
    "PROTOCOLS",
    "ChoiceTasks",
    "ContinuousTasks",
    "EnvSpec",
    "Family",
    "Marker",
    "ProtocolName",
    "Simulator",
    "Split",
    "State",
    "Step",
    "TaskDistribution",
    "Tasks",
    "family_class",
    "family_names",
    "forward_backward",
    "make_family",
    "register",
    "uniform_arc",
    "uniform_box",
    "uniform_disc",
]

"""Randomised parameters as the task: how much heavier, more damped, rougher each part of a robot is.

Each parameter of the model is multiplied by base^u, u ~ U[-3, 3] independently: a log-uniform scale. The bases are
those of dennisl88/rand_param_envs (`base.py`, log_scale_limit 3), which PEARL (Rakelly et al. 2019) and ProMP
(Rothfuss et al. 2019) use: 1.5 for masses, inertias and friction, 1.3 for damping. The goal is the vector of exponents
u, so that 0 is the unchanged model to the bit.

Differs, without changing the distribution of the motion of a robot that moves in the x-z plane: one exponent scales a
body's three principal inertias and one a geom's three frictions, where the source draws them separately, since a
planar robot turns about one axis and contacts of dimension 3 read sliding friction only. Parameters that are zero have
none. And, changing it a little: constants that MuJoCo derives from masses follow here (`mj_setConst`), while the source
leaves those of the unchanged model.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from .tasks import ContinuousTasks, uniform_box

LIMIT = 3.0
BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}
_WORDS = {"body_mass": "mass", "body_inertia": "inertia", "dof_damping": "damping", "geom_friction": "friction"}
_OBJECTS = {
    "body_mass": mujoco.mjtObj.mjOBJ_BODY,
    "body_inertia": mujoco.mjtObj.mjOBJ_BODY,
    "dof_damping": mujoco.mjtObj.mjOBJ_JOINT,
    "geom_friction": mujoco.mjtObj.mjOBJ_GEOM,
}


@dataclass(frozen=True)
class RandomParams:
    """Which elements of which fields of a model are scaled, in the order of the goal's components."""

    names: tuple[str, ...]
    """Of each goal component: "torso mass exponent"."""
    elements: tuple[tuple[str, np.ndarray], ...]
    """(field, indices (n,) along its first axis), the goal's components in this order."""

    @classmethod
    def of(cls, model: mujoco.MjModel) -> RandomParams:
        """Every mass, inertia, damping and friction of a model that is not zero."""
        names: list[str] = []
        elements = []
        for field in BASES:
            values = getattr(model, field).reshape(len(getattr(model, field)), -1)
            indices = np.flatnonzero((values != 0).any(axis=1))
            elements.append((field, indices))
            for index in indices.tolist():
                owner = int(model.dof_jntid[index]) if field == "dof_damping" else index
                name = mujoco.mj_id2name(model, _OBJECTS[field], owner) or f"{field.split('_')[0]} {index}"
                names.append(f"{name} {_WORDS[field]} exponent")
        return cls(tuple(names), tuple(elements))

    def tasks(self) -> ContinuousTasks:
        """Exponents uniform in [-3, 3]; the task named "nominal" leaves the model as it is."""
        box = uniform_box([(name, -LIMIT, LIMIT) for name in self.names])
        return ContinuousTasks(
            names=box.names,
            unit_dim=box.unit_dim,
            to_goal=box.to_goal,
            contains=box.contains,
            support=f"each {-LIMIT:g} to {LIMIT:g} (0: unchanged), or 'nominal'",
            cells=box.cells,
            named=(("nominal", (0.0,) * len(self.names)),),
        )

    def fields(self, model: mujoco.MjModel, goal: Float[np.ndarray, "row goal"]) -> dict[str, np.ndarray]:
        """The scaled fields (row, ...) of each row's exponents."""
        fields = {}
        for (field, indices), exponents in zip(self.elements, self._groups(goal), strict=True):
            values = np.repeat(getattr(model, field)[None], len(goal), axis=0)
            scale = BASES[field] ** exponents
            values[:, indices] *= scale.reshape(*scale.shape, *[1] * (values.ndim - 2))
            fields[field] = values
        return fields

    def describe(self, goal: Float[np.ndarray, " goal"]) -> str:
        """Geometric mean of the scales of each kind: "mass x1.21, inertia x0.90, ..."."""
        if not goal.any():
            return "nominal parameters"
        groups = zip(self.elements, self._groups(goal[None]), strict=True)
        return ", ".join(f"{_WORDS[field]} x{BASES[field] ** exponents.mean():.2f}" for (field, _), exponents in groups)

    def _groups(self, goal: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([len(indices) for _, indices in self.elements])
        return np.split(goal, ends[:-1], axis=1)

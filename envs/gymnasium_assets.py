"""Gymnasium's own robot models, read from the installed package, so that physics is theirs by construction."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import mujoco


def load_model_spec(file_name: str) -> mujoco.MjSpec:
    """The MuJoCo model Gymnasium ships as `file_name`, as an editable spec.

    Raises FileNotFoundError naming the file and Gymnasium's version when that Gymnasium does not have it.
    """
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file_name
    if not path.is_file():
        raise FileNotFoundError(
            f"Gymnasium {gymnasium.__version__} has no model {file_name} at {path}; "
            "install a supported one: pip install 'gymnasium[mujoco]>=1.3,<2'"
        )
    return mujoco.MjSpec.from_file(str(path))


def add_centre_of_mass_velocity(spec: mujoco.MjSpec, body: str) -> None:
    """Add a sensor for the velocity of a body's subtree centre of mass (m/s, world frame).

    The sensor is how `mujoco.batch` is asked to run `mj_subtreeVel`.
    """
    spec.add_sensor(
        name="com_velocity",
        type=mujoco.mjtSensor.mjSENS_SUBTREELINVEL,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        objname=body,
    )

"""Gymnasium ids of the environment families: `half-cheetah-vel` is `metarl/HalfCheetahVel-v0`.

`import metarl` registers the built-in families; `metarl.envs.register` adds a user's. Entry points are strings, so
that neither MuJoCo nor anything else heavy is imported before an environment is made.
"""

from __future__ import annotations

import gymnasium

NAMESPACE = "metarl"


def gym_id(name: str) -> str:
    """Gymnasium id of a family: "ant-dir-2d" is "metarl/AntDir2D-v0"."""
    words = (word.upper() if word[0].isdigit() else word.capitalize() for word in name.split("-"))
    return f"{NAMESPACE}/{''.join(words)}-v0"


def register_with_gymnasium(name: str) -> None:
    """Let `gymnasium.make` and `gymnasium.make_vec` build a family; again for the same name is harmless.

    There is no `max_episode_steps`: the environments truncate at the family's horizon themselves, since knowing it here
    would take importing the family. `gymnasium.make(..., horizon=500)` changes it.
    """
    if gym_id(name) not in gymnasium.registry:
        gymnasium.register(
            id=gym_id(name),
            entry_point="metarl.envs.gym_env:MetaEnv",
            vector_entry_point="metarl.envs.vec_env:MetaVectorEnv",
            kwargs={"name": name},
        )

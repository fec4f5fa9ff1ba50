"""Learning to learn: meta-train a policy on a family of tasks, adapt it to a new goal with one gradient step.

Importing it registers the environments with Gymnasium (`gymnasium.make("metarl/HalfCheetahVel-v0")`) and loads
neither torch nor MuJoCo.
"""

from __future__ import annotations

import importlib.metadata

from metarl.envs.registry import register_builtin_families

__version__ = importlib.metadata.version("metarl")

register_builtin_families()

"""Learning to learn: meta-train a policy on a family of tasks, adapt it to a new goal with one gradient step.

Importing it registers the environments with Gymnasium (`gymnasium.make("metarl/HalfCheetahVel-v0")`) and loads
neither torch nor MuJoCo.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

from metarl.envs.registry import register_builtin_families

if TYPE_CHECKING:
    from metarl.saved_policy import SavedPolicy, load_policy

__all__ = ["SavedPolicy", "__version__", "load_policy"]

__version__ = importlib.metadata.version("metarl")

register_builtin_families()


def __getattr__(name: str) -> Any:
    """`load_policy` and `SavedPolicy` on first use, since they import torch."""
    if name in ("SavedPolicy", "load_policy"):
        from metarl import saved_policy

        return getattr(saved_policy, name)
    raise AttributeError(f"module 'metarl' has no attribute {name!r}")

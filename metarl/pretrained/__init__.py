"""Trained initialisations that ship with the package, each a policy folder ENV-PROTOCOL.

A folder holds model.safetensors and config.json: the `policy` folder of a finished run, at most MAX_BYTES in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metarl.envs import ProtocolName, family_class
from metarl.runs import read_json

FOLDER = Path(__file__).parent
MAX_BYTES = 200_000


@dataclass(frozen=True)
class Pretrained:
    """One of them."""

    env: str
    protocol: str
    path: Path
    """Its policy folder."""


def pretrained_policies() -> list[Pretrained]:
    """All that ship, sorted by name. ValueError names a damaged one."""
    found = []
    for config in sorted(FOLDER.glob("*/config.json")):
        record = read_json(config)
        try:
            found.append(Pretrained(record["env"]["name"], record["env"]["protocol"], config.parent))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{config} is damaged: it does not say which environment; install metarl again") from error
    return found


def pretrained_folder(env: str, protocol: ProtocolName | None = None) -> Path:
    """The policy folder of an environment's initialisation; without a protocol, modern if that ships, else another.

    ValueError for an unknown environment (with close matches) and for one without (naming those that have one).
    """
    family_class(env)
    policies = pretrained_policies()
    fitting = [p for p in policies if p.env == env and protocol in (None, p.protocol)]
    if fitting:
        return min(fitting, key=lambda p: p.protocol != "modern").path
    wanted = env if protocol is None else f"{env} ({protocol})"
    there_are = ", ".join(f"{p.env} ({p.protocol})" for p in policies)
    hint = f"there are: {there_are}" if policies else "none ship with this version"
    raise ValueError(f"no pretrained policy of {wanted} ships with metarl; {hint}; 'metarl train {env}' trains one")

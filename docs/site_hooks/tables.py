"""Tables of the site from what was recorded: the README's generated blocks, and the peers' benchmark."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = re.compile(r"<!-- README: ([\w ]+) -->")
PEERS = "<!-- table: supervised peers -->"


def with_tables(markdown: str) -> str:
    """A page with its markers replaced. ValueError, which ends the build, for a block that the README has not."""
    return README.sub(lambda m: readme_block(m[1]), markdown.replace(PEERS, _peers() if PEERS in markdown else ""))


def readme_block(name: str) -> str:
    """What stands between the markers of a block that `python -m metarl.results readme` makes."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"<!-- {name}: made by .*?-->\n(.*?)\n<!-- end of {name} -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"README.md has no block {name!r}; its blocks: {re.findall(r'<!-- end of (.*?) -->', text)}")
    return found[1]


def _peers() -> str:
    record = json.loads((ROOT / "results" / "supervised_peers.json").read_text())
    ways = [way for way in record["works"][0]["ratio"] if way != "ours"]
    rows = [
        "| one meta-gradient | metarl | " + " | ".join(ways) + " |",
        "|---|---|" + "---|" * len(ways),
        *(
            f"| {work['work']} | {work['median_ms']['ours']:.1f} ms | "
            + " | ".join(f"{work['ratio'][way]:.2f} x" for way in ways)
            + " |"
            for work in record["works"]
        ),
    ]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return "\n".join([*rows, "", f"{record['what']}. {record['machine']}. Versions: {versions}."])

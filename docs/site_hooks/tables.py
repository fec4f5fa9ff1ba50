"""Tables of the site from what was recorded: the README's generated blocks, and the peers' benchmark."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = re.compile(r"<!-- README: ([\w ]+) -->")
PEERS = "<!-- table: supervised peers -->"


def with_tables(markdown: str) -> str:
    """A page with its markers replaced. ValueError, which ends the build, for a block that the README has not."""
    peers = _block(ROOT / "docs" / "fewshot.md", "speed") if PEERS in markdown else ""
    return README.sub(lambda m: readme_block(m[1]), markdown.replace(PEERS, peers))


def readme_block(name: str) -> str:
    """What stands between the markers of a block of README.md that `python -m metarl.results readme` makes."""
    return _block(ROOT / "README.md", name)


def _block(page: Path, name: str) -> str:
    text = page.read_text()
    found = re.search(rf"<!-- {name}: made by .*?-->\n(.*?)\n<!-- end of {name} -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{page.name} has no block {name!r}; its blocks: {re.findall(r'<!-- end of (.*?) -->', text)}")
    return found[1]

"""Hooks of the site: formulas as MathML, recorded tables, and pages of the example files.

MathML is what browsers draw themselves: no script, no font from elsewhere.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from tables import with_tables

ROOT = Path(__file__).resolve().parents[2]
# What pymdownx.arithmatex leaves behind: \(...\) in the text, \[...\] as a block of its own.
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
EXAMPLE = re.compile(r"\]\(\.\./examples/([\w./-]+)\)")


def on_page_content(content: str, **_: Any) -> str:
    """TeX to MathML. ValueError, which ends the build, for TeX that cannot be converted."""
    return INLINE.sub(lambda m: _mathml(m[1], "inline"), BLOCK.sub(lambda m: _mathml(m[1], "block"), content))


def on_files(files: Files, config: Any) -> Files:
    """One page more for each of the examples."""
    for path in sorted((ROOT / "examples").iterdir()):
        if path.suffix == ".py" or (path.is_dir() and not path.name.startswith((".", "_"))):
            files.append(File.generated(config, f"examples/{path.stem}.md", content=_listing(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Recorded tables; links to example files, which GitHub shows as they are, lead to their pages."""
    return EXAMPLE.sub(lambda m: f"](examples/{Path(m[1].rstrip('/')).stem}.md)", with_tables(markdown))


def on_config(config: Any) -> Any:
    """Leave pages out of the navigation that are not there."""
    config.nav = _existing(config.nav, Path(config.docs_dir))
    return config


def _existing(nav: list[Any], docs: Path) -> list[Any]:
    kept = []
    for entry in nav:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            kept.append({title: _existing(target, docs)})
        elif (docs / target).is_file():
            kept.append(entry)
    return kept


def _mathml(tex: str, display: str) -> str:
    return convert(html.unescape(tex.strip()), display=display)


def _listing(path: Path) -> str:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".py", ".toml", ".md"))
    text = [f"# {path.name}"]
    for file in files:
        name = file.relative_to(ROOT)
        language = {".py": "python", ".toml": "toml"}.get(file.suffix, "text")
        text.append(f'```{language} title="{name}"\n{file.read_text()}```')
    return "\n\n".join(text) + "\n"

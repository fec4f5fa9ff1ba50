"""Speed of MAML's meta-gradient beside the packages users would pick: the peers in an environment of their own.

python benchmarks/supervised_peers.py results/supervised_peers.json

Makes the virtual environment build/peers over the one this is run with: torchopt and higher are installed there from
their packages, torch and metarl are those at hand; then measures all in one run (peer_meta_gradients.py). learn2learn
is not among them: its source package does not build on Python 3.11.
"""

from __future__ import annotations

import site
import subprocess
import sys
import venv
from pathlib import Path

HOME = Path("build/peers")
PACKAGES = ("torchopt==0.7.3", "higher==0.2.1")


def make_environment() -> Path:
    """The Python of build/peers, which is made anew unless it holds the packages already."""
    python, installed = HOME / "bin" / "python", HOME / "installed"
    if not installed.exists():
        venv.create(HOME, clear=True, with_pip=True)
        (own,) = HOME.glob("lib/python*/site-packages")
        # pip then finds torch and metarl where this interpreter does, editable installs too.
        lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
        (own / "started_from.pth").write_text("\n".join(lines) + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        installed.write_text("\n".join(PACKAGES) + "\n")
    return python


if __name__ == "__main__":
    script = Path(__file__).with_name("peer_meta_gradients.py")
    sys.exit(subprocess.run([make_environment(), script, *sys.argv[1:]]).returncode)

"""Few-shot learning runs where MuJoCo cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
for name in ("mujoco", "mujoco.batch", "gymnasium.envs.mujoco"):
    sys.modules[name] = None
import importlib, pkgutil
import torch
import metarl.supervised
modules = [m.name for m in pkgutil.iter_modules(metarl.supervised.__path__)]
for name in modules:
    importlib.import_module(f"metarl.supervised.{name}")
from metarl.supervised.image_set import ImageSet
from metarl.supervised.sampling import EpisodeSpec, ImageSampler
from metarl.supervised.sinusoid import SinusoidSampler
generator = torch.Generator().manual_seed(0)
images = torch.zeros(20, 1, 4, 4, dtype=torch.uint8)
names = tuple("abcde")
rows = torch.arange(5) * 4
image_set = ImageSet(images, rows, torch.full((5,), 4), names, names)
print(ImageSampler(image_set, EpisodeSpec(5, 1, 1))(3, generator).support.x.shape[0])
print(SinusoidSampler(5, 5)(3, generator).query.y.shape[0])
print(len(modules) > 5)
from metarl.cli import main
small = ["--iterations", "1", "--meta-batch", "2", "--validation-episodes", "2", "--quiet"]
print(main(["regression", "train", "sinusoid", *small, "--out", sys.argv[1]]))
print(main(["regression", "evaluate", sys.argv[1], "--episodes", "2", "--json", "--no-pictures"]) == 0)
assert sys.modules["mujoco"] is None and "metarl.envs.simulator" not in sys.modules
"""


def test_every_module_imports_and_the_commands_run_without_mujoco(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert (words[:5], words[-1]) == (["3", "3", "True", str(run), "0"], "True"), done.stderr
    assert (run / "evaluation.json").is_file()

"""Few-shot learning runs where MuJoCo cannot be imported."""

from __future__ import annotations

import subprocess
import sys

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
assert sys.modules["mujoco"] is None and "metarl.envs.simulator" not in sys.modules
"""


def test_every_module_imports_and_tasks_are_drawn_without_mujoco() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["3", "3", "True"]), done.stderr

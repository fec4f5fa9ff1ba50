"""The learner computes where its inputs are."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import fails, small_config
from torch import Tensor

from metarl.devices import device_of
from metarl.group import Group
from metarl.losses import AutogradSurrogate, TaskBatch, linearise_with
from metarl.metrics import read_metrics
from metarl.policies import GaussianMLP, ObsNormaliser
from metarl.policies.gaussian_mlp import Activation
from metarl.returns import centred, generalised_advantages, standardised
from metarl.rollout import Rollout
from metarl.train import train

META = torch.device("meta")
"""No numbers, only shapes; an operation that mixes it with the CPU fails, as on a GPU."""


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("clip", [float("inf"), 0.2])
def test_derivatives_stay_on_the_device(activation: Activation, clip: float) -> None:
    scaling = ObsNormaliser((0.0,) * 3, (1.0,) * 3)
    policy = GaussianMLP(3, 2, (4, 4), activation, normaliser=scaling, context_dim=2)
    n, size = 5, policy.layout.size

    def some(*shape: int) -> Tensor:
        return torch.empty(shape, device=META)

    batch = TaskBatch(some(n, 3), some(n, 2), some(n), some(n), some(n, 2), some(2), some(n), some())
    params = some(size)
    for linearise in (linearise_with(policy), lambda *args: AutogradSurrogate(policy, *args)):
        at = linearise(params, batch.subset(torch.arange(4, device=META)), "ratio", clip)
        assert at.gradient(keep=True).device == META
        at = linearise(params, batch, "log_prob", clip)
        results = (at.gradient(keep=True), at.hvp(params), at.fisher_vector_product(params, batch.row_weight))
        assert {x.device for x in (*results, at.loss, at.kl(batch), at.kl_gradient(batch))} == {META}


def test_advantages_stay_on_the_device() -> None:
    reward, valid = torch.empty(2, 5, device=META), torch.empty(2, 5, dtype=torch.bool, device=META)
    advantage = generalised_advantages(reward, reward, valid, 0.9, 0.9)
    assert {x.device for x in (advantage, centred(advantage, valid), standardised(advantage, valid))} == {META}


def test_a_rollout_moves_as_a_whole() -> None:
    x = torch.zeros(1, 1, 1, 1)
    flags = torch.zeros(1, 1, 1, dtype=torch.bool)
    rollout = Rollout(x, x, x, x[0, 0], x[0], flags, flags[0], 3).to(META)
    assert rollout.n_diverged == 3
    counts = {"n_diverged", "n_guess"}
    assert {getattr(rollout, f.name).device for f in fields(rollout) if f.name not in counts} == {META}


def test_devices_are_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert device_of("cpu") == torch.device("cpu")
    said = fails(capsys, "train", "point-nav", "--device", "gpu", "--out", tmp_path / "run")
    assert "unknown device 'gpu'; allowed: cpu, cuda, cuda:0, cuda:1" in said
    if not torch.cuda.is_available():
        said = fails(capsys, "train", "point-nav", "--device", "cuda", "--out", tmp_path / "run")
        assert "--device cuda finds no GPU that torch can use" in said
        assert "use --device cpu" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU that torch can use")
def test_a_gpu_learns_what_the_cpu_learns(tmp_path: Path) -> None:
    """To float tolerance: one iteration, since trajectories amplify the last bits."""
    config = replace(small_config(iterations=1), meta_batch=4, trajectories=4)
    runs = [train(config, tmp_path / name, n_threads=1, device=device_of(name)) for name in ("cpu", "cuda")]
    thetas = [torch.load(run.checkpoint, weights_only=True)["theta"] for run in runs]
    torch.testing.assert_close(*thetas, rtol=1e-3, atol=1e-4)
    rows = [read_metrics(run.path / "metrics.jsonl")[0] for run in runs]
    for name in ("return_before", "return_after", "kl", "gradient_norm", "loss_after"):
        assert np.isclose(rows[0][name], rows[1][name], rtol=1e-2, atol=1e-4), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU that torch can use")
def test_one_gpu_is_not_for_two_processes() -> None:
    class Two(Group):
        local_rank, local_size = 1, 2

    with pytest.raises(ValueError, match="one GPU for 2 processes; give --device cuda"):
        device_of("cuda:0", Two())

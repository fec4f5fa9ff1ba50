"""The plain loop that speed is measured against computes what MAML computes; the benchmark reports pairs."""

import dataclasses
import json

import pytest
import torch
from small_runs import call

import metarl.supervised.speed
from metarl.supervised.conv4 import Conv4
from metarl.supervised.episodes import Episodes, Examples
from metarl.supervised.maml import MAML
from metarl.supervised.networks import MLP
from metarl.supervised.plain_loop import loop_meta_gradient
from metarl.supervised.sinusoid import SinusoidSampler
from metarl.supervised.speed import Work, compare, works

NETWORKS = {
    "sinusoid": (MLP(1, 2, (6, 5), init_std=0.5), (1,)),
    "mlp with batch norm": (MLP(6, 3, (6, 5), norm=True, scale=True, init_std=0.5), (6,)),
    "stride": (Conv4((1, 16, 16), 3, filters=3), (1, 16, 16)),
    "pool": (Conv4((2, 16, 16), 3, filters=3, pool=True, spatial_mean=False), (2, 16, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("steps", [1, 3])
def test_the_task_axis_computes_what_a_plain_loop_of_autograd_does(name, steps):
    network, shape = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)
    xs = [torch.rand(4, 6, *shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    if name == "sinusoid":
        ys = [torch.randn(4, 6, 2, generator=generator, dtype=torch.float64) for _ in range(2)]
    else:
        ys = [torch.arange(3).repeat(2).expand(4, -1)] * 2
    episodes = Episodes(Examples(xs[0], ys[0]), Examples(xs[1], ys[1]))
    maml = MAML(network, step_size=0.1, steps=steps)
    theta = network.init(generator).double()
    theta = theta + 0.1 * torch.randn(theta.shape, generator=generator, dtype=torch.float64)
    ours = maml.meta_gradient({"theta": theta}, episodes, 0.0).gradient["theta"]
    torch.testing.assert_close(ours, loop_meta_gradient(network, theta, episodes, 0.1, steps), rtol=1e-8, atol=1e-10)


def test_each_work_is_the_papers():
    assert list(works()) == [
        "sinusoid, 25 tasks, 10-shot, 1 step",
        "conv4 stride 2, 32 tasks, 5-way 1-shot, 1 step",
        "sinusoid, 25 tasks, 10-shot, 5 steps",
        "conv4 stride 2, 32 tasks, 5-way 1-shot, 5 steps",
    ]


def test_times_are_of_pairs():
    work = works()["sinusoid, 25 tasks, 10-shot, 1 step"]
    times = compare({"ours": work.ours(), "loop": work.loop()}, repeats=2, seconds=0.01)
    assert times.ratio["ours"] == 1
    assert times.ratio["loop"] > 2  # measured: more than 5
    assert json.loads(json.dumps(dataclasses.asdict(times)))["median_ms"]["ours"] > 0


def test_the_command_prints_one_json_object_or_a_table(monkeypatch, capsys):
    generator = torch.Generator().manual_seed(0)
    tiny = Work(MLP(1, 1, (4,)), SinusoidSampler(2, 2)(2, generator), 1, 0.01)
    monkeypatch.setattr(metarl.supervised.speed, "works", lambda: {"tiny": tiny})
    code, out, err = call(capsys, "bench", "supervised", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["tiny"]["ratio"]["ours"] == 1
    code, out, err = call(capsys, "bench", "supervised")
    assert (code, err) == (0, "")
    assert "loop / ours" in out
    assert "tiny" in out

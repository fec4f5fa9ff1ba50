"""Meta-training that starts from another policy: Stable-Baselines3's PPO, a baseline, an initialisation."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import SMALL, assert_same_run, call, fails, small_config, train_small
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from metarl import SavedPolicy, load_policy
from metarl.checkpoint import load_checkpoint
from metarl.config import EnvConfig
from metarl.envs import MetaSB3VecEnv
from metarl.export import export_policy
from metarl.policies.sb3 import gaussian_mlp_from_sb3
from metarl.policies.sb3_zip import gaussian_mlp_from_zip, read_vec_normalize
from metarl.results import result_record
from metarl.runs import open_run
from metarl.start import load_start


def saved_ppo(folder: Path, activation: type[nn.Module] = nn.Tanh, **options: Any) -> tuple[PPO, VecNormalize, Path]:
    """A PPO of point navigation and its scaling, both after some training, saved as SB3's users do."""
    env = VecNormalize(MetaSB3VecEnv("point-nav", 4, horizon=5), clip_obs=3.0)
    kwargs = {"net_arch": {"pi": [8], "vf": [8]}, "activation_fn": activation}
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=32, policy_kwargs=kwargs, seed=0, device="cpu", **options)
    model.learn(64)
    folder.mkdir(exist_ok=True)
    model.save(folder / "ppo.zip")
    env.save(str(folder / "scaling.pkl"))
    return model, env, folder / "ppo.zip"


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_a_zip_read_as_data_is_what_stable_baselines3_loads(activation: type[nn.Module], tmp_path: Path) -> None:
    model, env, path = saved_ppo(tmp_path, activation)
    network, theta = gaussian_mlp_from_zip(path, tmp_path / "scaling.pkl")
    expected_network, expected = gaussian_mlp_from_sb3(model.policy, env)
    assert network == expected_network
    assert torch.equal(theta, expected)
    network, theta = gaussian_mlp_from_zip(path)
    assert network.normaliser is None
    assert torch.equal(theta, gaussian_mlp_from_sb3(model.policy)[1])


def test_default_settings_of_ppo(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", MetaSB3VecEnv("point-nav", 1), device="cpu")
    model.save(tmp_path / "plain.zip")
    network, theta = gaussian_mlp_from_zip(tmp_path / "plain.zip")
    assert (network.hidden_sizes, network.activation) == ((64, 64), "tanh")
    assert torch.equal(theta, gaussian_mlp_from_sb3(model.policy)[1])
    off = VecNormalize(MetaSB3VecEnv("point-nav", 1), norm_obs=False)
    off.save(str(tmp_path / "off.pkl"))
    assert read_vec_normalize(tmp_path / "off.pkl") is None


def test_an_exported_policy_comes_back(tmp_path: Path) -> None:
    policy = load_policy(train_small(tmp_path / "run"))
    written = export_policy(policy, "sb3", tmp_path / "p.zip")
    network, theta = gaussian_mlp_from_zip(written.model)
    assert torch.equal(theta, policy.theta)
    assert network.normaliser == policy.network.normaliser
    beside = export_policy(policy, "sb3", tmp_path / "q.zip", scaling="beside")
    network, theta = gaussian_mlp_from_zip(beside.model, beside.scaling)
    assert torch.equal(theta, policy.theta)
    np.testing.assert_allclose(network.normaliser.std, policy.network.normaliser.std, rtol=1e-6)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    """Every place where an SB3 zip and a VecNormalize pickle hold code is taken by code."""
    import base64

    mark = tmp_path / "executed"
    evil = pickle.dumps(Evil(mark))
    _, _, path = saved_ppo(tmp_path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(content["data"])
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = base64.b64encode(evil).decode()
    hostile = tmp_path / "hostile.zip"
    with zipfile.ZipFile(hostile, "w") as archive:
        for name, value in {**content, "data": json.dumps(data)}.items():
            archive.writestr(name, value)
    assert torch.equal(gaussian_mlp_from_zip(hostile)[1], gaussian_mlp_from_zip(path)[1])
    buffer = io.BytesIO()
    torch.save({"action_net.weight": Evil(mark)}, buffer)
    with zipfile.ZipFile(hostile, "w") as archive:
        archive.writestr("data", content["data"])
        archive.writestr("policy.pth", buffer.getvalue())
    with pytest.raises(ValueError, match="damaged or no model"):
        gaussian_mlp_from_zip(hostile)
    (tmp_path / "scaling.pkl").write_bytes(evil)
    with pytest.raises(ValueError, match="no VecNormalize"):
        gaussian_mlp_from_zip(path, tmp_path / "scaling.pkl")
    assert not mark.exists()
    pickle.loads(evil)
    assert mark.exists(), "the planted code does not work"


def test_other_files_and_policies_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="damaged or no model"):
        gaussian_mlp_from_zip(tmp_path / "text.zip")
    SAC("MlpPolicy", MetaSB3VecEnv("point-nav", 1), device="cpu", buffer_size=10).save(tmp_path / "sac.zip")
    with pytest.raises(ValueError, match="no PPO, A2C or TRPO"):
        gaussian_mlp_from_zip(tmp_path / "sac.zip")
    with pytest.raises(ValueError, match="activation is ELU; needed is Tanh or ReLU"):
        gaussian_mlp_from_zip(saved_ppo(tmp_path / "elu", nn.ELU)[2])
    with pytest.raises(ValueError, match="depends on the state"):
        gaussian_mlp_from_zip(saved_ppo(tmp_path / "sde", use_sde=True)[2])


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> tuple[PPO, VecNormalize, Path]:
    return saved_ppo(tmp_path_factory.mktemp("ppo"))


def test_training_starts_from_it_and_resumes_bit_for_bit(
    ppo: tuple[PPO, VecNormalize, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, env, path = ppo
    source = tmp_path / "source"
    shutil.copytree(path.parent, source)
    start = ("--init", source / "ppo.zip", "--init-scaling", source / "scaling.pkl")
    whole = train_small(tmp_path / "whole", *start, "--iterations", "4")
    part = train_small(tmp_path / "part", *start, "--iterations", "2")
    shutil.rmtree(source)  # a run that has begun does not need it
    assert call(capsys, "train", "--resume", part, "--iterations", "4", "--quiet")[0] == 0
    assert_same_run(whole, part)
    config = json.loads((whole / "config.json").read_text())["config"]
    assert config["init"].endswith("ppo.zip")
    assert len(config["init_sha256"]) == 64
    # The zeroth checkpoint is the PPO.
    network, theta = gaussian_mlp_from_sb3(model.policy, env)
    first = load_policy(train_small(tmp_path / "none", "--init", tmp_path / "whole", "--iterations", "1"))
    assert first.network.normaliser == network.normaliser
    assert not torch.equal(theta, first.theta)


def test_before_the_first_iteration_the_policy_is_the_given_one(
    ppo: tuple[PPO, VecNormalize, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in its first iteration, the run has a checkpoint, whose policy acts as the PPO does."""
    model, env, path = ppo

    had_checkpoint = []

    def interrupt(*_: object) -> None:
        had_checkpoint.append((tmp_path / "run" / "checkpoint.pt").exists())
        raise KeyboardInterrupt

    monkeypatch.setattr("metarl.train.meta_iteration", interrupt)
    from metarl.cli import main

    argv = ["train", "point-nav", *SMALL, "--init", path, "--init-scaling", path.parent / "scaling.pkl"]
    assert main([str(a) for a in [*argv, "--out", tmp_path / "run"]]) == 130
    assert had_checkpoint == [True], "a kill in the first iteration would lose the start"
    network, theta = gaussian_mlp_from_sb3(model.policy, env)
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt", "point-nav", "modern", network.layout.size)
    assert state.iteration == 0
    assert torch.equal(state.meta.theta, theta)
    obs = np.random.default_rng(0).normal(size=(100, 2))
    expected, _ = model.predict(env.normalize_obs(obs), deterministic=True)
    np.testing.assert_allclose(load_policy(tmp_path / "run").act(obs), expected, rtol=0, atol=1e-6)


def test_a_policy_folder_of_ours_is_a_start(tmp_path: Path) -> None:
    one = train_small(tmp_path / "one")
    two = train_small(tmp_path / "two", "--init", one / "policy", "--iterations", "1")
    three = train_small(tmp_path / "three", "--init", one, "--iterations", "1")
    assert torch.equal(load_policy(two).theta, load_policy(three).theta)
    assert load_policy(two).network.normaliser == load_policy(one).network.normaliser


def test_an_oracle_is_a_start_whose_goal_becomes_the_context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = tmp_path / "oracle"
    ppo = ("--ppo.envs", "4", "--ppo.minibatches", "2", "--ppo.hidden-sizes", "8")
    assert call(capsys, "baseline", "oracle", "point-nav", "--steps", "40", "--out", oracle, "--quiet", *ppo)[0] == 0
    start = ("--init", oracle, "--policy.normalise-obs", "--iterations", "1")
    assert "--policy.context-dim 2" in fails(capsys, "train", "point-nav", *SMALL, "--out", tmp_path / "no", *start)
    run = train_small(tmp_path / "run", *start, "--policy.context-dim", "2", "--policy.context-scale", "3")
    network = load_policy(run).network
    assert (network.obs_dim, network.context_dim, network.context_scale) == (2, 2, 3.0)
    again = train_small(
        tmp_path / "again", "--init", run, *start[2:], *("--policy.context-dim", "2"), "--policy.context-scale", "3"
    )
    assert load_policy(again).network == network
    assert "--policy.context-dim 2" in fails(
        capsys, "train", "point-nav", *SMALL, "--out", tmp_path / "other", "--init", run, "--policy.normalise-obs"
    )


def test_guesses_of_a_start_spread_more_and_its_own_actions_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = tmp_path / "oracle"
    ppo = ("--ppo.envs", "4", "--ppo.minibatches", "2", "--ppo.hidden-sizes", "8", "--ppo.init-std", "0.3")
    assert call(capsys, "baseline", "oracle", "point-nav", "--steps", "40", "--out", oracle, "--quiet", *ppo)[0] == 0
    guessing = ("--policy.normalise-obs", "--policy.context-dim", "2", "--policy.guess-std", "0.7")
    start = ("--init", oracle, "--init-min-std", "0.5", *guessing, "--iterations", "1")
    run = train_small(tmp_path / "run", *start, "--algo.baseline", "by-episode", "--algo.guess-weight", "1")
    config = open_run(run)[1]
    network, theta = load_start(config, config.env.make())
    entries = network.layout.unflatten(theta)
    assert entries["log_std"].exp().max() < 0.4
    torch.testing.assert_close(entries["guess_log_std"].exp(), torch.full((2,), 0.5))
    assert load_policy(run).network.guess_std == 0.7
    assert config.algo.guess_weight == 1.0
    assert call(capsys, "evaluate", run, "--tasks", "2", "--trajectories", "2")[0] == 0
    without = ("--init", run, "--policy.normalise-obs", "--policy.context-dim", "2")
    error = fails(capsys, "train", "point-nav", *SMALL, "--out", tmp_path / "no", *without)
    assert "--policy.guess-std 0.7" in error


def test_a_start_that_is_sure_of_its_actions_is_made_less_so(tmp_path: Path) -> None:
    first = train_small(tmp_path / "first", "--iterations", "1", "--policy.init-std", "0.4")
    config = dataclasses.replace(small_config(), init=str(first))
    own, raised = (
        load_start(dataclasses.replace(config, init_min_std=std), config.env.make())[1] for std in (0.0, 0.5)
    )
    entries = load_policy(first).network.layout.unflatten
    assert entries(own)["log_std"].exp().max() < 0.5
    torch.testing.assert_close(entries(raised)["log_std"].exp(), torch.full((2,), 0.5))
    rest = [name for name in entries(own) if name != "log_std"]
    assert all(torch.equal(entries(own)[name], entries(raised)[name]) for name in rest)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--init", "nowhere.zip"], "nowhere.zip"),
        (["--init-scaling", "s.pkl"], "goes with init"),
        (["--init-min-std", "0.2"], "goes with init"),
        (["--init", "PPO"], "give also --policy.no-normalise-obs"),
        (["--init", "PPO", "--policy.hidden-sizes", "9"], "--policy.hidden-sizes 8 --policy.no-normalise-obs"),
        (["--init", "FOLDER/text.txt"], "damaged or no model"),
    ],
)
def test_what_does_not_fit_says_what_would(
    options: list[str],
    said: str,
    ppo: tuple[PPO, VecNormalize, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.txt").write_text("no policy")
    given = [o.replace("PPO", str(ppo[2])).replace("FOLDER", str(tmp_path)) for o in options]
    error = fails(capsys, "train", "point-nav", *SMALL, "--out", tmp_path / "run", *given)
    assert said in error
    assert not (tmp_path / "run").exists()


def test_another_environment_and_a_changed_start(
    ppo: tuple[PPO, VecNormalize, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = fails(capsys, "train", "half-cheetah-dir", *SMALL, "--out", tmp_path / "c", "--init", ppo[2])
    assert "has 2 observations and 2 actions, but half-cheetah-dir has" in error
    start = tmp_path / "p.zip"
    run = train_small(tmp_path / "run", "--iterations", "1")
    export_policy(load_policy(run), "sb3", start)
    again = train_small(tmp_path / "again", "--iterations", "1", "--init", start)
    (again / "checkpoint.pt").unlink()  # as if it had been killed before its first checkpoint
    config = EnvConfig("point-nav")
    policy = load_policy(run)
    changed = SavedPolicy(config, policy.network, policy.theta + 1, None, None, {})
    export_policy(changed, "sb3", start)
    assert "is not the policy that this run was started with" in fails(
        capsys, "train", "--resume", again, "--iterations", "2"
    )


def test_a_record_names_the_baseline_that_a_run_started_from_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ("--steps", 20, "--ppo.envs", 4, "--ppo.epochs", 1, "--ppo.minibatches", 2, "--env.horizon", 5, "--quiet")
    start = tmp_path / "start"
    baseline = ("baseline", "pretrained", "point-nav", *tiny, "--ppo.hidden-sizes", 8, "--out", start)
    assert call(capsys, *baseline)[0] == 0
    options = ("--policy.normalise-obs", "--policy.hidden-sizes", "8", "--policy.activation", "tanh")
    run = train_small(tmp_path / "run", "--iterations", "1", "--init", start, *options)
    assert call(capsys, "evaluate", run, "--tasks", 2, "--steps", 1)[0] == 0
    assert result_record(run)["start"]["seed"] == 0
    assert call(capsys, *baseline, "--seed", 1, "--replace")[0] == 0
    with pytest.raises(ValueError, match="put that one back"):
        result_record(run)

"""Every registered environment with every preset and protocol: it builds, survives JSON and TOML, and trains."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from small_runs import small_config

from metarl.config import TrainConfig, config_from_dict, config_to_dict
from metarl.envs import ProtocolName, family_class, family_names
from metarl.policies import baseline_features
from metarl.presets import GUIDED_START, PRESETS, PresetName, preset
from metarl.train import initial_state, make_collector, meta_iteration
from metarl.workers import Workers


def toml_text(data: dict[str, Any], table: str = "") -> str:
    """A nested dict of plain values as TOML."""
    lines = [f"{k} = {json.dumps(v)}" for k, v in data.items() if not isinstance(v, dict)]
    text = "\n".join([f"[{table}]"] * bool(table) + lines) + "\n"
    return text + "".join(toml_text(v, k) for k, v in data.items() if isinstance(v, dict))


def test_the_preset_names_are_the_presets() -> None:
    assert set(PRESETS) == set(get_args(PresetName))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("env", family_names())
def test_every_preset_builds_and_survives_json_and_toml(env: str, name: PresetName) -> None:
    if name == "paper" and "finn2017" not in family_class(env).protocols:
        with pytest.raises(ValueError, match=f"{env} has no protocol 'finn2017' .*; use modern"):
            preset(env, name)
    else:
        assert preset(env, name).env.name == env
    for protocol in family_class(env).protocols:
        config = preset(env, name, protocol)
        assert config.env.name == env
        assert protocol == config.env.protocol
        assert config.policy.make(config.env.make()).layout.size > 0
        data = config_to_dict(config)
        assert config_from_dict(TrainConfig(), data) == config
        assert config_from_dict(TrainConfig(), json.loads(json.dumps(data))) == config
        assert config_from_dict(TrainConfig(), tomllib.loads(toml_text(data))) == config


@pytest.mark.parametrize(("env", "protocol"), GUIDED_START)
def test_a_baseline_of_each_episode_has_fewer_features_than_the_episode_has_steps(
    env: str, protocol: ProtocolName
) -> None:
    config = preset(env, "guided", protocol)
    spec = config.env.make().spec
    n_features = baseline_features(torch.zeros(1, spec.obs_dim)).shape[-1]
    assert config.algo.baseline == "ridge" or 4 * n_features < spec.horizon
    assert config.policy.guess_std == 0.0 or config.algo.later_lr_ratio <= 0.25


def test_the_paper_preset_has_the_papers_settings() -> None:
    config = preset("half-cheetah-dir", "paper")
    assert config.env.protocol == "finn2017"
    assert config.policy.hidden_sizes == (100, 100)
    assert (config.policy.activation, config.policy.normalise_obs) == ("relu", False)
    assert (config.algo.inner_lr, config.algo.inner_steps, config.algo.first_order) == (0.1, 1, False)
    assert (config.meta_batch, config.trajectories, config.iterations) == (40, 20, 500)


@pytest.mark.parametrize(
    ("env", "name", "said"),
    [
        ("half-cheeta-dir", "default", "did you mean half-cheetah-dir"),
        ("point-nav", "papre", "did you mean paper"),
        ("point-nav", "xyz", "allowed: default, paper, demo, guided"),
    ],
)
def test_a_wrong_name_gets_the_nearest(env: str, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        preset(env, name)


@pytest.mark.parametrize(
    ("env", "protocol"), [(env, protocol) for env in family_names() for protocol in family_class(env).protocols]
)
def test_every_environment_trains_in_each_of_its_protocols(env: str, protocol: ProtocolName) -> None:
    config = small_config(env, protocol)
    workers = Workers(1)
    family = config.env.make()
    state = initial_state(config, family, workers)
    collector = make_collector(config, family, config.policy.make(family, state.normaliser), workers)
    after, record = meta_iteration(config, collector, state, workers)
    assert after.iteration == 1
    assert np.isfinite([record.return_before, record.return_after, record.loss_before, record.gradient_norm]).all()
    assert 0 < after.env_steps - state.env_steps <= 2 * 2 * 2 * 5
    assert after.meta.theta.isfinite().all()
    assert 0 <= record.kl < 0.1


def test_every_option_of_the_algorithm_trains() -> None:
    workers = Workers(2)
    base = small_config()
    for changes in (
        {"inner_steps": 2},
        {"learn_inner_lr": "scalar"},
        {"learn_inner_lr": "per-parameter", "first_order": True},
        {"surrogate": "ratio", "curvature_fraction": 1.0},
    ):
        config = replace(base, algo=replace(base.algo, **changes), policy=replace(base.policy, activation="relu"))
        family = config.env.make()
        state = initial_state(config, family, workers)
        collector = make_collector(config, family, config.policy.make(family, state.normaliser), workers)
        after, _ = meta_iteration(config, collector, state, workers)
        moved = not bool((after.meta.step_size == state.meta.step_size).all())
        assert moved == ("learn_inner_lr" in changes), changes
    workers.close()

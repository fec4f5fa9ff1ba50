"""Settings: what is refused and how, and which of preset, TOML file and options decides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from small_runs import fails

from metarl.commands.train_command import parse
from metarl.config import EnvConfig, PolicyConfig, TrainConfig, config_from_dict
from metarl.presets import preset


def nested(name: str, value: object) -> dict[str, Any]:
    table, _, field = name.rpartition(".")
    return {table: {field: value}} if table else {field: value}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("iteration", 3, "no setting 'iteration'; did you mean iterations"),
        ("algo.inner-lrr", 0.1, "algo has no setting 'inner-lrr'; did you mean inner_lr"),
        ("algo.zzz", 1, "no setting 'zzz'; allowed: inner_lr"),
        ("iterations", 1.5, "iterations is 1.5, but must be of type int"),
        ("iterations", True, "must be of type int"),
        ("iterations", "7", "must be of type int"),
        ("algo.inner_lr", "0.1", "must be of type float"),
        ("algo.inner_lr", None, "must be of type float"),
        ("algo.inner_lr", 10**400, "too large"),
        ("algo.first_order", 1, "must be of type bool"),
        ("algo.surrogate", "ratios", "did you mean ratio"),
        ("algo.surrogate", ["ratio"], "did you mean ratio"),
        ("policy.hidden_sizes", 64, "must be a list"),
        ("policy.hidden_sizes", [64, 1.5], "must be of type int"),
        ("policy.hidden_sizes", [], "one or more positive"),
        ("policy.hidden_sizes", [64, 0], "one or more positive"),
        ("policy.init_std", 0, "0 < min_std <= init_std"),
        ("policy.init_std", math.nan, "0 < min_std <= init_std"),
        ("policy.init_std", math.inf, "init_std is inf, but must be finite"),
        ("algo.guess_weight", -1.0, "guess_weight is -1.0, but must be at least 0"),
        ("algo.guess_weight", 1.0, "guess_weight is 1, but the policy makes no guesses; give a guess_std above 0"),
        ("env.protocol", "finn2018", "did you mean finn2017"),
        ("env.horizon", -1, "horizon is -1"),
        ("algo", 3, "algo must be a table of settings"),
        ("algo.inner_lr", -0.1, "inner_lr is -0.1, but must be positive"),
        ("algo.inner_lr", math.nan, "inner_lr is nan"),
        ("algo.inner_lr", math.inf, "inner_lr is inf"),
        ("algo.inner_steps", 0, "inner_steps is 0"),
        ("algo.gae_lambda", 2, "gae_lambda is 2.0, but must be in"),
        ("algo.discount", 0, "discount is 0"),
        ("algo.max_kl", 0, "max_kl is 0"),
        ("algo.max_kl", math.inf, "max_kl is inf"),
        ("algo.cg_damping", -1, "cg_damping is -1"),
        ("algo.curvature_fraction", 0, "curvature_fraction is 0"),
        ("algo.backtrack_ratio", 1, "backtrack_ratio is 1"),
        ("meta_batch", 0, "meta_batch is 0"),
        ("trajectories", 0, "trajectories is 0"),
        ("checkpoint_every", 0, "checkpoint_every is 0"),
        ("seed", -1, "seed is -1"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match="settings") as caught:
        config_from_dict(TrainConfig(), nested(name, value), "settings.toml")
    assert said in str(caught.value)


def test_the_settings_are_kept_where_none_is_given() -> None:
    base = preset("ant-vel", "paper")
    assert config_from_dict(base, {}) == base
    changed = config_from_dict(base, {"algo": {"inner-lr": 1}, "policy": {"hidden_sizes": [4]}})
    assert (changed.algo.inner_lr, changed.policy.hidden_sizes) == (1.0, (4,))
    assert isinstance(changed.algo.inner_lr, float)
    assert changed.env == base.env


def test_the_horizon_is_the_familys_own_or_the_one_given() -> None:
    assert EnvConfig("point-nav").make().spec.horizon == 100
    assert EnvConfig("point-nav", horizon=7).make().spec.horizon == 7


def test_a_policy_has_the_environments_sizes() -> None:
    family = EnvConfig("ant-goal", oracle=True).make()
    policy = PolicyConfig(hidden_sizes=(3,)).make(family)
    assert (policy.obs_dim, policy.act_dim) == (family.spec.obs_dim, 8)


def test_options_go_before_the_toml_file_and_the_file_before_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = 5\niterations = 7\n[algo]\ninner_lr = 0.25\n[policy]\nnormalise-obs = true\n")
    settings = parse(["point-nav", "--preset", "paper", "--config", str(file), "--seed", "9"]).settings
    assert (settings.seed, settings.iterations, settings.algo.inner_lr) == (9, 7, 0.25)
    assert settings.policy.normalise_obs
    assert settings.meta_batch == preset("point-nav", "paper").meta_batch
    assert not parse(["point-nav", f"--config={file}", "--policy.no-normalise-obs"]).settings.policy.normalise_obs


def test_the_preset_is_that_of_the_environment_and_protocol_in_the_toml_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[env]\nname = "point-nav"\nprotocol = "finn2017"\n')
    assert parse(["--config", str(file)]).settings == preset("point-nav", "default", "finn2017")
    named = parse(["ant-vel", "--config", str(file)])
    assert named.settings == preset("ant-vel", "default", "finn2017")
    assert named.name == "ant-vel"
    assert parse(["--config", str(file), "--env.protocol", "modern"]).settings == preset("point-nav")


@pytest.mark.parametrize(
    "argv",
    [
        ["half-cheetah-vel", "--algo.inner-lr", "0.3", "--env.oracle"],
        ["--algo.inner-lr", "0.3", "half-cheetah-vel", "--env.oracle"],
        ["--algo.inner-lr=0.3", "--env.oracle", "half-cheetah-vel"],
        ["--algo.inner_lr", "0.3", "--env.oracle", "--out", "point-nav", "half-cheetah-vel"],
        ["--env.oracle", "--algo.inner-lr", "0.3", "--policy.hidden-sizes", "100", "100", "half-cheetah-vel"],
    ],
)
def test_the_environment_may_stand_anywhere(argv: list[str]) -> None:
    args = parse(argv)
    assert args.name == args.settings.env.name == "half-cheetah-vel"
    assert args.settings.algo.inner_lr == 0.3
    assert args.settings.env.oracle
    assert args.settings.meta_batch == preset("half-cheetah-vel").meta_batch


def test_the_default_environment_and_preset() -> None:
    args = parse([])
    assert (args.name, args.preset, args.settings) == ("half-cheetah-dir", "default", preset("half-cheetah-dir"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"iterations = = 3", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        (b"[algo]\ninner_lr = -1", "inner_lr is -1.0, but must be positive"),
        (b"[algo]\ninner_lr = nan", "inner_lr is nan"),
        (b"[alg]\ninner_lr = 1", "no setting 'alg'; did you mean algo"),
        (b"env = 3", "env must be a table of settings"),
        (b'[env]\nname = "point-naw"', "unknown environment 'point-naw'; did you mean point-nav"),
        (b"[env]\nname = 3", "unknown environment '3'"),
        (b'[env]\nprotocol = "modem"', "did you mean modern"),
        (b"seed = 1979-05-27", "must be of type int"),
    ],
)
def test_a_wrong_toml_file_is_refused(
    text: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(text)
    error = fails(capsys, "train", "--config", file, "--out", tmp_path / "run")
    assert said in error
    assert not (tmp_path / "run").exists()


def test_a_missing_toml_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot read" in fails(capsys, "train", "--config", tmp_path / "none.toml")
    assert "cannot read" in fails(capsys, "train", "--config", tmp_path, code=1)

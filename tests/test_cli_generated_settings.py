"""Thousands of generated settings: each one runs or is refused in words, and nothing else ever comes out of it.

METARL_EXAMPLES sets how many, 1,000 by default.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any

import pytest
from generated_settings import options_of, small, table_of, toml_text
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import metarl.supervised.training
from metarl.algorithms.registry import ALGORITHMS, DEFAULT_ALGORITHM
from metarl.cli import main
from metarl.commands.parsing import read_toml
from metarl.commands.train_command import parse
from metarl.config import TrainConfig, check_algorithm, config_from_dict, config_to_dict
from metarl.presets import preset
from metarl.supervised.config import SupervisedConfig
from metarl.supervised.config import config_from_dict as supervised_from_dict
from metarl.supervised.datasets import DATASETS
from metarl.supervised.learners import LEARNERS

EXAMPLES = int(os.environ.get("METARL_EXAMPLES", "1000"))
ENVS = ("point-nav", "half-cheetah-dir", "ant-goal", "half-cheetah-params", "point-naw")
SIZES = dict.fromkeys(("iterations",), 1)
SIZES |= dict.fromkeys(("meta_batch", "trajectories", "epochs", "inner_steps", "shot", "train_shot", "threads"), 2)
SIZES |= dict.fromkeys(("horizon", "cg_iterations", "backtrack_steps", "way", "query", "train_way", "train_query"), 3)
SIZES |= dict.fromkeys(("validation_episodes",), 2) | dict.fromkeys(("hidden", "hidden_sizes"), 8)
IN_WORDS = re.compile(
    r"unknown (environment|algorithm|protocol|learner|data set|preset)|has no (setting|protocol)|no policy"
)

pytestmark = pytest.mark.usefixtures("no_type_checks")


def share(of_thousand: int) -> Any:
    """Settings of hypothesis for a share of the examples; the same ones each time by default."""
    return settings(
        max_examples=max(5, EXAMPLES * of_thousand // 1000),
        deadline=None,
        derandomize=EXAMPLES <= 1000,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


def algo_tables() -> st.SearchStrategy[dict[str, Any]]:
    """Settings of one of the algorithms, named or not."""
    return st.one_of(*(table_of(entry.settings) for entry in ALGORITHMS.values()))


TABLES = st.builds(
    lambda table, algorithm: table | algorithm,
    table_of(TrainConfig(), {"algo": algo_tables(), "init": st.sampled_from(["", "", "no/such/policy", "."])}),
    st.fixed_dictionaries({}, optional={"algorithm": st.sampled_from([*ALGORITHMS, "maml", 3, ""])}),
)


def refused_in_words(error: Exception, table: dict[str, Any]) -> None:
    """One line that names what is wrong: a setting of the table, or the kind of thing that is not known."""
    message = str(error)
    assert message.strip()
    assert "\n" not in message
    named = any(name and (name in message or name.replace("_", "-") in message) for name in names_in(table))
    assert named or IN_WORDS.search(message), message


def names_in(table: dict[str, Any]) -> set[str]:
    inner = [names_in(value) for value in table.values() if isinstance(value, dict)]
    return {key.replace("-", "_") for key in table}.union(*inner)


def cut(text: str, at: int) -> str:
    """The beginning of a text."""
    return text[: at % (len(text) + 1)]


def train_settings(table: dict[str, Any], env: str, where: str) -> TrainConfig:
    """As `metarl train ENV --config FILE` gets them."""
    rest = {key: value for key, value in table.items() if key != "algorithm"}
    algorithm = check_algorithm(table.get("algorithm", DEFAULT_ALGORITHM))
    return config_from_dict(preset(env, "default", None, algorithm), rest, where)


@share(600)
@given(table=TABLES, env=st.sampled_from(ENVS))
@example(table={"policy": {"hidden_sizes": [10**30]}}, env="point-nav")
@example(table={"meta_batch": 10**30}, env="point-nav")
@example(table={"policy": {"init_std": 1e300}}, env="point-nav")
def test_a_toml_file(table: dict[str, Any], env: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Read and built: family, policy, algorithm; written to config.json and read again, it is the same."""
    file = tmp_path_factory.getbasetemp() / "settings.toml"
    file.write_text(toml_text(table))
    try:
        config = train_settings(read_toml(file), env, str(file))
    except ValueError as error:
        refused_in_words(error, table)
        return
    assert config_from_dict(TrainConfig(), config_to_dict(config)) == config
    narrow = replace(config.policy, hidden_sizes=tuple(min(n, 8) for n in config.policy.hidden_sizes))
    try:
        assert narrow.make(config.env.make()).layout.size > 0
    except ValueError as error:
        refused_in_words(error, table)


@share(50)
@given(
    text=st.one_of(st.text(max_size=60), st.binary(max_size=60), st.builds(cut, TABLES.map(toml_text), st.integers(0)))
)
def test_a_file_that_is_hardly_toml(text: str | bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "settings.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    try:
        table = read_toml(file)
    except ValueError as error:
        assert str(error).startswith(f"{file} is not valid TOML: ")  # noqa: PT017
        return
    try:
        train_settings(table, "point-nav", str(file))
    except ValueError as error:
        refused_in_words(error, table)


@share(100)
@given(
    table=TABLES,
    env=st.sampled_from(ENVS),
    more=st.lists(
        st.one_of(
            st.sampled_from(
                ["--threads=-1", "--threads=x", "--preset=paper", "--preset=pape", "--quiet", "--json", "--"]
            ),
            st.sampled_from(["--init", "--init=no/such", "--env.oracle", "--out", "--config", "--config=nothing.toml"]),
            st.text(max_size=6),
        ),
        max_size=2,
    ),
)
def test_options(table: dict[str, Any], env: str, more: list[str]) -> None:
    assume(not {"-h", "--help"} & set(more))
    words = options_of(table)
    try:
        args = parse([env, *words, *more])
    except (ValueError, FileNotFoundError, IsADirectoryError) as error:
        assert len(str(error).strip().splitlines()) == 1  # noqa: PT017
        return
    assert config_from_dict(TrainConfig(), config_to_dict(args.settings)) == args.settings


@share(50)
@given(
    table=TABLES.map(lambda table: small(table, SIZES)),
    env=st.sampled_from(ENVS[:2]),
    more=st.sampled_from([[], ["--threads", "2"], ["--threads", "-1"]]),
)
def test_small_ones_are_run(
    table: dict[str, Any], env: str, more: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By the command itself, for one iteration: exit code 0, or 1 or 2 with one line."""
    folder = tmp_path_factory.mktemp("small")
    sized = small({"meta_batch": 2, "trajectories": 2, "iterations": 1} | table, SIZES)
    if isinstance(sized.setdefault("env", {}), dict):
        sized["env"] = {"horizon": 3} | sized["env"]
    (folder / "settings.toml").write_text(toml_text(sized))
    argv = ["train", env, "--config", str(folder / "settings.toml"), "--out", str(folder / "run"), "--quiet", *more]
    assert main(argv) in (0, 2)


SUPERVISED = st.builds(
    lambda table, named: table | named,
    table_of(
        SupervisedConfig(),
        {
            "algo": st.one_of(*(table_of(entry.settings) for entry in LEARNERS.values())),
            "dataset": st.one_of(*(table_of(entry.settings) for entry in DATASETS.values())),
            "data": st.sampled_from(["no/such/folder", "."]),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "learner": st.sampled_from([*LEARNERS, "prototypica", 3]),
            "on": st.sampled_from([*DATASETS, "sinusoidal", []]),
        },
    ),
)


@share(150)
@given(table=SUPERVISED)
def test_supervised_settings(table: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Read, and built when small: learner, samplers."""
    file = tmp_path_factory.getbasetemp() / "settings.toml"
    file.write_text(toml_text(table))
    try:
        supervised_from_dict(SupervisedConfig(), read_toml(file), str(file))
        config = supervised_from_dict(SupervisedConfig(), small(table, SIZES), str(file))
    except ValueError as error:
        refused_in_words(error, table)
        return
    try:
        replace(config, data=config.data or "no/such/folder").setup()  # else it is downloaded
    except (ValueError, OSError) as error:
        assert str(error).strip()  # noqa: PT017


@share(50)
@given(table=SUPERVISED.map(lambda table: small(table, SIZES)))
def test_small_supervised_ones_are_run(table: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("small")
    sizes = {"meta_batch": 2, "iterations": 1, "validation_episodes": 2, "network": {"hidden": [8]}}
    try:
        config = supervised_from_dict(SupervisedConfig(), sizes | {"data": "no/such/folder"} | table)
        metarl.supervised.training.train(config, folder / "run")
    except (ValueError, OSError) as error:
        assert str(error).strip()  # noqa: PT017

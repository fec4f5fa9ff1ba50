"""Records of runs, and that the README's figures are those of the records in results/."""

from __future__ import annotations

import json
import runpy
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import SMALL, call

from metarl.algorithms.registry import ALGORITHMS, AlgorithmName
from metarl.commands import supervised_train, train_command
from metarl.learning_table import steps_to, steps_to_share
from metarl.presets import preset
from metarl.results import (
    PAGES,
    PAPER_RANDOM,
    matching_preset,
    readme_text,
    record_name,
    result_record,
)
from metarl.run_tables import results_table, summary_table
from metarl.supervised.records import record_file, supervised_record
from metarl.supervised.result_tables import sinusoid_table

ROOT = Path(__file__).parent.parent
RECORDS = sorted((ROOT / "results").glob("*-seed*.json"))
SUPERVISED = sorted((ROOT / "results" / "supervised").glob("*.json"))
STUDY = sorted((ROOT / "results" / "study").glob("*.json"))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_shows_what_the_records_say(page: Path) -> None:
    text = (ROOT / page).read_text()
    assert readme_text(text, PAGES[page](ROOT / "results"), page.name) == text


def settings_of(words: list[str]) -> Any:
    """What a training command trains with now."""
    if words[1] == "train":
        return train_command.parse(words[2:]).settings
    return supervised_train.parse("regression" if words[1] == "regression" else "fewshot", words[3:]).settings


def common(record: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both without what the other lacks: records are older than some settings."""
    kept: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for key in record.keys() & now.keys():
        both = record[key], now[key]
        if isinstance(both[0], dict) and isinstance(both[1], dict):
            both = common(*both)
        kept[0][key], kept[1][key] = both
    return kept


@pytest.mark.parametrize("path", [*RECORDS, *SUPERVISED, *STUDY], ids=lambda path: path.stem)
def test_a_recorded_command_still_asks_for_what_was_run(path: Path) -> None:
    record = json.loads(path.read_text())
    words = shlex.split(record["command"])
    if words == ["metarl", "demo"]:
        return  # settings of its own
    record["config"].pop("init_sha256", None)  # of the file that a guided run found, not asked for
    then, now = common(record["config"], json.loads(json.dumps(asdict(settings_of(words)), default=str)))
    assert len(then) >= 10
    assert then == now


def test_steps_to_most_of_the_way() -> None:
    """Returns 0, 10, 20 ... 100, 100 ...: the average of 5 comes to 90 three iterations after they do."""
    after = [min(10.0 * i, 100.0) for i in range(30)]
    curve = [{"return_after": r, "env_steps": 100 * (i + 1), "wall_s": float(i + 1)} for i, r in enumerate(after)]
    assert steps_to_share(curve) == (1300.0, 13.0)
    assert steps_to(curve, 50.0) == (800.0, 8.0)
    assert steps_to(curve, 101.0) is None
    assert steps_to_share(curve[:1]) == (100.0, 1.0)
    assert steps_to_share(curve[::-1])[1] == 30.0, "one that got worse is there from the start"


def test_a_run_that_started_from_a_baseline_counts_its_steps() -> None:
    record = json.loads((ROOT / "results" / "half-cheetah-vel-finn2017-guided-seed0.json").read_text())
    start = record["start"]
    assert start["command"].startswith("metarl baseline oracle half-cheetah-vel")
    total = (record["env_steps"] + start["env_steps"]) / 1e6
    assert f"| {total:.1f} M |" in results_table([record])
    assert start["command"] in results_table([record])


def test_the_summary_has_a_row_for_all_seeds() -> None:
    names = [f"half-cheetah-dir-finn2017-guided-seed{seed}" for seed in range(3)] + [
        "point-nav-promp-modern-default-seed0"
    ]
    records = [json.loads((ROOT / "results" / f"{name}.json").read_text()) for name in names]
    lines = summary_table(records).splitlines()
    rows = [line for line in lines if line.startswith(("| half", "| point"))]
    means = [record["heldout"]["mean"][1] for record in records[:3]]
    assert len(rows) == 1, "other algorithms have no row"
    assert rows[0].startswith("| half-cheetah-dir | finn2017 | guided | 3 | ")
    assert f"| {sum(means) / 3:.1f} ({min(means):.1f} to {max(means):.1f}) |" in rows[0]
    assert f"| 293.2 | 315.7 | {records[0]['baselines']['pretrained'][1]:.1f} |" in rows[0]
    assert records[0]["command"] in lines
    assert records[1]["command"] not in lines


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_shipped_record_is_whole(path: Path) -> None:
    record = json.loads(path.read_text())
    assert path.name == record_name(record)
    assert record["command"].startswith(("metarl train ", "metarl demo"))
    assert record["evaluate_command"].startswith("metarl evaluate ")
    assert len(record["curve"]) == record["iterations"]
    assert record["curve"][-1]["env_steps"] == record["env_steps"]
    assert len(record["heldout"]["mean"]) == len(record["heldout"]["ci95"]) == 4
    assert record["heldout"]["n_tasks"] == 40


def test_untrained_policies_get_the_papers_returns() -> None:
    environments = json.loads((ROOT / "results" / "random-finn2017.json").read_text())["environments"]
    assert set(environments) == set(PAPER_RANDOM)
    for row in environments.values():
        assert abs(row["mean"] - row["paper_mean"]) <= row["ci95"] + row["paper_ci95"]


def test_a_run_becomes_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert call(capsys, "train", "point-nav", *SMALL, "--iterations", 2, "--out", run, "--quiet")[0] == 0
    with pytest.raises(FileNotFoundError, match="metarl evaluate"):
        result_record(run)
    assert call(capsys, "evaluate", run, "--tasks", 3, "--steps", 1)[0] == 0
    record = result_record(run)
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert record["heldout"]["mean"] == evaluation["meta-trained"]["mean"]
    assert [row["iteration"] for row in record["curve"]] == [0, 1]
    assert record["preset"] == "custom"
    json.dumps(record)
    longer = ("train", "--resume", run, "--iterations", 3, "--quiet")
    assert call(capsys, *longer)[0] == 0
    assert call(capsys, "train", "--resume", run, "--iterations", 3, "--quiet")[0] == 0
    assert call(capsys, "evaluate", run, "--tasks", 3, "--steps", 1)[0] == 0
    longer_record = result_record(run)
    again = f"metarl {' '.join(map(str, longer))}"
    assert longer_record["command"] == f"{record['command']} && {again}"
    assert f"{record['command']}\n{again}\n" in results_table([longer_record])


def test_a_record_is_named_after_its_algorithm_unless_it_is_maml_trpo() -> None:
    facts = {"env": "point-nav", "protocol": "modern", "preset": "default", "seed": 3}
    assert record_name({**facts, "algorithm": "maml-trpo"}) == "point-nav-modern-default-seed3.json"
    assert record_name({**facts, "algorithm": "promp"}) == "point-nav-promp-modern-default-seed3.json"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_preset_is_recognised_with_every_algorithm(algorithm: AlgorithmName) -> None:
    config = preset("point-nav", algorithm=algorithm)
    assert matching_preset(replace(config, seed=3)) == "default"
    assert matching_preset(replace(config, algo=replace(config.algo, inner_lr=0.123))) == "custom"


def test_a_preset_is_recognised_whatever_the_seed() -> None:
    config = preset("half-cheetah-dir", "paper")
    assert matching_preset(replace(config, seed=3, iterations=7)) == "paper"
    assert matching_preset(replace(config, meta_batch=3)) == "custom"


def test_readme_without_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="no markers for 'results'"):
        readme_text("# nothing", {"results": "x"})


@pytest.mark.parametrize("path", SUPERVISED, ids=lambda path: path.stem)
def test_a_shipped_supervised_record_is_whole(path: Path) -> None:
    record = json.loads(path.read_text())
    assert path.name == record_file(record)
    assert record["command"].startswith(("metarl fewshot train ", "metarl regression train "))
    assert record["cpu_s"] > 0
    for test in record["tests"]:
        assert test["command"].split()[2] == "evaluate"
        assert test["episodes"] >= 600
        assert len(test["loss"]) == len(test["steps"])


def test_the_few_shot_study_asks_for_what_the_records_have() -> None:
    study = runpy.run_path(str(ROOT / "benchmarks" / "fewshot_study.py"))
    commands = {}
    for path in SUPERVISED:
        command = json.loads(path.read_text())["command"]
        commands[Path(command.split()[-1]).name] = command
    asked = study["experiments"]()
    assert set(commands) <= set(asked)
    for name, command in commands.items():
        words = f"metarl {asked[name].problem} train {asked[name].options}"
        assert replace(settings_of(words.split()), data="") == replace(settings_of(command.split()), data=""), name


def test_a_supervised_run_becomes_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    options = ("--iterations", 2, "--meta-batch", 2, "--validation-episodes", 2, "--quiet", "--out", run)
    assert call(capsys, "regression", "train", "sinusoid", *options)[0] == 0
    with pytest.raises(FileNotFoundError, match="metarl regression evaluate"):
        supervised_record(run)
    for shot in (5, 10):
        assert call(capsys, "regression", "evaluate", run, "--episodes", 3, "--steps", 1, "--shot", shot)[0] == 0
    record = supervised_record(run)
    assert sorted(test["shot"] for test in record["tests"]) == [5, 10]
    assert record_file(record) == "sinusoid-maml-10shot-seed0.json"
    evaluation = json.loads((run / "evaluation-5shot-1steps.json").read_text())
    assert evaluation["loss"] in [test["loss"] for test in record["tests"]]
    assert record["preset"] == "custom"  # another meta-batch
    assert "| maml | 0 | 5 |" in sinusoid_table([record])

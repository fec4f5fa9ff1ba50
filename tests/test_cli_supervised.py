"""`metarl fewshot` and `metarl regression`: every learner through the command line, resuming, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omniglot_files import png, write_files
from small_runs import call, fails
from small_supervised_runs import SIZES, class_folders, small_omniglot, train_images, train_waves

from metarl.metrics import read_metrics
from metarl.supervised import training
from metarl.supervised.config import SupervisedConfig
from metarl.supervised.learners import LEARNERS
from metarl.supervised.runs import open_run
from metarl.supervised.train_state import SupervisedState

# What keeps the big ones small; options of their own.
SMALL = {
    "reptile": ("--algo.test-steps", "3"),
    "mann": ("--algo.hidden", "8", "--algo.places", "6", "--algo.word", "4", "--algo.heads", "1"),
    "lstm": ("--algo.hidden", "8"),
    "snail": ("--algo.filters", "4"),
    "lstm-optimizer": ("--algo.steps", "2", "--algo.hidden", "3"),
    "meta-lstm": ("--algo.steps", "2", "--algo.hidden", "3"),
    "scratch": ("--algo.steps", "3"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METARL_DATA", str(tmp_path / "data"))


@pytest.mark.parametrize("learner", [name for name, entry in LEARNERS.items() if entry.classification])
def test_every_learner_trains_and_is_evaluated_on_images(
    learner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = LEARNERS[learner]
    run = train_images(tmp_path / "run", class_folders(tmp_path / "images"), learner, *SMALL.get(learner, ()))
    code, out, err = call(capsys, "fewshot", "evaluate", run, "--episodes", 4, "--json", "--no-pictures")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result == json.loads((run / "evaluation.json").read_text())
    assert (result["learner"], result["way"], result["shot"], result["episodes"]) == (learner, 3, 1, 4)
    assert len(result["accuracy"]) == len(result["loss"]) == len(result["steps"])
    assert all(0 <= summary["mean"] <= 1 for summary in result["accuracy"])
    assert result["data"]["classes"] == {"train": 4, "validation": 4, "test": 4}
    assert result["versions"]["torch"] == torch.__version__
    before = training.initial_state(open_run(run)[1], open_run(run)[1].setup()).params
    after = torch.load(run / "checkpoint.pt", weights_only=True)
    assert any(not torch.equal(after[f"param/{name}"], value) for name, value in before.items()) == entry.trains
    if entry.any_way:
        assert (
            call(capsys, "fewshot", "evaluate", run, "--episodes", 2, "--way", 4, "--query", 1, "--no-pictures")[0] == 0
        )
        assert (run / "evaluation-4way-1shot.json").is_file()
    else:
        assert "was trained for 3 ways, not 4" in fails(capsys, "fewshot", "evaluate", run, "--way", 4)


@pytest.mark.parametrize("learner", [name for name, entry in LEARNERS.items() if entry.regression])
def test_every_learner_trains_and_is_evaluated_on_functions(
    learner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_waves(tmp_path / "run", learner, *SMALL.get(learner, ()))
    code, out, err = call(capsys, "regression", "evaluate", run, "--episodes", 4, "--shot", 3, "--no-pictures")
    assert (code, err) == (0, "")
    assert "mean squared error on 4 test tasks, 3-shot" in out
    result = json.loads((run / "evaluation-3shot.json").read_text())
    assert "accuracy" not in result
    assert all(summary["median"] > 0 for summary in result["loss"])


def test_baselines_meet_the_same_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_waves(tmp_path / "maml")
    oracle = train_waves(tmp_path / "oracle", "oracle")
    assert "no run of an oracle" in fails(capsys, "regression", "evaluate", run, "--oracle", run)
    call(capsys, "regression", "evaluate", run, "--episodes", 4, "--baselines", "--oracle", oracle, "--no-pictures")
    beside = json.loads((run / "evaluation.json").read_text())["baselines"]
    assert {name: entry["steps"] for name, entry in beside.items()} == {
        "nearest-neighbour": [None],
        "scratch": [100],
        "oracle": [0],
    }
    call(capsys, "regression", "evaluate", oracle, "--episodes", 4, "--no-pictures")
    assert json.loads((oracle / "evaluation.json").read_text())["loss"] == beside["oracle"]["loss"]
    neighbour = train_waves(tmp_path / "neighbour", "nearest-neighbour")
    call(capsys, "regression", "evaluate", neighbour, "--episodes", 4, "--no-pictures")
    assert json.loads((neighbour / "evaluation.json").read_text())["loss"] == beside["nearest-neighbour"]["loss"]


def test_batch_norm_is_reported_each_way_where_they_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = class_folders(tmp_path / "images")
    for learner, own, other in (("maml", "transductive", "inductive"), ("maml++", "transductive", "running")):
        run = train_images(tmp_path / learner, data, learner)
        out = call(capsys, "fewshot", "evaluate", run, "--episodes", 4, "--no-pictures")[1]
        assert f"{learner}, {own}" in out
        assert f"{learner}, {other}" in out
        result = json.loads((run / "evaluation.json").read_text())
        assert (result["statistics"], list(result["other_statistics"])) == (own, [other])
        assert result["other_statistics"][other]["loss"] != result["loss"]
    run = train_images(tmp_path / "inductive", data, "maml", "--algo.statistics", "inductive")
    call(capsys, "fewshot", "evaluate", run, "--episodes", 4, "--no-pictures")
    result = json.loads((run / "evaluation.json").read_text())
    assert (result["statistics"], list(result["other_statistics"])) == ("inductive", ["transductive"])


def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ("--iterations", 5, "--checkpoint-every", 2)
    train_waves(tmp_path / "whole", "maml", *sizes)
    real = training.meta_iteration

    def interrupted(config: SupervisedConfig, setup: training.Setup, state: SupervisedState) -> SupervisedState:
        if state.iteration == 3:
            raise KeyboardInterrupt
        return real(config, setup, state)

    monkeypatch.setattr(training, "meta_iteration", interrupted)
    run = tmp_path / "stopped"
    argv = ("regression", "train", "sinusoid", "--learner", "maml", *SIZES, "--shot", 5, "--query", 6)
    code, _, err = call(capsys, *argv, "--validation-episodes", 2, *sizes, "--out", run)
    said = f"interrupted after 3 iterations; go on with 'metarl regression train --resume {run}'"
    assert (code, err) == (130, f"metarl: {said}\n")
    monkeypatch.undo()
    monkeypatch.setenv("METARL_DATA", str(tmp_path / "data"))
    assert "continuing at iteration 3" in call(capsys, "regression", "train", "--resume", run)[1]
    one, other = (torch.load(path / "checkpoint.pt", weights_only=True) for path in (tmp_path / "whole", run))
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[name]), name
    rows = [read_metrics(path / "metrics.jsonl") for path in (tmp_path / "whole", run)]
    assert [row["objective"] for row in rows[0]] == [row["objective"] for row in rows[1]]
    assert "use 'metarl regression train" in fails(capsys, "fewshot", "train", "--resume", run)
    assert "use 'metarl regression'" in fails(capsys, "fewshot", "evaluate", run)
    assert "is a run of supervised learning" in fails(capsys, "evaluate", run)


def test_settings_of_a_toml_file_stand_between_preset_and_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'on = "sinusoid"\nlearner = "maml"\niterations = 3\nmeta_batch = 2\nlog_every = 1\n'
        "validate_every = 9\n[episodes]\nshot = 7\n[algo]\nsteps = 2\n"
    )
    out = tmp_path / "run"
    code, said, _ = call(capsys, "regression", "train", "--config", file, "--iterations", 2, "--out", out, "--json")
    assert code == 0
    events = [json.loads(line) for line in said.splitlines()]
    assert [event["event"] for event in events] == ["start", "progress", "progress", "done"]
    config = open_run(out)[1]
    assert (config.iterations, config.algo.steps, config.algo.test_steps) == (2, 2, 10)
    assert (config.episodes.shot, config.episodes.train_query) == (7, 7)


def test_lakes_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from metarl.supervised.lake_runs import make_runs

    data = small_omniglot(tmp_path / "omniglot")
    runs = make_runs(data, tmp_path / "runs", n_runs=3, way=5)
    sizes = ("--way", 5, "--query", 2, "--train-way", 4, "--network.filters", 4, "--dataset.split", "alphabets")
    argv = ("fewshot", "train", "omniglot", "--learner", "prototypical", "--data", data, *SIZES, *sizes)
    run = tmp_path / "run"
    assert call(capsys, *argv, "--out", run, "--quiet") == (0, f"{run}\n", "")
    code, out, _ = call(capsys, "fewshot", "evaluate", run, "--protocol", "lake", "--runs", runs, "--baselines")
    assert code == 0
    assert "error (%) on 3 runs" in out
    result = json.loads((run / "lake.json").read_text())
    assert list(result["methods"]) == ["this run", "pixels", "modified Hausdorff"]
    assert all(len(error["by_run"]) == 3 for error in result["methods"].values())
    assert "lanczos on grey values" in result["data"]["images"]
    code, out, _ = call(capsys, "fewshot", "evaluate", "--protocol", "lake", "--runs", runs, "--json")
    assert code == 0
    assert json.loads(out)["methods"]["pixels"] == result["methods"]["pixels"]
    assert "needs runs" in fails(capsys, "fewshot", "evaluate", "--protocol", "lake")
    assert "there is no folder or zip" in fails(capsys, "fewshot", "evaluate", "--protocol", "lake", "--runs", "gone")
    assert "add --protocol lake" in fails(capsys, "fewshot", "evaluate", run, "--runs", runs)
    lake = ("fewshot", "evaluate", run, "--protocol", "lake", "--runs", runs)
    assert "--way is of tasks that are drawn" in fails(capsys, *lake, "--way", 5)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fewshot", "trian"], "unknown command 'trian' of metarl fewshot; did you mean train?"),
        (["fewshot", "train", "omniglto"], "unknown data set 'omniglto'; did you mean omniglot?"),
        (["fewshot", "train", "sinusoid"], "unknown data set 'sinusoid'; allowed: omniglot"),
        (["regression", "train", "omniglot"], "allowed: sinusoid"),
        (["fewshot", "train", "--learner", "protypical"], "unknown learner 'protypical'; did you mean prototypical"),
        (["fewshot", "train", "--preset", "papr"], "unknown preset 'papr'; did you mean paper?"),
        (["regression", "train", "--learner", "prototypical"], "does no regression; choose one of maml"),
        (["fewshot", "train", "--learner", "oracle"], "does regression only"),
        (["fewshot", "train", "--learner", "maml", "--train-way", "60"], "train_way is 60, way is 5"),
        (["fewshot", "train", "--way", "1"], "way is 1"),
        (["fewshot", "train", "--way", "x"], "--way"),
        (
            ["fewshot", "train", "--algo.contxt-steps", "1", "--learner", "matching"],
            "did you mean --algo.context-steps",
        ),
        (["fewshot", "train", "--data", "gone"], "is not in gone, which does not exist"),
        (["fewshot", "train", "folder"], "folder cannot be downloaded; give a folder or zip"),
        (["fewshot", "train", "mini-imagenet"], "mini-imagenet cannot be downloaded"),
        (["regression", "train", "--data", "gone"], "leave --data out"),
        (["regression", "train", "--network.kind", "conv4"], "conv4 is a network for images"),
        (["regression", "train", "--config", "gone.toml"], "cannot read gone.toml"),
        (["regression", "train", "--resume", "gone"], "there is no run folder gone"),
        (["regression", "evaluate"], "RUN"),
        (["fewshot", "evaluate"], "no run is named"),
        (["regression", "evaluate", "gone"], "there is no run folder gone"),
        (["regression", "evaluate", "gone", "--episodes", "0"], "--episodes is 0"),
        (["fewshot", "evaluate", "gone", "--way", "-1"], "--way is -1"),
    ],
)
def test_wrong_input_gets_one_clear_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in fails(capsys, *argv)
    assert not list(tmp_path.glob("runs/*"))


def test_what_is_wrong_with_images_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = class_folders(tmp_path / "images")
    train = ("fewshot", "train", "folder", "--data", data, "--dataset.size", 16, "--train-query", 1, "--query", 1)
    out = ("--quiet", "--out", tmp_path / "run")
    assert "4 support and 1 query images of a class need 5" in fails(capsys, *train, "--way", 2, "--shot", 4, *out)
    assert "validation tasks: 5-way tasks need 5 classes" in (said := fails(capsys, *train, "--way", 5, *out))
    assert "choose way at most 4" in said
    said = fails(capsys, *train, "--way", 2, "--train-query", 4, *out)
    assert said.startswith("metarl: train tasks: 1 support and 4 query")
    assert "--train-query" in said
    write_files(data, {"train/class00/damaged.png": b"not a picture", "train/class99/one.png": png()})
    said = fails(capsys, *train, "--way", 2, *out)
    assert "train/class00/damaged.png" in said
    assert "is not a whole image" in said
    (data / "train/class00/damaged.png").unlink()
    assert "'train/class99' has 1: a class needs at least 2 images" in fails(capsys, *train, "--way", 2, *out)
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "data" / "decoded").glob(".*"))


def test_classes_that_were_trained_on_are_never_tested_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without splits is split anew when a class comes: most of the test classes would be known."""
    data, run = tmp_path / "images", tmp_path / "run"
    write_files(data, {f"class{k:02}/{i}.png": png(seed=4 * k + i, size=(16, 16)) for k in range(20) for i in range(4)})
    sizes = ("--way", 2, "--query", 1, "--train-query", 1, "--dataset.size", 16, "--network.filters", 4)
    options = ("folder", "--data", data, *sizes, "--validation-episodes", 2, "--meta-batch", 2, "--quiet")
    assert call(capsys, "fewshot", "train", *options, "--iterations", 2, "--out", run)[0] == 0
    names = json.loads((run / "classes.json").read_text())
    assert [len(names[split]) for split in ("train", "validation", "test")] == [13, 3, 4]
    moved = data.rename(tmp_path / "moved")
    again = ("fewshot", "train", "--resume", run, "--iterations", 3, "--quiet")
    assert "images" in fails(capsys, *again)
    assert call(capsys, *again, "--data", moved)[0] == 0
    evaluate = ("fewshot", "evaluate", run, "--data", moved, "--episodes", 2, "--no-pictures", "--json")
    assert call(capsys, *evaluate, "--seed", 3)[0] == 0
    assert (run / "evaluation-seed3.json").is_file()
    write_files(moved, {f"class20/{i}.png": png(seed=100 + i, size=(16, 16)) for i in range(4)})
    for argv in (evaluate, (*again[:-2], 4, "--quiet", "--data", moved)):
        said = fails(capsys, *argv)
        assert "classes, such as 'class" in said
        assert "the data have changed since" in said
    classes = [path for path in sorted(moved.iterdir()) if path.name in names["test"]]
    for path in classes:
        path.rename(path.with_name(f"new-{path.name}"))
    (moved / names["train"][0]).rename(moved / "other")
    assert "was trained on" in fails(capsys, *again[:-2], 4, "--quiet", "--data", moved)
    (run / "classes.json").write_text("[]")
    assert "does not list the classes" in fails(capsys, *evaluate)


def test_a_split_too_small_to_test_on_is_said_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"class{k:02}/{i}.png": png(seed=4 * k + i, size=(16, 16)) for k in range(20) for i in range(4)}
    data = write_files(tmp_path / "images", files)
    options = ("--data", data, "--dataset.validation", 0, "--dataset.test", 0.1, "--query", 1, "--train-query", 1)
    said = fails(capsys, "fewshot", "train", "folder", *options, "--quiet", "--out", tmp_path / "run")
    assert "test tasks: 5-way tasks need 5 classes, this set has 2" in said
    assert "give more classes to test" in said
    assert not (tmp_path / "run").exists()

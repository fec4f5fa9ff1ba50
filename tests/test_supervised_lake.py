"""Lake's one-shot runs: read, made, scored; the two reference methods of the field on runs that we make."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omniglot_files import OMNIGLOT, needs_omniglot, omniglot_files, png, write_files, write_zip

from metarl.supervised.image_files import ImageFormat
from metarl.supervised.lake import (
    lake_error,
    modified_hausdorff,
    modified_hausdorff_distance,
    pixel_nearest,
    read_runs,
    run_episodes,
)
from metarl.supervised.lake_runs import make_runs


def run_files(run: str, answers: list[int], seed: int = 0) -> dict[str, bytes]:
    """A run whose test image i is the training image answers[i]."""
    pictures = [png(seed=seed + k) for k in range(len(answers))]
    files = {f"{run}/training/class{k + 1:02d}.png": picture for k, picture in enumerate(pictures)}
    files |= {f"{run}/test/item{i + 1:02d}.png": pictures[k] for i, k in enumerate(answers)}
    lines = [f"{run}/test/item{i + 1:02d}.png {run}/training/class{k + 1:02d}.png" for i, k in enumerate(answers)]
    return files | {f"{run}/class_labels.txt": "\n".join(reversed(lines)).encode()}


RUNS = run_files("run01", [2, 0, 1, 3]) | run_files("run02", [1, 3, 2, 0], seed=50)


@pytest.mark.parametrize("layout", ["folder", "zip", "zip with a folder"])
def test_runs_are_read_with_their_answers(tmp_path: Path, layout: str):
    top = "all_runs/" if layout == "zip with a folder" else ""
    path = write_files(tmp_path / "runs", RUNS) if layout == "folder" else write_zip(tmp_path / "runs.zip", RUNS, top)
    runs = read_runs(path)
    assert [run.name for run in runs] == ["run01", "run02"]
    assert [run.answer.tolist() for run in runs] == [[2, 0, 1, 3], [1, 3, 2, 0]]
    for run in runs:
        assert run.training.shape == (4, 1, 105, 105)
        assert torch.equal(run.test, run.training[run.answer])
    assert lake_error(pixel_nearest, runs).by_run == (0.0, 0.0)


def test_runs_are_one_batch_of_tasks(tmp_path: Path):
    episodes = run_episodes(read_runs(write_files(tmp_path, RUNS), ImageFormat(28, 1, invert=True)))
    assert (episodes.support.x.shape, episodes.query.x.shape) == ((2, 4, 1, 28, 28), (2, 4, 1, 28, 28))
    assert episodes.support.y.tolist() == [[0, 1, 2, 3]] * 2
    for task in range(2):
        assert torch.equal(episodes.query.x[task], episodes.support.x[task][episodes.query.y[task]])
    assert 0.5 < episodes.query.x.max() <= 1


def test_error_is_the_mean_over_runs_with_its_interval(tmp_path: Path):
    runs = read_runs(write_files(tmp_path, RUNS))
    error = lake_error(lambda training, test: torch.tensor([2, 0, 1, 0]), runs)
    assert error.by_run == (25.0, 75.0)
    assert error.mean == 50.0
    assert error.interval == pytest.approx(1.96 * (1250**0.5) / 2**0.5)
    assert np.isnan(lake_error(pixel_nearest, runs[:1]).interval)
    with pytest.raises(ValueError, match="there are no runs"):
        lake_error(pixel_nearest, [])


def test_modified_hausdorff_distance_in_closed_form():
    """From {0} to {0, 3, 4} on a line: means 0 one way and (0 + 3 + 4) / 3 the other."""
    a, b = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    assert modified_hausdorff_distance(a, b) == modified_hausdorff_distance(b, a) == pytest.approx(7 / 3)
    assert modified_hausdorff_distance(b, b) == 0


def test_modified_hausdorff_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 2)), rng.normal(size=(5, 2))

    def one_way(p: np.ndarray, q: np.ndarray) -> float:
        return float(np.mean([min(np.linalg.norm(x - y) for y in q) for x in p]))

    expected = max(one_way(a, b), one_way(b, a))
    assert modified_hausdorff_distance(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, rel=1e-12)


def test_modified_hausdorff_does_not_see_shifts():
    images = torch.zeros(2, 1, 12, 12)
    images[0, 0, 2:8, 3] = 1
    images[1, 0, 5, 2:8] = 1
    assert modified_hausdorff(images, images.roll((2, 3), (2, 3)).flip(0)).tolist() == [1, 0]
    with pytest.raises(ValueError, match="no ink"):
        modified_hausdorff(images, torch.zeros(1, 1, 12, 12))


def test_wrong_runs_are_explained(tmp_path: Path):
    with pytest.raises(ValueError, match="there are no runs in"):
        read_runs(write_files(tmp_path / "none", {"a.png": png()}))
    lacking = {name: content for name, content in RUNS.items() if name != "run02/test/item03.png"}
    with pytest.raises(ValueError, match=r"run02/class_labels\.txt .*not there: run02/test/item03\.png"):
        read_runs(write_files(tmp_path / "lacking", lacking))
    for text in (b"", b"one_name_only\n"):
        with pytest.raises(ValueError, match="must have lines of two file names"):
            read_runs(write_files(tmp_path / "bad", RUNS | {"run01/class_labels.txt": text}))
    three = read_runs(write_files(tmp_path / "three", run_files("run01", [0, 1, 2])))
    with pytest.raises(ValueError, match="runs of different sizes"):
        run_episodes([*three, *read_runs(write_files(tmp_path / "four", RUNS))])


def small_omniglot(root: Path) -> Path:
    files = omniglot_files({"Ge_ez": 3, "Keble": 5, "Tibetan": 4}, drawers=3)
    write_files(root / "images_evaluation", files)
    return root


def test_runs_are_made_of_one_alphabet_and_two_drawers(tmp_path: Path):
    omniglot = small_omniglot(tmp_path / "omniglot")
    original = {path.read_bytes(): path for path in omniglot.rglob("*.png")}
    out = make_runs(omniglot, tmp_path / "runs", n_runs=5, seed=3, way=4)
    runs = read_runs(out)
    assert [run.name for run in runs] == [f"run{i:02d}" for i in range(1, 6)]
    used = []
    for folder in sorted(out.iterdir()):
        came_from = {
            kind: [original[path.read_bytes()] for path in sorted((folder / kind).iterdir())]
            for kind in ("training", "test")
        }
        drawers = [{path.stem.split("_")[1] for path in paths} for paths in came_from.values()]
        assert [len(d) for d in drawers] == [1, 1]
        assert drawers[0] != drawers[1]
        characters = [[path.parent for path in paths] for paths in came_from.values()]
        assert set(characters[0]) == set(characters[1])
        assert len(set(characters[0])) == 4
        (alphabet,) = {character.parent.name for character in characters[0]}
        used.append(alphabet)
        for i, line in enumerate((folder / "class_labels.txt").read_text().splitlines()):
            test, training = line.split()
            assert test.endswith(f"item{i + 1:02d}.png")
            assert original[(out / test).read_bytes()].parent == original[(out / training).read_bytes()].parent
    assert "Ge_ez" not in used  # three characters are too few
    assert {used[0], used[1]} == {used[2], used[3]} == {"Keble", "Tibetan"}
    again = make_runs(omniglot, tmp_path / "again", n_runs=5, seed=3, way=4)
    assert [p.read_bytes() for p in sorted(again.rglob("*.*"))] == [p.read_bytes() for p in sorted(out.rglob("*.*"))]


def test_runs_that_cannot_be_made_leave_nothing(tmp_path: Path):
    omniglot = small_omniglot(tmp_path / "omniglot")
    with pytest.raises(ValueError, match=r"no alphabet .* has 6 characters: Ge_ez \(3\), Keble \(5\), Tibetan \(4\)"):
        make_runs(omniglot, tmp_path / "runs", way=6)
    with pytest.raises(ValueError, match="0 runs of 4 classes"):
        make_runs(omniglot, tmp_path / "runs", n_runs=0, way=4)
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        make_runs(omniglot, tmp_path / "there", way=4)
    for path in (omniglot / "images_evaluation").rglob("*.png"):
        if not path.name.endswith("_01.png"):
            path.unlink()
    with pytest.raises(ValueError, match="no two people drew all of 4 characters"):
        make_runs(omniglot, tmp_path / "runs", way=4)
    next(omniglot.rglob("*_01.png")).rename(omniglot / "images_evaluation" / "Keble" / "character01" / "odd.png")
    with pytest.raises(ValueError, match=r"_DD\.png"):
        make_runs(omniglot, tmp_path / "runs", way=5, n_runs=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["omniglot", "there"]


@needs_omniglot
def test_the_reference_methods_err_as_published(tmp_path: Path):
    """On the official runs the modified Hausdorff distance has 38.8 % and the nearest pixels 81 %.

    On 20 runs made with seed 0 here: 39.0 +- 7.5 % and 85.0 +- 4.6 %. Five of them are looked at here.
    """
    runs = read_runs(make_runs(OMNIGLOT, tmp_path / "runs"))[:5]
    hausdorff, pixels = lake_error(modified_hausdorff, runs), lake_error(pixel_nearest, runs)
    assert 25 < hausdorff.mean < 55
    assert 75 < pixels.mean < 95

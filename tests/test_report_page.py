"""The report page: self-contained, harmless whatever the records hold, and with the records' own numbers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from recorded_runs import BASELINES, META, RANDOM, SCORE, Page, write_evaluation, write_run, write_video

from metarl.report import read_runs, report_page
from metarl.report.clips import read_clips
from metarl.report.curves import adaptation_chart, learning_charts
from metarl.report.milestones import Milestone, milestone
from metarl.report.numbers import value_text
from metarl.run_tables import PAPER_MAML

EVIL = "<script>alert(1)</script>\"'&"


def page_of(*runs: Path) -> tuple[str, Page]:
    records = read_runs(runs)
    text = report_page(records, {record.label: read_clips(record, 8.0) for record in records})
    return text, Page(text)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", filmed=True)


def test_nothing_comes_from_elsewhere(run: Path, tmp_path: Path) -> None:
    text, page = page_of(run, write_run(tmp_path / "other", env="ant-vel", protocol="modern"))
    plain = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|[\"'(]//|url\(|@import", plain)
    allowed = ("data:video/mp4;base64,", "data:image/jpeg;base64,")
    for name, attributes in page.elements:
        assert name not in ("link", "iframe", "object", "embed", "base", "form", "img", "a")
        for key in ("src", "href", "poster", "action", "srcset"):
            assert key not in attributes or str(attributes[key]).startswith(allowed)
        assert not any(key.startswith("on") for key in attributes)
    (script,) = page.texts("script")
    (policy,) = [str(a["content"]) for a in page.all("meta") if a.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}" in policy
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert len(page.all("svg")) >= 3
    assert all(a.get("role") == "img" or a.get("aria-hidden") for a in page.all("svg"))


def test_the_numbers_are_those_of_the_records(run: Path) -> None:
    text, page = page_of(run)
    cells = page.texts("td")
    for row in (META, RANDOM):
        for mean, half in zip(row["mean"], row["ci95"], strict=True):
            assert value_text(mean) in cells
            assert f" ± {half:.1f}" in cells
    for value in (*BASELINES["pretrained"], BASELINES["oracle"], *PAPER_MAML["half-cheetah-dir"]):
        assert value_text(value) in cells
    for value in SCORE:
        assert f"{value:.2f}" in cells
    titles = page.texts("title")
    said = f"meta-trained: {value_text(META['mean'][1])} ± {META['ci95'][1]:.1f}"
    assert said in titles
    assert f"oracle (sees the goal): {BASELINES['oracle']}" in titles
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert any(title.startswith(f"{value_text(row['return_after'])} after adaptation") for title in titles)
    assert "seed 0" in page.text
    tiles = page.texts("dd")
    assert value_text(META["mean"][1]) in tiles
    assert {"4.8\N{NO-BREAK SPACE}M", "2.0 min", "30"} <= set(tiles)
    made = json.loads((run / "config.json").read_text())
    settings = page.texts("details")
    for group in ("env", "policy", "algo"):
        assert group in settings
        assert set(made["config"][group]) <= set(settings)
    assert set(made["versions"].values()) <= set(settings)
    (commands,) = page.texts("pre")
    assert commands.splitlines() == [made["command"], "metarl evaluate run", "metarl record RUN --task forward"]
    assert "<h1>half-cheetah-dir</h1>" in text


def test_the_charts_hold_the_recorded_series(run: Path) -> None:
    (record,) = read_runs([run])
    chart = adaptation_chart([record])
    series = {s.label: s for s in chart.series}
    assert list(series["meta-trained"].y) == META["mean"]
    assert list(series["meta-trained"].ci95) == META["ci95"]
    assert list(series["random initialisation"].y) == RANDOM["mean"]
    assert list(series["pretrained on all tasks"].y) == BASELINES["pretrained"]
    assert list(series["Finn et al. 2017"].y) == list(PAPER_MAML["half-cheetah-dir"])
    assert [level.y for level in chart.levels] == [BASELINES["oracle"]]
    by_steps, by_time = learning_charts([record])
    assert list(by_steps.series[1].x) == pytest.approx([0.16 * (i + 1) for i in range(30)])
    assert (by_steps.x_label, by_time.x_label) == ("environment steps (millions)", "wall time of training (min)")
    assert list(by_time.series[1].x) == pytest.approx([4.0 * (i + 1) / 60 for i in range(30)])


def test_the_papers_points_only_in_its_own_environment(tmp_path: Path) -> None:
    modern = write_run(tmp_path / "modern", protocol="modern")
    assert "Finn et al." not in page_of(modern)[1].text
    assert "Finn et al." not in page_of(write_run(tmp_path / "elsewhere", env="ant-goal"))[1].text
    record = json.loads((modern / "config.json").read_text())
    record["config"]["env"] |= {"protocol": "finn2017", "horizon": 50}
    (modern / "config.json").write_text(json.dumps(record))
    assert "Finn et al." not in page_of(modern)[1].text


@pytest.mark.parametrize(
    "baselines",
    [
        {"random": [1.25, 2.25], "pretrained": {"mean": [3.25, 4.25], "ci95": [0.5, 0.5]}, "oracle": 5.25},
        {"pretrained": [3.25, 4.25], "pretrained_ci95": [0.5, None], "oracle": {"mean": [5.25], "ci95": [1.0]}},
        {"oracle": None},
        {},
    ],
)
def test_baselines_in_the_shapes_they_come(baselines: dict[str, object], run: Path) -> None:
    changes = {"meta-trained": {"mean": [1.0, 9.0], "ci95": [None, None]}, "groups": {}, "baselines": baselines}
    write_evaluation(run, "ant-vel", "modern", 30, False, **changes)
    (record,) = read_runs([run])
    evaluation = record.evaluation
    assert evaluation.oracle == (5.25 if baselines.get("oracle") else None)
    assert ("pretrained on all tasks" in evaluation.curves) == ("pretrained" in baselines)
    _, page = page_of(run)
    assert "nan" not in page.text
    assert ("5.2" in page.texts("td")) == bool(baselines.get("oracle"))
    assert "pretrained" not in baselines or "4.2" in page.texts("td")


def test_hostile_names_are_text(tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(2)<\N{FRACTION SLASH}script>"
    write_run(folder)
    write_video(folder / "videos" / "a.mp4", description=EVIL)
    record = json.loads((folder / "config.json").read_text())
    record["command"] = record["versions"]["torch"] = EVIL
    record["versions"][EVIL] = "1"
    record["resumed"] = [{"iteration": 3, "command": EVIL}]
    (folder / "config.json").write_text(json.dumps(record))
    write_evaluation(folder, "x", "y", 30, True, command=EVIL, groups={EVIL: META})
    for runs in ([folder], [folder, write_run(tmp_path / "b")]):
        text, page = page_of(*runs)
        assert len(page.all("script")) == 1
        assert "alert(1)</script>" not in text
        assert "<script>alert" not in text
        assert EVIL in page.text
        assert folder.name in page.text or len(runs) == 1


def test_a_video_is_inside_with_a_still(run: Path) -> None:
    _, page = page_of(run)
    (video,) = page.all("video")
    assert {"controls", "muted", "loop", "playsinline"} <= set(video)
    content = base64.b64decode(str(video["src"]).partition(",")[2])
    assert content == (run / "videos" / "forward.mp4").read_bytes()
    assert base64.b64decode(str(video["poster"]).partition(",")[2]).startswith(b"\xff\xd8")
    assert "before adaptation: return 12.3; after 1 gradient step: return 521.0" in page.text
    assert "No video yet" not in page.text


def test_what_a_run_lacks_is_said_with_the_command_for_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "my run", evaluated=False)
    _, page = page_of(run)
    assert f"metarl evaluate '{run}'" in page.texts("code")
    assert f"metarl record '{run}'" in page.texts("code")
    (run / "metrics.jsonl").unlink()
    _, page = page_of(run)
    assert "nothing recorded" in page.text
    assert "0 of 30 iterations" in page.text


def test_an_evaluation_of_an_earlier_checkpoint_says_so(run: Path) -> None:
    write_evaluation(run, "half-cheetah-dir", "finn2017", 20, False)
    assert "The evaluation is of iteration 20." in page_of(run)[1].text


def test_several_runs_are_compared(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"seed{i}", seed=i) for i in range(3)]
    runs.append(write_run(tmp_path / "ant", env="ant-vel", protocol="modern", evaluated=False))
    _, page = page_of(*runs)
    assert "half-cheetah-dir (finn2017): 3 runs" in page.texts("h2")
    assert [h for h in page.texts("h2") if h in {r.name for r in runs}] == [r.name for r in runs]
    legend = page.texts("li")[:5]
    assert legend == ["seed0", "seed1", "seed2", "random initialisation", "pretrained on all tasks"]
    first = page.texts("table")
    assert [name for name in first if name in {r.name for r in runs}] == [r.name for r in runs]


def test_runs_of_the_same_name_and_one_named_twice(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run")
    assert [r.label for r in read_runs([one, two, one])] == [str(one), str(two)]
    assert [r.label for r in read_runs([one, one / ".." / "run"])] == ["run"]


def test_the_milestone_is_where_the_curve_passes_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", evaluated=False)
    rows = [
        {"iteration": i, "return_before": -20.0, "return_after": value, "env_steps": 1000 * (i + 1), "wall_s": i + 1.0}
        for i, value in enumerate([-20.0] * 5 + [71.0] * 5 + [80.0] * 10)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # 0.9 of the way from -20 to 80 is 70: reached by the mean of five at the tenth.
    (record,) = read_runs([run])
    assert milestone(record) == Milestone(iteration=10, env_steps=10_000, wall_s=10.0)
    assert "to 90 % of the final score" in page_of(run)[1].texts("dt")
    for falling in (rows[:6], [{**row, "return_after": -30.0} for row in rows]):
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in falling))
        assert milestone(read_runs([run])[0]) is None
    # With an evaluation, the score's zero is the random initialisation's return before adaptation there.
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_evaluation(run, "half-cheetah-dir", "finn2017", 20, False, **{"random initialisation": {"mean": [60.0]}})
    assert milestone(read_runs([run])[0]).iteration == 14  # 78: (71 + 4 * 80) / 5 = 78.2


def test_a_run_has_one_colour_in_table_and_charts(tmp_path: Path) -> None:
    alone = write_run(tmp_path / "ant", env="ant-vel", protocol="modern")
    runs = [write_run(tmp_path / f"seed{i}", seed=i, evaluated=i > 0) for i in range(3)]
    records = read_runs([alone, *runs])
    chart = adaptation_chart(records[1:])
    assert [(s.label, s.colour) for s in chart.series[:2]] == [("seed1", "c1"), ("seed2", "c2")]
    learning = {s.label: s.colour for s in learning_charts(records[1:])[0].series}
    assert learning == {"seed0": "c0", "seed1": "c1", "seed2": "c2"}
    _, page = page_of(alone, *runs)
    assert [a["class"] for a in page.all("span")] == ["swatch c0", "swatch c1", "swatch c2"]

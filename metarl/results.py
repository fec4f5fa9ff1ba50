"""Records of finished runs, and the tables of README.md and docs made from them.

python -m metarl.results record RUN      write results/ENV-[ALGORITHM-]PROTOCOL-PRESET-seedN.json from an evaluated run;
                                         of supervised learning, results/supervised/...
python -m metarl.results random          measure untrained policies in the paper's environments
python -m metarl.results bench           measure speed against raw MuJoCo stepping
python -m metarl.results readme          rewrite the tables in the PAGES from results/
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .algorithms.registry import DEFAULT_ALGORITHM, algorithm_name
from .baselines import RECORD as BASELINE_RECORD
from .config import TrainConfig
from .evaluate import adaptation_path
from .learning_table import guided_starts_table, learning_table
from .metrics import read_metrics
from .presets import PRESETS, preset
from .run_tables import PAPER_MAML, results_table, summary_table
from .runs import open_run, read_json, versions, write_atomic
from .seeding import Purpose, generator_for, seed_for
from .start import start_changed
from .supervised import result_tables
from .supervised.records import is_supervised, record_file, supervised_record
from .train import init_meta_params
from .workers import Workers, core_count

RESULTS = Path("results")
SUPERVISED = "supervised"
"""Folder of the records of supervised learning within that of all."""
FINN_2017_BASELINES = ("fine-tune", "oracle")
"""Of the sinusoid; README.md shows these, docs/fewshot.md all learners."""
BEGIN, END = "<!-- {name}: made by '{maker}' -->", "<!-- end of {name} -->"
MAKER = "python -m metarl.results readme"

# Untrained policies in the files of Finn et al. 2017, before adaptation: mean and 95 % interval.
PAPER_RANDOM: dict[str, tuple[float, float]] = {
    "half-cheetah-dir": (-35.7, 1.3),
    "half-cheetah-vel": (-254.8, 36.0),
    "ant-dir": (3.1, 4.1),
    "ant-vel": (-78.6, 34.0),
}


def result_record(run_path: Path) -> dict[str, Any]:
    """One JSON-ready record of an evaluated run: how it was made, its learning curve, its held-out returns."""
    run, config = open_run(run_path)
    if not run.evaluation.exists():
        raise FileNotFoundError(f"{run_path} has not been evaluated; run: metarl evaluate {run_path}")
    evaluation = read_json(run.evaluation)
    made = read_json(run.config)
    rows = read_metrics(run.path / "metrics.jsonl")
    return {
        "env": config.env.name,
        "protocol": config.env.protocol,
        "algorithm": algorithm_name(config.algo),
        "preset": matching_preset(config),
        "seed": config.seed,
        "command": _train_command(made),
        "evaluate_command": evaluation["command"],
        "iterations": evaluation["iterations"],
        "env_steps": evaluation["env_steps"],
        "wall_s": evaluation["train_wall_s"],
        **_start(config),
        "cores": core_count(),
        "machine": platform.machine(),
        "versions": made["versions"],
        "config": made["config"],
        "curve": [
            {key: row[key] for key in ("iteration", "env_steps", "wall_s", "return_before", "return_after")}
            for row in rows
        ],
        "heldout": {
            "n_tasks": evaluation["n_tasks"],
            "trajectories": evaluation["trajectories"],
            "seed": evaluation["seed"],
            "mean": evaluation["meta-trained"]["mean"],
            "ci95": evaluation["meta-trained"]["ci95"],
            "groups": evaluation["groups"],
        },
        **_comparison(evaluation),
    }


def _train_command(made: dict[str, Any]) -> str:
    """The command of a run; of one that was resumed for more iterations, also the last that said how many.

    Resuming as such changes nothing.
    """
    longer = [again["command"] for again in made.get("resumed", []) if "--iterations" in again["command"]]
    return " && ".join([made["command"], *longer[-1:]])


def _start(config: TrainConfig) -> dict[str, Any]:
    """What it took to make the baseline that a run started from; empty for one that started from nothing.

    ValueError if another one has taken its place since.
    """
    made = Path(config.init) / BASELINE_RECORD
    if not config.init or not made.is_file():
        return {}
    if start_changed(config):
        raise ValueError(f"{config.init} is not the policy that the run started from; put that one back to record it")
    record = read_json(made)
    return {"start": {key: record[key] for key in ("command", "seed", "env_steps", "wall_s")}}


def _comparison(evaluation: dict[str, Any]) -> dict[str, Any]:
    """A record's baselines, and its score if the evaluation had an oracle (`metarl evaluate --baselines`)."""
    random = evaluation["random initialisation"]
    baselines = {"random": random["mean"], "random_ci95": random["ci95"]}
    if "score" not in evaluation:
        return {"baselines": baselines}
    pretrained, oracle = evaluation["pretrained"], evaluation["oracle"]
    baselines |= {
        "pretrained": pretrained["mean"],
        "pretrained_ci95": pretrained["ci95"],
        "oracle": oracle["mean"][0],
        "oracle_ci95": oracle["ci95"][0],
    }
    return {"baselines": baselines, "baselines_made": evaluation["baselines_made"], "score": evaluation["score"]}


def record_name(record: dict[str, Any]) -> str:
    """File name of a record; MAML-TRPO, which most are of, goes without its name."""
    algorithm = "" if record["algorithm"] == DEFAULT_ALGORITHM else f"{record['algorithm']}-"
    return f"{record['env']}-{algorithm}{record['protocol']}-{record['preset']}-seed{record['seed']}.json"


def matching_preset(config: TrainConfig) -> str:
    """The preset a config is of, "custom" if none; seed, number of iterations and where a start lies aside."""
    for name in PRESETS:
        candidate = preset(config.env.name, name, config.env.protocol, algorithm_name(config.algo))
        same = dataclasses.replace(
            candidate,
            seed=config.seed,
            iterations=config.iterations,
            checkpoint_every=config.checkpoint_every,
        )
        if same == dataclasses.replace(config, init=candidate.init if config.init else "", init_sha256=""):
            return name
    return "custom"


def random_returns(n_inits: int = 10, n_tasks: int = 40, trajectories: int = 20) -> dict[str, Any]:
    """Returns of untrained policies of the paper's size in its environments, beside the paper's own.

    The paper measured one network, so the interval to compare with is where one network's mean over goals falls:
    1.96 standard deviations over n_inits networks, each with its own goals. `ci95_of_mean` is that of the average.
    """
    workers = Workers(0)
    out: dict[str, Any] = {
        "command": "python -m metarl.results random",
        "protocol": "finn2017",
        "n_initialisations": n_inits,
        "n_tasks": n_tasks,
        "trajectories": trajectories,
        "versions": versions(),
        "environments": {},
    }
    for name, (paper_mean, paper_ci) in PAPER_RANDOM.items():
        config = preset(name, "paper")
        family = config.env.make()
        policy = config.policy.make(family)
        means = []
        spread = []
        for seed in range(n_inits):
            theta = policy.init(torch.Generator().manual_seed(seed))
            tasks = family.tasks.sample(n_tasks, generator_for(seed, Purpose.EVAL_TASKS))
            path = adaptation_path(
                config.algo,
                family,
                policy,
                init_meta_params(config.algo, theta),
                tasks,
                n_steps=0,
                trajectories=trajectories,
                seed=seed_for(seed, Purpose.EVAL),
                workers=workers,
            )
            means.append(float(path.returns[0].mean()))
            spread.append(float(1.96 * path.returns[0].std(ddof=1) / n_tasks**0.5))
        mean = float(np.mean(means))
        ci = float(1.96 * np.std(means, ddof=1))
        out["environments"][name] = {
            "mean": mean,
            "ci95": ci,
            "ci95_of_mean": ci / n_inits**0.5,
            "per_initialisation": means,
            "per_initialisation_ci95": spread,
            "paper_mean": paper_mean,
            "paper_ci95": paper_ci,
            "intervals_overlap": abs(mean - paper_mean) <= ci + paper_ci,
        }
    workers.close()
    return out


BENCHES = (
    ("rollout", "half-cheetah-dir"),
    ("rollout", "ant-dir"),
    ("iteration", "half-cheetah-dir"),
)


def bench_record(n_threads: int = 2) -> dict[str, Any]:
    """The benchmarks of the README, each in a process of its own, since peak memory is the process's."""
    out: dict[str, Any] = {
        "command": "python -m metarl.results bench",
        "cores": core_count(),
        "versions": versions(),
        "benches": [],
    }
    for kind, env in BENCHES:
        command = ["metarl", "bench", kind, "--env", env, "--threads", str(n_threads), "--json"]
        done = subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, text=True)
        out["benches"].append({"command": " ".join(command), "kind": kind, "env": env, **json.loads(done.stdout)})
    return out


def speed_table(record: dict[str, Any]) -> str:
    """Markdown: closed-loop stepping and a whole meta-iteration as ratios of raw stepping."""
    lines = ["| measured | figure | command |", "|---|---|---|"]
    for row in record["benches"]:
        if row["kind"] == "rollout":
            text = f"{row['ratio']:.2f} of open-loop stepping ({row['closed_loop_steps_per_s']:,.0f} steps/s)"
            what = f"{row['env']}: policies of all tasks in the loop"
        else:
            text = (
                f"{row['ratio']:.2f} x raw stepping ({row['iteration_s']:.1f} s), "
                f"{row['peak_memory_mb'] / 1000:.1f} GB peak memory"
            )
            what = f"{row['env']}: a whole meta-iteration"
        lines.append(f"| {what} | {text} | `{row['command']}` |")
    lines.append("")
    lines.append(
        f"40 tasks x 20 environments, {record['cores']} cores; raw stepping is `mujoco.rollout` with the same model, "
        "threads and number of steps, measured in the same run."
    )
    return "\n".join(lines)


def random_table(record: dict[str, Any]) -> str:
    """Markdown: untrained policies here and in the paper."""
    lines = ["| environment (finn2017) | untrained policy here | in the paper |", "|---|---|---|"]
    for name, row in record["environments"].items():
        lines.append(
            f"| {name} | {row['mean']:.1f} ± {row['ci95']:.1f} | {row['paper_mean']:.1f} ± {row['paper_ci95']:.1f} |"
        )
    lines.append("")
    counts = f"{record['n_initialisations']} untrained networks, ± the 95 % range of one network's mean over"
    lines.append(
        f"Mean return over {counts} {record['n_tasks']} goals; the paper's is one network. `{record['command']}`"
    )
    return "\n".join(lines)


def readme_text(text: str, blocks: dict[str, str], where: str = "README.md", maker: str = MAKER) -> str:
    """Text of a page with each named block of a maker replaced. ValueError if a block's markers are missing."""
    for name, content in blocks.items():
        begin, end = BEGIN.format(name=name, maker=maker), END.format(name=name)
        if begin not in text or end not in text:
            raise ValueError(f"{where} has no markers for {name!r}: {begin} ... {end}")
        head, rest = text.split(begin, 1)
        tail = rest.split(end, 1)[1]
        text = f"{head}{begin}\n{content}\n{end}{tail}"
    return text


def readme_blocks(folder: Path = RESULTS) -> dict[str, str]:
    """The README's generated blocks from the records in a folder."""
    records = run_records(folder)
    of_paper = [r for r in supervised_records(folder) if r["learner"] in ("maml", *FINN_2017_BASELINES)]
    return {
        "summary": summary_table(records),
        "random returns": random_table(read_json(folder / "random-finn2017.json")),
        "speed": speed_table(read_json(folder / "bench.json")),
        "few-shot": result_tables.compact_table(supervised_records(folder)),
        "sinusoid": result_tables.sinusoid_table(of_paper),
    }


def results_blocks(folder: Path = RESULTS) -> dict[str, str]:
    """The generated block of docs/results.md from the records in a folder."""
    return {"results": results_table(run_records(folder))}


def fewshot_blocks(folder: Path = RESULTS) -> dict[str, str]:
    """The generated blocks of docs/fewshot.md from the records in a folder."""
    records = supervised_records(folder)
    return {
        "sinusoid": result_tables.sinusoid_table(records),
        "characters": result_tables.omniglot_table(records, "characters"),
        "alphabets": result_tables.omniglot_table(records, "alphabets"),
        "lake": result_tables.lake_table(read_json(folder / "lake.json")),
        "sources": result_tables.sources(),
        "speed": result_tables.peers_table(read_json(folder / "supervised_peers.json")),
        "commands": result_tables.commands(records),
    }


def learning_blocks(folder: Path = RESULTS) -> dict[str, str]:
    """The generated blocks of docs/learning.md from the records in a folder."""
    records = run_records(folder)
    return {
        "learning": learning_table(records, PAPER_MAML),
        "guided starts": guided_starts_table(read_json(folder / "guided-starts.json")),
    }


PAGES = {
    Path("README.md"): readme_blocks,
    Path("docs/results.md"): results_blocks,
    Path("docs/fewshot.md"): fewshot_blocks,
    Path("docs/learning.md"): learning_blocks,
}
"""What has generated blocks."""


def run_records(folder: Path) -> list[dict[str, Any]]:
    """All records of meta-trained policies."""
    return [read_json(path) for path in sorted(folder.glob("*-seed*.json"))]


def supervised_records(folder: Path) -> list[dict[str, Any]]:
    """All records of supervised learning."""
    return [read_json(path) for path in sorted((folder / SUPERVISED).glob("*.json"))]


def main(argv: Sequence[str]) -> int:
    """Run a subcommand; returns the exit code."""
    if len(argv) == 2 and argv[0] == "record":
        if is_supervised(Path(argv[1])):
            record = supervised_record(Path(argv[1]))
            path = RESULTS / SUPERVISED / record_file(record)
        else:
            record = result_record(Path(argv[1]))
            path = RESULTS / record_name(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(record, indent=1) + "\n")
        print(path)
        return 0
    if list(argv) == ["random"]:
        RESULTS.mkdir(exist_ok=True)
        record = random_returns()
        write_atomic(RESULTS / "random-finn2017.json", json.dumps(record, indent=1) + "\n")
        print(random_table(record))
        return 0
    if list(argv) == ["bench"]:
        RESULTS.mkdir(exist_ok=True)
        record = bench_record()
        write_atomic(RESULTS / "bench.json", json.dumps(record, indent=1) + "\n")
        print(speed_table(record))
        return 0
    if list(argv) == ["readme"]:
        for path, blocks in PAGES.items():
            write_atomic(path, readme_text(path.read_text(), blocks(), path.name))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"metarl.results: {error}")

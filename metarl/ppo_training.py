"""Train a baseline with Stable-Baselines3's PPO on the batched environments and keep it as a policy folder."""

from __future__ import annotations

import dataclasses
import io
import math
import pickle
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metarl.policies.normaliser import CLIP

from .baselines import RECORD, BaselineConfig
from .config import TrainConfig, config_from_dict, config_to_dict
from .interrupts import interrupts_deferred, sigterm_as_interrupt
from .runs import RunFolder, exclusive, json_text, read_json, versions, write_atomic
from .saved_policy import save_policy
from .seeding import Purpose, seed_for
from .workers import core_count, one_torch_thread

if TYPE_CHECKING:  # importing it takes seconds
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecNormalize

FORMAT = 1
SB3_MODEL, SB3_SCALING = "sb3_model.zip", "vec_normalize.pkl"
SAVE_EVERY = 20
"""Updates between two savings of what there is."""


@dataclass(frozen=True)
class CurvePoint:
    """One update's episodes, before the update."""

    env_steps: int
    """Environment steps so far."""
    wall_s: float
    """Wall time so far (s)."""
    mean_return: float
    """Undiscounted return, sampled actions, averaged over episodes of new training tasks."""
    episode_length: float
    """Mean control steps an episode."""
    mean_std: float
    """Mean standard deviation of the actions."""


def train_baseline(
    config: BaselineConfig,
    out: Path,
    *,
    n_threads: int = 0,
    command: str = "",
    replace: bool = False,
    resume: bool = False,
    on_start: Callable[[], None] | None = None,
    on_update: Callable[[CurvePoint], None] | None = None,
) -> Path:
    """Train a policy on a new training task each episode and write it to a folder, which is returned.

    The folder holds model.safetensors and config.json (`metarl.load_policy` reads them), baseline.json (settings,
    learning curve, versions), and for SB3 sb3_model.zip and vec_normalize.pkl. torch runs on one thread, MuJoCo on
    n_threads (0: one per core), which does not change the results. SB3 seeds the global generators. on_start is called
    once nothing is in the way of training, on_update after each update.

    What there is is written every SAVE_EVERY updates, and at a KeyboardInterrupt (Ctrl-C, SIGTERM), which is raised
    again. resume continues from there, with new random numbers: not bit for bit what an uninterrupted run gives.
    Raises ValueError if the folder holds a baseline already and is neither to be replaced nor resumed, or cannot be
    resumed with this config; FileNotFoundError if there is none to resume; OSError if it cannot be written.
    """
    minibatch_size(config)  # what cannot be trained is an error before anything is written
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write to {out}: {error.strerror or error}; choose another with --out") from error
    with exclusive(RunFolder(out)), sigterm_as_interrupt(), one_torch_thread():
        if not (replace or resume) and (out / RECORD).exists():
            raise ValueError(f"{out} holds a baseline already; choose another --out, or --replace or --resume it")
        before = resumable(config, out) if resume else None
        model, env = make_ppo(config, n_threads)
        start, curve = time.perf_counter(), []
        if before is not None:
            restore(model, env, out, before)
            curve = [CurvePoint(**point) for point in before["curve"]]
            start, command = start - before["wall_s"], f"{before['command']} && {command}"
        if on_start is not None:
            on_start()

        def report(point: CurvePoint) -> None:
            curve.append(point)
            if on_update is not None:
                on_update(point)
            if len(curve) % SAVE_EVERY == 0:
                save(finished=False)

        def save(finished: bool) -> None:
            record = {
                "format": FORMAT,
                "kind": config.kind,
                "config": config_to_dict(config),
                "seed": config.seed,
                "command": command,
                "finished": finished,
                "env_steps": model.num_timesteps,
                "wall_s": time.perf_counter() - start,
                "cores": core_count(),
                "curve": [dataclasses.asdict(point) for point in curve],
                "versions": versions(),
            }
            with interrupts_deferred():
                save_baseline(out, config, model, env, record)

        try:
            model.learn(
                config.steps - model.num_timesteps,
                callback=_curve_callback(env, start, report),
                reset_num_timesteps=before is None,
            )
        except KeyboardInterrupt:
            save(finished=False)
            raise KeyboardInterrupt(
                f"interrupted after {model.num_timesteps:,} steps; the policy so far is in {out}; --resume goes on"
            ) from None
        finally:
            env.close()
        save(finished=True)
    return out


def make_ppo(config: BaselineConfig, n_threads: int = 0) -> tuple[PPO, VecNormalize]:
    """SB3's PPO for a baseline and its environments, which scale observations and rewards."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.utils import LinearSchedule
    from stable_baselines3.common.vec_env import VecNormalize

    from metarl.envs import MetaSB3VecEnv

    ppo, env = config.ppo, config.env
    tasks = MetaSB3VecEnv(
        env.name,
        ppo.envs,
        protocol=env.protocol,
        oracle=env.oracle,
        horizon=env.horizon or None,
        n_threads=n_threads,
    )
    scaled = VecNormalize(tasks, clip_obs=CLIP, gamma=ppo.discount)
    horizon = tasks.vector_env.horizon
    batch_size = minibatch_size(config)
    with warnings.catch_warnings():
        # The last minibatch may be a few steps smaller than the others.
        warnings.filterwarnings("ignore", message="You have specified a mini-batch size")
        model = PPO(
            "MlpPolicy",
            scaled,
            learning_rate=LinearSchedule(ppo.learning_rate, 0.0, 1.0),
            n_steps=horizon,
            batch_size=batch_size,
            n_epochs=ppo.epochs,
            gamma=ppo.discount,
            gae_lambda=ppo.gae_lambda,
            clip_range=ppo.clip_range,
            ent_coef=ppo.entropy_coef,
            policy_kwargs={
                "net_arch": {"pi": list(ppo.hidden_sizes), "vf": list(ppo.value_hidden_sizes)},
                "activation_fn": torch.nn.Tanh,
                "log_std_init": math.log(ppo.init_std),
            },
            seed=_sb3_seed(config.seed),
            device="cpu",
        )
    return model, scaled


def _sb3_seed(seed: int, *index: int) -> int:
    """A seed in the range that SB3 takes."""
    return int(seed_for(seed, Purpose.INIT, *index).generate_state(1)[0] >> 1)


def resumable(config: BaselineConfig, out: Path) -> dict[str, Any]:
    """The record of a baseline that training can go on from.

    Raises FileNotFoundError if there is none, ValueError if it is one of other settings or has all the steps already.
    """
    record = read_record(out)
    made = config_from_dict(config, record["config"], str(out / RECORD))
    if dataclasses.replace(made, steps=config.steps) != config:
        article = "an" if made.kind == "oracle" else "a"
        raise ValueError(
            f"{out} is {article} {made.kind} of {made.env.name} ({made.env.protocol}) made with other settings; to go "
            "on with those, leave out --ppo and --seed"
        )
    if record["env_steps"] >= config.steps:
        raise ValueError(f"{out} has {record['env_steps']:,} steps already; to go on, give more with --steps")
    return record


def read_record(out: Path) -> dict[str, Any]:
    """baseline.json of a folder to resume. FileNotFoundError if there is none, ValueError if something is missing."""
    if not (out / RECORD).is_file():
        raise FileNotFoundError(f"there is no baseline {out} to resume; leave out --resume to start one")
    record = read_json(out / RECORD)
    needed = ("config", "seed", "command", "env_steps", "wall_s", "curve")
    lacking = [key for key in needed if not isinstance(record, dict) or key not in record]
    lacking += [name for name in (SB3_MODEL, SB3_SCALING) if not (out / name).is_file()]
    if lacking:
        raise ValueError(f"{out} cannot be resumed: it lacks {', '.join(lacking)}; make it anew with --replace")
    return record


def restore(model: PPO, env: VecNormalize, out: Path, record: dict[str, Any]) -> None:
    """Put weights, optimiser, scaling and step count of a saved baseline into a new one."""
    from stable_baselines3.common.vec_env import VecNormalize

    model.set_parameters(str(out / SB3_MODEL), device="cpu")
    saved = VecNormalize.load(str(out / SB3_SCALING), env.venv)
    env.obs_rms, env.ret_rms = saved.obs_rms, saved.ret_rms
    model.num_timesteps = record["env_steps"]
    # Not the tasks and noise of the start once more.
    model.set_random_seed(_sb3_seed(record["seed"], record["env_steps"]))


def minibatch_size(config: BaselineConfig) -> int:
    """Steps in a minibatch. ValueError if there would be only one: SB3 divides by the spread of its advantages."""
    ppo, horizon = config.ppo, config.env.make().spec.horizon
    size = math.ceil(ppo.envs * horizon / ppo.minibatches)
    if size < 2:
        raise ValueError(
            f"{ppo.envs} episodes of {horizon} steps make {ppo.minibatches} minibatches of one step; "
            f"minibatches must be at most {ppo.envs * horizon // 2}"
        )
    return size


def _curve_callback(
    env: VecNormalize, start: float, report: Callable[[CurvePoint], None]
) -> Callable[[dict[str, Any], dict[str, Any]], bool]:
    """What SB3 calls after every step of all environments: sums rewards, and reports when an update's are complete."""
    running, length = np.zeros(env.num_envs), np.zeros(env.num_envs)
    returns: list[float] = []
    lengths: list[float] = []

    def on_step(scope: dict[str, Any], _: dict[str, Any]) -> bool:
        running[:] += env.get_original_reward()
        length[:] += 1
        done = scope["dones"]
        if done.any():
            returns.extend(running[done])
            lengths.extend(length[done])
            running[done] = length[done] = 0
        if scope["n_steps"] + 1 == scope["n_rollout_steps"]:
            model: PPO = scope["self"]
            log_std = model.policy.log_std
            assert isinstance(log_std, torch.Tensor)
            point = CurvePoint(
                env_steps=model.num_timesteps,
                wall_s=time.perf_counter() - start,
                mean_return=float(np.mean(returns)),
                episode_length=float(np.mean(lengths)),
                mean_std=float(log_std.detach().exp().mean()),
            )
            returns.clear()
            lengths.clear()
            report(point)
        return True

    return on_step


def save_baseline(out: Path, config: BaselineConfig, model: PPO, env: VecNormalize, record: dict[str, Any]) -> None:
    """Write the folder of a baseline; its record comes last, when all else is there."""
    from metarl.policies.sb3 import gaussian_mlp_from_sb3

    network, theta = gaussian_mlp_from_sb3(model.policy, env)
    buffer = io.BytesIO()
    model.save(buffer)
    facts = {"kind": f"{config.kind} baseline", "env_steps": record["env_steps"], "seed": config.seed}
    save_policy(out, TrainConfig(env=config.env, policy=config.policy, seed=config.seed), network, theta, extra=facts)
    try:
        write_atomic(out / SB3_MODEL, buffer.getvalue())
        write_atomic(out / SB3_SCALING, pickle.dumps(env))
        write_atomic(out / RECORD, json_text(record))
    except OSError as error:
        raise OSError(f"cannot write the baseline {out}: {error.strerror or error}") from error

"""Exported policies: the same actions as ours in Stable-Baselines3, ONNX Runtime and plain PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import call, fails, train_small
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from metarl import SavedPolicy, load_policy
from metarl.config import EnvConfig
from metarl.envs import MetaEnv, MetaSB3VecEnv
from metarl.export import SUFFIX, TARGETS, Target, export_policy
from metarl.policies import GaussianMLP, ObsNormaliser
from metarl.policies.sb3 import gaussian_mlp_from_sb3

Predict = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def policy_of(activation: str = "tanh", scaled: bool = True, env: str = "half-cheetah-vel") -> SavedPolicy:
    """Weights, noise and scaling that are not the initial ones, of a size that makes many actions reach the bounds."""
    config = EnvConfig(env)
    spec = config.make().spec
    rng = np.random.default_rng(0)
    mean, std = rng.normal(0.0, 0.7, spec.obs_dim), rng.choice([0.05, 0.4, 3.0], spec.obs_dim)
    constants = [torch.tensor(values, dtype=torch.float32).tolist() for values in (mean, std)]
    normaliser = ObsNormaliser(*map(tuple, constants)) if scaled else None
    network = GaussianMLP(spec.obs_dim, spec.act_dim, (100, 64), activation, normaliser=normaliser)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    theta = network.init(generator) * 1.2 + 0.05 * torch.randn(network.layout.size, generator=generator)
    return SavedPolicy(config, network, theta, None, None, {})


def observations(policy: SavedPolicy) -> np.ndarray:
    """float64, as our environments give; a third within the clip of the scaling, the others far outside."""
    rng = np.random.default_rng(1)
    scale = rng.choice([0.5, 10.0, 200.0], (600, 1))
    normaliser, dim = policy.network.normaliser, policy.network.obs_dim
    if normaliser is None:
        return np.minimum(scale, 2.0) * rng.normal(size=(600, dim))  # float32 rounds larger ones more coarsely
    obs = normaliser.mean + np.array(normaliser.std) * scale * rng.normal(size=(600, dim))
    scaled = (obs - normaliser.mean) / normaliser.std
    assert (np.abs(scaled) < 5).all(1).sum() > 150
    assert (np.abs(scaled) > 5).any(1).sum() > 300
    return obs


def predictor(to: Target, path: Path) -> Predict:
    """The exported file as its own library runs it."""
    if to == "sb3":
        model = PPO.load(path, device="cpu")
        return lambda obs: model.predict(obs, deterministic=True)[0]
    if to == "onnx":
        runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda obs: session.run(["action"], {"obs": obs.astype(np.float32)})[0]
    module = torch.export.load(path).module() if to == "pt2" else _load_torchscript(path)
    return lambda obs: module(torch.from_numpy(obs.astype(np.float32))).numpy()


def _load_torchscript(path: Path) -> torch.nn.Module:
    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        return torch.jit.load(path)


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_actions_are_the_same(to: Target, activation: str, scaled: bool, tmp_path: Path) -> None:
    if to == "onnx":
        pytest.importorskip("onnx", reason="needs the extra 'export'")
    policy = policy_of(activation, scaled)
    obs = observations(policy)
    expected = policy.act(obs)
    assert (np.abs(expected) == 1).any(), "no action was clipped"
    assert (np.abs(expected) < 1).mean() > 0.2
    written = export_policy(policy, to, tmp_path / f"policy{SUFFIX[to]}")
    predict = predictor(to, written.model)
    for n in (1, 600):  # any size of batch
        np.testing.assert_allclose(predict(obs[:n]), expected[:n], rtol=0, atol=1e-6)
    facts = json.loads(written.facts.read_text())
    assert (facts["format"], facts["env"], facts["obs_dim"]) == (to, "half-cheetah-vel", obs.shape[1])


@pytest.mark.parametrize("to", TARGETS)
def test_a_context_is_part_of_the_first_bias(to: Target, tmp_path: Path) -> None:
    if to == "onnx":
        pytest.importorskip("onnx", reason="needs the extra 'export'")
    plain = policy_of()
    network = replace(plain.network, context_dim=2, context_scale=3.0)
    named = plain.network.layout.unflatten(plain.theta)
    context, weight = torch.tensor([0.1, -0.2]), torch.randn(2, 100, generator=torch.Generator().manual_seed(1))
    theta = network.layout.flatten({**named, "context": context, "context_weight": weight})
    policy = SavedPolicy(plain.env, network, theta, None, None, {})
    obs = observations(policy)
    expected = policy.act(obs)
    assert np.abs(expected - plain.act(obs)).max() > 0.1
    written = export_policy(policy, to, tmp_path / f"policy{SUFFIX[to]}")
    np.testing.assert_allclose(predictor(to, written.model)(obs), expected, rtol=0, atol=1e-6)


def test_scaling_beside_the_model_is_a_vec_normalize(tmp_path: Path) -> None:
    policy = policy_of()
    obs = observations(policy)
    written = export_policy(policy, "sb3", tmp_path / "policy.zip", scaling="beside")
    assert written.scaling == tmp_path / "policy-vecnormalize.pkl"
    env = VecNormalize.load(str(written.scaling), DummyVecEnv([lambda: MetaEnv("half-cheetah-vel")]))
    assert not env.training
    model = PPO.load(written.model, env, device="cpu")
    actions, _ = model.predict(env.normalize_obs(obs), deterministic=True)
    np.testing.assert_allclose(actions, policy.act(obs), rtol=0, atol=1e-6)
    back = SavedPolicy(policy.env, *gaussian_mlp_from_sb3(model.policy, env), None, None, {})
    np.testing.assert_allclose(back.act(obs), policy.act(obs), rtol=0, atol=1e-6)


def test_an_exported_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    policy = policy_of()
    written = export_policy(policy, "sb3", tmp_path / "policy.zip")
    network, theta = gaussian_mlp_from_sb3(PPO.load(written.model, device="cpu").policy)
    assert torch.equal(theta, policy.theta)
    assert network.normaliser == policy.network.normaliser
    assert network.sizes == policy.network.sizes


def test_the_noise_is_ours_with_its_floor(tmp_path: Path) -> None:
    config = EnvConfig("point-nav")
    network = GaussianMLP(2, 2, (8,), min_log_std=-1.0)
    theta = network.init(torch.Generator().manual_seed(0))
    theta[network.layout.slices["log_std"]] = torch.tensor([-3.0, 0.5])
    written = export_policy(SavedPolicy(config, network, theta, None, None, {}), "sb3", tmp_path / "p.zip")
    assert PPO.load(written.model, device="cpu").policy.log_std.tolist() == [-1.0, 0.5]


FRESH = """
import sys
if sys.argv[2] == "without metarl":
    class Blocked:
        def find_spec(self, name, *_):
            if name.split(".")[0] == "metarl":
                raise ImportError("metarl is not there")
    sys.meta_path.insert(0, Blocked())
import numpy as np
from stable_baselines3 import PPO
model = PPO.load(sys.argv[1], device="cpu")
if sys.argv[2] == "without metarl":
    import pickle
    scaling = pickle.load(open(sys.argv[1].replace(".zip", "-vecnormalize.pkl"), "rb"))
    obs = scaling.normalize_obs(np.load(sys.argv[3]))
else:
    obs = np.load(sys.argv[3])
np.save(sys.argv[3], model.predict(obs, deterministic=True)[0])
"""


@pytest.mark.parametrize(("scaling", "how"), [("inside", "with metarl"), ("beside", "without metarl")])
def test_it_loads_in_a_fresh_process(scaling: str, how: str, tmp_path: Path) -> None:
    policy = policy_of()
    written = export_policy(policy, "sb3", tmp_path / "policy.zip", scaling=scaling)  # type: ignore[arg-type]
    obs = observations(policy)
    np.save(tmp_path / "obs.npy", obs)
    command = [sys.executable, "-c", FRESH, str(written.model), how, str(tmp_path / "obs.npy")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "obs.npy"), policy.act(obs), rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of point navigation, with scaled observations."""
    return train_small(tmp_path_factory.mktemp("export") / "run")


@pytest.mark.parametrize("to", ["sb3", "pt2"])
def test_the_command_adapts_as_metarl_adapt_does(
    to: Target, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--task", "0.3,-0.2", "--steps", "2", "--seed", "3")
    assert call(capsys, "adapt", run, *options, "--out", tmp_path / "adapted")[0] == 0
    code, out, err = call(capsys, "export", run, *options, "--to", to)
    path = run / "exports" / f"0.3_-0.2{SUFFIX[to]}"
    assert (code, out, err) == (0, f"{to}: {path}\n", "")
    adapted = load_policy(tmp_path / "adapted")
    obs = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_allclose(predictor(to, path)(obs), adapted.act(obs), rtol=0, atol=1e-6)
    facts = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert facts["task"] == [0.3, -0.2]
    assert facts["return_after_steps"] == adapted.record["return_after_steps"]
    # The adapted policy's own folder gives the same file's actions.
    assert call(capsys, "export", tmp_path / "adapted", "--to", to, "--quiet")[0] == 0
    again = tmp_path / "adapted" / "exports" / f"adapted{SUFFIX[to]}"
    np.testing.assert_array_equal(predictor(to, again)(obs), predictor(to, path)(obs))


def test_the_command_exports_an_initialisation(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    obs = np.random.default_rng(0).normal(size=(50, 2))
    for folder in (run, run / "policy"):
        assert call(capsys, "export", folder, "--to", "sb3", "--out", tmp_path / "p.zip")[0] == 0
        np.testing.assert_allclose(predictor("sb3", tmp_path / "p.zip")(obs), load_policy(run).act(obs), atol=1e-6)
    code, out, _ = call(capsys, "export", "half-cheetah-dir", "--pretrained", "--to", "pt2", "--quiet")
    assert (code, out) == (0, "exports/half-cheetah-dir-modern-initialisation.pt2\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--to", "sb3", "--out", "p.onnx"], "must end in .zip"),
        (["--to", "onnx", "--scaling", "beside", "--out", "p.onnx"], "goes with sb3 only"),
        (["--to", "keras"], "--to is 'keras'; allowed: sb3, onnx, pt2, torchscript"),
        (["--to", "sb3", "--task", "far away"], "not a list of numbers"),
        (["--to", "sb3", "--protocol", "modern"], "goes with --pretrained only"),
    ],
)
def test_wrong_options(argv: list[str], said: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(run.parent.rglob("*"))
    assert said in fails(capsys, "export", run, *argv)
    assert sorted(run.parent.rglob("*")) == before


def test_an_adapted_policy_is_not_adapted_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "adapt", run, "--task", "0,0", "--out", tmp_path / "a")
    assert "cannot be adapted" in fails(capsys, "export", tmp_path / "a", "--task", "0,0", "--to", "sb3")


def test_without_the_onnx_package(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install metarl[export]" in fails(capsys, "export", run, "--to", "onnx")


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("scaling", ["inside", "beside"])
def test_sb3_fine_tunes_it_further(scaling: str, tmp_path: Path) -> None:
    """From a policy that stands still, on the task it is to be adapted to: PPO must halve the distance travelled."""
    goal = (0.4, 0.4)
    config = EnvConfig("point-nav", horizon=20)
    normaliser = ObsNormaliser((0.1, 0.0), (0.3, 0.2))
    network = GaussianMLP(2, 2, (32, 32), init_log_std=-0.7, output_scale=0.01, normaliser=normaliser)
    policy = SavedPolicy(config, network, network.init(torch.Generator().manual_seed(0)), np.array(goal), None, {})
    written = export_policy(policy, "sb3", tmp_path / "policy.zip", scaling=scaling)  # type: ignore[arg-type]
    env = VecMonitor(MetaSB3VecEnv("point-nav", 8, task=goal, horizon=20))
    vec = env if written.scaling is None else VecNormalize.load(str(written.scaling), env)
    model = PPO.load(written.model, vec, device="cpu", learning_rate=3e-3, gamma=0.9)
    before = evaluate_policy(model, vec, n_eval_episodes=8)[0]
    model.learn(20 * 8 * 20)
    assert before < -10
    assert evaluate_policy(model, vec, n_eval_episodes=8)[0] > 0.5 * before
    network, _ = gaussian_mlp_from_sb3(model.policy, vec if isinstance(vec, VecNormalize) else None)
    torch.testing.assert_close(network.normaliser.mean, normaliser.mean)  # the scaling stays as it was
    torch.testing.assert_close(network.normaliser.std, normaliser.std)

"""MAML, first-order MAML, ANIL and Meta-SGD: closed form, finite differences, and a plain loop over tasks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from metarl.policies import ParamLayout
from metarl.supervised import objective
from metarl.supervised.anil import anil
from metarl.supervised.conv4 import Conv4
from metarl.supervised.episodes import Episodes, Examples
from metarl.supervised.first_order import first_order_maml
from metarl.supervised.maml import MAML
from metarl.supervised.meta_sgd import MetaSGD
from metarl.supervised.networks import MLP, Network, linear
from metarl.supervised.objective import losses_of

REGRESSION = MLP(1, 1, (6, 5), init_std=0.8)
WITH_NORM = MLP(2, 3, (6, 5), norm=True, init_std=0.8)
CONV = Conv4((1, 8, 8), 3, filters=4)

LEARNERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "maml": (MAML(REGRESSION, 0.1, 3), (1,)),
    "maml norm": (MAML(WITH_NORM, 0.3, 2), (2,)),
    "maml all": (MAML(WITH_NORM, 0.3, 2, adapts="all"), (2,)),
    "maml inductive": (MAML(WITH_NORM, 0.3, 2, statistics="inductive"), (2,)),
    "maml conv": (MAML(CONV, 0.3, 2), (1, 8, 8)),
    "maml conv inductive": (MAML(CONV, 0.3, 2, statistics="inductive"), (1, 8, 8)),
    "maml conv scaled": (MAML(Conv4((1, 8, 8), 3, filters=4, scale=True), 0.3, 2, adapts="all"), (1, 8, 8)),
    "anil": (anil(REGRESSION, 0.1, 3), (1,)),
    "anil inductive": (anil(CONV, 0.3, 3, "inductive"), (1, 8, 8)),
    "meta-sgd": (MetaSGD(REGRESSION, 0.1, 2), (1,)),
    "meta-sgd conv": (MetaSGD(CONV, 0.3), (1, 8, 8)),
}


def episodes_for(learner: Any, shape: tuple[int, ...], n_tasks: int = 3, seed: int = 0) -> Episodes:
    """Random tasks in float64, two examples a class, or six points."""
    generator = torch.Generator().manual_seed(seed)

    def examples() -> Examples:
        x = torch.randn(n_tasks, 6, *shape, generator=generator, dtype=torch.float64)
        if learner.network.outputs == 1:
            return Examples(x, torch.randn(n_tasks, 6, 1, generator=generator, dtype=torch.float64))
        return Examples(x, torch.arange(3).repeat_interleave(2).expand(n_tasks, -1))

    return Episodes(examples(), examples())


def params_for(learner: Any) -> dict[str, Tensor]:
    """Random meta-parameters in float64."""
    generator = torch.Generator().manual_seed(1)
    params = {name: value.double() for name, value in learner.init(generator).items()}
    params["theta"] = params["theta"] + 0.1 * torch.randn(params["theta"].shape, generator=generator).double()
    return params


@pytest.fixture(params=LEARNERS)
def case(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Tensor], Episodes]:
    learner, shape = LEARNERS[request.param]
    return learner, params_for(learner), episodes_for(learner, shape)


def plain_objective(learner: Any, params: dict[str, Tensor], episodes: Episodes) -> Tensor:
    """Mean query loss of adapted tasks, one task after the other, parameter by parameter."""
    network: Network = learner.network
    adapting = [name for name, _ in network.layout.entries]
    if learner.adapts == "weights":
        adapting = [name for name in adapting if name not in network.norm_names]
    elif learner.adapts == "head":
        adapting = list(network.head_names)
    losses = []
    for i in range(len(episodes.support.x)):
        at = dict(network.layout.unflatten(params["theta"]))
        alpha: Any = dict.fromkeys(adapting, learner.step_size)
        if "step_sizes" in params:
            shapes = [(name, shape) for name, shape in network.layout.entries if name in adapting]
            pieces = params["step_sizes"].split([int(torch.tensor(shape).prod()) for _, shape in shapes])
            alpha = {name: piece.view(shape) for (name, shape), piece in zip(shapes, pieces, strict=True)}

        def loss(at: Any, examples: Examples, moments: Any = None, i: int = i) -> Tensor:
            out, y = network(at, examples.x[i : i + 1], moments)[0], examples.y[i]
            return (out - y).square().mean() if y.is_floating_point() else cross_entropy(out, y)

        for _ in range(learner.steps):
            gradients = torch.autograd.grad(
                loss(at, episodes.support), [at[name] for name in adapting], create_graph=True
            )
            for name, gradient in zip(adapting, gradients, strict=True):
                gradient = gradient.detach() if learner.first_order else gradient
                at[name] = at[name] - alpha[name] * gradient
        moments = None
        if learner.statistics == "inductive":
            moments = network.features(at, episodes.support.x[i : i + 1])[1]
        losses.append(loss(at, episodes.query, moments))
    return torch.stack(losses).mean()


def check_against_plain(learner: Any, params: dict[str, Tensor], episodes: Episodes) -> None:
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    objective = plain_objective(learner, leaves, episodes)
    expected = torch.autograd.grad(objective, list(leaves.values()))
    found = learner.meta_gradient(params, episodes, 0.0)
    torch.testing.assert_close(found.objective, objective.detach())
    assert list(found.gradient) == list(params)
    torch.testing.assert_close(tuple(found.gradient.values()), expected)
    assert found.replaced == {}


def test_the_meta_gradient_is_that_of_a_plain_loop(case) -> None:
    check_against_plain(*case)


@pytest.mark.parametrize("network", [REGRESSION, WITH_NORM])
def test_the_first_order_meta_gradient_is_that_of_a_plain_loop_with_detached_gradients(network: MLP) -> None:
    learner = first_order_maml(network, 0.2, 3)
    check_against_plain(learner, params_for(learner), episodes_for(learner, (network.input_dim,)))


def test_the_first_order_meta_gradient_is_the_query_gradient_where_adaptation_ends() -> None:
    learner = first_order_maml(REGRESSION, 0.2, 3)
    params, episodes = params_for(learner), episodes_for(learner, (1,))
    adapted = learner.adapt(params, episodes.support)
    fast = adapted.fast.detach().requires_grad_()
    loss = (REGRESSION(fast, episodes.query.x) - episodes.query.y).square().mean()
    torch.testing.assert_close(
        learner.meta_gradient(params, episodes, 0.0).gradient["theta"], torch.autograd.grad(loss, fast)[0].sum(0)
    )


def test_the_meta_gradient_agrees_with_finite_differences(case) -> None:
    learner, params, episodes = case
    gradient = learner.meta_gradient(params, episodes, 0.0).gradient
    h = 1e-6
    for name, value in params.items():
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(2)).double()
        ends = [
            learner.meta_gradient({**params, name: value + s * h * direction}, episodes, 0.0).objective for s in (1, -1)
        ]
        numeric = float(ends[0] - ends[1]) / (2 * h)
        assert float((gradient[name] * direction).sum()) == pytest.approx(numeric, rel=1e-5, abs=1e-8)


def test_k_steps_on_a_quadratic_contract_the_meta_gradient() -> None:
    """A linear model y = W x + b has the loss |A w - y|^2 / n: the meta-gradient is (I - alpha H)^k grad L_query."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 5, 2, generator=generator).double(), torch.randn(1, 5, 1, generator=generator).double()
    learner, k = MAML(Linear(), 0.1, 4), 4
    theta = torch.tensor([0.3, -0.2, 0.5]).double()
    design = torch.cat([x[0], torch.ones(5, 1).double()], 1)
    hessian = 2 * design.t() @ design / 5
    contraction = torch.eye(3).double() - 0.1 * hessian
    optimum = torch.linalg.solve(hessian, 2 * design.t() @ y[0, :, 0] / 5)
    expected_end = optimum + torch.linalg.matrix_power(contraction, k) @ (theta - optimum)
    support, query = Examples(x, y), Examples(x + 1, y * 2)
    query_design = torch.cat([x[0] + 1, torch.ones(5, 1).double()], 1)
    at_end = 2 * query_design.t() @ (query_design @ expected_end - 2 * y[0, :, 0]) / 5
    torch.testing.assert_close(learner.adapt({"theta": theta}, support).fast[0], expected_end)
    found = learner.meta_gradient({"theta": theta}, Episodes(support, query), 0.0)
    torch.testing.assert_close(found.gradient["theta"], torch.linalg.matrix_power(contraction, k) @ at_end)


class Linear:
    """A network whose features are its inputs: the head is all there is."""

    outputs, feature_dim = 1, 2
    norm_names: tuple[str, ...] = ()
    head_names = ("head.weight", "head.bias")
    layout = ParamLayout((("head.weight", (2, 1)), ("head.bias", (1,))))

    def init(self, generator: torch.Generator) -> Tensor:
        return torch.randn(3, generator=generator)

    def features(self, params: Any, x: Tensor, moments: Any = None) -> tuple[Tensor, tuple[()]]:
        return x, ()

    def head(self, params: Any, features: Tensor) -> Tensor:
        return linear(features, params["head.weight"], params["head.bias"])

    def __call__(self, params: Any, x: Tensor, moments: Any = None) -> Tensor:
        return self.head(self.layout.unflatten(params), x)


@pytest.mark.parametrize("name", ["maml conv", "anil inductive", "meta-sgd"])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_few_tasks_at_a_time_give_the_gradient_of_all(
    name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, shape = LEARNERS[name]
    params, episodes = params_for(learner), episodes_for(learner, shape, n_tasks=5)
    whole = learner.meta_gradient(params, episodes, 0.0)
    monkeypatch.setattr(objective, "PIXELS_AT_ONCE", at_once * 12 * math.prod(shape))
    parts = learner.meta_gradient(params, episodes, 0.0)
    torch.testing.assert_close(parts.objective, whole.objective)
    assert parts.gradient.keys() == whole.gradient.keys()
    for key, value in whole.gradient.items():
        torch.testing.assert_close(parts.gradient[key], value)


@pytest.mark.parametrize("name", LEARNERS)
def test_one_adaptation_gives_every_number_of_steps(name: str) -> None:
    learner, shape = LEARNERS[name]
    episodes = episodes_for(learner, shape)
    params = {name: value.double() for name, value in learner.init(torch.Generator().manual_seed(3)).items()}
    counts = [0, 2, 1]
    found = learner.adapted_after(params, episodes.support, counts)
    for adapted, count in zip(found, counts, strict=True):
        alone = learner.adapt(params, episodes.support, count)
        torch.testing.assert_close(adapted.fast, alone.fast, rtol=0, atol=0)


@pytest.mark.parametrize("name", LEARNERS)
def test_guarded_steps_are_plain_ones_where_these_lower_the_support_loss(name: str) -> None:
    learner, shape = LEARNERS[name]
    episodes = episodes_for(learner, shape)
    params = {name: value.double() for name, value in learner.init(torch.Generator().manual_seed(3)).items()}
    small = {key: value * 0.01 if key == "step_sizes" else value for key, value in params.items()}
    careful = dataclasses.replace(learner, step_size=0.001)
    guarded = dataclasses.replace(careful, guarded=True)
    expected = careful.adapt(small, episodes.support, 4).fast
    torch.testing.assert_close(guarded.adapt(small, episodes.support, 4).fast, expected)


def test_guarded_steps_never_raise_a_tasks_support_loss_and_do_not_touch_its_neighbours() -> None:
    plain = MAML(REGRESSION, 1.0, 8)
    guarded = dataclasses.replace(plain, guarded=True)
    episodes = episodes_for(plain, (1,), n_tasks=6)
    params = {name: value.double() * 2 for name, value in plain.init(torch.Generator().manual_seed(3)).items()}

    def losses(learner: MAML, support: Examples) -> Tensor:
        path = learner.adapted_after(params, support, range(9))
        return torch.stack([losses_of(learner.predict(task, support.x), support.y) for task in path])

    rises = losses(plain, episodes.support).diff(dim=0) > 0
    assert rises.any()
    found = losses(guarded, episodes.support)
    assert (found.diff(dim=0) <= 0).all()
    assert (found[-1] < found[0]).all()
    alone = losses(guarded, Examples(episodes.support.x[:1], episodes.support.y[:1]))
    torch.testing.assert_close(alone[:, 0], found[:, 0])

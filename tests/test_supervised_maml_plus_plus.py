"""MAML++: against a plain loop with per-step, per-layer rates and batch norm, and its schedules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_supervised_maml import CONV, REGRESSION, WITH_NORM, episodes_for
from torch import Tensor
from torch.nn.functional import cross_entropy

from metarl.supervised.maml import MAML
from metarl.supervised.maml_plus_plus import RUNNING_MOMENTUM, MAMLPlusPlus, step_shares

CASES = {"mlp": (MAMLPlusPlus(WITH_NORM, 0.3, 3), (2,)), "conv": (MAMLPlusPlus(CONV, 0.3, 2), (1, 8, 8))}


def params_for(learner: MAMLPlusPlus) -> dict[str, Tensor]:
    """Random meta-parameters in float64, other in every step."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: value.double() + 0.05 * torch.rand(value.shape, generator=generator).double()
        for name, value in learner.init(generator).items()
    }


@pytest.fixture(params=CASES)
def case(request):
    learner, shape = CASES[request.param]
    return learner, params_for(learner), episodes_for(learner, shape)


def plain_objective(learner: MAMLPlusPlus, params, episodes, shares):
    """Weighted query losses, task after task, layer after layer."""
    network = learner.network
    shift = [(name, shape) for name, shape in network.layout.entries if name in network.norm_names]
    own = [(name, shape) for name, shape in network.layout.entries if name not in network.norm_names]

    def views(entries, flat):
        pieces = flat.split([torch.Size(shape).numel() for _, shape in entries])
        return {name: piece.view(shape) for (name, shape), piece in zip(entries, pieces, strict=True)}

    layers = list(dict.fromkeys(name.split(".")[0] for name, _ in own))
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(episodes.support.x)):
        at = views(own, params["theta"])
        for j in range(learner.steps):
            out = network(at | views(shift, params["norms"][j]), episodes.support.x[i : i + 1])[0]
            loss = cross_entropy(out, episodes.support.y[i])
            gradients = torch.autograd.grad(loss, list(at.values()), create_graph=True)
            at = {
                name: at[name] - params["rates"][j, layers.index(name.split(".")[0])] * gradient
                for name, gradient in zip(at, gradients, strict=True)
            }
            out = network(at | views(shift, params["norms"][j + 1]), episodes.query.x[i : i + 1])[0]
            total = total + shares[j] * cross_entropy(out, episodes.query.y[i])
    return total / len(episodes.support.x)


@pytest.mark.parametrize("progress", [0.0, 0.06, 0.5])
def test_the_meta_gradient_is_that_of_a_plain_loop(case, progress) -> None:
    learner, params, episodes = case
    found = learner.meta_gradient(params, episodes, progress)
    names = ["theta", "rates", "norms"]
    assert sorted(found.gradient) == sorted(names)
    leaves = {name: params[name].clone().requires_grad_() for name in names}
    objective = plain_objective(learner, leaves, episodes, step_shares(learner.steps, progress, 0.1))
    torch.testing.assert_close(found.objective, objective.detach())
    expected = torch.autograd.grad(objective, list(leaves.values()))
    torch.testing.assert_close(tuple(found.gradient[name] for name in names), expected)


def test_with_equal_rates_and_shifts_it_is_maml() -> None:
    plain = MAML(WITH_NORM, 0.3, 3)
    theta = plain.init(torch.Generator().manual_seed(1))["theta"].double()
    episodes = episodes_for(plain, (2,))
    for first_order_until, at in ((0.0, 0.5), (0.6, 0.5), (0.6, 0.7)):
        learner = MAMLPlusPlus(WITH_NORM, 0.3, 3, first_order_until=first_order_until)
        start = learner.init(torch.Generator().manual_seed(1))
        found = learner.meta_gradient({name: value.double() for name, value in start.items()}, episodes, at)
        expected = replace(plain, first_order=at < first_order_until).meta_gradient({"theta": theta}, episodes, at)
        n_shifts = start["norms"].shape[1]
        torch.testing.assert_close(found.gradient["theta"], expected.gradient["theta"][n_shifts:])
        torch.testing.assert_close(found.gradient["norms"].sum(0), expected.gradient["theta"][:n_shifts])
        torch.testing.assert_close(found.objective, expected.objective)


def test_running_statistics_move_towards_those_of_the_batch_and_serve_evaluation() -> None:
    learner = MAMLPlusPlus(WITH_NORM, 0.3, 3, statistics="running")
    params, episodes = params_for(learner), episodes_for(learner, (2,))
    replaced = learner.meta_gradient(params, episodes, 0.5).replaced["running"]
    assert replaced.shape == params["running"].shape
    hidden = episodes.support.x @ params["theta"][:12].view(2, 6) + params["theta"][12:18]
    new = torch.cat([hidden.mean((0, 1)), hidden.var(1, correction=0).mean(0)])  # of the first layer before any step
    expected = (1 - RUNNING_MOMENTUM) * params["running"][0, :12] + RUNNING_MOMENTUM * new
    torch.testing.assert_close(replaced[0, :12], expected)
    query = episodes.query.x
    adapted = learner.adapt(params, episodes.support, steps=5)
    torch.testing.assert_close(learner.predict(adapted, query[:, :2]), learner.predict(adapted, query)[:, :2])
    # Steps are taken with the support set's own statistics, those that their rates were learned with.
    own = replace(learner, statistics="transductive").adapt(params, episodes.support, steps=5)
    torch.testing.assert_close(adapted.fast, own.fast)


def test_without_batch_norm_there_are_no_statistics() -> None:
    learner = MAMLPlusPlus(REGRESSION, 0.1, 2)
    params = learner.init(torch.Generator().manual_seed(0))
    assert sorted(params) == ["rates", "theta"]
    found = learner.meta_gradient({k: v.double() for k, v in params.items()}, episodes_for(learner, (1,)), 0.0)
    assert sorted(found.gradient) == ["rates", "theta"]
    assert found.replaced == {}


def test_shares_of_the_steps_go_from_equal_ones_to_the_last() -> None:
    assert step_shares(5, 0.0, 0.1) == pytest.approx([0.2] * 5)
    assert step_shares(5, 0.05, 0.1) == pytest.approx([0.1] * 4 + [0.6])
    assert step_shares(5, 0.0999, 0.1) == pytest.approx([0.006] * 4 + [0.976])
    assert step_shares(5, 0.1, 0.1) == [0, 0, 0, 0, 1]
    assert step_shares(1, 0.0, 0.0) == [1]

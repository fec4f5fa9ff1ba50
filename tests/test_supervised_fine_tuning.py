"""Reptile, joint training with fine-tuning, training from scratch and the oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_supervised_maml import REGRESSION, WITH_NORM, episodes_for, params_for
from torch import Tensor
from torch.nn.functional import cross_entropy

from metarl.supervised.episodes import Episodes, Examples
from metarl.supervised.fine_tuning import FineTuning, from_scratch, oracle, with_new_head, with_truth
from metarl.supervised.networks import MLP
from metarl.supervised.reptile import Reptile, mini_batches


def trained(network: Any, theta: Tensor, examples: Examples, i: int, optimiser: Any, steps: int) -> Tensor:
    """Parameters of task i after steps of a torch optimiser on all its examples."""
    leaf = theta[None].clone().requires_grad_()
    step = optimiser([leaf])
    for _ in range(steps):
        out, y = network(leaf, examples.x[i : i + 1])[0], examples.y[i]
        loss = (out - y).square().mean() if y.is_floating_point() else cross_entropy(out, y)
        step.zero_grad()
        loss.backward()
        step.step()
    return leaf[0].detach()


@pytest.mark.parametrize("network", [REGRESSION, WITH_NORM])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_fine_tuning_is_torchs_optimiser(network: MLP, optimiser: Any) -> None:
    learner = FineTuning(network, 0.05, 4, optimiser)
    params, episodes = params_for(learner), episodes_for(learner, (network.input_dim,))
    kind = torch.optim.SGD if optimiser == "sgd" else torch.optim.Adam
    adapted = learner.adapt(params, episodes.support).fast
    for i in range(3):
        expected = trained(network, params["theta"], episodes.support, i, lambda p: kind(p, lr=0.05), 4)
        torch.testing.assert_close(adapted[i], expected, rtol=1e-5, atol=1e-6)


def test_joint_training_has_the_gradient_of_one_network_on_all_examples() -> None:
    learner = FineTuning(REGRESSION)
    params, episodes = params_for(learner), episodes_for(learner, (1,))
    leaf = params["theta"].clone().requires_grad_()
    losses = [(REGRESSION(leaf, part.x) - part.y).square().mean() for part in (episodes.support, episodes.query)]
    objective = torch.stack(losses).mean()
    found = learner.meta_gradient(params, episodes, 0.0)
    torch.testing.assert_close(found.objective, objective.detach())
    torch.testing.assert_close(found.gradient["theta"], torch.autograd.grad(objective, leaf)[0])


def test_from_scratch_nothing_is_meta_learned_and_the_support_set_is_fitted() -> None:
    learner = from_scratch(REGRESSION, 0.02, 300)
    params, episodes = params_for(learner), episodes_for(learner, (1,))
    found = learner.meta_gradient(params, episodes, 0.0)
    assert found.gradient == {}
    assert torch.isfinite(found.objective)

    def support_loss(steps: int) -> float:
        adapted = learner.adapt(params, episodes.support, steps)
        return float((learner.predict(adapted, episodes.support.x) - episodes.support.y).square().mean())

    assert support_loss(300) < 0.5 * support_loss(0)


def test_a_new_head_gives_every_class_of_the_task_the_same_logit() -> None:
    learner = FineTuning(WITH_NORM, 0.1, 0, new_head=True)
    params, episodes = params_for(learner), episodes_for(learner, (2,))
    n_classes = int(episodes.support.y.max()) + 1
    logits = learner.predict(learner.adapt(params, episodes.support), episodes.query.x)
    assert logits.shape == (*episodes.query.y.shape, n_classes)
    assert (logits == 0).all()
    theta = with_new_head(WITH_NORM, params["theta"], 2)
    n_head = (WITH_NORM.feature_dim + 1) * 2
    assert torch.equal(theta[:-n_head], params["theta"][: -(WITH_NORM.feature_dim + 1) * (WITH_NORM.outputs or 0)])
    assert (theta[-n_head:] == 0).all()


@pytest.mark.parametrize("statistics", ["transductive", "inductive"])
def test_fine_tuning_does_not_depend_on_how_many_classes_training_told_apart(statistics: Any) -> None:
    """The new head has the task's two classes, whatever the old one had: same body, same predictions."""
    many = WITH_NORM.with_outputs(11)
    theta = many.init(torch.Generator().manual_seed(0))
    learners = [FineTuning(n, 0.3, 3, new_head=True, statistics=statistics) for n in (many, many.with_outputs(2))]
    generator = torch.Generator().manual_seed(1)
    support = Examples(torch.randn(3, 4, 2, generator=generator), torch.tensor([[0, 1, 0, 1]] * 3))
    query = torch.randn(3, 5, 2, generator=generator)
    found = [
        learner.predict(learner.adapt({"theta": at}, support), query)
        for learner, at in zip(learners, (theta, with_new_head(many, theta, 2)), strict=True)
    ]
    assert found[0].shape == (3, 5, 2)
    assert torch.equal(*found)


def test_the_oracle_sees_the_task_with_every_input() -> None:
    x = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    seen = with_truth(Examples(x, x), torch.tensor([[10.0, 20.0], [30.0, 40.0]]))
    assert seen.x.tolist() == [[[1, 10, 20], [2, 10, 20]], [[3, 30, 40], [4, 30, 40]]]
    learner = oracle(MLP(3, 1))
    params = learner.init(torch.Generator().manual_seed(0))
    adapted = learner.adapt(params, seen)
    torch.testing.assert_close(learner.predict(adapted, seen.x), MLP(3, 1)(params["theta"], seen.x))


def test_reptile_returns_the_way_back_from_where_adam_without_mean_goes() -> None:
    learner = Reptile(WITH_NORM, 0.05, steps=3, batch=12)
    params, episodes = params_for(learner), episodes_for(learner, (2,))
    union = Examples(
        torch.cat([episodes.support.x, episodes.query.x], 1), torch.cat([episodes.support.y, episodes.query.y], 1)
    )
    ends = [
        trained(WITH_NORM, params["theta"], union, i, lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.0, 0.999)), 3)
        for i in range(3)
    ]
    found = learner.meta_gradient(params, episodes, 0.3)
    torch.testing.assert_close(
        found.gradient["theta"], params["theta"] - torch.stack(ends).mean(0), rtol=1e-5, atol=1e-6
    )
    again = replace(learner, batch=5)
    first, second = (again.meta_gradient(params, episodes, 0.3).gradient["theta"] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, again.meta_gradient(params, episodes, 0.4).gradient["theta"])


def test_mini_batches_go_through_all_examples_again_and_again() -> None:
    batches = mini_batches(6, 4, 3, torch.Generator().manual_seed(0))
    assert [len(b) for b in batches] == [4] * 3
    order = torch.cat(batches)
    assert order[:6].sort().values.tolist() == order[6:].sort().values.tolist() == list(range(6))
    assert order[:6].tolist() != order[6:].tolist()
    assert mini_batches(6, 4, 0, torch.Generator()) == []


@pytest.mark.usefixtures("no_type_checks")
def test_reptile_approaches_the_tasks_common_solution() -> None:
    """Every task is the same line y = 2 x: from any start, epsilon steps back along the way lower the loss."""
    learner = Reptile(MLP(1, 1, (8,), init_std=0.5), 0.02, steps=5, batch=4)
    generator = torch.Generator().manual_seed(0)
    params = learner.init(generator)
    x = torch.randn(5, 10, 1, generator=generator)
    episodes = Episodes(Examples(x, 2 * x), Examples(x + 0.1, 2 * x + 0.2))
    losses = []
    for i in range(60):
        found = learner.meta_gradient(params, episodes, i / 60)
        losses.append(float(found.objective))
        params = {"theta": params["theta"] - found.gradient["theta"]}
    assert losses[-1] < 0.05 * losses[0]

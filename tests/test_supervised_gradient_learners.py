"""What holds for every gradient-based learner, and the messages about wrong settings."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from test_supervised_maml import CONV, REGRESSION, WITH_NORM, Linear, episodes_for

from metarl.supervised.anil import anil
from metarl.supervised.episodes import Episodes, Examples
from metarl.supervised.fine_tuning import FineTuning, from_scratch
from metarl.supervised.first_order import first_order_maml
from metarl.supervised.learner import Learner
from metarl.supervised.maml import MAML
from metarl.supervised.maml_plus_plus import MAMLPlusPlus
from metarl.supervised.meta_sgd import MetaSGD
from metarl.supervised.networks import MLP
from metarl.supervised.reptile import Reptile
from metarl.supervised.scoring import scores_of_readers
from metarl.supervised.sinusoid import SinusoidSampler
from metarl.supervised.trained import READ_OFF

MAKERS: dict[str, Any] = {
    "maml": MAML,
    "first-order": first_order_maml,
    "anil": anil,
    "meta-sgd": MetaSGD,
    "maml++": MAMLPlusPlus,
    "reptile": Reptile,
    "fine-tuning": FineTuning,
    "from-scratch": from_scratch,
}
STEPS = {"steps": 3}


@pytest.fixture(params=MAKERS)
def learner(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param](CONV, 0.1, **STEPS)


def permuted(examples: Examples) -> Examples:
    return Examples(examples.x[[2, 0, 1]], examples.y[[2, 0, 1]])


def test_it_is_a_learner_and_its_start_is_reproducible(learner: Any) -> None:
    assert isinstance(learner, Learner)
    first, second = (learner.init(torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert {value.dtype for value in first.values()} == {torch.float32}


def test_permuting_the_tasks_permutes_the_predictions(learner: Any) -> None:
    params = {name: value.double() for name, value in learner.init(torch.Generator().manual_seed(0)).items()}
    episodes = episodes_for(learner, (1, 8, 8))
    found = learner.predict(learner.adapt(params, episodes.support), episodes.query.x)
    other = learner.predict(learner.adapt(params, permuted(episodes.support)), permuted(episodes.query).x)
    torch.testing.assert_close(other, found[[2, 0, 1]])
    swapped = Episodes(permuted(episodes.support), permuted(episodes.query))
    one, two = (learner.meta_gradient(params, e, 0.0).gradient for e in (episodes, swapped))
    torch.testing.assert_close(one, two)


def test_adaptation_records_nothing_where_autograd_does_not(learner: Any) -> None:
    params = {name: value.requires_grad_() for name, value in learner.init(torch.Generator().manual_seed(0)).items()}
    episodes = episodes_for(learner, (1, 8, 8))
    support = Examples(episodes.support.x.float(), episodes.support.y)
    with torch.no_grad():
        quiet = learner.predict(learner.adapt(params, support), episodes.query.x.float())
    assert not quiet.requires_grad
    loud = learner.predict(learner.adapt(params, support), episodes.query.x.float())
    assert loud.requires_grad
    torch.testing.assert_close(quiet, loud.detach())


def test_steps_count_from_where_the_last_ended(learner: Any) -> None:
    """No steps leave the parameters, and another number of steps than the learner's own is taken."""
    params = {name: value.double() for name, value in learner.init(torch.Generator().manual_seed(0)).items()}
    support = episodes_for(learner, (1, 8, 8)).support
    paths = [learner.adapt(params, support, steps).fast for steps in (0, 3, 5, None)]
    assert torch.equal(paths[0], paths[0][:1].expand(3, -1))
    torch.testing.assert_close(paths[1], paths[3])
    assert not torch.equal(paths[1], paths[2])
    with pytest.raises(ValueError, match="steps is -1, but must be at least 0"):
        learner.adapt(params, support, -1)


def test_float32_is_close_to_float64(learner: Any) -> None:
    network = MLP(1, 1, (10, 10), init_std=0.3)
    learner = type(learner)(**{f.name: getattr(learner, f.name) for f in fields(learner)} | {"network": network})
    params = learner.init(torch.Generator().manual_seed(0))
    episodes = SinusoidSampler(5, 5)(8, torch.Generator().manual_seed(0))
    fine = Episodes(*(Examples(e.x.double(), e.y.double()) for e in (episodes.support, episodes.query)))
    single = learner.meta_gradient(params, episodes, 0.0).gradient
    double = learner.meta_gradient({name: value.double() for name, value in params.items()}, fine, 0.0).gradient
    for name in single:
        torch.testing.assert_close(single[name].double(), double[name], rtol=1e-3, atol=1e-4)


def test_inductive_predictions_do_not_depend_on_the_other_queries() -> None:
    for make in (MAML, anil, MetaSGD, Reptile, from_scratch):
        learner = make(WITH_NORM, 0.1, statistics="inductive")
        params = {name: value.double() for name, value in learner.init(torch.Generator().manual_seed(0)).items()}
        episodes = episodes_for(learner, (2,))
        adapted = learner.adapt(params, episodes.support)
        all_queries = learner.predict(adapted, episodes.query.x)
        torch.testing.assert_close(learner.predict(adapted, episodes.query.x[:, :1]), all_queries[:, :1])


def test_one_adaptation_serves_transductive_predictions_too() -> None:
    ways = [(make, READ_OFF[0]) for make in (MAML, anil, MetaSGD, Reptile, FineTuning, from_scratch)]
    for make, modes in (*ways, (MAMLPlusPlus, READ_OFF[1])):
        readers = [make(WITH_NORM, 0.1, statistics=mode) for mode in modes]
        params = {name: value.double() for name, value in readers[0].init(torch.Generator().manual_seed(0)).items()}
        episodes, steps = episodes_for(readers[0], (2,)), [0, 1, 3]
        together = scores_of_readers(readers, params, episodes, steps)
        for learner, found in zip(readers, together, strict=True):
            (by_itself,) = scores_of_readers([learner], params, episodes, steps)
            for one, alone in zip(found, by_itself, strict=True):
                np.testing.assert_array_equal(one.loss, alone.loss)
        assert (together[0][2].loss != together[1][2].loss).any()


def test_a_task_that_blows_up_leaves_the_others_alone() -> None:
    """Ten steps on five points can diverge; medians over tasks are then still right."""
    learner = MAML(REGRESSION, 0.1)
    params = learner.init(torch.Generator().manual_seed(0))
    episodes = SinusoidSampler(5, 5)(3, torch.Generator().manual_seed(0))
    wild = Examples(episodes.support.x.clone(), episodes.support.y)
    wild.x[0] *= 1e6
    calm = learner.predict(learner.adapt(params, episodes.support, 10), episodes.query.x)
    found = learner.predict(learner.adapt(params, wild, 10), episodes.query.x)
    assert not torch.isfinite(found[0]).all()
    torch.testing.assert_close(found[1:], calm[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MAML(CONV, 0.0), "step_size is 0.0, but must be positive"),
        (lambda: MetaSGD(CONV, steps=0), "steps is 0, but must be positive"),
        (lambda: MAML(MLP(1, None)), "has no head to adapt"),
        (lambda: Reptile(CONV, batch=0), "batch is 0, but must be positive"),
        (lambda: FineTuning(Linear(), new_head=True), "Linear has no with_outputs"),
        (lambda: FineTuning(CONV, steps=-1), "steps is -1, but must be at least 0"),
        (lambda: MAMLPlusPlus(CONV, multi_step_until=2.0), r"multi_step_until is 2.0, but must be in \[0, 1\]"),
    ],
)
def test_wrong_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MAML(CONV, adapts="body"), "adapts is 'body'; allowed: all, weights, head"),
        (lambda: MAML(CONV, statistics="mine"), "statistics is 'mine'; allowed: transductive, inductive"),
        (lambda: MAMLPlusPlus(CONV, statistics="mine"), "allowed: transductive, running"),
        (lambda: FineTuning(CONV, optimiser="lion"), "optimiser is 'lion'; allowed: sgd, adam"),
    ],
)
def test_unknown_choices_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

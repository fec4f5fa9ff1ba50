"""What holds for every metric, recurrent and learned-optimizer learner, and that each learns a tiny task."""

import dataclasses
import math

import pytest
import torch
from blob_tasks import accuracy, blob_episodes, train

from metarl.supervised.embedding import Embedding, Pixels
from metarl.supervised.episodes import Episodes, Examples, Problem
from metarl.supervised.fine_tuning import FineTuning
from metarl.supervised.lstm_learner import LSTMLearner
from metarl.supervised.lstm_optimizer import LSTMOptimizer
from metarl.supervised.maml_plus_plus import MAMLPlusPlus
from metarl.supervised.mann import MemoryAugmentedNetwork
from metarl.supervised.matching import MatchingNetwork
from metarl.supervised.meta_lstm import MetaLSTM
from metarl.supervised.nearest_neighbour import NearestNeighbour
from metarl.supervised.networks import MLP
from metarl.supervised.prototypical import PrototypicalNetwork
from metarl.supervised.relation import RelationNetwork
from metarl.supervised.reptile import Reptile
from metarl.supervised.siamese import SiameseNetwork
from metarl.supervised.snail import SNAIL

PROBLEM = Problem((3,), 2, classification=True)
EMBEDDING = Embedding(MLP(3, None, (16,), init_std=0.5))
NORMED = Embedding(MLP(3, None, (16,), norm=True, init_std=0.5))
NORMED_BY_SUPPORT = Embedding(MLP(3, None, (16,), norm=True, init_std=0.5), statistics="support")
PIXELS = Embedding(Pixels((3,)))
SMALL_SNAIL = {"filters": 8, "attention": ((8, 8), (8, 8))}

METRIC = {
    "siamese": SiameseNetwork(EMBEDDING),
    "matching": MatchingNetwork(EMBEDDING, sharpness=5.0),
    "matching, context": MatchingNetwork(EMBEDDING, context_steps=2, sharpness=5.0),
    "prototypical": PrototypicalNetwork(EMBEDDING),
    "prototypical, batch norm": PrototypicalNetwork(NORMED),
    "prototypical, support batch norm": PrototypicalNetwork(NORMED_BY_SUPPORT),
    "relation": RelationNetwork(EMBEDDING, filters=16),
    "relation on maps": RelationNetwork(EMBEDDING, map_shape=(4, 2, 2), filters=8, loss="cross-entropy"),
    "relation on maps, support batch norm": RelationNetwork(
        NORMED_BY_SUPPORT, map_shape=(4, 2, 2), filters=8, loss="cross-entropy"
    ),
}
RECURRENT = {
    "lstm, delayed": LSTMLearner(PROBLEM, PIXELS, hidden=32),
    "lstm, paired": LSTMLearner(PROBLEM, EMBEDDING, hidden=32, labels="paired", label_scale=2.0),
    "mann": MemoryAugmentedNetwork(PROBLEM, PIXELS, hidden=32, places=8, word=8, heads=2),
    "mann, strengths, paired": MemoryAugmentedNetwork(
        PROBLEM, PIXELS, hidden=32, places=8, word=8, heads=1, learned_strength=True, labels="paired"
    ),
    "snail": SNAIL(PROBLEM, PIXELS, support=2, **SMALL_SNAIL),
}
OPTIMIZERS = {
    "lstm optimizer": LSTMOptimizer(MLP(3, 2, (16,), init_std=0.3), steps=5, unroll=3),
    "lstm optimizer, random start": LSTMOptimizer(MLP(3, 2, (16,), init_std=0.3), steps=5, learned_start=False),
    "meta-lstm": MetaLSTM(MLP(3, 2, (16,), init_std=0.3), steps=3, init_input=-1.0),
    "meta-lstm, batch norm": MetaLSTM(MLP(3, 2, (16,), norm=True, init_std=0.3), steps=3),
}
ONE_PASS = {**METRIC, **RECURRENT, "nearest neighbour": NearestNeighbour(PIXELS)}
ALL = {**ONE_PASS, **OPTIMIZERS}


def with_float64(params):
    return {name: value.double() for name, value in params.items()}


def episodes64(seed=0, tasks=3, **sizes):
    return blob_episodes(tasks, torch.Generator().manual_seed(seed), dtype=torch.float64, **sizes)


def prediction(learner, params, episodes):
    return learner.predict(learner.adapt(params, episodes.support), episodes.query.x)


def rows(examples, index):
    return Examples(examples.x[index], examples.y[index])


@pytest.fixture(params=ALL, ids=lambda name: name.replace(", ", "-").replace(" ", "-"))
def learner(request):
    return ALL[request.param]


@pytest.fixture(params=ONE_PASS, ids=lambda name: name.replace(", ", "-").replace(" ", "-"))
def one_pass(request):
    return ONE_PASS[request.param]


def test_the_same_generator_state_gives_the_same_bits_and_meta_steps_repeat(learner):
    params = learner.init(torch.Generator().manual_seed(3))
    again = learner.init(torch.Generator().manual_seed(3))
    assert params.keys() == again.keys()
    assert all(torch.equal(params[name], again[name]) and params[name].dtype == torch.float32 for name in params)
    episodes = blob_episodes(4, torch.Generator().manual_seed(0))
    first, second = (learner.meta_gradient(params, episodes, 0.25) for _ in range(2))
    assert torch.equal(first.objective, second.objective)
    assert all(torch.equal(first.gradient[name], second.gradient[name]) for name in first.gradient)
    assert not first.objective.requires_grad


def test_every_parameter_has_a_gradient_or_a_new_value(learner):
    params = learner.init(torch.Generator().manual_seed(3))
    result = learner.meta_gradient(params, blob_episodes(4, torch.Generator().manual_seed(0), shot=2), 0.25)
    told = set(result.gradient) | set(result.replaced)
    assert told <= set(params)
    if isinstance(learner, LSTMOptimizer) and not learner.learned_start:
        told |= {"theta"}
    assert told == set(params)
    assert set(result.gradient).isdisjoint(result.replaced)
    assert all(torch.isfinite(value).all() and value.shape == params[n].shape for n, value in result.gradient.items())


def test_a_task_does_not_depend_on_its_neighbours(learner):
    params = with_float64(learner.init(torch.Generator().manual_seed(1)))
    episodes = episodes64(tasks=4)
    together = prediction(learner, params, episodes)
    for task in range(4):
        alone = Episodes(rows(episodes.support, slice(task, task + 1)), rows(episodes.query, slice(task, task + 1)))
        torch.testing.assert_close(prediction(learner, params, alone)[0], together[task], rtol=1e-10, atol=1e-12)


def test_a_query_does_not_depend_on_the_other_queries(learner):
    params = with_float64(learner.init(torch.Generator().manual_seed(1)))
    episodes = episodes64()
    adapted = learner.adapt(params, episodes.support)
    together = learner.predict(adapted, episodes.query.x)
    for query in range(together.shape[1]):
        alone = learner.predict(adapted, episodes.query.x[:, query : query + 1])
        torch.testing.assert_close(alone[:, 0], together[:, query], rtol=1e-10, atol=1e-12)


def test_steps_are_refused_where_there_are_none(one_pass):
    params = one_pass.init(torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="adapts without gradient steps: got steps=3, allowed is None"):
        one_pass.adapt(params, blob_episodes(2, torch.Generator().manual_seed(0)).support, steps=3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learned_optimizers_take_as_many_steps_as_asked(name):
    learner = OPTIMIZERS[name]
    params = with_float64(learner.init(torch.Generator().manual_seed(1)))
    support = episodes64().support
    assert torch.equal(learner.adapt(params, support, steps=0).theta, params["theta"].expand(3, -1))
    own = learner.adapt(params, support).theta
    assert torch.equal(learner.adapt(params, support, steps=learner.steps).theta, own)
    longer = dataclasses.replace(learner, steps=7)
    assert torch.equal(learner.adapt(params, support, steps=7).theta, longer.adapt(params, support).theta)
    assert not torch.equal(own, learner.adapt(params, support, steps=7).theta)


@pytest.mark.parametrize("name", [*METRIC, *RECURRENT])
def test_the_meta_gradient_is_that_of_the_objective(name):
    """Central differences in random directions."""
    learner, episodes = ALL[name], episodes64(shot=2)
    generator = torch.Generator().manual_seed(5)
    params = with_float64(learner.init(torch.Generator().manual_seed(1)))
    # Off zero, where ReLUs and absolute values have kinks.
    params = {
        n: v if n.endswith((".mean", ".variance")) else v + 0.1 * torch.randn(v.shape, generator=generator).double()
        for n, v in params.items()
    }
    result = learner.meta_gradient(params, episodes, 0.5)
    for _ in range(3):
        direction = {
            n: torch.randn(g.shape, generator=generator, dtype=torch.float64) for n, g in result.gradient.items()
        }
        moved = [
            learner.meta_gradient(
                {n: v + h * direction[n] if n in direction else v for n, v in params.items()}, episodes, 0.5
            )
            for h in (1e-6, -1e-6)
        ]
        slope = (moved[0].objective - moved[1].objective) / 2e-6
        expected = sum((result.gradient[n] * direction[n]).sum() for n in direction)
        torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", METRIC)
def test_metric_learners_take_more_classes_than_they_were_trained_on(name):
    params = METRIC[name].init(torch.Generator().manual_seed(1))
    episodes = blob_episodes(2, torch.Generator().manual_seed(0), way=5, shot=3)
    assert prediction(METRIC[name], params, episodes).shape == (2, 20, 5)
    assert math.isfinite(METRIC[name].meta_gradient(params, episodes, 0.0).objective)


@pytest.mark.parametrize("name", [n for n in METRIC if n != "matching, context"])
def test_the_order_of_the_support_set_does_not_matter_to_metric_learners(name):
    learner, episodes = METRIC[name], episodes64(way=3, shot=2)
    params = with_float64(learner.init(torch.Generator().manual_seed(1)))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Examples(episodes.support.x[:, order], episodes.support.y[:, order])
    torch.testing.assert_close(
        prediction(learner, params, episodes), prediction(learner, params, Episodes(shuffled, episodes.query))
    )


@pytest.mark.parametrize("name", METRIC)
def test_a_class_without_support_is_an_error(name):
    support = Examples(torch.zeros(2, 2, 3), torch.tensor([[0, 1], [1, 1]]))
    learner = METRIC[name]
    params = learner.init(torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="task 1 has no support example of class 0"):
        learner.predict(learner.adapt(params, support), torch.zeros(2, 1, 3))


LEARNING = {  # Adam steps; accuracy that is seen to be passed
    **dict.fromkeys(METRIC, (100, 0.97)),
    "prototypical, support batch norm": (100, 0.85),  # moments of two examples are noisy
    "relation on maps, support batch norm": (100, 0.85),
    **dict.fromkeys(RECURRENT, (150, 0.95)),
    "lstm optimizer": (40, 0.85),
    "lstm optimizer, random start": (40, 0.75),
    "meta-lstm": (60, 0.95),
    "meta-lstm, batch norm": (60, 0.75),
}


@pytest.mark.parametrize("name", LEARNING)
def test_learners_learn(name, no_type_checks):
    """Two opposite blobs and a coordinate of noise, one example of each: chance is 0.5, ideal all but 1."""
    steps, least = LEARNING[name]
    learner, test = ALL[name], blob_episodes(200, torch.Generator().manual_seed(99))
    before = accuracy(learner, train(learner, 0, 1e-2), test)
    after = accuracy(learner, train(learner, steps, 1e-2), test)
    assert after > max(least, before + 0.04)


def test_nearest_neighbour_needs_no_training_but_does_not_learn_what_to_ignore():
    assert accuracy(
        NearestNeighbour(PIXELS), {}, blob_episodes(200, torch.Generator().manual_seed(99))
    ) == pytest.approx(0.794, abs=0.05)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "maml++", "reptile", "fine-tuning"])
def test_one_adaptation_gives_every_number_of_steps(name):
    network = MLP(3, 2, (16,), norm=True, init_std=0.3)
    others = {"maml++": MAMLPlusPlus(network), "reptile": Reptile(network), "fine-tuning": FineTuning(network)}
    learner = (OPTIMIZERS | others)[name]
    params = with_float64(learner.init(torch.Generator().manual_seed(1)))
    episodes = episodes64()
    counts = [0, 3, 2]
    for adapted, count in zip(learner.adapted_after(params, episodes.support, counts), counts, strict=True):
        alone = learner.adapt(params, episodes.support, count)
        expected = learner.predict(alone, episodes.query.x)
        torch.testing.assert_close(learner.predict(adapted, episodes.query.x), expected, rtol=0, atol=0)

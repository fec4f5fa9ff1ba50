"""Closed forms of the metric learners, in float64."""

import math

import pytest
import torch
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy

from metarl.supervised import relation
from metarl.supervised.embedding import Embedding, Pixels
from metarl.supervised.episodes import Episodes, Examples
from metarl.supervised.matching import MatchingNetwork, vote
from metarl.supervised.nearest_neighbour import NearestNeighbour
from metarl.supervised.networks import MLP
from metarl.supervised.prototypical import PrototypicalNetwork, squared_distances
from metarl.supervised.relation import RelationNetwork
from metarl.supervised.siamese import SiameseNetwork, balanced_cross_entropy

PIXELS = Embedding(Pixels((4,)))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_prototypes_make_a_linear_discriminant():
    """softmax(-|x - c|^2) = softmax(2 c.x - |c|^2), with c the mean of unequally many examples (equation 8)."""
    support = Examples(normal(2, 5, 4), torch.tensor([[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]))
    query = normal(2, 3, 4, seed=1)
    learner = PrototypicalNetwork(PIXELS)
    got = learner.predict(learner.adapt({}, support), query).log_softmax(-1)
    for task in range(2):
        c = torch.stack([support.x[task][support.y[task] == k].mean(0) for k in range(2)])
        expected = (2 * query[task] @ c.T - c.square().sum(1)).log_softmax(-1)
        torch.testing.assert_close(got[task], expected)


def test_squared_distances_are_those_of_all_differences():
    a, b = normal(2, 3, 4), normal(2, 5, 4, seed=1)
    expected = (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(-1)
    torch.testing.assert_close(squared_distances(a, b), expected)


@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_matching_of_orthogonal_examples(sharpness):
    """A query equal to one of 4 orthogonal examples: cosine 1 with it, 0 with the others."""
    support = Examples(3 * torch.eye(4, dtype=torch.float64).unsqueeze(0), torch.tensor([[0, 1, 2, 0]]))
    learner = MatchingNetwork(PIXELS, sharpness=sharpness)
    got = learner.predict(learner.adapt({}, support), 0.5 * torch.eye(4, dtype=torch.float64).unsqueeze(0)).exp()[0]
    hit, miss = (w / (math.exp(sharpness) + 3) for w in (math.exp(sharpness), 1.0))
    expected = [
        [hit + miss, miss, miss],
        [2 * miss, hit, miss],
        [2 * miss, miss, hit],
        [hit + miss, miss, miss],
    ]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


def test_votes_add_up_to_one_also_for_large_scores():
    scores = 300 * normal(2, 3, 6)
    log_p = vote(scores, torch.tensor([[0, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0]]))
    torch.testing.assert_close(log_p.logsumexp(-1), torch.zeros(2, 3, dtype=torch.float64))
    weights = torch.softmax(scores[0], -1)
    torch.testing.assert_close(log_p[0, :, 1], (weights[:, 1] + weights[:, 4]).log())


def test_full_context_embeddings_against_torchs_lstms():
    """g with a bidirectional torch.nn.LSTM, f with torch.nn.LSTMCell; torch orders its gates as we do."""
    width, steps = 4, 3
    learner = MatchingNetwork(PIXELS, context_steps=steps)
    params = {n: v.double() for n, v in learner.init(torch.Generator().manual_seed(0)).items()}
    support, query = Examples(normal(2, 5, width), torch.tensor([[0, 1, 2, 0, 1]] * 2)), normal(2, 3, width, seed=1)

    def copy(cell, name, inputs, suffix=""):
        getattr(cell, "weight_ih" + suffix).data = params[f"{name}.weight"][:inputs].T
        getattr(cell, "weight_hh" + suffix).data = params[f"{name}.weight"][inputs:].T
        getattr(cell, "bias_ih" + suffix).data = params[f"{name}.bias"]
        getattr(cell, "bias_hh" + suffix).data = torch.zeros(4 * width, dtype=torch.float64)

    both = torch.nn.LSTM(width, width, batch_first=True, bidirectional=True, dtype=torch.float64)
    copy(both, "forward", width, "_l0")
    copy(both, "backward", width, "_l0_reverse")
    forward, backward = both(support.x)[0].chunk(2, dim=-1)
    g = forward + backward + support.x
    memory = learner.adapt(params, support)
    torch.testing.assert_close(memory.read.x, g.detach())

    cell = torch.nn.LSTMCell(2 * width, width, dtype=torch.float64)
    copy(cell, "attention", 2 * width)
    for q in range(3):
        f = query[:, q]
        h, c, r = torch.zeros(3, 2, width, dtype=torch.float64)
        for _ in range(steps):
            h, c = cell(torch.cat((f, r), -1), (h, c))
            h = h + f
            a = torch.softmax((h.unsqueeze(1) * g).sum(-1), -1)
            r = (a.unsqueeze(-1) * g).sum(1)
        scores = torch.cosine_similarity(h.unsqueeze(1), g, dim=-1)
        p = torch.stack([(torch.softmax(scores, -1) * (support.y == k)).sum(-1) for k in range(3)], -1)
        torch.testing.assert_close(learner.predict(memory, query)[:, q].exp(), p.detach())


def test_siamese_similarity_and_its_mean_over_shots():
    learner = SiameseNetwork(PIXELS)
    params = {"similarity.weight": normal(4, seed=3), "similarity.bias": torch.tensor(0.3, dtype=torch.float64)}
    support, query = Examples(normal(1, 3, 4), torch.tensor([[0, 1, 0]])), normal(1, 2, 4, seed=1)
    got = learner.predict(learner.adapt(params, support), query)[0]
    for q in range(2):
        z = [float((query[0, q] - s).abs() @ params["similarity.weight"]) + 0.3 for s in support.x[0]]
        assert got[q].tolist() == pytest.approx([(z[0] + z[2]) / 2, z[1]])


def test_siamese_loss_weighs_same_and_different_pairs_alike():
    z, same = normal(2, 4, 5), torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.2
    p = torch.sigmoid(z)
    halves = [binary_cross_entropy(p[same], torch.ones_like(p[same])), -(1 - p[~same]).log().mean()]
    torch.testing.assert_close(balanced_cross_entropy(z, same), sum(halves) / 2)
    assert 0 < same.sum() < same.numel() / 2


def relations_by_torch(p, of_class, query, moments):
    """One convolution a pair; moments: mean and variance of each batch norm, None for those of the pairs."""
    h = torch.stack([torch.cat((c, x)) for x in query for c in of_class])
    for i in (0, 1):
        h = functional.conv2d(h, p[f"{i}.weight"], padding=1)
        mean, variance = (None, None) if moments is None else moments[i]
        norm = (p[f"norm{i}.scale"], p[f"norm{i}.shift"])
        h = functional.batch_norm(h, mean, variance, *norm, training=moments is None, eps=1e-3)
        h = functional.max_pool2d(torch.relu(h), 2)
    h = torch.relu(h.flatten(1) @ p["2.weight"] + p["2.bias"]) @ p["3.weight"] + p["3.bias"]
    return h.view(len(query), len(of_class))


def test_relations_against_modules_of_torch():
    """Classes are means over shots; running moments after adaptation, the queries' own in meta-training."""
    learner = RelationNetwork(Embedding(Pixels((2, 5, 5))), map_shape=(2, 5, 5), filters=3, units=4)
    params = {n: v.double() for n, v in learner.init(torch.Generator().manual_seed(0)).items()}
    params |= {n: v + 0.3 * normal(3).abs() for n, v in params.items() if "norm" in n}
    p = {n.removeprefix("relation."): v for n, v in params.items()}
    support = Examples(normal(1, 4, 2, 5, 5), torch.tensor([[0, 1, 1, 0]]))
    query = Examples(normal(1, 3, 2, 5, 5, seed=1), torch.tensor([[1, 0, 0]]))
    got = learner.predict(learner.adapt(params, support), query.x)[0]
    of_class = [support.x[0][support.y[0] == k].mean(0) for k in range(2)]
    moments = [(p[f"norm{i}.mean"], p[f"norm{i}.variance"]) for i in (0, 1)]
    torch.testing.assert_close(got, relations_by_torch(p, of_class, query.x[0], moments))

    target = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    found = learner.meta_gradient(params, Episodes(support, query), 0.0)
    in_training = relations_by_torch(p, of_class, query.x[0], None)
    torch.testing.assert_close(found.objective, (torch.sigmoid(in_training) - target).square().mean())
    first = torch.stack([torch.cat((c, x)) for x in query.x[0] for c in of_class])
    mean = functional.conv2d(first, p["0.weight"], padding=1).mean((0, 2, 3))
    torch.testing.assert_close(found.replaced["relation.norm0.mean"], 0.9 * p["norm0.mean"] + 0.1 * mean)
    assert set(found.replaced) == {f"relation.norm{i}.{kind}" for i in (0, 1) for kind in ("mean", "variance")}


def test_many_queries_are_compared_in_parts(monkeypatch):
    learner = RelationNetwork(Embedding(Pixels((2, 5, 5))), map_shape=(2, 5, 5), filters=3, units=4)
    params = {n: v.double() for n, v in learner.init(torch.Generator().manual_seed(0)).items()}
    support = Examples(normal(2, 3, 2, 5, 5), torch.tensor([[0, 1, 2], [2, 1, 0]]))
    query = normal(2, 5, 2, 5, 5, seed=1)
    at_once = learner.predict(learner.adapt(params, support), query)
    monkeypatch.setattr(relation, "FLOATS_AT_ONCE", 2 * 2 * 3 * 50)
    torch.testing.assert_close(learner.predict(learner.adapt(params, support), query), at_once)


def test_relations_normalised_by_pairs_of_support_examples():
    embedding = Embedding(Pixels((2, 5, 5)), statistics="support")
    learner = RelationNetwork(embedding, map_shape=(2, 5, 5), filters=3, units=4)
    params = {n: v.double() for n, v in learner.init(torch.Generator().manual_seed(0)).items()}
    p = {n.removeprefix("relation."): v for n, v in params.items()}
    support = Examples(normal(1, 2, 2, 5, 5), torch.tensor([[0, 1]]))
    # Asked about the support set itself, it is normalised with these very pairs.
    got = learner.predict(learner.adapt(params, support), support.x)[0]
    torch.testing.assert_close(got, relations_by_torch(p, support.x[0], support.x[0], None))
    assert not learner.meta_gradient(params, Episodes(support, support), 0.0).replaced


def test_nearest_neighbours_by_each_distance():
    x = torch.tensor([[[1.0, 0, 0, 0], [3.0, 0.1, 0, 0], [0.0, 1.5, 0, 0]]], dtype=torch.float64)
    query = torch.tensor([[[2.2, 0, 0, 0], [1.1, 0.9, 0, 0]]], dtype=torch.float64)
    support = Examples(x, torch.tensor([[0, 1, 1]]))

    def of(distance, support):
        learner = NearestNeighbour(PIXELS, distance)
        return learner.predict(learner.adapt({}, support), query)

    euclidean, cosine = of("euclidean", support)[0], of("cosine", support)[0]
    assert euclidean.tolist() == [pytest.approx([-1.44, -0.65]), pytest.approx([-0.82, -1.57])]
    assert euclidean.argmax(-1).tolist() == [1, 0]
    assert cosine.argmax(-1).tolist() == [0, 1]
    values = Examples(x, torch.tensor([[[10.0], [20.0], [30.0]]], dtype=torch.float64))
    assert of("euclidean", values)[0].tolist() == [[20.0], [10.0]]
    assert (
        NearestNeighbour(PIXELS)
        .meta_gradient({}, Episodes(support, Examples(query, torch.tensor([[1, 0]]))), 0.0)
        .gradient
        == {}
    )


def test_running_moments_move_towards_those_of_the_tasks():
    embedding = Embedding(MLP(3, None, (4,), norm=True, init_std=0.5), momentum=0.25)
    params = {n: v.double() for n, v in embedding.init(torch.Generator().manual_seed(0)).items()}
    x = normal(2, 6, 3)
    episodes = Episodes(
        Examples(x[:, :2], torch.tensor([[0, 1]] * 2)), Examples(x[:, 2:], torch.tensor([[0, 1, 0, 1]] * 2))
    )
    z = x @ params["embedding.layer0.weight"] + params["embedding.layer0.bias"]
    new = embedding.episodes(params, episodes).replaced
    torch.testing.assert_close(new["embedding.norm0.mean"], 0.25 * z.mean(1).mean(0))
    torch.testing.assert_close(new["embedding.norm0.variance"], 0.75 + 0.25 * z.var(1, correction=0).mean(0))
    # After training they are what features are made with.
    features, _ = embedding.support(params | new, x)
    mean, variance = new["embedding.norm0.mean"], new["embedding.norm0.variance"]
    torch.testing.assert_close(features, torch.relu((z - mean) / (variance + 1e-3).sqrt()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Embedding(Pixels((2,)), statistics="batch"), "unknown statistics 'batch'; allowed: running, support"),
        (lambda: Embedding(Pixels((2,)), momentum=0.0), "momentum 0.0 must be above 0 and at most 1"),
        (lambda: NearestNeighbour(PIXELS, "l1"), "unknown distance 'l1'; allowed: euclidean, cosine"),
        (lambda: RelationNetwork(PIXELS, loss="bce"), "unknown loss 'bce'; allowed: mse, cross-entropy"),
        (lambda: RelationNetwork(PIXELS, map_shape=(2, 3, 1)), "has 6 entries, the embedding's features have 4"),
        (lambda: MatchingNetwork(PIXELS, sharpness=0.0), "sharpness 0.0 positive"),
    ],
)
def test_wrong_settings_are_errors(make, message, no_type_checks):
    with pytest.raises(ValueError, match=message):
        make()

"""Closed forms and references of the recurrent learners, in float64."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from metarl.supervised.causal import Attention, Dense, temporal_convolution
from metarl.supervised.embedding import Embedding, Pixels
from metarl.supervised.episodes import Episodes, Examples, Problem
from metarl.supervised.least_recently_used import EMPTY, empty_memory, least_used, step
from metarl.supervised.lstm import LSTMCell, LSTMState
from metarl.supervised.lstm_learner import LSTMLearner
from metarl.supervised.lstm_rows import ROWS_AT_ONCE
from metarl.supervised.mann import MemoryAugmentedNetwork
from metarl.supervised.sequence import label_codes, shuffled_support
from metarl.supervised.snail import SNAIL

PIXELS = Embedding(Pixels((2,)))
PROBLEM = Problem((2,), 3, classification=True)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def float64(params):
    return {name: value.double() for name, value in params.items()}


def test_lstm_steps_are_those_of_torch():
    cell, reference = LSTMCell(3, 4), torch.nn.LSTMCell(3, 4, dtype=torch.float64)
    params = float64(cell.init(torch.Generator().manual_seed(0)))
    reference.weight_ih.data, reference.weight_hh.data = params["weight"][:3].T, params["weight"][3:].T
    reference.bias_ih.data, reference.bias_hh.data = params["bias"], torch.zeros(16, dtype=torch.float64)
    state, expected = cell.start((2,), normal(1)), None
    for t in range(4):
        x = normal(2, 3, seed=t)
        state, expected = cell.step(params, x, state), reference(x, expected)
        torch.testing.assert_close((state.hidden, state.cell), expected)


@pytest.mark.parametrize("what", ["hidden", "cell", "both"])
def test_many_rows_have_the_values_and_derivatives_of_torchs_cell(what):
    """More than a block, and not a multiple of it; two steps, from a state that is one for all rows, expanded."""
    cell, rows = LSTMCell(3, 4), (5, ROWS_AT_ONCE // 4)
    params = float64(cell.init(torch.Generator().manual_seed(0)))
    x, states = normal(*rows, 3), (normal(5, 1, 4, seed=1), normal(5, 1, 4, seed=2))
    weights = normal(2, *rows, 4, seed=3)
    leaves = [leaf.requires_grad_() for leaf in (*params.values(), x, *states)]

    def objective(hidden, cell):
        used = {"hidden": hidden * weights[0], "cell": cell * weights[1]}
        return (used["hidden"] + used["cell"] if what == "both" else used[what]).sum()

    state = LSTMState(*(value.expand(*rows, 4) for value in states))
    for _ in range(2):
        state = cell.step(params, x, state)
    found = torch.autograd.grad(objective(state.hidden, state.cell), leaves)

    reference = torch.nn.LSTMCell(3, 4, dtype=torch.float64)
    own = {
        "weight_ih": params["weight"][:3].T,
        "weight_hh": params["weight"][3:].T,
        "bias_ih": params["bias"],
        "bias_hh": torch.zeros(16, dtype=torch.float64),
    }
    expected = tuple(value.expand(*rows, 4).flatten(0, 1) for value in states)
    for _ in range(2):
        expected = torch.func.functional_call(reference, own, (x.flatten(0, 1), expected))
    hidden, memory = (value.unflatten(0, rows) for value in expected)
    torch.testing.assert_close((state.hidden, state.cell), (hidden, memory))
    torch.testing.assert_close(found, torch.autograd.grad(objective(hidden, memory), leaves))


@pytest.mark.parametrize("labels", ["delayed", "paired"])
def test_the_lstm_learner_reads_what_it_says(labels):
    """Against torch.nn.LSTMCell fed by hand with one task at a time."""
    learner = LSTMLearner(PROBLEM, PIXELS, hidden=5, labels=labels)
    params = float64(learner.init(torch.Generator().manual_seed(0)))
    cell = torch.nn.LSTMCell(5, 5, dtype=torch.float64)
    cell.weight_ih.data, cell.weight_hh.data = params["lstm.weight"][:5].T, params["lstm.weight"][5:].T
    cell.bias_ih.data, cell.bias_hh.data = params["lstm.bias"], torch.zeros(20, dtype=torch.float64)
    x, y, query = normal(2, 4, 2), torch.tensor([[0, 2, 1, 1], [2, 0, 0, 1]]), normal(2, 3, 2, seed=1)
    got = learner.predict(learner.adapt(params, Examples(x, y)), query)
    codes = one_hot(y, 3).double()
    for task in range(2):
        state = None
        for t in range(4):
            before = codes[task, t - 1] if t else torch.zeros(3).double()
            label = codes[task, t] if labels == "paired" else before
            state = cell(torch.cat((x[task, t], label)).unsqueeze(0), state)
        label = torch.zeros(3).double() if labels == "paired" else codes[task, -1]
        for q in range(3):
            hidden, _ = cell(torch.cat((query[task, q], label)).unsqueeze(0), state)
            expected = hidden[0] @ params["output.weight"] + params["output.bias"]
            torch.testing.assert_close(got[task, q], expected.detach())


def reference_memory(keys, gates, strengths, places, decay):
    """Least recently used access of one task in plain Python: equations 2 to 8 place by place."""
    n_heads, word = len(keys[0]), len(keys[0][0])
    content = [[EMPTY] * word for _ in range(places)]
    read = [[1.0] + [0.0] * (places - 1) for _ in range(n_heads)]
    used = [0.0] * places
    readings = []
    for keys_t, gates_t, strengths_t in zip(keys, gates, strengths, strict=True):
        norms = [math.sqrt(sum(m * m for m in row)) for row in content]
        new_read = []
        for key, strength in zip(keys_t, strengths_t, strict=True):
            size = math.sqrt(sum(k * k for k in key))
            cosine = [
                sum(k * m for k, m in zip(key, row, strict=True)) / (size * norm + 1e-8)
                for row, norm in zip(content, norms, strict=True)
            ]
            exps = [math.exp(strength * c) for c in cosine]
            new_read.append([e / sum(exps) for e in exps])
        readings.append([[sum(w[i] * content[i][j] for i in range(places)) for j in range(word)] for w in new_read])
        by_use = sorted(range(places), key=lambda i: used[i])  # stable: the lowest number first
        lowest = set(by_use[:n_heads])
        write = []
        for h, gate in enumerate(gates_t):
            share = 1 / (1 + math.exp(-gate))
            write.append([share * read[h][i] + (1 - share) * (i in lowest) for i in range(places)])
        used = [decay * used[i] + sum(w[i] for w in new_read) + sum(w[i] for w in write) for i in range(places)]
        content[by_use[0]] = [0.0] * word
        for i in range(places):
            for h, key in enumerate(keys_t):
                for j in range(word):
                    content[i][j] += write[h][i] * key[j]
        read = new_read
    return content, read, used, readings


@pytest.mark.parametrize("heads", [1, 2])
def test_least_recently_used_access_against_plain_python(heads):
    steps, places, word, decay = 7, 5, 3, 0.8
    keys, gates = normal(2, steps, heads, word), normal(2, steps, heads, seed=1)
    strengths = 1 + normal(2, steps, heads, seed=2).abs()
    memory = empty_memory(2, places, word, heads, keys)
    readings = []
    for t in range(steps):
        memory, reading = step(memory, keys[:, t], gates[:, t], strengths[:, t], decay)
        readings.append(reading)
    for task in range(2):
        content, read, used, expected = reference_memory(
            keys[task].tolist(), gates[task].tolist(), strengths[task].tolist(), places, decay
        )
        for got, reference in (
            (memory.content, content),
            (memory.read, read),
            (memory.used, used),
            (torch.stack(readings, 1), expected),
        ):
            torch.testing.assert_close(got[task], torch.tensor(reference, dtype=torch.float64))


def test_strength_one_is_the_papers_reading():
    keys, gates = normal(2, 2, 3), normal(2, 2, seed=1)
    memory, _ = step(empty_memory(2, 4, 3, 2, keys), keys, gates, None, 0.9)
    plain, _ = step(memory, keys, gates, None, 0.9)
    strong, _ = step(memory, keys, gates, torch.ones_like(gates), 0.9)
    torch.testing.assert_close(plain.read, strong.read)


def test_the_least_used_places_are_the_first_of_equals():
    used = torch.tensor([[0.5, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0], [3.0, 2.0, 1.0, 0.0]])
    assert least_used(used, 2).tolist() == [[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1]]


def test_writing_to_the_least_used_place_stores_the_key():
    """With its gate shut towards the last place read, a head writes its key into the emptied place."""
    key = normal(1, 1, 3)
    memory, reading = step(empty_memory(1, 4, 3, 1, key), key, torch.full((1, 1), -40.0).double(), None, 0.9)
    torch.testing.assert_close(memory.content[0, 0], key[0, 0])
    assert memory.content[0, 1:].eq(EMPTY).all()
    torch.testing.assert_close(reading, torch.full((1, 1, 3), EMPTY, dtype=torch.float64))


def test_each_episode_starts_with_the_same_memory():
    learner = MemoryAugmentedNetwork(PROBLEM, PIXELS, hidden=6, places=5, word=4, heads=2)
    params = float64(learner.init(torch.Generator().manual_seed(0)))
    support = Examples(normal(2, 4, 2), torch.tensor([[0, 2, 1, 1], [2, 0, 0, 1]]))
    first = learner.predict(learner.adapt(params, support), support.x)
    assert torch.equal(learner.predict(learner.adapt(params, support), support.x), first)


@pytest.mark.parametrize("layer", [Dense(3, 1), Dense(3, 4), Attention(4, 2)])
def test_causal_layers(layer):
    """A later element changes no earlier output; a sequence can be run, or run in part and extended."""
    params = float64(layer.init(5, torch.Generator().manual_seed(0)))
    x = normal(2, 7, 5)
    out, _ = layer.run(params, x)
    assert out.shape == (2, 7, 5 + layer.appended)
    for t in range(7):
        changed = x.clone()
        changed[:, t] += 1.0
        other, _ = layer.run(params, changed)
        assert torch.equal(other[:, :t], out[:, :t])
        assert not torch.isclose(other[:, t, 5:], out[:, t, 5:]).any()
    for t in range(1, 7):
        _, kept = layer.run(params, x[:, :t])
        torch.testing.assert_close(layer.extend(params, kept, x[:, t : t + 1])[:, 0], out[:, t])


def test_a_dense_block_and_an_attention_by_hand():
    dense, x = Dense(1, 2), torch.tensor([[[1.0], [2.0], [3.0]]]).double()
    params = {"weight": torch.tensor([[0.5, 1.0], [0.25, -1.0]]).double(), "bias": torch.tensor([0.1, 0.2]).double()}
    out, _ = dense.run(params, x)
    expected = [
        math.tanh(0.5 * b + 0.25 * c + 0.1) / (1 + math.exp(-(b - c + 0.2))) for b, c in ((0, 1), (0, 2), (1, 3))
    ]
    assert out[0, :, 1].tolist() == pytest.approx(expected)
    attention = Attention(1, 1)  # query x, key x, value 10 x
    identity = {"weight": torch.tensor([[1.0, 1.0, 10.0]]).double(), "bias": torch.zeros(3).double()}
    read, _ = attention.run(identity, x)
    for t, seen in enumerate(([1.0], [1.0, 2.0], [1.0, 2.0, 3.0])):
        weights = [math.exp(seen[-1] * s) for s in seen]
        expected_t = sum(w * 10 * s for w, s in zip(weights, seen, strict=True)) / sum(weights)
        assert float(read[0, t, 1]) == pytest.approx(expected_t)


def test_alike_an_attention_looks_at_what_resembles_an_element():
    """Its scores are then |W x|^2 at the element itself, which none beats of those as long."""
    layer = Attention(16, 2, alike=True)
    params = float64(layer.init(5, torch.Generator().manual_seed(0)))
    query, key, value = (normal(40, 5) @ params["weight"]).split((16, 16, 2), dim=-1)
    assert torch.equal(query, key)
    assert not torch.equal(key[:, :2], value)
    nearest = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(key).T
    assert torch.equal(nearest.argmax(1), torch.arange(40))
    apart = Attention(16, 2).init(5, torch.Generator().manual_seed(0))["weight"]
    assert not torch.equal(apart[:, :16], apart[:, 16:32])


def test_a_tc_block_sees_the_whole_sequence_and_no_more():
    assert [block.dilation for block in temporal_convolution(6, 4)] == [1, 2, 4]
    assert [block.dilation for block in temporal_convolution(8, 4)] == [1, 2, 4]
    assert [block.dilation for block in temporal_convolution(9, 4)] == [1, 2, 4, 8]


def test_snail_answers_as_if_each_query_alone_followed_the_support_set():
    learner = SNAIL(PROBLEM, PIXELS, support=4, filters=3, attention=((4, 3), (4, 3)), label_scale=2.0)
    params = float64(learner.init(torch.Generator().manual_seed(0)))
    support = Examples(normal(2, 4, 2), torch.tensor([[0, 2, 1, 1], [2, 0, 0, 1]]))
    query = normal(2, 3, 2, seed=1)
    got = learner.predict(learner.adapt(params, support), query)
    for q in range(3):
        x = torch.cat((support.x, query[:, q : q + 1]), 1)
        codes = torch.cat((2 * one_hot(support.y, 3).double(), torch.zeros(2, 1, 3).double()), 1)
        h = torch.cat((x, codes), -1)
        for i, layer in enumerate(learner.layers):
            h, _ = layer.run({n.split(".", 1)[1]: v for n, v in params.items() if n.startswith(f"layer{i}.")}, h)
        expected = h[:, -1] @ params["output.weight"] + params["output.bias"]
        torch.testing.assert_close(got[:, q], expected)


def test_a_label_scale_that_is_not_positive_is_an_error():
    for make in (
        lambda: SNAIL(PROBLEM, PIXELS, support=4, label_scale=0.0),
        lambda: LSTMLearner(PROBLEM, PIXELS, label_scale=-1.0),
    ):
        with pytest.raises(ValueError, match=r"label_scale is .*, but must be positive"):
            make()


def test_shuffling_keeps_pairs_and_depends_on_progress_alone():
    x = torch.arange(12.0).reshape(2, 6, 1)
    episodes = Episodes(Examples(x, x.squeeze(-1).long()), Examples(x, x.squeeze(-1).long()))
    first, again, later = (shuffled_support(episodes, p).support for p in (0.25, 0.25, 0.26))
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, later.x)
    assert torch.equal(first.x.squeeze(-1).long(), first.y)
    assert torch.equal(first.x.sort(1).values, x)
    assert not torch.equal(first.y[0] - first.y[0].min(), first.y[1] - first.y[1].min())


def test_labels_that_do_not_fit_are_errors():
    like = torch.zeros(1)
    with pytest.raises(ValueError, match="class 3 in a support set, but the learner was made for 3 classes"):
        label_codes(torch.tensor([[0, 3]]), 3, like)
    with pytest.raises(ValueError, match="targets have 2 entries, the learner was made for 1"):
        label_codes(torch.zeros(1, 4, 2), 1, like)


@pytest.mark.parametrize("kind", ["lstm", "mann", "snail"])
def test_regression_is_learned(kind, no_type_checks):
    """y = a x with a drawn for each task: one example tells a. Predicting 0 costs E[a^2] E[x^2] = 1/3 * 7/12."""
    problem, embedding = Problem((1,), 1, classification=False), Embedding(Pixels((1,)))
    learner = {
        "lstm": LSTMLearner(problem, embedding, hidden=32, labels="paired"),
        "mann": MemoryAugmentedNetwork(problem, embedding, hidden=32, places=8, word=8, heads=1),
        "snail": SNAIL(problem, embedding, support=2, filters=16, attention=((8, 8), (8, 8))),
    }[kind]
    generator = torch.Generator().manual_seed(0)

    def draw(tasks):
        a = 2 * torch.rand(tasks, 1, 1, generator=generator) - 1
        support, query = (0.5 + 0.5 * torch.rand(tasks, n, 1, generator=generator) for n in (2, 5))
        return Episodes(Examples(support, a * support), Examples(query, a * query))

    params = learner.init(generator)
    optimiser = torch.optim.Adam(list(params.values()), lr=1e-2)
    for i in range(120):
        for name, gradient in learner.meta_gradient(params, draw(16), i / 120).gradient.items():
            params[name].grad = gradient
        optimiser.step()
    assert float(learner.meta_gradient(params, draw(500), 0.0).objective) < 0.03

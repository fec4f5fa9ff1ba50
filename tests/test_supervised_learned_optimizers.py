"""Closed forms of the learned optimizers, in float64."""

import math

import pytest
import torch
from blob_tasks import blob_episodes

from metarl.supervised import lstm_optimizer, meta_lstm
from metarl.supervised.learned_descent import log_and_sign, loss_and_gradient
from metarl.supervised.lstm_optimizer import CoordinateLSTM, LSTMOptimizer
from metarl.supervised.meta_lstm import MetaLSTM
from metarl.supervised.networks import MLP
from metarl.supervised.objective import losses_of

NETWORK = MLP(3, 2, (6,), init_std=0.3)


def float64(params):
    return {name: value.double() for name, value in params.items()}


def episodes64(seed=0, tasks=3):
    return blob_episodes(tasks, torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_log_and_sign_at_known_values():
    g = torch.tensor([1.0, -math.e, math.exp(-10), -0.5 * math.exp(-10), 0.0, math.exp(5)], dtype=torch.float64)
    expected = [[0, 1], [0.1, -1], [-1, 1], [-1, -0.5], [-1, 0], [0.5, 1]]
    torch.testing.assert_close(log_and_sign(g, 10.0), torch.tensor(expected, dtype=torch.float64))
    at_5 = log_and_sign(torch.tensor([math.exp(-2.5), 1e-9]).double(), 5.0)
    torch.testing.assert_close(at_5, torch.tensor([[-0.5, 1.0], [-1.0, 1e-9 * math.exp(5)]]).double())


def test_losses_are_means_over_a_tasks_examples():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    y = torch.tensor([[0, 2, 1, 1], [2, 0, 0, 1]])
    expected = torch.stack([torch.nn.functional.cross_entropy(logits[i], y[i]) for i in range(2)])
    torch.testing.assert_close(losses_of(logits, y), expected)
    values = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    expected = torch.stack([torch.nn.functional.mse_loss(logits[i], values[i]) for i in range(2)])
    torch.testing.assert_close(losses_of(logits, values), expected)


def test_gates_of_one_and_alpha_are_gradient_descent():
    learner = MetaLSTM(NETWORK, steps=3)
    params = float64(learner.init(torch.Generator().manual_seed(0)))
    alpha = 0.3
    params["forget.weight"] *= 0
    params["input.weight"] *= 0
    params["forget.bias"] = torch.tensor(50.0).double()
    params["input.bias"] = torch.tensor(math.log(alpha / (1 - alpha))).double()
    support = episodes64().support
    theta = params["theta"].expand(3, -1)
    for _ in range(3):
        theta = theta - alpha * loss_and_gradient(NETWORK, theta, support)[1]
    torch.testing.assert_close(learner.adapt(params, support).theta, theta)


def test_gates_see_what_the_docstring_says():
    """One step of one coordinate by hand: the first layer's output, the parameter and the gate before."""
    learner = MetaLSTM(NETWORK, hidden=2)
    params = float64(learner.init(torch.Generator().manual_seed(0)))
    for name in ("forget.weight", "input.weight"):
        params[name] = torch.tensor([0.5, -0.4, 0.3, 0.2]).double()
    generator = torch.Generator().manual_seed(1)
    theta, gradient = torch.randn(2, 2, 5, generator=generator, dtype=torch.float64)
    losses = torch.tensor([0.7, 1.9]).double()
    cell = learner._cell
    gates = meta_lstm.Gates(cell.start((2, 5), theta), torch.full_like(theta, 0.9), torch.full_like(theta, 0.2))
    new, after = learner.step(params, theta, losses, gradient, gates)
    seen = torch.cat((log_and_sign(gradient[1, 3], 10.0), log_and_sign(losses[1], 10.0)))
    own = {n.removeprefix("lstm."): v for n, v in params.items() if n.startswith("lstm.")}
    h = cell.step(own, seen, cell.start((), theta)).hidden
    common = 0.5 * h[0] - 0.4 * h[1] + 0.3 * theta[1, 3]
    forget = torch.sigmoid(common + 0.2 * 0.9 + 4.5)
    of_input = torch.sigmoid(common + 0.2 * 0.2 - 4.5)
    torch.testing.assert_close((after.forget[1, 3], after.input[1, 3]), (forget, of_input))
    torch.testing.assert_close(new[1, 3], forget * theta[1, 3] - of_input * gradient[1, 3])


def test_moves_are_those_of_torchs_two_layer_lstm():
    optimizer = CoordinateLSTM(hidden=3, p=5.0, scale=0.1)
    params = float64(optimizer.init(torch.Generator().manual_seed(0)))
    reference = torch.nn.LSTM(2, 3, num_layers=2, dtype=torch.float64)
    for layer, inputs in ((0, 2), (1, 3)):
        weight = params[f"lstm{layer}.weight"]
        getattr(reference, f"weight_ih_l{layer}").data = weight[:inputs].T
        getattr(reference, f"weight_hh_l{layer}").data = weight[inputs:].T
        getattr(reference, f"bias_ih_l{layer}").data = params[f"lstm{layer}.bias"]
        getattr(reference, f"bias_hh_l{layer}").data = torch.zeros(12, dtype=torch.float64)
    gradients = torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    hidden, _ = reference(log_and_sign(gradients, 5.0).flatten(1, 2))
    expected = 0.1 * (hidden @ params["output.weight"] + params["output.bias"]).reshape(4, 2, 5)
    state = optimizer.start(gradients[0])
    for t in range(4):
        move, state = optimizer.step(params, gradients[t], state)
        torch.testing.assert_close(move, expected[t].detach())


def test_coordinates_of_the_lstm_optimizer_do_not_see_one_another():
    optimizer = CoordinateLSTM()
    params = float64(optimizer.init(torch.Generator().manual_seed(0)))
    generator = torch.Generator().manual_seed(1)
    gradients = torch.randn(4, 2, 5, generator=generator, dtype=torch.float64)
    order = torch.tensor([3, 1, 4, 0, 2])

    def run(gradients):
        state, moves = optimizer.start(gradients[0]), []
        for gradient in gradients:
            move, state = optimizer.step(params, gradient, state)
            moves.append(move)
        return torch.stack(moves)

    torch.testing.assert_close(run(gradients[..., order]), run(gradients)[..., order])
    torch.testing.assert_close(run(gradients[:, 1:])[:, 0], run(gradients)[:, 1])


def test_the_lstm_optimizer_learns_to_minimise_quadratics(no_type_checks):
    """f(theta) = |theta - c|^2 with c drawn anew: after meta-training, 20 steps end nearer than they began."""
    optimizer = CoordinateLSTM(scale=0.1)
    generator = torch.Generator().manual_seed(0)
    params = optimizer.init(generator)
    adam = torch.optim.Adam([v.requires_grad_() for v in params.values()], lr=1e-2)

    def run():
        centre = torch.randn(16, 5, generator=generator)
        theta, total = torch.zeros_like(centre), torch.zeros(())
        state = optimizer.start(theta)
        for _ in range(20):
            move, state = optimizer.step(params, 2 * (theta - centre).detach(), state)
            theta = theta + move
            total = total + (theta - centre).square().sum(1).mean() / 20
        return total, float((theta - centre).detach().square().sum(1).mean())

    before = run()[1]
    for _ in range(60):
        adam.zero_grad()
        run()[0].backward()
        adam.step()
    assert before > 3.0
    assert run()[1] < 0.5


LEARNERS = [
    (lstm_optimizer, LSTMOptimizer(NETWORK, CoordinateLSTM(hidden=4), steps=3)),
    (lstm_optimizer, LSTMOptimizer(MLP(3, 2, (6,), norm=True, init_std=0.3), CoordinateLSTM(hidden=4), steps=3)),
    (meta_lstm, MetaLSTM(NETWORK, steps=3, hidden=4, init_input=-1.0)),
]


@pytest.mark.parametrize(("module", "learner"), LEARNERS, ids=["lstm", "lstm-batch-norm", "meta-lstm"])
def test_the_meta_gradient_takes_gradients_as_constants(module, learner, monkeypatch):
    """Central differences in random directions with the inner losses and gradients replayed from the first run."""
    params, episodes = float64(learner.init(torch.Generator().manual_seed(1))), episodes64()
    recorded = []

    def record(*args):
        recorded.append(loss_and_gradient(*args))
        return recorded[-1]

    monkeypatch.setattr(module, "loss_and_gradient", record)
    result = learner.meta_gradient(params, episodes, 0.5)
    assert len(recorded) == 3
    generator = torch.Generator().manual_seed(5)
    for _ in range(3):
        direction = {n: torch.randn(v.shape, generator=generator, dtype=torch.float64) for n, v in params.items()}
        objectives = []
        for h in (1e-6, -1e-6):
            replay = iter(recorded)
            monkeypatch.setattr(module, "loss_and_gradient", lambda *_, replay=replay: next(replay))
            there = {n: v + h * direction[n] for n, v in params.items()}
            objectives.append(learner.meta_gradient(there, episodes, 0.5).objective)
        expected = sum((result.gradient[n] * direction[n]).sum() for n in direction)
        torch.testing.assert_close((objectives[0] - objectives[1]) / 2e-6, expected, rtol=1e-5, atol=1e-9)


def test_cut_runs_have_the_whole_runs_objective_and_another_gradient():
    whole = LSTMOptimizer(NETWORK, steps=4, unroll=4)
    cut = LSTMOptimizer(NETWORK, steps=4, unroll=2)
    params, episodes = float64(whole.init(torch.Generator().manual_seed(1))), episodes64()
    a, b = (learner.meta_gradient(params, episodes, 0.5) for learner in (whole, cut))
    torch.testing.assert_close(a.objective, b.objective)
    assert not torch.allclose(a.gradient["theta"], b.gradient["theta"])
    two = LSTMOptimizer(NETWORK, steps=2).meta_gradient(params, episodes, 0.5)
    # theta_0 moves only the losses before the first cut; those are shares of 4 steps, not of 2.
    torch.testing.assert_close(b.gradient["theta"], two.gradient["theta"] / 2)


def test_a_random_start_is_drawn_anew_and_has_no_gradient():
    learner = LSTMOptimizer(NETWORK, steps=2, learned_start=False)
    params, episodes = float64(learner.init(torch.Generator().manual_seed(1))), episodes64()
    first, again, later = (learner.meta_gradient(params, episodes, p) for p in (0.1, 0.1, 0.2))
    assert "theta" not in first.gradient
    assert torch.equal(first.objective, again.objective)
    assert not torch.equal(first.objective, later.objective)


@pytest.mark.parametrize("make", [lambda: LSTMOptimizer(NETWORK, steps=0), lambda: MetaLSTM(NETWORK, steps=0)])
def test_no_steps_are_an_error(make):
    with pytest.raises(ValueError, match="must be positive"):
        make()

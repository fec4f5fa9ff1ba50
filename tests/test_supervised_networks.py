"""Networks, batch norm and convolution over a task axis: torch's own layers task by task, and finite differences."""

import pytest
import torch
from torch.nn import functional

from metarl.supervised.batch_norm import Moments, batch_norm, moments_of
from metarl.supervised.conv4 import Conv4, filters_first
from metarl.supervised.network_config import NetworkConfig
from metarl.supervised.networks import MLP, linear
from metarl.supervised.task_conv import task_conv


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 6, 4), (3, 2, 4, 3, 2)])
def test_batch_norm_and_its_two_derivatives_equal_torchs_in_a_loop(shape):
    x, probe, other = normal(*shape), normal(*shape, seed=1), normal(*shape, seed=2)
    shift, scale = normal(3, 4, seed=3), normal(3, 4, seed=4)

    def loop(x, shift, scale):
        return torch.stack(
            [functional.batch_norm(x[t], None, None, scale[t], shift[t], training=True, eps=1e-3) for t in range(3)]
        )

    results = []
    for layer in (lambda *a: batch_norm(*a)[0], loop):
        leaves = [v.clone().requires_grad_() for v in (x, shift, scale)]
        out = layer(*leaves)
        first = torch.autograd.grad((out.tanh() * probe).sum(), leaves, create_graph=True)
        second = torch.autograd.grad((first[0] * other).sum() + first[2].square().sum(), leaves)
        results.append((out, *first, *second))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_batch_norm_by_finite_differences_of_second_order():
    args = [v.requires_grad_() for v in (normal(2, 5, 3), normal(3, seed=1), normal(2, 3, seed=2))]
    assert torch.autograd.gradgradcheck(lambda x, shift, scale: batch_norm(x, shift, scale)[0], args)


def test_batch_norm_of_a_task_does_not_depend_on_its_neighbours():
    x, shift = normal(3, 5, 4), normal(4, seed=1)
    alone = batch_norm(x[:1], shift)[0]
    assert torch.equal(batch_norm(x, shift)[0][:1], alone)
    assert torch.equal(batch_norm(torch.cat((x[:1], 100 * x[1:])), shift)[0][:1], alone)


def test_given_moments_replace_the_rows_own():
    x, moments = normal(2, 5, 3), Moments(normal(3, seed=1), normal(3, seed=2).square())
    out, used = batch_norm(x, torch.zeros(3, dtype=torch.float64), moments=moments, eps=0.0)
    assert used is moments
    torch.testing.assert_close(out, (x - moments.mean) / moments.variance.sqrt())
    assert torch.equal(moments_of(x).mean, x.mean(1))


@pytest.mark.parametrize("stride", [1, 2])
def test_task_convolution_and_its_two_derivatives_equal_a_loop(stride):
    x, weight = normal(3, 2, 4, 7, 6), normal(3, 5, 4, 3, 3, seed=1)

    def loop(x, weight):
        return torch.stack([functional.conv2d(x[t], weight[t], stride=stride, padding=1) for t in range(3)])

    results = []
    for layer in (lambda *a: task_conv(*a, stride), loop):
        leaves = [v.clone().requires_grad_() for v in (x, weight)]
        out = layer(*leaves)
        first = torch.autograd.grad(out.tanh().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(first[0].tanh().sum() + first[1].tanh().sum(), leaves, create_graph=True)
        third = torch.autograd.grad(second[0].sin().sum() + second[1].sin().sum(), leaves)
        results.append((out, *first, *second, *third))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_task_convolution_by_finite_differences():
    args = [v.requires_grad_() for v in (normal(2, 1, 2, 4, 4), normal(2, 2, 2, 3, 3, seed=1))]
    assert torch.autograd.gradcheck(lambda x, w: task_conv(x, w, 2), args)
    assert torch.autograd.gradgradcheck(lambda x, w: task_conv(x, w, 2), args)


NETWORKS = {
    "mlp": (MLP(1, 1), (1,)),
    "mlp with batch norm": (MLP(12, 5, (8, 6), norm=True, scale=True), (1, 4, 3)),
    "stride": (Conv4((1, 28, 28), 5, filters=4), (1, 28, 28)),
    "stride, two halvings": (Conv4((2, 9, 9), 5, filters=4, halvings=2, scale=True), (2, 9, 9)),
    "pool": (Conv4((3, 20, 20), 5, filters=4, pool=True, spatial_mean=False, scale=True), (3, 20, 20)),
    "pool, two halvings": (Conv4((3, 9, 9), 5, filters=4, pool=True, halvings=2, spatial_mean=False), (3, 9, 9)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_shared_weights_equal_a_copy_for_each_task(name):
    network, shape = NETWORKS[name]
    params = network.init(torch.Generator().manual_seed(0)).double()
    params = params + 0.1 * normal(network.layout.size, seed=5)
    x = normal(3, 4, *shape, seed=1)
    shared = network(params, x)
    assert shared.shape == (3, 4, network.outputs)
    each = network(params.expand(3, -1), x)
    torch.testing.assert_close(each, shared)
    other = params.expand(3, -1) + 0.1 * normal(3, network.layout.size, seed=2)
    torch.testing.assert_close(network(other, x)[1:2], network(other[1:2], x[1:2]))
    torch.testing.assert_close(network(network.layout.unflatten(other), x), network(other, x))
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(network(other[order], x[order]), network(other, x)[order])


@pytest.mark.parametrize("name", NETWORKS)
def test_layout_is_norm_body_head_and_features_have_their_length(name):
    network, shape = NETWORKS[name]
    names = tuple(entry for entry, _ in network.layout.entries)
    assert names[: len(network.norm_names)] == network.norm_names
    assert names[len(names) - 2 :] == network.head_names
    params = network.init(torch.Generator().manual_seed(0))
    assert torch.equal(params, network.init(torch.Generator().manual_seed(0)))
    features, used = network.features(params, torch.zeros(2, 3, *shape))
    assert features.shape == (2, 3, network.feature_dim)
    assert len(used) == sum(entry.endswith("shift") for entry in names)


@pytest.mark.parametrize("halvings", [0, 2, 4])
def test_conv4_equals_torchs_layers(halvings):
    network = Conv4((1, 28, 28), 5, filters=4, halvings=halvings)
    params = network.init(torch.Generator().manual_seed(0)).double()
    at, x = network.layout.unflatten(params), normal(1, 6, 1, 28, 28)
    h = x[0]
    for i in range(4):
        h = functional.conv2d(h, filters_first(at[f"conv{i}.weight"]), stride=2 if i < halvings else 1, padding=1)
        h = functional.batch_norm(h, None, None, None, at[f"norm{i}.shift"], training=True, eps=1e-3).relu()
    expected = h.mean((2, 3)) @ at["head.weight"] + at["head.bias"]
    torch.testing.assert_close(network(params, x)[0], expected)


def test_sizes_of_the_papers_networks():
    assert MLP(1, 1).layout.size == 40 + 40 + 1600 + 40 + 40 + 1
    assert Conv4((3, 84, 84), None, 32, pool=True, spatial_mean=False).feature_dim == 32 * 5 * 5
    assert Conv4((1, 28, 28), None).feature_dim == 64


def test_images_must_have_three_axes_and_survive_pooling():
    with pytest.raises(ValueError, match="channel, height, width"):
        Conv4((28, 28), 5)
    with pytest.raises(ValueError, match="vanish in 4 poolings; take 16 x 16"):
        Conv4((1, 12, 12), 5, pool=True)
    assert Conv4((1, 12, 12), 5, pool=True, halvings=2).positions == (3, 3)
    for make in (lambda: Conv4((1, 28, 28), 5, halvings=5), lambda: NetworkConfig(kind="conv4", halvings=-1)):
        with pytest.raises(ValueError, match=r"halvings is .* from 0 to 4"):
            make()


@pytest.mark.parametrize("own_weight", [False, True])
@pytest.mark.parametrize("own_bias", [False, True])
def test_linear_with_shared_and_own_weights(own_weight, own_bias):
    x, weight, bias = normal(2, 4, 3), normal(2, 3, 5, seed=1), normal(2, 5, seed=2)
    weight, bias = weight if own_weight else weight[0], bias if own_bias else bias[0]
    expected = [x[t] @ (weight[t] if own_weight else weight) + (bias[t] if own_bias else bias) for t in range(2)]
    torch.testing.assert_close(linear(x, weight, bias), torch.stack(expected))

"""The gradient of an MLP's support loss as one node of autograd's graph, its derivative written out by hand.

With layers a_i = h_i W_i + b_i, h_{i+1} = relu(a_i), delta_i = dL / da_i, and R the derivative along v = (V_i, c_i):

  gradient         gW_i = h_i^T delta_i;   delta_{i-1} = (delta_i W_i^T) relu'(a_{i-1})
  Hessian product  R a_i = R h_i W_i + h_i V_i + c_i;   R h_{i+1} = R a_i relu'(a_i)
                   R gW_i = R h_i^T delta_i + h_i^T R delta_i
                   R delta_{i-1} = (R delta_i W_i^T + delta_i V_i^T) relu'(a_{i-1})

The Hessian is symmetric, so its product with a vector is also what pulls a vector back: through a gradient step of
size alpha, v becomes v - alpha H v. A small network's time is autograd's book-keeping more than arithmetic; written
like this there are a third as many operations, and `meta_gradient`, all of MAML, needs no graph at all.
Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian", section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from .episodes import Episodes
from .networks import MLP

Layers = list[tuple[Tensor, Tensor]]
"""(weight (task, fan_in, fan_out), bias (task, 1, fan_out)) of each layer."""


def has_closed_form(network: object) -> TypeGuard[MLP]:
    """Whether the functions below are those of this network: an MLP with a head and without batch norm."""
    return isinstance(network, MLP) and not network.norm and network.outputs is not None


def loss_gradient(
    network: MLP,
    params: Float[Tensor, "task P"],
    x: Float[Tensor, "task example *input"],
    y: Int[Tensor, "task example"] | Float[Tensor, "task example out"],
) -> Float[Tensor, "task P"]:
    """Gradient of each task's mean cross-entropy, or mean squared error; differentiable once, in params."""
    return _Gradient.apply(params, network, x.flatten(2), y)


def mean_loss(
    network: MLP,
    params: Float[Tensor, "task P"],
    x: Float[Tensor, "task example *input"],
    y: Int[Tensor, "task example"] | Float[Tensor, "task example out"],
) -> Float[Tensor, ""]:
    """Mean over tasks of the mean loss; differentiable once, in params. Its gradient is computed along with it."""
    return _Loss.apply(params, network, x.flatten(2), y)


def meta_gradient(
    network: MLP, theta: Float[Tensor, " P"], episodes: Episodes, step_size: float, steps: int, first_order: bool
) -> tuple[Float[Tensor, " P"], Float[Tensor, ""]]:
    """MAML's: derivative in theta of the mean query loss after the steps, and that loss. first_order: take H for 0."""
    support, query = episodes.support, episodes.query
    with torch.no_grad():
        x, points = support.x.flatten(2), []
        params = theta.expand(len(x), -1)
        for _ in range(steps):
            point, gradient = _differentiated(network, params, x, support.y)
            points.append(point)
            params = torch.sub(params, gradient, alpha=step_size)
        end, vector = _differentiated(network, params, query.x.flatten(2), query.y)
        for point in () if first_order else reversed(points):
            vector = torch.sub(vector, _hessian_product(point, _layers(network, vector)), alpha=step_size)
        return vector.mean(0), _mean_loss(end, query.y)


@dataclass(frozen=True)
class _Point:
    """The forward and backward pass of the mean losses at some parameters."""

    layers: Layers
    hidden: list[Tensor]
    """h_0 = x, ..., h_L."""
    deltas: list[Tensor]
    """delta_0, ..., delta_L."""
    outputs: Tensor
    probability: Tensor | None
    """Of each class; None in regression."""


def _differentiated(network: MLP, params: Tensor, x: Tensor, y: Tensor) -> tuple[_Point, Tensor]:
    """The passes, and the gradient (task, P)."""
    layers = _layers(network, params)
    hidden, outputs = _forward(layers, x)
    delta, probability = _output_delta(outputs, y)
    deltas, gradient = _backward(layers, hidden, delta)
    return _Point(layers, hidden, deltas, outputs, probability), gradient


def _mean_loss(point: _Point, y: Tensor) -> Tensor:
    if point.probability is None:
        return mse_loss(point.outputs, y)
    return cross_entropy(point.outputs.flatten(0, 1), y.flatten())


def _layers(network: MLP, flat: Tensor) -> Layers:
    parts = list(network.layout.unflatten(flat).values())
    return [(weight, bias.unsqueeze(1)) for weight, bias in zip(parts[::2], parts[1::2], strict=True)]


def _forward(layers: Layers, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """[h_0 = x, ..., h_L] and the outputs."""
    hidden = [x]
    for weight, bias in layers[:-1]:
        hidden.append(torch.baddbmm(bias, hidden[-1], weight).relu_())
    weight, bias = layers[-1]
    return hidden, torch.baddbmm(bias, hidden[-1], weight)


def _output_delta(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
    """Derivative of the mean loss in the outputs, and the probabilities of classes."""
    if y.dtype.is_floating_point:
        return (outputs - y) * (2 / y[0].numel()), None
    probability = outputs.softmax(-1)
    return (probability - one_hot(y, outputs.shape[-1])) / y.shape[1], probability


def _backward(layers: Layers, hidden: list[Tensor], delta: Tensor) -> tuple[list[Tensor], Tensor]:
    """[delta_0, ..., delta_L] and the flat gradient."""
    deltas, pieces = [delta], []
    for i in reversed(range(len(layers))):
        pieces += [delta.sum(1), torch.bmm(hidden[i].transpose(1, 2), delta).flatten(1)]
        if i:
            delta = _through_relu(torch.bmm(delta, layers[i][0].transpose(1, 2)), hidden[i])
            deltas.append(delta)
    return deltas[::-1], torch.cat(pieces[::-1], 1)


def _through_relu(value: Tensor, hidden: Tensor) -> Tensor:
    """value where the unit is on, else zero."""
    return torch.ops.aten.threshold_backward(value, hidden, 0)


def _hessian_product(point: _Point, direction: Layers) -> Tensor:
    """H v."""
    layers, hidden, deltas = point.layers, point.hidden, point.deltas
    moved: list[Tensor | None] = [None]
    for i, ((weight, _), (v, c)) in enumerate(zip(layers, direction, strict=True)):
        step = torch.baddbmm(c, hidden[i], v)
        before = moved[i]
        if before is not None:
            step.baddbmm_(before, weight)
        moved.append(_through_relu(step, hidden[i + 1]) if i + 1 < len(layers) else step)
    out = moved.pop()
    assert out is not None  # for the type checker: there is at least one layer
    if point.probability is None:
        delta = out * (2 / out[0].numel())
    else:
        weighted = point.probability * out
        delta = (weighted - point.probability * weighted.sum(-1, keepdim=True)) / out.shape[1]
    pieces = []
    for i in reversed(range(len(layers))):
        product = torch.bmm(hidden[i].transpose(1, 2), delta)
        at = moved[i]
        if at is not None:
            product.baddbmm_(at.transpose(1, 2), deltas[i])
        pieces += [delta.sum(1), product.flatten(1)]
        if i:
            pulled = torch.bmm(delta, layers[i][0].transpose(1, 2))
            pulled.baddbmm_(deltas[i], direction[i][0].transpose(1, 2))
            delta = _through_relu(pulled, hidden[i])
    return torch.cat(pieces[::-1], 1)


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, params: Tensor, network: MLP, x: Tensor, y: Tensor) -> Tensor:
        point, gradient = _differentiated(network, params, x, y)
        ctx.save_for_backward(params, point.outputs, point.probability, *point.hidden, *point.deltas)
        ctx.network = network
        return gradient

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        params, outputs, probability, *rest = ctx.saved_tensors
        half = len(rest) // 2
        point = _Point(_layers(ctx.network, params), rest[:half], rest[half:], outputs, probability)
        return _hessian_product(point, _layers(ctx.network, grad)), None, None, None


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, params: Tensor, network: MLP, x: Tensor, y: Tensor) -> Tensor:
        point, gradient = _differentiated(network, params, x, y)
        ctx.save_for_backward(gradient)
        return _mean_loss(point, y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * (grad / len(gradient)), None, None, None

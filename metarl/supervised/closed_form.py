"""The gradient of an MLP's support loss as one node of autograd's graph, its derivative written out by hand.

With layers a_i = h_i W_i + b_i, h_{i+1} = relu(a_i), delta_i = dL / da_i, and R the derivative along v = (V_i, c_i):

  gradient         gW_i = h_i^T delta_i;   delta_{i-1} = (delta_i W_i^T) relu'(a_{i-1})
  Hessian product  R a_i = R h_i W_i + h_i V_i + c_i;   R h_{i+1} = R a_i relu'(a_i)
                   R gW_i = R h_i^T delta_i + h_i^T R delta_i
                   R delta_{i-1} = (R delta_i W_i^T + delta_i V_i^T) relu'(a_{i-1})

The Hessian is symmetric, so its product with a vector is also what pulls a vector back. A small network's time is
autograd's book-keeping more than arithmetic; written like this there are a third as many operations.
Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian", section 3.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

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


def _hessian_product(
    layers: Layers,
    hidden: list[Tensor],
    deltas: list[Tensor],
    probability: Tensor | None,
    direction: Layers,
    scale: float,
) -> Tensor:
    """H v. scale: second derivative of the squared error in an output."""
    moved: list[Tensor | None] = [None]
    for i, ((weight, _), (v, c)) in enumerate(zip(layers, direction, strict=True)):
        step = torch.baddbmm(c, hidden[i], v)
        before = moved[i]
        if before is not None:
            step.baddbmm_(before, weight)
        moved.append(_through_relu(step, hidden[i + 1]) if i + 1 < len(layers) else step)
    out = moved.pop()
    assert out is not None  # for the type checker: there is at least one layer
    if probability is None:
        delta = out * scale
    else:
        weighted = probability * out
        delta = (weighted - probability * weighted.sum(-1, keepdim=True)) / out.shape[1]
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
        layers = _layers(network, params)
        hidden, outputs = _forward(layers, x)
        delta, probability = _output_delta(outputs, y)
        deltas, gradient = _backward(layers, hidden, delta)
        ctx.save_for_backward(params, probability, *hidden, *deltas)
        ctx.network, ctx.scale = network, 2 / (outputs.shape[1] * outputs.shape[2])
        return gradient

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        params, probability, *rest = ctx.saved_tensors
        half = len(rest) // 2
        layers, direction = _layers(ctx.network, params), _layers(ctx.network, grad)
        product = _hessian_product(layers, rest[:half], rest[half:], probability, direction, ctx.scale)
        return product, None, None, None


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, params: Tensor, network: MLP, x: Tensor, y: Tensor) -> Tensor:
        layers = _layers(network, params)
        hidden, outputs = _forward(layers, x)
        delta, probability = _output_delta(outputs, y)
        ctx.save_for_backward(_backward(layers, hidden, delta)[1])
        if probability is None:
            return (outputs - y).square().mean()
        return torch.nn.functional.cross_entropy(outputs.flatten(0, 1), y.flatten())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * (grad / len(gradient)), None, None, None

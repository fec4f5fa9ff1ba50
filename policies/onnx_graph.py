"""A policy's deterministic action as an ONNX graph, built node by node. Needs the onnx package."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from .gaussian_mlp import GaussianMLP
from .normaliser import CLIP

OPSET = 17
IR_VERSION = 8  # of the same age as the opset: older runtimes refuse a newer one


def onnx_model(network: GaussianMLP, theta: Float[Tensor, " P"], facts: dict[str, str] | None = None) -> bytes:
    """obs (batch, obs) -> action (batch, act), both float32: clip(mean(clip((obs - m) / s, -5, 5)), -1, 1).

    facts: kept in the model's metadata. ModuleNotFoundError without the onnx package.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    constants: dict[str, np.ndarray] = {
        "low": np.array(-1.0, np.float32),
        "high": np.array(1.0, np.float32),
        "obs_low": np.array(-CLIP, np.float32),
        "obs_high": np.array(CLIP, np.float32),
    }
    nodes: list[Any] = []
    value = "obs"

    def node(kind: str, *inputs: str, out: str) -> str:
        nodes.append(helper.make_node(kind, [value, *inputs], [out], name=f"{kind}_{out}"))
        return out

    if network.normaliser is not None:
        constants["obs_mean"] = np.array(network.normaliser.mean, dtype=np.float32)
        constants["obs_inverse_std"] = np.float32(1.0) / np.array(network.normaliser.std, dtype=np.float32)
        value = node("Sub", "obs_mean", out="centred")
        value = node("Mul", "obs_inverse_std", out="scaled")
        value = node("Clip", "obs_low", "obs_high", out="clipped")
    named = network.layout.unflatten(theta.detach())
    last = len(network.sizes) - 2
    for i in range(last + 1):
        constants[f"weight_{i}"] = named[f"weight_{i}"].numpy().astype(np.float32)
        constants[f"bias_{i}"] = network.bias(named, i).numpy().astype(np.float32)
        value = node("Gemm", f"weight_{i}", f"bias_{i}", out=f"layer_{i}")
        if i < last:
            value = node("Tanh" if network.activation == "tanh" else "Relu", out=f"hidden_{i}")
    value = node("Clip", "low", "high", out="action")
    used = {name for n in nodes for name in n.input}
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["batch", network.obs_dim])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", network.act_dim])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items() if name in used],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="metarl"
    )
    helper.set_model_props(model, facts or {})
    checker.check_model(model)
    return model.SerializeToString()

"""The linear value baseline of Duan et al. 2016 (rllab), fitted per task by ridge regression."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RIDGE_COEFFICIENT = 1e-5
TIME_SCALE_STEPS = 100.0


def baseline_features(obs: Float[Tensor, "*batch time obs"]) -> Float[Tensor, "*batch time feature"]:
    """[obs, obs^2, t/100, (t/100)^2, (t/100)^3, 1] with obs clipped to +-10 and t the step in the episode."""
    clipped = obs.clamp(-10, 10)
    t = torch.arange(obs.shape[-2], dtype=obs.dtype, device=obs.device)[:, None] / TIME_SCALE_STEPS
    time = torch.cat([t, t**2, t**3, torch.ones_like(t)], dim=-1).expand(*obs.shape[:-1], 4)
    return torch.cat([clipped, clipped**2, time], dim=-1)


def ridge_baseline(
    obs: Float[Tensor, "env time obs"],
    target: Float[Tensor, "env time"],
    valid: Bool[Tensor, "env time"],
    coefficient: float = RIDGE_COEFFICIENT,
) -> Float[Tensor, "env time"]:
    """Values predicted by a ridge regression of the returns of one task on the features, fitted on valid steps.

    w = (X^T X + c I)^-1 X^T y, in float64 since X^T X is badly conditioned; c grows tenfold until the solve is finite.
    Returns values in the dtype of target.
    """
    features = baseline_features(obs.double())
    x = (features * valid[..., None]).flatten(0, 1)
    y = (target.double() * valid).flatten()
    gram, moment = x.t() @ x, x.t() @ y
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = torch.zeros_like(moment)
    for _ in range(10):
        solution, failed = torch.linalg.solve_ex(gram + coefficient * identity, moment)
        if not failed and bool(torch.isfinite(solution).all()):
            weights = solution
            break
        coefficient *= 10
    return (features @ weights).to(target.dtype)

"""Linear value baselines, fitted per task by ridge regression.

The paper's is fitted to the very episodes that it is subtracted from (Duan et al. 2016, rllab). With few episodes and
many observations it explains their noise too, and takes away what the advantages had to tell: of the 20 episodes of a
random Ant (254 features) it explains 0.4 of the variance, of others -9. The cross-fitted one cannot.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RIDGE_COEFFICIENT = 1e-5
TIME_SCALE_STEPS = 100.0
FOLDS = 5
# Ridge coefficients tried, in units of the number of steps; features are standardised.
CANDIDATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


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


def baseline_by_episode(
    obs: Float[Tensor, "env time obs"], target: Float[Tensor, "env time"], valid: Bool[Tensor, "env time"]
) -> Float[Tensor, "env time"]:
    """`ridge_baseline` of each episode on itself alone: where episodes behave differently, a common one errs.

    Steps have to be many times the features; else it explains whatever happened, and leaves no advantages.
    """
    return torch.cat([ridge_baseline(obs[e : e + 1], target[e : e + 1], valid[e : e + 1]) for e in range(len(obs))])


def cross_fitted_baseline(
    obs: Float[Tensor, "env time obs"], target: Float[Tensor, "env time"], valid: Bool[Tensor, "env time"]
) -> Float[Tensor, "env time"]:
    """Values of each episode by a ridge regression on the other episodes of its task, so that they are unbiased.

    Episodes fall into FOLDS folds, episode e into fold e mod FOLDS. Of the CANDIDATES, the coefficient that predicts
    the returns of the left-out folds best is used. Features are `baseline_features`, standardised; the intercept is
    not penalised. A single episode has no others: its values are 0. Fitting on other data than is evaluated keeps a
    control variate unbiased; for regression nuisances see Chernozhukov et al. 2018 (cross-fitting).
    """
    n_folds = min(FOLDS, len(obs))
    if n_folds < 2:
        return torch.zeros_like(target)
    features, y = baseline_features(obs.double())[..., :-1], target.double() * valid
    mask = valid.double()
    n = mask.sum().clamp(min=1)
    mean = (features * mask[..., None]).sum((0, 1)) / n
    spread = (((features - mean) * mask[..., None]) ** 2).sum((0, 1)).div(n).sqrt()
    x = (features - mean) / torch.where(spread > 1e-8, spread, torch.inf)
    x = torch.cat([x, torch.ones_like(y)[..., None]], dim=-1) * mask[..., None]

    fold = torch.arange(len(obs), device=obs.device) % n_folds
    grams = torch.stack([_gram(x[fold == k]) for k in range(n_folds)])
    moments = torch.stack([x[fold == k].flatten(0, 1).t() @ y[fold == k].flatten() for k in range(n_folds)])
    gram, moment = grams.sum(0) - grams, moments.sum(0) - moments
    ridge = torch.ones(x.shape[-1], dtype=x.dtype, device=x.device)
    ridge[-1] = 1e-6  # the intercept; above 0 for a fold without valid steps
    count = (gram[:, -1, -1]).clamp(min=1)
    candidates = torch.tensor(CANDIDATES, dtype=x.dtype, device=x.device)
    penalty = candidates[:, None, None] * count[:, None] * ridge  # (candidate, fold, feature)
    weights = torch.linalg.solve(gram + torch.diag_embed(penalty), moment.expand(len(CANDIDATES), *moment.shape))
    # Squared error of the left-out folds, up to a constant: w^T G w - 2 w^T m.
    error = ((grams @ weights[..., None]).squeeze(-1) * weights - 2 * weights * moments).sum((1, 2))
    best = weights[int(error.argmin())]
    return torch.einsum("etf,ef->et", x, best[fold]).to(target.dtype)


def _gram(x: Float[Tensor, "env time feature"]) -> Float[Tensor, "feature feature"]:
    rows = x.flatten(0, 1)
    return rows.t() @ rows

"""Diagonal Gaussians: log-density, divergence and entropy as pure functions."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def gaussian_log_prob(
    action: Float[Tensor, "*batch act"], mean: Float[Tensor, "*batch act"], log_std: Float[Tensor, "*#batch act"]
) -> Float[Tensor, "*batch"]:
    """log N(action; mean, diag(exp(log_std))^2), summed over action components."""
    z = (action - mean) * (-log_std).exp()
    return -0.5 * (z * z + LOG_2PI).sum(-1) - log_std.sum(-1)


def gaussian_kl(
    mean_p: Float[Tensor, "*batch act"],
    log_std_p: Float[Tensor, "*#batch act"],
    mean_q: Float[Tensor, "*batch act"],
    log_std_q: Float[Tensor, "*#batch act"],
) -> Float[Tensor, "*batch"]:
    """KL(p || q) of diagonal Gaussians, summed over action components.

    KL = sum log(s_q / s_p) + (s_p^2 + (m_p - m_q)^2) / (2 s_q^2) - 1/2
    """
    inv_var_q = (-2 * log_std_q).exp()
    quadratic = ((2 * log_std_p).exp() + (mean_p - mean_q) ** 2) * inv_var_q
    return (log_std_q - log_std_p + 0.5 * quadratic - 0.5).sum(-1)


def gaussian_entropy(log_std: Float[Tensor, "*batch act"]) -> Float[Tensor, "*batch"]:
    """Entropy in nats, summed over action components."""
    return (log_std + 0.5 * (LOG_2PI + 1)).sum(-1)

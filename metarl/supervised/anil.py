"""ANIL, almost no inner loop: only the linear head adapts; body and head are meta-learned.

  theta = (body, head);   head_j = head_{j-1} - alpha * grad_head L_support(body, head_{j-1})
  meta-gradient = d/d(body, head) mean over tasks of L_query(body, head_k)

The features of the support set are computed once, whatever the number of steps.
Source: Raghu, Raghu, Bengio and Vinyals 2020, section 4, https://arxiv.org/abs/1909.09157
"""

from __future__ import annotations

from .fast_weights import Statistics
from .maml import MAML
from .networks import Network


def anil(network: Network, step_size: float = 0.01, steps: int = 5, statistics: Statistics = "transductive") -> MAML:
    """MAML in which only the head adapts; see `MAML` for the settings."""
    return MAML(network, step_size, steps, adapts="head", statistics=statistics)

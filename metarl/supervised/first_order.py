"""First-order MAML: the meta-gradient is the query gradient at the adapted parameters.

  meta-gradient = mean over tasks of grad L_query(theta_k)

Twice as fast as MAML at one step, and more at several; it is MAML with d theta_k / d theta taken for the identity.
Source: Finn, Abbeel and Levine 2017, section 5.2, https://arxiv.org/abs/1703.03400
"""

from __future__ import annotations

from .fast_weights import Statistics
from .maml import MAML
from .networks import Network


def first_order_maml(
    network: Network, step_size: float = 0.01, steps: int = 1, statistics: Statistics = "transductive"
) -> MAML:
    """MAML without second derivatives; see `MAML` for the settings."""
    return MAML(network, step_size, steps, first_order=True, statistics=statistics)

"""Policies with functional, per-task parameters, and the value baseline. Needs torch only."""

from .actor_module import DeterministicActor
from .baseline import baseline_by_episode, baseline_features, cross_fitted_baseline, ridge_baseline
from .closed_form import ClosedFormMLP, ClosedFormSurrogate, Surrogate
from .distributions import gaussian_entropy, gaussian_kl, gaussian_log_prob
from .gaussian_mlp import Activation, GaussianMLP, goal_as_context
from .normaliser import ObsNormaliser, measure_normaliser, normaliser_from_tensors
from .params import ParamLayout
from .policy import GaussianPolicy, actor_from_distribution

__all__ = [
    "Activation",
    "ClosedFormMLP",
    "ClosedFormSurrogate",
    "DeterministicActor",
    "GaussianMLP",
    "GaussianPolicy",
    "ObsNormaliser",
    "ParamLayout",
    "Surrogate",
    "actor_from_distribution",
    "baseline_by_episode",
    "baseline_features",
    "cross_fitted_baseline",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "goal_as_context",
    "measure_normaliser",
    "normaliser_from_tensors",
    "ridge_baseline",
]

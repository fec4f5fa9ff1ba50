"""Settings of the learners that train a network on each support set: by gradient steps, or by a learned optimizer.

Step sizes are on the MEAN support loss. In classification the papers' code sums over the N x K examples and divides by
K, so that its step sizes are multiplied by N here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .anil import anil
from .episodes import Problem
from .fast_weights import Part, Statistics
from .fine_tuning import FineTuning, from_scratch, oracle
from .first_order import first_order_maml
from .learner import Learner
from .lstm_optimizer import CoordinateLSTM, LSTMOptimizer
from .maml import MAML
from .maml_plus_plus import MAMLPlusPlus
from .meta_lstm import MetaLSTM
from .meta_sgd import MetaSGD
from .network_config import NetworkConfig
from .networks import Network
from .reptile import Reptile


@dataclass(frozen=True)
class BySteps:
    """Settings of learners that adapt by a number of steps, which may be another one at test than in training."""

    steps: int = 1
    """Steps of adaptation in meta-training."""
    test_steps: int = 0
    """Steps of adaptation in validation and evaluation; 0 for as many as in meta-training."""
    MODES: ClassVar[tuple[str, ...]] = ()
    """Where batch norm may take its statistics from in evaluation: allowed values of `statistics`."""

    def __post_init__(self) -> None:
        if self.test_steps < 0:
            raise ValueError(f"test_steps is {self.test_steps}, but must be at least 0")

    @property
    def steps_at_test(self) -> int:
        """Steps in validation and evaluation."""
        return self.test_steps or self.steps


@dataclass(frozen=True)
class Transductive(BySteps):
    """The same, with a choice of statistics."""

    step_size: float = 0.01
    """Inner step size, on the mean support loss: N times that of the papers' code in classification."""
    statistics: Statistics = "transductive"
    """Batch norm of queries: transductive, their own statistics as in the paper's code; or the support set's."""
    MODES: ClassVar[tuple[str, ...]] = ("transductive", "inductive")


@dataclass(frozen=True)
class MAMLSettings(Transductive):
    """MAML (Finn et al. 2017)."""

    adapts: Part = "weights"
    """What adapts: all; weights, all but batch norm as in the paper's code; or the head."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return MAML(with_head(problem, network), self.step_size, self.steps, False, self.adapts, self.statistics)


@dataclass(frozen=True)
class FirstOrderMAMLSettings(Transductive):
    """First-order MAML (Finn et al. 2017)."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return first_order_maml(with_head(problem, network), self.step_size, self.steps, self.statistics)


@dataclass(frozen=True)
class ANILSettings(Transductive):
    """ANIL (Raghu et al. 2020)."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return anil(with_head(problem, network), self.step_size, self.steps, self.statistics)


@dataclass(frozen=True)
class MetaSGDSettings(Transductive):
    """Meta-SGD (Li et al. 2017); the step size is where all of them start."""

    first_order: bool = False
    """Drop the second derivatives."""
    adapts: Part = "weights"
    """What adapts: all; weights, all but batch norm; or the head."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        own = with_head(problem, network)
        return MetaSGD(own, self.step_size, self.steps, self.first_order, self.adapts, self.statistics)


@dataclass(frozen=True)
class MAMLPlusPlusSettings(BySteps):
    """MAML++ (Antoniou et al. 2019)."""

    steps: int = 5
    """Steps of adaptation in meta-training. Paper: 5."""
    step_size: float = 0.1
    """Where the step sizes of all layers and steps start, on the mean support loss. Paper: 0.1."""
    multi_step_until: float = 0.1
    """Share of meta-training in which the query losses after earlier steps count too."""
    first_order_until: float = 0.0
    """Share of meta-training without second derivatives."""
    statistics: Literal["transductive", "running"] = "transductive"
    """Batch norm in evaluation: the batch's own statistics, or the running ones of each step."""
    MODES: ClassVar[tuple[str, ...]] = ("transductive", "running")

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        own = with_head(problem, network)
        shares = (self.multi_step_until, self.first_order_until)
        return MAMLPlusPlus(own, self.step_size, self.steps, *shares, self.statistics)


@dataclass(frozen=True)
class ReptileSettings(BySteps):
    """Reptile (Nichol et al. 2018)."""

    steps: int = 5
    """Inner steps in meta-training. Paper: 5 for Omniglot 5-way."""
    test_steps: int = 50
    """Inner steps in validation and evaluation; 0 for as many as in meta-training. Paper: 50."""
    step_size: float = 1e-3
    """Step size of the inner Adam. Paper: 0.001 for Omniglot."""
    beta_1: float = 0.0
    """Decay of the inner Adam's mean gradient. Paper: 0."""
    batch: int = 10
    """Examples of an inner mini-batch. Paper: 10 for Omniglot 5-way."""
    statistics: Statistics = "inductive"
    """Batch norm of queries: the support set's statistics, or transductive: their own. The paper reports both."""
    MODES: ClassVar[tuple[str, ...]] = ("inductive", "transductive")

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        own = with_head(problem, network)
        return Reptile(own, self.step_size, self.beta_1, self.steps, self.batch, self.statistics)


@dataclass(frozen=True)
class LSTMOptimizerSettings(BySteps):
    """A learned optimizer (Andrychowicz et al. 2016)."""

    steps: int = 20
    """Steps of a run. Paper: 100."""
    unroll: int = 20
    """Steps differentiated through at a time. Paper: 20."""
    hidden: int = 20
    """Units of a layer of the optimizer. Paper: 20."""
    layers: int = 2
    """Layers of the optimizer. Paper: 2."""
    p: float = 10.0
    """Gradients below exp(-p) are taken as small. Paper: 10."""
    scale: float = 0.01
    """Factor on the optimizer's output. Paper's code: 0.01."""
    learned_start: bool = True
    """The network's start is meta-learned, too; else each run starts from a random one, as in the paper."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        optimizer = CoordinateLSTM(self.hidden, self.layers, self.p, self.scale)
        return LSTMOptimizer(with_head(problem, network), optimizer, self.steps, self.unroll, self.learned_start)


@dataclass(frozen=True)
class MetaLSTMSettings(BySteps):
    """Meta-LSTM (Ravi and Larochelle 2017)."""

    steps: int = 5
    """Steps. Paper: 12 for one shot, 5 for five."""
    hidden: int = 20
    """Units of the LSTM that sees the gradients. Paper's code: 20."""
    init_forget: float = 4.5
    """Bias of the forget gate at the start."""
    init_input: float = -4.5
    """Bias of the input gate at the start; its sigmoid is the step size then."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return MetaLSTM(with_head(problem, network), self.steps, self.hidden, self.init_forget, self.init_input)


@dataclass(frozen=True)
class FineTuneSettings(Transductive):
    """Training on all classes (or tasks) at once, then fine-tuning: the pretrained baseline."""

    steps: int = 10
    """Gradient steps of the fine-tuning."""
    optimiser: Literal["sgd", "adam"] = "sgd"
    """Of the fine-tuning: plain gradient descent, or Adam."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner; in classification fine-tuning starts from a new head, since training knew other classes."""
        return FineTuning(
            with_head(problem, network),
            self.step_size,
            self.steps,
            self.optimiser,
            new_head=problem.classification,
            statistics=self.statistics,
        )


@dataclass(frozen=True)
class ScratchSettings(BySteps):
    """Training on the support set alone, from a random network: no meta-learning."""

    steps: int = 100
    """Steps of Adam."""
    step_size: float = 0.01
    """Of Adam."""
    statistics: Statistics = "inductive"
    """Batch norm of queries: the support set's statistics, or transductive: their own."""
    MODES: ClassVar[tuple[str, ...]] = ("inductive", "transductive")

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return from_scratch(with_head(problem, network), self.step_size, self.steps, self.statistics)


@dataclass(frozen=True)
class OracleSettings:
    """One network that is told amplitude and phase with every input (Finn et al. 2017); it does not adapt."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return oracle(with_head(problem, network))


def with_head(problem: Problem, network: NetworkConfig) -> Network:
    """The network with an output for each class, or each number of a regression target."""
    return network.make(problem.input_shape, problem.outputs)

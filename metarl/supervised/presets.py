"""Named settings by data set, learner and size of the tasks: the papers', and what learns in less time.

Step sizes are on the mean support loss: in classification N times those of the papers' code (`gradient_settings`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from .config import EpisodesConfig, SupervisedConfig
from .conv4 import LAYERS
from .datasets import DATASETS, DatasetName, dataset_name, of_problem
from .embedding_settings import LSTM, MANN, Matching, Prototypical, Relation, SnailSettings
from .gradient_settings import (
    ANILSettings,
    FineTuneSettings,
    FirstOrderMAMLSettings,
    LSTMOptimizerSettings,
    MAMLPlusPlusSettings,
    MAMLSettings,
    MetaLSTMSettings,
    MetaSGDSettings,
    ReptileSettings,
)
from .learners import LEARNERS, LearnerName
from .network_config import NetworkConfig
from .outer_optimiser import OuterConfig

PresetName = Literal["default", "paper"]
PRESETS: dict[PresetName, str] = {
    "default": "what learns in minutes on a CPU",
    "paper": "the settings of the papers and their code",
}
REPTILE_OUTER = OuterConfig(optimiser="sgd", lr=1.0, schedule="linear")
IN_MINUTES = {"gradient": 1500, "metric": 1500, "recurrent": 4000, "learned optimizer": 1500, "baseline": 3000}
"""Iterations of the default preset on images."""


def preset(
    dataset: DatasetName, learner: LearnerName, name: PresetName = "default", way: int = 5, shot: int | None = None
) -> SupervisedConfig:
    """The settings of a preset. shot: None for 1 image of a class, or 10 points of a function."""
    if of_problem(DATASETS[dataset].settings) == "regression":
        config = _sinusoid(learner, shot or 10)
        config = config if name == "paper" else _sinusoid_in_minutes(config, learner)
    else:
        config = _images(dataset, learner, way, shot or 1)
        config = config if name == "paper" else _images_in_minutes(config, learner)
    if not LEARNERS[learner].trains:
        config = replace(config, iterations=1, validation_episodes=20)
    return config


def _sinusoid(learner: LearnerName, shot: int) -> SupervisedConfig:
    """Finn et al. 2017, section 5.1 and its code; for learners of other papers the same tasks and network."""
    entry = LEARNERS[learner]
    config = SupervisedConfig(
        episodes=EpisodesConfig(shot=shot, query=100, train_query=shot),
        network=NetworkConfig(hidden=(40, 40), init_std=0.01),
        algo=entry.settings,
        iterations=70_000,
        meta_batch=25,
        log_every=1000,
        validate_every=5000,
        validation_episodes=200,
        checkpoint_every=5000,
    )
    algo = config.algo
    if isinstance(algo, MAMLSettings | FirstOrderMAMLSettings | ANILSettings | MetaSGDSettings):
        return replace(config, algo=replace(algo, step_size=0.01, steps=1, test_steps=10))
    if isinstance(algo, MAMLPlusPlusSettings):
        outer = OuterConfig(schedule="cosine", final_lr=1e-5)
        return replace(config, algo=replace(algo, step_size=0.01, test_steps=10), outer=outer)
    if isinstance(algo, ReptileSettings):
        return replace(config, algo=replace(algo, steps=32), outer=REPTILE_OUTER, meta_batch=5)
    if isinstance(algo, LSTMOptimizerSettings | MetaLSTMSettings):
        return replace(config, meta_batch=8, iterations=20_000)
    if isinstance(algo, SnailSettings):
        config = replace(config, algo=replace(algo, support=shot))
    if entry.family == "recurrent" or learner == "scratch":
        # Features, or weights that are not meta-learned, would be as good as zero from the paper's start.
        config = replace(config, network=replace(config.network, init_std=0.3))
    return config


def _sinusoid_in_minutes(config: SupervisedConfig, learner: LearnerName) -> SupervisedConfig:
    iterations = {"recurrent": 10_000, "learned optimizer": 3000}.get(LEARNERS[learner].family, 20_000)
    if isinstance(config.algo, LSTMOptimizerSettings):
        # Few large steps: twenty small ones cost four times as much an update, and move the network less.
        algo = replace(config.algo, steps=5, unroll=5, scale=0.1)
        config = replace(config, algo=algo, outer=replace(config.outer, lr=3e-3))
    return replace(config, iterations=iterations, log_every=500, validate_every=1000, checkpoint_every=1000)


def _images(dataset: DatasetName, learner: LearnerName, way: int, shot: int) -> SupervisedConfig:
    """The papers that introduced each learner, and Finn et al. 2017 for the tasks."""
    entry, small = LEARNERS[learner], dataset == "omniglot"
    metric = entry.family in ("metric", "recurrent")
    config = SupervisedConfig(
        dataset=DATASETS[dataset].settings,
        # Of 20 classes 5 queries each say as much as 15 of 5 classes do.
        episodes=EpisodesConfig(way=way, shot=shot, query=15 if way <= 10 else 5),
        # MAML has strides on Omniglot; metric and recurrent learners pool and have an ordinary batch norm.
        network=NetworkConfig(
            kind="conv4",
            filters=64 if small or metric else 32,
            pool=metric or not small,
            # Relations are found on maps of a quarter of the image's sides.
            halvings=2 if learner == "relation" else LAYERS,
            spatial_mean=small and not metric,
            scale=metric,
        ),
        algo=entry.settings,
        iterations=60_000,
        log_every=100,
        validate_every=500,
        checkpoint_every=500,
    )
    if entry.family == "gradient":
        return _gradient(config, small)
    if entry.family == "learned optimizer":
        return _learned_optimizer(config)
    if learner == "prototypical":
        # The paper's 60-way training on Omniglot, 30-way (20 for five shots) on mini-ImageNet; not with the few
        # classes that somebody's own folder may have.
        train_way = {"omniglot": 60, "mini-imagenet": 30 if shot == 1 else 20}.get(dataset, 0)
        episodes = replace(config.episodes, train_way=train_way, train_query=5 if small else 15)
        outer = OuterConfig(schedule="halving", halve_every=2000)
        return replace(config, episodes=episodes, outer=outer, meta_batch=1, iterations=20_000)
    algo = config.algo
    if isinstance(algo, SnailSettings):
        config = replace(config, algo=replace(algo, support=way * shot))
    if entry.family == "recurrent":
        return replace(config, episodes=replace(config.episodes, train_query=1), meta_batch=32)
    if entry.family == "metric":
        return replace(config, episodes=replace(config.episodes, train_query=5), meta_batch=8)
    if learner != "fine-tune":  # nothing is trained
        return replace(config, episodes=replace(config.episodes, train_query=1), meta_batch=1)
    # Batches of 128 images of any classes, or a few more.
    query = max(1, -(-128 // way) - shot)
    return replace(config, episodes=replace(config.episodes, train_query=query), meta_batch=1)


def _gradient(config: SupervisedConfig, small: bool) -> SupervisedConfig:
    algo, episodes = config.algo, config.episodes
    way, shot = episodes.way, episodes.shot
    many = way > 10  # 20-way tasks have settings of their own
    if isinstance(algo, ReptileSettings):
        if small:
            algo = replace(algo, step_size=5e-4 if many else 1e-3, steps=10 if many else 5, batch=20 if many else 10)
        else:
            algo = replace(algo, steps=8)
        return replace(
            config,
            algo=algo,
            episodes=replace(episodes, train_shot=5 if small else 8, train_query=5 if small else 7),
            network=replace(config.network, spatial_mean=False, scale=True),
            outer=REPTILE_OUTER,
            meta_batch=5,
            iterations=200_000 if small and many else 100_000,
        )
    if isinstance(algo, MAMLPlusPlusSettings):
        return replace(
            config,
            network=replace(config.network, scale=True),
            outer=OuterConfig(schedule="cosine", final_lr=1e-5, clip_value=0.0 if small else 10.0),
            episodes=replace(episodes, train_query=shot if small else 15),
            meta_batch=(8 if many else 16) if small else (4 if shot == 1 else 2),
        )
    assert isinstance(algo, MAMLSettings | FirstOrderMAMLSettings | ANILSettings | MetaSGDSettings)
    if not small:
        algo = replace(algo, step_size=0.01 * way, steps=5, test_steps=10)
        outer = replace(config.outer, clip_value=10.0)
        return replace(config, algo=algo, outer=outer, meta_batch=4 if shot == 1 else 2)
    steps = (5, 5) if many else (1, 3)
    algo = replace(algo, step_size=(0.1 if many else 0.4) * way, steps=steps[0], test_steps=steps[1])
    return replace(config, algo=algo, episodes=replace(episodes, train_query=shot), meta_batch=16 if many else 32)


def _learned_optimizer(config: SupervisedConfig) -> SupervisedConfig:
    """Their memory is that of an LSTM for each weight of each task and step, hence the few filters and tasks."""
    shot = config.episodes.shot
    config = replace(config, episodes=replace(config.episodes, train_query=max(shot, 5)))
    if isinstance(config.algo, MetaLSTMSettings):
        return replace(
            config,
            algo=replace(config.algo, steps=12 if shot == 1 else 5),
            network=replace(config.network, filters=32),
            outer=OuterConfig(clip_norm=0.25),
            meta_batch=1,
        )
    assert isinstance(config.algo, LSTMOptimizerSettings)
    return replace(
        config,
        algo=replace(config.algo, steps=10, unroll=10),
        network=replace(config.network, filters=16),
        meta_batch=4,
    )


def _images_in_minutes(config: SupervisedConfig, learner: LearnerName) -> SupervisedConfig:
    """Fewer iterations; on Omniglot MAML's strides for all, a third of the work of pooling."""
    family = LEARNERS[learner].family
    omniglot = dataset_name(config.dataset) == "omniglot"
    if omniglot and config.network.pool:
        config = replace(config, network=replace(config.network, pool=False))
    algo = config.algo
    if isinstance(algo, Matching):
        # A softmax of bare cosines cannot be sharp.
        config = replace(config, algo=replace(algo, sharpness=10.0))
    if isinstance(algo, Relation):
        config = replace(config, algo=replace(algo, loss="cross-entropy"))
    if isinstance(algo, LSTM):
        config = replace(config, algo=replace(algo, label_scale=10.0))
    if isinstance(algo, MANN):
        # Reads of bare cosines are nearly flat, and a label that comes a step late has to be carried there.
        config = replace(config, algo=replace(algo, learned_strength=True, labels="paired", label_scale=10.0))
    if isinstance(algo, ReptileSettings) and omniglot:
        # Steps as small as the paper's take its hundred thousand iterations.
        config = replace(config, algo=replace(algo, step_size=0.01))
    if isinstance(algo, ANILSettings):
        # Steps that a head was not trained for overshoot where there are more images than in training.
        config = replace(config, algo=replace(algo, test_steps=0))
    if isinstance(algo, SnailSettings):
        # Attention from independent maps, and labels of one beside many features, stay at chance for long.
        config = replace(config, algo=replace(algo, alike=True, label_scale=10.0), meta_batch=16)
    if family == "gradient" and config.episodes.way > 10:
        config = replace(config, meta_batch=min(config.meta_batch, 4))
    if isinstance(algo, LSTM | MANN):
        # At 0.001 they leave chance much later.
        config = replace(config, outer=replace(config.outer, lr=3e-3))
    if config.outer.schedule == "constant":
        config = replace(config, outer=replace(config.outer, schedule="cosine", final_lr=1e-5))
    config = replace(config, iterations=IN_MINUTES[family], log_every=50, validate_every=250, checkpoint_every=250)
    if omniglot and isinstance(algo, MAMLSettings | FirstOrderMAMLSettings | MetaSGDSettings):
        return _few_tasks_an_update(config, algo)
    if omniglot and isinstance(algo, LSTMOptimizerSettings | MetaLSTMSettings):
        return _few_large_steps(config, algo)
    if omniglot and isinstance(algo, FineTuneSettings):
        # Thousands of classes need some time; few examples of new ones, larger steps than of training.
        return replace(config, algo=replace(algo, step_size=0.1), outer=replace(config.outer, lr=3e-3))
    if omniglot and isinstance(algo, Prototypical):
        # One query of each class instead of 5: more updates, and of other classes, in the same time.
        outer = replace(config.outer, lr=3e-3, schedule="cosine")
        episodes = replace(config.episodes, train_query=1)
        iterations = 6000 // min(episodes.shot, 3)
        return replace(config, episodes=episodes, outer=outer, iterations=iterations, validate_every=1000)
    if omniglot and isinstance(algo, Relation):
        outer = replace(config.outer, lr=3e-3)
        episodes = replace(config.episodes, train_way=20, train_query=1)
        iterations = 4000 // min(episodes.shot, 3)
        return replace(config, episodes=episodes, outer=outer, meta_batch=1, iterations=iterations, validate_every=1000)
    return config


def _few_tasks_an_update(
    config: SupervisedConfig, algo: MAMLSettings | FirstOrderMAMLSettings | MetaSGDSettings
) -> SupervisedConfig:
    """By far the most accuracy a minute: updates from 2 tasks, by large steps, instead of 16 to 32 by small ones.

    One inner step in training is enough for 20 ways too, where the paper takes 5.
    """
    episodes = config.episodes
    many = episodes.way > 10
    # Without second derivatives nothing learns to bear large steps.
    large = 0.2 if not many else 0.05 if isinstance(algo, FirstOrderMAMLSettings) else 0.15
    return replace(
        config,
        algo=replace(algo, step_size=large * episodes.way, steps=1),
        episodes=replace(episodes, train_query=max(episodes.shot, 1 if many else 3)),
        outer=replace(config.outer, lr=3e-3),
        meta_batch=2,
        iterations=(5000 if many else 8000) // min(episodes.shot, 3),
        validate_every=1000,
    )


def _few_large_steps(config: SupervisedConfig, algo: LSTMOptimizerSettings | MetaLSTMSettings) -> SupervisedConfig:
    """Few steps, as large at the start as plain gradient descent takes here: more and better updates a minute."""
    many = config.episodes.way > 10
    if isinstance(algo, MetaLSTMSettings):
        new: LSTMOptimizerSettings | MetaLSTMSettings = replace(algo, steps=3, init_input=-1.4)
    else:
        new = replace(algo, steps=3, unroll=3, scale=0.2)
    return replace(
        config,
        algo=new,
        episodes=replace(config.episodes, train_query=max(config.episodes.shot, 1 if many else 3)),
        outer=replace(config.outer, lr=3e-3),
        meta_batch=1 if many else 2,
    )

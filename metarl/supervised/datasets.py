"""Data sets by name: each is a type of settings that loads its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import image_folder as folders
from . import mini_imagenet as mini
from . import omniglot as characters
from .cache import data_folder
from .download import fetch_omniglot
from .image_files import ImageFormat, Progress, Resample
from .image_set import FewShotData
from .task_source import ImageTasks, SinusoidTasks, TaskSource

ProblemName = Literal["fewshot", "regression"]


@dataclass(frozen=True)
class SinusoidConfig:
    """Sinusoids of random amplitude and phase (Finn et al. 2017, section 5.1); nothing to choose."""

    def load(self, data: str, progress: Progress | None = None) -> TaskSource:
        """The tasks; there are no files."""
        if data:
            raise ValueError(f"data is {data!r}, but sinusoids are drawn, not read; leave --data out")
        return SinusoidTasks()


@dataclass(frozen=True)
class OmniglotConfig:
    """Characters of 50 alphabets (Lake et al. 2015), 28 x 28, ink near 1."""

    split: characters.Split = "characters"
    """characters: 1100 to train, 100 to validate, 423 to test, as MAML. alphabets: the background set to train."""
    rotations: Literal["usual", "none", "train", "all"] = "usual"
    """Which classes come in four turns; usual: all when split by characters, those to train by alphabets."""
    resample: Resample = "lanczos"
    """How 105 x 105 pixels become 28 x 28; MAML's code in effect takes the nearest pixel."""
    split_seed: int = 0
    """Decides which characters are for training."""
    validation_alphabets: int = 0
    """Alphabets of the background set to validate on, when split by alphabets."""
    within_alphabet: bool = False
    """All classes of a task are of one alphabet: harder."""

    @property
    def image_format(self) -> ImageFormat:
        """What its files become."""
        return ImageFormat(28, 1, self.resample, invert=True)

    def load(self, data: str, progress: Progress | None = None) -> TaskSource:
        """Read from a folder or zip, or download. Errors as in `omniglot.omniglot` and `fetch_omniglot`."""
        path = Path(data).expanduser() if data else fetch_omniglot()
        found = characters.omniglot(
            path,
            self.split,
            None if self.rotations == "usual" else self.rotations,
            resample=self.resample,
            seed=self.split_seed,
            validation_alphabets=self.validation_alphabets,
            cache=decoded(),
            progress=progress,
        )
        scaled = "the nearest pixel of" if self.resample == "nearest" else f"{self.resample} on grey values of"
        facts = {
            "source": data or "official download",
            "images": f"28 x 28, {scaled} the black and white files, inverted",
        }
        return ImageTasks(found, self.within_alphabet, facts | sizes(found))


@dataclass(frozen=True)
class MiniImageNetConfig:
    """mini-ImageNet with the classes of Ravi and Larochelle 2017, from files that you have."""

    lists: str = ""
    """Folder of train.csv, val.csv and test.csv, where they are not with the images."""
    size: int = 84
    """Height and width of images (pixels). Papers: 84."""

    @property
    def image_format(self) -> ImageFormat:
        """What its files become."""
        return ImageFormat(self.size, 3)

    def load(self, data: str, progress: Progress | None = None) -> TaskSource:
        """Read from a folder or zip. Errors as in `mini_imagenet.mini_imagenet`."""
        path = needed(data, "mini-imagenet", "with train, val and test in it, as folders or as csv lists")
        lists = Path(self.lists) if self.lists else None
        found = mini.mini_imagenet(path, lists, self.size, decoded(), progress)
        return ImageTasks(found, facts={"source": data, "images": f"{self.size} x {self.size}, lanczos"} | sizes(found))


@dataclass(frozen=True)
class FolderConfig:
    """Any folder or zip with a folder of images for each class."""

    size: int = 84
    """Height and width that images are scaled to (pixels)."""
    channels: int = 3
    """3 for colour, 1 for grey."""
    resample: Resample = "lanczos"
    """How images are scaled."""
    invert: bool = False
    """Black becomes 1: for ink on paper."""
    validation: float = 0.16
    """Share of the classes to validate on, where there are no folders train, val and test."""
    test: float = 0.2
    """Share of the classes to test on, where there are no such folders."""
    split_seed: int = 0
    """Decides which classes these are."""
    within_group: bool = False
    """All classes of a task are from one folder of class folders, such as one alphabet."""

    @property
    def image_format(self) -> ImageFormat:
        """What its files become."""
        return ImageFormat(self.size, self.channels, self.resample, self.invert)

    def load(self, data: str, progress: Progress | None = None) -> TaskSource:
        """Read from a folder or zip. Errors as in `image_folder.image_folder`."""
        path = needed(data, "folder", "with a folder of images for each class")
        shares = (self.validation, self.test)
        found = folders.image_folder(path, self.image_format, shares, self.split_seed, decoded(), progress)
        inverted = ", inverted" if self.invert else ""
        facts = {"source": data, "images": f"{self.size} x {self.size}, {self.resample}{inverted}"}
        return ImageTasks(found, self.within_group, facts | sizes(found))


Dataset = SinusoidConfig | OmniglotConfig | MiniImageNetConfig | FolderConfig
DatasetName = Literal["sinusoid", "omniglot", "mini-imagenet", "folder"]


@dataclass(frozen=True)
class DatasetEntry:
    """What users read about a data set."""

    settings: Dataset
    """Its settings with their defaults."""
    problem: ProblemName
    text: str


DATASETS: dict[DatasetName, DatasetEntry] = {
    "sinusoid": DatasetEntry(SinusoidConfig(), "regression", "sinusoids from a few points (Finn et al. 2017)"),
    "omniglot": DatasetEntry(OmniglotConfig(), "fewshot", "handwritten characters (Lake et al. 2015)"),
    "mini-imagenet": DatasetEntry(MiniImageNetConfig(), "fewshot", "photographs, from files that you have"),
    "folder": DatasetEntry(FolderConfig(), "fewshot", "your own images, a folder for each class"),
}


def dataset_name(settings: Dataset) -> DatasetName:
    """The name that settings go by."""
    return next(name for name, entry in DATASETS.items() if type(entry.settings) is type(settings))


def of_problem(settings: Dataset) -> ProblemName:
    """The command that the data set belongs to: few-shot classification or regression."""
    return DATASETS[dataset_name(settings)].problem


def needed(data: str, name: str, what: str) -> Path:
    """The path of data that cannot be downloaded. ValueError if none is given."""
    if not data:
        raise ValueError(f"{name} cannot be downloaded; give a folder or zip {what} by --data")
    return Path(data).expanduser()


def decoded() -> Path:
    """Where decoded images are kept."""
    return data_folder() / "decoded"


def sizes(data: FewShotData) -> dict[str, Any]:
    """Classes of each split, rotated ones counted, and images in all."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    classes = {name: part.n_classes for name, part in parts.items() if part is not None}
    return {"classes": classes, "n_images": sum(part.n_images for part in parts.values() if part is not None)}

"""Omniglot and mini-ImageNet from local files: layouts, splits, and what is said where files are missing."""

import csv
from pathlib import Path

import pytest
import torch
from omniglot_files import MINI_LISTS, OMNIGLOT, needs_omniglot, omniglot_files, png, write_files, write_zip

from metarl.supervised.image_files import ImageFormat
from metarl.supervised.image_set import ImageSet
from metarl.supervised.mini_imagenet import mini_imagenet
from metarl.supervised.omniglot import omniglot, read_part, split_characters

BACKGROUND, EVALUATION = omniglot_files({"Latin": 2, "Greek": 3}), omniglot_files({"Ge_ez": 2}, first=965)
FORM = ImageFormat(28, 1, invert=True)


def unpacked(root: Path) -> Path:
    write_files(root / "images_background", BACKGROUND)
    write_files(root / "images_evaluation", EVALUATION)
    return root


def zipped(root: Path, top: bool = True) -> Path:
    for part, files in (("images_background", BACKGROUND), ("images_evaluation", EVALUATION)):
        write_zip(root / f"{part}.zip", files, f"{part}/" if top else "")
    return root


def in_one(root: Path) -> Path:
    both = {f"images_background/{name}": content for name, content in BACKGROUND.items()}
    both |= {f"images_evaluation/{name}": content for name, content in EVALUATION.items()}
    junk = {"__MACOSX/images_background/Latin/character01/._0001_01.png": b"junk", "README.md": b"read me"}
    return write_zip(root / "omniglot.zip", both | junk, "omniglot-master/python/")


@pytest.mark.parametrize("layout", ["folders", "zips", "bare zips", "one zip", "repository"])
def test_every_layout_gives_the_same_images(tmp_path: Path, layout: str):
    expected = omniglot(unpacked(tmp_path / "folders"), "alphabets")
    path = {
        "folders": lambda: tmp_path / "folders",
        "zips": lambda: zipped(tmp_path / "zips"),
        "bare zips": lambda: zipped(tmp_path / "zips", top=False),
        "one zip": lambda: in_one(tmp_path),
        "repository": lambda: zipped(tmp_path / "clone" / "python").parent,
    }[layout]()
    data = omniglot(path, "alphabets")
    for part, other in ((data.train, expected.train), (data.test, expected.test)):
        assert (part.names, part.groups) == (other.names, other.groups)
        assert torch.equal(part.images, other.images)
    assert data.train.names[:3] == ("Greek/character01", "Greek/character02", "Greek/character03")
    assert data.train.groups == ("Greek",) * 3 + ("Latin",) * 2
    assert data.train.count.tolist() == [4] * 5


def test_alphabets_at_the_end_validate(tmp_path: Path):
    path = unpacked(tmp_path)
    data = omniglot(path, "alphabets", validation_alphabets=1)
    assert data.validation is not None
    assert (set(data.train.groups), set(data.validation.groups), set(data.test.groups)) == (
        {"Greek"},
        {"Latin"},
        {"Ge_ez"},
    )
    assert (data.train.rotations, data.validation.rotations, data.test.rotations) == (4, 1, 1)
    assert omniglot(path, "alphabets", "none").train.rotations == 1
    with pytest.raises(ValueError, match="there are 2, and at least one must remain"):
        omniglot(path, "alphabets", validation_alphabets=2)


def test_characters_are_split_by_seed_without_overlap():
    n = 1623
    rows = torch.arange(n)
    images = ImageSet(
        torch.zeros(n, 1, 1, 1, dtype=torch.uint8), rows, torch.ones_like(rows), tuple(map(str, range(n))), ("",) * n
    )
    parts, again, other = (split_characters(images, seed) for seed in (0, 0, 1))
    assert parts.validation is not None
    sets = [set(part.names) for part in (parts.train, parts.validation, parts.test)]
    assert [len(s) for s in sets] == [1100, 100, 423]
    assert len(set.union(*sets)) == n
    assert parts.train.names == again.train.names != other.train.names


def test_few_characters_cannot_be_split_as_in_the_paper(tmp_path: Path):
    with pytest.raises(ValueError, match=r"takes more than 1200 of them, here are 7; give all of Omniglot"):
        omniglot(unpacked(tmp_path))


def test_missing_parts_are_explained(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"images_background is not in .*which does not exist"):
        omniglot(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="which is empty"):
        omniglot(tmp_path / "empty")
    path = zipped(tmp_path / "half")
    (path / "images_evaluation.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"images_evaluation is not in .*which has images_background\.zip"):
        omniglot(path)
    write_files(tmp_path / "wrong" / "images_background", {"0001_01.png": png()})
    with pytest.raises(ValueError, match=r"no characters of images_background .*it holds 0001_01\.png"):
        read_part(tmp_path / "wrong", "images_background", FORM)


def test_a_damaged_picture_or_zip_is_named_and_nothing_is_kept(tmp_path: Path):
    path, name = unpacked(tmp_path / "omniglot"), "Latin/character02/0002_03.png"
    whole = (path / "images_background" / name).read_bytes()
    (path / "images_background" / name).write_bytes(whole[:200])
    with pytest.raises(ValueError, match=r"Latin/character02/0002_03\.png .*not a whole image"):
        omniglot(path, "alphabets", cache=tmp_path / "cache")
    zips = zipped(tmp_path / "zips")
    (zips / "images_background.zip").write_bytes((zips / "images_background.zip").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"images_background\.zip is neither a folder nor a whole zip"):
        omniglot(zips, "alphabets", cache=tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


@needs_omniglot
def test_all_of_omniglot(tmp_path_factory: pytest.TempPathFactory):
    """The evaluation part as it is: 659 characters of 20 alphabets, 20 drawings each, ink being rare and large."""
    images = read_part(OMNIGLOT, "images_evaluation", ImageFormat(28, 1, "nearest", invert=True))
    assert (len(images.names), len(set(images.groups)), images.n_images) == (659, 20, 13180)
    assert set(images.count.tolist()) == {20}
    assert 0.03 < images.images.float().mean() / 255 < 0.15
    assert sorted(images.images.unique().tolist()) == [0, 255]


def lists(folder: Path, rows: dict[str, list[tuple[str, str]]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in rows.items():
        with open(folder / name, "w", newline="") as file:
            csv.writer(file).writerows([("filename", "label"), *table])
    return folder


MINI = {
    "train.csv": [("n01a.jpg", "n01"), ("n01b.jpg", "n01"), ("n02a.jpg", "n02")],
    "val.csv": [("n03a.jpg", "n03")],
    "test.csv": [("n04a.jpg", "n04")],
}


@pytest.mark.parametrize("layout", ["beside", "apart", "class folders", "split folders", "zip"])
def test_mini_imagenet_by_lists_or_folders(tmp_path: Path, layout: str):
    files = {name: png(mode="RGB", size=(100, 90), seed=i) for i, name in enumerate(_files())}
    of_class = {name: f"{part.removesuffix('.csv')}/{c}/{name}" for part, rows in MINI.items() for name, c in rows}
    where = None
    root = tmp_path / "mini"
    if layout in ("beside", "zip"):
        lists(write_files(root, {f"images/{name}": content for name, content in files.items()}), MINI)
        if layout == "zip":
            everything = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.*")}
            root = write_zip(tmp_path / "mini.zip", everything)
    elif layout == "split folders":
        write_files(root, {of_class[name]: content for name, content in files.items()})
    else:
        short = {name: of_class[name].split("/", 1)[1] if layout == "class folders" else name for name in files}
        write_files(root, {short[name]: content for name, content in files.items()})
        where = lists(tmp_path / "lists", MINI)
    data = mini_imagenet(root, where, cache=tmp_path / "cache")
    assert data.validation is not None
    assert [part.names for part in (data.train, data.validation, data.test)] == [
        ("train/n01", "train/n02"),
        ("val/n03",),
        ("test/n04",),
    ]
    assert data.train.count.tolist() == [2, 1]
    assert data.train.shape == (3, 84, 84)


def _files() -> list[str]:
    return [name for rows in MINI.values() for name, _ in rows]


def test_what_mini_imagenet_lacks_is_said(tmp_path: Path):
    root = write_files(tmp_path / "images", {name: png(mode="RGB") for name in _files()[1:]})
    with pytest.raises(ValueError, match=r"1 images that the lists .* name are not in .*images: n01a\.jpg; copy"):
        mini_imagenet(root, lists(tmp_path / "lists", MINI))
    with pytest.raises(ValueError, match=r"has train\.csv and lacks val\.csv, test\.csv"):
        mini_imagenet(root, lists(tmp_path / "one", {"train.csv": MINI["train.csv"]}))
    (tmp_path / "lists" / "val.csv").write_text("file,class\na,b\n")
    with pytest.raises(ValueError, match=r"val\.csv .*lacks the columns filename,label"):
        mini_imagenet(root, tmp_path / "lists")
    (tmp_path / "lists" / "val.csv").write_text("filename,label\n")
    with pytest.raises(ValueError, match=r"val\.csv .*has no rows"):
        mini_imagenet(root, tmp_path / "lists")
    with pytest.raises(ValueError, match="no train and test classes"):
        mini_imagenet(write_files(tmp_path / "flat", {"n01/a.jpg": png(mode="RGB")}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there are no images in"):
        mini_imagenet(tmp_path / "empty")


@pytest.mark.skipif(not MINI_LISTS.is_dir(), reason="Ravi and Larochelle's lists are not beside the repository")
def test_ravi_and_larochelles_lists_are_understood(tmp_path: Path):
    """None of the 60,000 images that they name is there, and the message counts them."""
    write_files(tmp_path, {"images/other.jpg": png()})
    with pytest.raises(ValueError, match="60000 images that the lists"):
        mini_imagenet(tmp_path, MINI_LISTS)

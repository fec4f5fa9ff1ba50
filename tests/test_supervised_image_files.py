"""Image files and folders of them: what is read, and what is said of what cannot be read."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omniglot_files import png, write_files, write_zip
from PIL import Image

from metarl.supervised.cache import data_folder
from metarl.supervised.image_files import ImageFormat, decode
from metarl.supervised.image_folder import image_folder
from metarl.supervised.image_set import FewShotData

GREY = ImageFormat(4, 1)


def class_files(classes: list[str], n: int = 2) -> dict[str, bytes]:
    return {
        f"{c}/{i}.png": png(size=(6, 5), mode="RGB", seed=10 * k + i) for k, c in enumerate(classes) for i in range(n)
    }


def test_pixels_survive_unscaled(tmp_path: Path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    out = decode(png(pixels, "RGB"), "x", ImageFormat(4, 3))
    assert np.array_equal(out, pixels.transpose(2, 0, 1))
    assert np.array_equal(decode(png(pixels, "RGB"), "x", ImageFormat(4, 3, invert=True)), 255 - out)


def test_black_and_white_becomes_grey_before_scaling():
    """Pillow ignores the filter for mode "1"; half of a black and white checkerboard's pixels average to grey."""
    board = (np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8)
    smooth = decode(png(board, "1"), "x", ImageFormat(4, 1, "box"))
    assert smooth.min() >= 127
    assert smooth.max() <= 128
    pillows = np.asarray(Image.fromarray(board).convert("1").resize((4, 4), Image.Resampling.LANCZOS)).astype(np.uint8)
    assert np.array_equal(decode(png(board, "1"), "x", ImageFormat(4, 1, "nearest"))[0], 255 * pillows)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_and_size_becomes_the_format(mode: str, channels: int):
    data = png(mode=mode, size=(9, 3))
    out = decode(data, "x", ImageFormat(5, channels))
    assert (out.shape, out.dtype) == ((channels, 5, 5), np.uint8)


def test_deep_grey_is_scaled_and_glass_is_white():
    deep = Image.fromarray(np.array([[0, 65535], [257, 65280]], dtype=np.uint16))
    glass = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    for image, expected in ((deep, [0, 255, 1, 254]), (glass, [255] * 4)):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        assert decode(buffer.getvalue(), "x", ImageFormat(2, 1)).flatten().tolist() == expected


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"not a picture", lambda data: b""]
)
def test_a_damaged_image_is_named(tmp_path: Path, damage):
    files = class_files(["a", "b", "c", "d", "e"])
    files["c/1.png"] = damage(files["c/1.png"])
    write_files(tmp_path / "set", files)
    with pytest.raises(ValueError, match=r"c/1\.png in .*set is not a whole image"):
        image_folder(tmp_path / "set", GREY, cache=tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


def test_wrong_formats_are_refused():
    with pytest.raises(ValueError, match="channels is 2"):
        ImageFormat(4, 2)
    with pytest.raises(ValueError, match="size is 0"):
        ImageFormat(0, 1)


def names(data: FewShotData) -> list[set[str]]:
    return [set(part.names) if part else set() for part in (data.train, data.validation, data.test)]


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
@pytest.mark.parametrize("top", ["", "photos/"])
def test_folders_train_val_and_test_are_the_splits(tmp_path: Path, validation: str, top: str):
    files = class_files([f"{top}train/a", f"{top}train/b", f"{top}{validation}/c", f"{top}test/d"], 3)
    for path in (write_files(tmp_path / "folder", files), write_zip(tmp_path / "set.zip", files)):
        data = image_folder(path, GREY)
        assert names(data) == [{f"{top}train/a", f"{top}train/b"}, {f"{top}{validation}/c"}, {f"{top}test/d"}]
        assert data.train.count.tolist() == [3, 3]


def test_flat_classes_are_split_at_random_without_overlap(tmp_path: Path):
    path = write_files(tmp_path, class_files([f"group/{i}" for i in range(10)]))
    data, again, other = (image_folder(path, GREY, (0.2, 0.3), seed) for seed in (0, 0, 1))
    train, validation, test = names(data)
    assert (len(train), len(validation), len(test)) == (5, 2, 3)
    assert len(train | validation | test) == 10
    assert names(again) == names(data) != names(other)
    assert set(data.train.groups) == {"group"}
    assert image_folder(path, GREY, (0.0, 0.3)).validation is None


def test_what_is_not_a_data_set_is_explained(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no folder or zip"):
        image_folder(tmp_path / "nowhere", GREY)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"it is empty.*folder of images per class"):
        image_folder(tmp_path / "empty", GREY)
    write_files(tmp_path / "text", {"a/readme.txt": b"x", "a/.hidden.png": b"x"})
    with pytest.raises(ValueError, match=r"it holds a/readme\.txt"):
        image_folder(tmp_path / "text", GREY)
    write_files(tmp_path / "flat", {"1.png": png(), "2.png": png()})
    with pytest.raises(ValueError, match=r"the 2 images of .* are not in class folders"):
        image_folder(tmp_path / "flat", GREY)
    with pytest.raises(ValueError, match="2 classes cannot be split"):
        image_folder(write_files(tmp_path / "two", class_files(["a", "b"])), GREY)


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    classes = write_files(tmp_path / "classes", class_files([str(i) for i in range(10)]))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "one").symlink_to(classes)
    (tmp_path / "set" / "other").symlink_to(classes)
    assert sum(len(part) for part in names(image_folder(tmp_path / "set", GREY))) == 20
    back = classes / "5" / "back"
    back.symlink_to(tmp_path / "set")
    with pytest.raises(ValueError, match="5/back is a link to a folder that it stands in; remove the link"):
        image_folder(tmp_path / "set", GREY)
    for nowhere in ("gone.png", "back"):  # the second is a link to itself
        back.unlink()
        back.symlink_to(nowhere)
        with pytest.raises(ValueError, match="5/back is a link that leads nowhere; repair or remove it"):
            image_folder(tmp_path / "set", GREY)


def test_a_damaged_zip_is_named(tmp_path: Path):
    path = write_zip(tmp_path / "set.zip", class_files(["a", "b"], 3))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"set\.zip is neither a folder nor a whole zip"):
        image_folder(path, GREY)
    path.write_bytes(whole.replace(b"IDAT", b"XXXX", 1))
    with pytest.raises(ValueError, match=r"a/0\.png in .* is damaged \(Bad CRC"):
        image_folder(path, GREY)


def test_the_second_time_images_come_from_the_cache(tmp_path: Path):
    path = write_files(tmp_path / "set", class_files([f"c{i}" for i in range(6)]))
    told: list[tuple[int, int]] = []

    def read(form: ImageFormat = GREY) -> FewShotData:
        return image_folder(path, form, cache=tmp_path / "cache", progress=lambda *done: told.append(done))

    first = read()
    assert told == [(i, 12) for i in range(1, 13)]
    told.clear()
    second = read()
    assert told == []
    assert torch.equal(first.train.images, second.train.images)
    assert names(first) == names(second)
    read(ImageFormat(4, 1, "nearest"))
    assert len(told) == 12
    (path / "c0/0.png").write_bytes(png(seed=77))
    told.clear()
    assert not torch.equal(read().train.images, first.train.images)
    assert len(told) == 12


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: str):
    path, cache = write_files(tmp_path / "set", class_files([f"c{i}" for i in range(6)])), tmp_path / "cache"
    first = image_folder(path, GREY, cache=cache)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    pixels = first.train.images.numpy().tobytes()
    flipped = whole.replace(pixels, pixels[:50] + bytes([pixels[50] ^ 1]) + pixels[51:])
    assert flipped != whole
    file.write_bytes({"cut": whole[:-99], "flipped": flipped, "foreign": png(), "empty": b""}[damage])
    again = image_folder(path, GREY, cache=cache)
    assert torch.equal(again.train.images, first.train.images)
    assert file.read_bytes() == whole or image_folder(path, GREY, cache=cache).train.names == first.train.names
    assert [p.name for p in cache.iterdir()] == [file.name]


def test_a_cache_that_cannot_be_written_costs_a_warning_only(tmp_path: Path):
    path = write_files(tmp_path / "set", class_files([f"c{i}" for i in range(6)]))
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept in .*METARL_DATA names another folder"):
        data = image_folder(path, GREY, cache=tmp_path / "file" / "cache")
    assert len(data.train.names) == 4


def test_a_disk_that_fills_up_leaves_no_part_of_a_cache(tmp_path: Path):
    """A limit on the size of files stops a write in the middle, as a full disk does."""
    write_files(tmp_path / "set", class_files([f"c{i}" for i in range(6)]))
    script = (
        "import pathlib, resource, signal, sys\n"
        "from metarl.supervised.image_folder import image_folder\n"
        "from metarl.supervised.image_files import ImageFormat\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "print(image_folder(root / 'set', ImageFormat(64, 1), cache=root / 'cache').train.n_images)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr
    assert "UserWarning: the decoded images could not be kept" in done.stderr
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_cache_is_written_where_none_is_asked_for(tmp_path: Path):
    path = write_files(tmp_path / "set", class_files([f"c{i}" for i in range(6)]))
    image_folder(path, GREY)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_ctrl_c_while_decoding_leaves_nothing(tmp_path: Path):
    write_files(tmp_path / "set", class_files([f"c{i}" for i in range(6)]))
    script = (
        "import sys, time, pathlib\n"
        "from metarl.supervised.image_folder import image_folder\n"
        "from metarl.supervised.image_files import ImageFormat\n"
        "def wait(done, of):\n    print(done, flush=True); time.sleep(2)\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "image_folder(root / 'set', ImageFormat(4, 1), cache=root / 'cache', progress=wait)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    more, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    assert len(more.splitlines()) < 11, "it decoded all twelve images"
    assert not list(tmp_path.glob("cache/*"))


def test_the_data_folder_honours_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("METARL_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / ".cache" / "metarl"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert data_folder() == tmp_path / ".cache" / "metarl"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_folder() == tmp_path / "xdg" / "metarl"
    monkeypatch.setenv("METARL_DATA", "~/own")
    assert data_folder() == tmp_path / "own"

"""Few-shot tasks drawn from images whose pixels say which image of which class they are."""

import pytest
import torch

from metarl.supervised.episodes import Episodes, Problem
from metarl.supervised.image_set import ImageSet, concatenate
from metarl.supervised.sampling import EpisodeSpec, ImageSampler, LabelledSampler, fetch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(counts: list[int], groups: list[str] | None = None, size: int = 2) -> ImageSet:
    """Images of size x size pixels; the corner pixels are the class and the number of the image in its class."""
    count = torch.tensor(counts)
    images = torch.zeros(int(count.sum()), 1, size, size, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(counts)).repeat_interleave(count)
    images[:, 0, 0, 1] = torch.cat([torch.arange(n) for n in counts])
    names = tuple(f"class{i}" for i in range(len(counts)))
    return ImageSet(images, count.cumsum(0) - count, count, names, tuple(groups or [""] * len(counts)))


def read(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Class and number of images [..., 1, h, w] in [0, 1]."""
    pixels = (x * 255).round().long()
    return pixels[..., 0, 0, 0], pixels[..., 0, 0, 1]


def check_episodes(episodes: Episodes, counts: list[int], spec: EpisodeSpec, n_tasks: int) -> torch.Tensor:
    """What holds for each task; returns the classes [task, way]."""
    taken = []
    for examples, n in ((episodes.support, spec.shot), (episodes.query, spec.query)):
        classes, numbers = (v.view(n_tasks, spec.way, n) for v in read(examples.x))
        assert torch.equal(classes, classes[..., :1].expand_as(classes))
        assert torch.equal(examples.y, torch.arange(spec.way).repeat_interleave(n).expand(n_tasks, -1))
        assert (numbers < torch.tensor(counts)[classes]).all()
        taken.append((classes[..., 0], numbers))
    (classes, support), (query_classes, query) = taken
    assert torch.equal(classes, query_classes)
    assert all(len(set(row)) == spec.way for row in classes.tolist())
    both = torch.cat([support, query], 2).flatten(0, 1).tolist()
    assert all(len(set(row)) == spec.shot + spec.query for row in both)
    return classes


@pytest.mark.parametrize("spec", [EpisodeSpec(5, 1, 3), EpisodeSpec(2, 2, 2), EpisodeSpec(7, 3, 1)])
def test_support_and_query_are_distinct_images_of_distinct_classes(spec: EpisodeSpec):
    counts = [4, 9, 5, 6, 4, 20, 7]
    sampler = ImageSampler(numbered(counts), spec)
    check_episodes(sampler(200, generator()), counts, spec, 200)
    assert sampler.problem == Problem((1, 2, 2), spec.way, classification=True)


def test_classes_and_images_are_equally_likely_and_in_random_order():
    counts, n_tasks = [3, 6, 4, 5], 6000
    sampler = ImageSampler(numbered(counts), EpisodeSpec(2, 1, 1))
    episodes = sampler(n_tasks, generator())
    classes, numbers = read(episodes.support.x)
    for place in range(2):  # 4 standard errors of a share
        share = torch.bincount(classes[:, place], minlength=4) / n_tasks
        torch.testing.assert_close(share, torch.full((4,), 0.25), atol=4 * (0.1875 / n_tasks) ** 0.5, rtol=0)
    for c, n in enumerate(counts):
        drawn = numbers[classes == c]
        share = torch.bincount(drawn, minlength=n) / len(drawn)
        torch.testing.assert_close(share, torch.full((n,), 1 / n), atol=4 * (0.25 / len(drawn)) ** 0.5, rtol=0)


def test_the_same_seed_gives_the_same_bits():
    sampler = ImageSampler(numbered([5] * 30).rotated(), EpisodeSpec(5, 1, 2))
    a, b, c = (sampler(8, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(a.support.x, b.support.x)
    assert torch.equal(a.query.x, b.query.x)
    assert not torch.equal(a.support.x, c.support.x)


def test_pixels_are_divided_by_255():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    one = ImageSet(images, torch.tensor([0]), torch.tensor([3]), ("a",), ("",))
    x = fetch(one, torch.tensor([2, 0, 1]))
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.flatten(), torch.tensor([1.0, 0.0, 0.2]))


def test_a_task_within_a_group_has_one_group():
    groups = ["a"] * 4 + ["b"] * 6 + ["c"] * 2
    counts = [3] * 12
    spec = EpisodeSpec(4, 1, 1, within_group=True)
    classes = check_episodes(ImageSampler(numbered(counts, groups), spec)(400, generator()), counts, spec, 400)
    first = classes[:, 0] < 4
    assert ((classes < 4) == first[:, None]).all()
    assert (classes < 10).all()  # c has too few classes
    assert 150 < int(first.sum()) < 250  # groups, not classes, are equally likely


def test_turned_classes_turn_support_and_query_alike():
    images = numbered([4] * 6, size=3)
    episodes = ImageSampler(images.rotated(), EpisodeSpec(3, 1, 2))(300, generator())
    x = torch.cat(
        [episodes.support.x.view(300, 3, 1, 1, 3, 3), episodes.query.x.view(300, 3, 2, 1, 3, 3)], 2
    )  # [task, way, image, ...]
    turned_back = torch.stack([torch.rot90(x, -turn, (4, 5)) for turn in range(4)])
    # A class above 0 has its mark in one corner only.
    fits = (turned_back[..., 0, 0, 0] > 0) & (
        turned_back[..., 0, 2, :].sum(-1) + turned_back[..., 0, 1, :].sum(-1) == 0
    )
    marked = fits.any(0).all(2)
    turn = fits.long().argmax(0)
    assert torch.equal(turn[marked], turn[marked][:, :1].expand(-1, 3))
    share = torch.bincount(turn[marked][:, 0], minlength=4) / marked.sum()
    assert share.min() > 0.2
    upright = x.new_zeros(x.shape)
    for t in range(4):
        upright = torch.where((turn == t)[..., None, None, None], turned_back[t], upright)
    classes = (upright[..., 0, 0, 0] * 255).round().long()
    assert all(len({c for c in row if c}) == len([c for c in row if c]) for row in classes[:, :, 0].tolist())


def test_a_turn_is_counter_clockwise():
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).view(1, 1, 2, 2)
    one = ImageSet(image, torch.tensor([0]), torch.tensor([1]), ("a",), ("",), rotations=4)
    x = fetch(one, torch.zeros(4, dtype=torch.long), torch.arange(4))
    expected = [[1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2]]
    assert (x * 255).round().long().view(4, 4).tolist() == expected


def test_labelled_batches_cover_all_images_with_their_classes():
    counts = [1, 4, 2]
    sampler = LabelledSampler(numbered(counts).subset([2, 1]))
    x, y = sampler(7000, generator())
    classes, numbers = read(x)
    assert torch.equal(torch.tensor([2, 1])[y], classes)
    for c, n in ((1, 4), (2, 2)):
        share = torch.bincount(numbers[classes == c], minlength=n) / 7000
        torch.testing.assert_close(share, torch.full((n,), 1 / 6), atol=0.02, rtol=0)


def test_labelled_batches_of_turned_classes_have_four_times_as_many():
    image_set = numbered([3, 3], size=3).rotated()
    x, y = LabelledSampler(image_set)(800, generator())
    assert image_set.n_classes == 8
    assert sorted(set(y.tolist())) == list(range(8))
    upright = torch.stack([torch.rot90(image, -int(k) // 2, (1, 2)) for image, k in zip(x, y // 2 * 2, strict=True)])
    assert torch.equal(read(upright)[0], y % 2)
    assert image_set.class_names[3] == "class1 turned 90"


def test_a_subset_shares_the_images():
    whole = numbered([3, 4, 5], ["a", "a", "b"])
    part = whole.subset(["class2", 0])
    assert part.images is whole.images
    assert (part.names, part.groups, part.n_images) == (("class2", "class0"), ("b", "a"), 8)
    assert (whole.memory, part.memory, whole.shape) == (12 * 4, 12 * 4, (1, 2, 2))
    joined = concatenate([whole, _renamed(part)])
    assert torch.equal(joined.images[joined.first[3] : joined.first[3] + 5], whole.images[7:12])


def _renamed(image_set: ImageSet) -> ImageSet:
    names = tuple(f"other/{name}" for name in image_set.names)
    return ImageSet(image_set.images, image_set.first, image_set.count, names, image_set.groups)


def test_too_few_images_or_classes_are_named():
    images = numbered([20, 3, 20])
    with pytest.raises(ValueError, match=r"1 support and 15 query .* need 16; 1 of the 3 .*'class1' has 3.*at most 3"):
        ImageSampler(images, EpisodeSpec(2, 1, 15))
    with pytest.raises(ValueError, match=r"5-way tasks need 5 classes, this set has 3; choose way at most 3"):
        ImageSampler(images, EpisodeSpec(5, 1, 1))
    with pytest.raises(ValueError, match=r"'class0' has 1: a class needs at least 2 images"):
        ImageSampler(numbered([1, 5]), EpisodeSpec(2, 1, 1))
    with pytest.raises(ValueError, match=r"the largest, 'b', has 2: choose way at most 2"):
        ImageSampler(numbered([3] * 3, ["a", "b", "b"]), EpisodeSpec(3, 1, 1, within_group=True))


@pytest.mark.parametrize(("sizes", "name"), [((1, 1, 1), "way"), ((5, 0, 1), "shot"), ((5, 1, 0), "query")])
def test_an_empty_task_is_refused(sizes: tuple[int, int, int], name: str):
    with pytest.raises(ValueError, match=name):
        EpisodeSpec(*sizes)


def test_a_wrong_class_is_named_with_what_is_near():
    images = numbered([2, 2])
    with pytest.raises(ValueError, match=r"no class 'clas1'.*did you mean 'class1'"):
        images.subset(["clas1"])
    with pytest.raises(ValueError, match=r"no class number 2; this set has 0 to 1"):
        images.subset([2])
    with pytest.raises(ValueError, match="two classes are called 'class0'"):
        images.subset([0, 0])
    with pytest.raises(ValueError, match="at least one class"):
        images.subset([])


def test_only_squares_can_be_turned():
    images = torch.zeros(2, 1, 2, 3, dtype=torch.uint8)
    flat = ImageSet(images, torch.tensor([0]), torch.tensor([2]), ("a",), ("",))
    with pytest.raises(ValueError, match="3 x 2 pixels cannot be turned"):
        flat.rotated()

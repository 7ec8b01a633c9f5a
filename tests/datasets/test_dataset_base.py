"""What datasets share: samples by place, subsets, balanced draws, and datasets of a user's own file."""

from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.batches import BatchReadable
from explanation_alignment.datasets import load_dataset
from explanation_alignment.datasets.base import IndexedDataset, draw_balanced, labels_of
from explanation_alignment.datasets.colored_mnist import ColoredMNIST
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError
from explanation_alignment.sample import AttributeValue, Mask, Sample
from explanation_alignment.sampling import sample_order
from toys import Patches


class Plain(IndexedDataset):
    """Samples of one pixel, whose grey is their place in the alphabetical order of ids."""

    def __init__(
        self,
        ids: Sequence[str],
        labels: Sequence[int | None] | None = None,
        fingerprint: str = "plain",
        **attributes: Sequence[AttributeValue],
    ) -> None:
        super().__init__(
            name="plain",
            class_names=["a", "b", "c"],
            regions=["object", "block"],
            evidence=["object"],
            ids=ids,
            labels=[place % 3 for place in range(len(ids))] if labels is None else labels,
            attributes=attributes,
            fingerprint=fingerprint,
        )

    def _read(self, index: int) -> Sample:
        values = {name: column[index] for name, column in self._attributes.items()}
        grey = sorted(self._ids).index(self._ids[index])
        mask = Mask(np.ones((1, 1), dtype=bool))
        return Sample(
            self._ids[index], Image.new("L", (1, 1), grey), self._labels[index], {"object": mask, "block": None}, values
        )


def plain(count: int = 30) -> Plain:
    return Plain([f"image-{place}" for place in range(count)], glasses=[place % 4 == 0 for place in range(count)])


class TestSamples:
    def test_keeps_the_protocol(self) -> None:
        dataset = plain()
        assert isinstance(dataset, ea.AnnotatedDataset)
        assert (len(dataset), dataset.class_names, dataset.regions) == (30, ("a", "b", "c"), ("object", "block"))
        assert dataset.evidence == ("object",)
        assert dataset.toy is False

    def test_places(self) -> None:
        dataset = plain()
        assert [sample.id for sample in dataset] == list(dataset.ids())
        assert dataset[-1].id == dataset[29].id == "image-29"
        for place in (30, -31):
            with pytest.raises(IndexError, match=f"plain has 30 samples, no place {place}"):
                dataset[place]

    def test_pickles(self) -> None:
        dataset = plain()
        copy = pickle.loads(pickle.dumps(dataset))
        assert (copy.ids(), copy.labels(), copy.attributes()) == (
            dataset.ids(),
            dataset.labels(),
            dataset.attributes(),
        )
        assert copy[3].image.tobytes() == dataset[3].image.tobytes()

    def test_columns_given_as_lists_are_the_datasets_own(self) -> None:
        ids, labels = ["x", "y"], [0, 1]
        dataset = Plain(ids, labels)
        ids.append("z")
        labels[0] = 2
        assert dataset.ids() == ("x", "y")
        assert dataset.labels() == (0, 1)


class TestSubset:
    def test_holds_these_samples_in_this_order(self) -> None:
        dataset = plain()
        ids = ["image-7", "image-2", "image-29"]
        subset = dataset.subset(ids)
        assert isinstance(subset, ea.AnnotatedDataset)
        assert [sample.id for sample in subset] == list(subset.ids()) == ids
        assert [sample.image.tobytes() for sample in subset] == [dataset[place].image.tobytes() for place in (7, 2, 29)]
        assert list(subset.labels()) == [sample.label for sample in subset] == [1, 2, 2]
        assert list(subset.attributes()["glasses"]) == [sample.attributes["glasses"] for sample in subset]
        assert (subset.name, subset.regions, subset.evidence) == (dataset.name, dataset.regions, dataset.evidence)
        assert subset[-1].id == "image-29"

    def test_of_a_subset(self) -> None:
        twice = plain().subset(["image-7", "image-2", "image-29"]).subset(["image-29", "image-7"])
        assert [sample.id for sample in twice] == ["image-29", "image-7"]

    def test_of_any_dataset_with_the_protocol(self) -> None:
        subset = ea.Subset(Patches(8), ["img/005", "img/001"])
        assert [(sample.id, sample.label) for sample in subset] == [("img/005", 1), ("img/001", 1)]
        assert list(subset.labels()) == [1, 1]
        assert list(subset.attributes()["even"]) == [False, False]
        assert not isinstance(subset, BatchReadable)

    def test_fingerprint_tells_samples_order_and_dataset(self) -> None:
        variants = [
            plain(),
            plain().subset(["image-1", "image-2"]),
            plain().subset(["image-2", "image-1"]),
            plain().subset(["image-1"]),
            plain().subset(["image-1", "image-3"]),
            Plain(plain().ids(), fingerprint="other").subset(["image-1", "image-2"]),
            plain().subset(["image-1", "image-2"]).subset(["image-1", "image-2"]),
            Plain(["a\nb", "a", "b"]).subset(["a\nb"]),
            Plain(["a\nb", "a", "b"]).subset(["a", "b"]),
        ]
        for one, other in itertools.combinations(variants, 2):
            assert one.fingerprint != other.fingerprint, (one.ids(), other.ids())
        assert plain().subset(["image-1"]).fingerprint == variants[3].fingerprint

    def test_says_that_it_is_a_toy(self) -> None:
        dataset = plain()
        dataset.toy = True
        assert dataset.subset(["image-1"]).toy is True

    def test_mistakes(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown sample of plain 'imge-7'; did you mean 'image-7'"):
            plain().subset(["image-1", "imge-7"])
        for ids in ([], ["image-1", "image-1"]):
            with pytest.raises(UsageError, match="expected different ids, at least one"):
                plain().subset(ids)

    def test_pickles(self) -> None:
        subset = plain().subset(["image-7", "image-2"])
        copy = pickle.loads(pickle.dumps(subset))
        assert copy.fingerprint == subset.fingerprint
        assert copy[1].image.tobytes() == subset[1].image.tobytes()


class TestWholeBatches:
    """A subset of a dataset that reads whole batches reads whole batches."""

    def test_equal_the_samples(self) -> None:
        dataset = load_dataset("colored_mnist(coloring=uncorrelated-1)")
        assert isinstance(dataset, ColoredMNIST)
        subset = dataset.subset(["test-00400", "test-00003", "test-00077"])
        for one in (subset, pickle.loads(pickle.dumps(subset)), subset.subset(subset.ids())):
            assert isinstance(one, BatchReadable)
            batch = one.read_batch([2, 0, -1])
            samples = [one[place] for place in (2, 0, 2)]
            assert list(batch.ids) == [sample.id for sample in samples] == ["test-00077", "test-00400", "test-00077"]
            assert batch.labels.tolist() == [sample.label for sample in samples]
            pixels = np.stack([np.asarray(sample.image) for sample in samples])
            assert torch.equal(batch.images.permute(0, 2, 3, 1), torch.from_numpy(pixels))
            for region in one.regions:
                masks = np.stack([sample.annotations[region].to_mask() for sample in samples])
                assert torch.equal(batch.annotations[region], torch.from_numpy(masks))

    def test_colored_mnist_draws_too(self) -> None:
        drawn = load_dataset("colored_mnist").balanced(n=3, seed=1)
        assert Counter(drawn.labels()) == dict.fromkeys(range(10), 3)
        assert drawn.name == "digits-correlated"


groups = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["x", "y"])), min_size=1, max_size=40)


def grouped(members: Sequence[tuple[int, str]], order: Sequence[int] | None = None) -> Plain:
    order = range(len(members)) if order is None else order
    return Plain(
        [f"id-{place}" for place in order],
        labels=[members[place][0] for place in order],
        hair=[members[place][1] for place in order],
    )


class TestBalanced:
    @settings(max_examples=60)
    @given(groups, st.integers(0, 5))
    def test_exact_counts_nested_and_independent_of_the_order(self, members: list[tuple[int, str]], seed: int) -> None:
        dataset = grouped(members)
        smallest = min(Counter(members).values())
        shuffled = list(range(len(members)))
        random.Random(seed).shuffle(shuffled)
        previous: set[str] = set()
        for n in range(1, smallest + 1):
            ids = draw_balanced(dataset, by=["label", "hair"], n=n, seed=seed)
            drawn = dataset.subset(ids)
            assert Counter(zip(drawn.labels(), drawn.attributes()["hair"], strict=True)) == dict.fromkeys(members, n)
            assert [name for name in dataset.ids() if name in set(ids)] == ids  # in the dataset's own order
            other = draw_balanced(grouped(members, shuffled), by=["label", "hair"], n=n, seed=seed)
            assert set(other) == set(ids)
            assert previous <= set(ids)
            previous = set(ids)
        with pytest.raises(UsageError, match=f"there, {smallest + 1} wanted"):
            draw_balanced(dataset, by=["label", "hair"], n=smallest + 1)

    def test_given_counts(self) -> None:
        dataset = grouped([(0, "x")] * 5 + [(1, "x")] * 5 + [(1, "y")] * 5)
        drawn = dataset.balanced(by=("label", "hair"), n={(0, "x"): 4, (1, "y"): 1})
        assert Counter(drawn.labels()) == {0: 4, 1: 1}
        assert Counter(dataset.balanced(by="hair", n={"y": 2}).labels()) == {1: 2}
        assert Counter(dataset.balanced(by=["hair"], n={("y",): 2}).labels()) == {1: 2}

    def test_seeds_differ_and_a_seed_is_the_same_everywhere(self) -> None:
        assert draw_balanced(plain(), n=np.int64(2)) == draw_balanced(plain(), n=2)
        draws = [draw_balanced(plain(), n=2, seed=seed) for seed in range(5)]
        assert len({tuple(ids) for ids in draws}) == 5
        assert draws[0] == draw_balanced(plain(), n=2)
        assert draws[0] == ["image-1", "image-3", "image-11", "image-12", "image-20", "image-25"]

    def test_samples_without_a_value_are_in_no_group(self) -> None:
        dataset = Plain(list("uvwxyz"), labels=[0, 0, None, 1, 1, None])
        assert Counter(dataset.balanced(n=2).labels()) == {0: 2, 1: 2}

    def test_attributes_of_any_kind(self) -> None:
        drawn = plain().balanced(by="glasses", n=5)
        assert Counter(drawn.attributes()["glasses"]) == {True: 5, False: 5}

    def test_mistakes(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown attribute of plain 'glases'; did you mean 'glasses'"):
            plain().balanced(by="glases", n=1)
        for n in (0, -1, {}, {0: 0}, {7: 1}):
            with pytest.raises(UsageError, match="plain, balanced by label"):
                plain().balanced(n=n)
        with pytest.raises(UsageError, match="no groups"):
            plain().balanced(by=[], n=1)
        many = Plain([str(place) for place in range(100)], who=[str(place) for place in range(100)])
        with pytest.raises(UsageError, match="and 95 groups more") as caught:
            many.balanced(by="who", n=2)
        assert len(str(caught.value)) < 300


class TestSampling:
    def test_a_sample_draws_what_a_balanced_draw_of_the_same_seed_does(self) -> None:
        dataset = plain(60)
        places = sample_order(dataset, dataset.ids(), 12, seed=3)
        assert [dataset.ids()[place] for place in places] == draw_balanced(dataset, n=4, seed=3)

    def test_labels_are_read_where_they_are_not_told(self) -> None:
        assert list(labels_of(Patches(6))) == [0, 1, 2, 3, 0, 1]
        assert list(labels_of(plain(4))) == [0, 1, 2, 0]


OWN = """
from pathlib import Path
import toys

class Bare:
    name = "bare"
    class_names = regions = ("a",)

def build(): return toys.Patches(9)
def folder(data_dir: Path, n="3"):
    assert isinstance(data_dir, Path)
    made = toys.Patches(int(n))
    made.name = data_dir.name
    return made
def optional(data_dir=None, **others):
    made = toys.Patches(4)
    made.name = f"{data_dir} {sorted(others.items())}"
    return made
def bare(): return Bare()
def number(): return 3
def fails(): raise ValueError("no such split")
def word():
    made = toys.Patches(4)
    made.regions = "patch"
    return made
def stray():
    made = toys.Patches(4)
    made.evidence = ("nose",)
    return made
constant = 3
"""


class TestOwnFile:
    @pytest.fixture
    def own(self, tmp_path: Path) -> str:
        (tmp_path / "my_data.py").write_text(OWN)
        return f"file:{tmp_path / 'my_data.py'}"

    def test_without_arguments(self, own: str) -> None:
        dataset = ea.load_dataset(f"{own}:build")
        assert (dataset.name, len(dataset)) == ("patches", 9)

    def test_with_a_folder_and_arguments(self, own: str, tmp_path: Path) -> None:
        assert len(load_dataset(f"{own}:folder", tmp_path)) == 3
        assert load_dataset(f"{own}:folder", str(tmp_path)).name == tmp_path.name
        assert len(load_dataset(f"{own}:folder(n=5)", tmp_path)) == 5
        assert len(load_dataset(f"{own}:folder(n=5)", tmp_path, n=7)) == 7
        assert load_dataset(f"{own}:optional").name == "None []"
        assert load_dataset(f"{own}:optional(a=1)", "x", b=2).name == "x [('a', '1'), ('b', 2)]"

    @pytest.mark.parametrize(
        ("rest", "data_dir", "error", "words"),
        [
            (":folder", None, DatasetError, "give the folder its files are in"),
            (":build", "x", UsageError, r"build\(\) has no parameter data_dir, 'x' was given"),
            (":folder(m=1)", "x", UnknownNameError, r"unknown argument of .*folder\(\) 'm'"),
            (":build(m=1)", None, UsageError, r"build\(\) takes no arguments, 'm' was given"),
            (":folder(data_dir=y)", "x", UnknownNameError, "'data_dir'"),
            (":bare", None, DatasetError, "returned Bare, which lacks evidence, fingerprint, ids, attributes, __len__"),
            (":number", None, DatasetError, "returned int, which lacks name, class_names"),
            (":word", None, DatasetError, "regions: expected a list of names"),
            (":stray", None, DatasetError, "evidence: expected names of regions"),
            (":fails", None, DatasetError, "ValueError: no such split"),
            (":constant", None, DatasetError, "TypeError"),
            (":biuld", None, UnknownNameError, "unknown function in .* 'biuld'; did you mean 'build'"),
            ("", None, UsageError, "expected file:PATH.py:FACTORY"),
            (":", None, UsageError, "expected file:PATH.py:FACTORY"),
            ("x:build", None, UsageError, "expected file:PATH.py:FACTORY"),
        ],
    )
    def test_mistakes(self, own: str, rest: str, data_dir: str | None, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words) as caught:
            load_dataset(f"{own}{rest}", data_dir)
        assert type(caught.value) is error
        assert str(caught.value).count("\n") == 0

    def test_missing_file(self) -> None:
        with pytest.raises(DatasetError, match=r"no file 'absent\.py"):
            load_dataset("file:absent.py:build")


def test_names_may_be_written_with_either_dash() -> None:
    assert load_dataset("colored-mnist(coloring=uncorrelated-1)").name == "digits-uncorrelated-1"
    with pytest.raises(UnknownNameError, match="unknown dataset 'colored-minst'; did you mean 'colored_mnist'"):
        load_dataset("colored-minst")

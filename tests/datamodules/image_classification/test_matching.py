"""Trained weights meet other images: classes are compared by name, and only the test images are needed."""

import shutil

import pytest

from datamodules.errors import DataError
from datamodules.image_classification.class_index import Classes
from datamodules.image_classification.matching import classes_of, matched, numbers_of, shown
from tests.datamodules.image_classification.small import batches, joined, names_of, open_images, opened_again

TRAINED = Classes(("n1", "n2", "n3"), ("crane", "tench", "crane"))


@pytest.mark.parametrize(
    "found, expected",
    [
        (Classes(("n3", "n1"), ("n3", "n1")), [2, 0]),
        (Classes(("tench", "n2"), ("tench", "n2")), [None, 1]),
        (Classes(("tench",), ("tench",)), [None]),  # two classes are called crane, so names do not say which
        (Classes(("x", "n2"), ("x", "n2")), [None, 1]),
    ],
)
def test_classes_are_matched_by_folder_or_name(found, expected):
    assert matched(found, TRAINED) == expected


def test_unique_names_match_folders_that_are_called_so():
    trained = Classes(("n1", "n2"), ("goldfish", "tench"))
    assert matched(Classes(("tench", "goldfish"), ("tench", "goldfish")), trained) == [1, 0]
    assert matched(trained, Classes(("tench", "goldfish"), ("tench", "goldfish"))) == [1, 0]


def test_names_that_two_classes_have_are_told_apart_by_their_folders():
    assert shown(TRAINED) == ["crane (n1)", "tench", "crane (n3)"]


def test_facts_of_older_checkpoints_have_names_alone():
    assert classes_of({"classes": 2, "class_names": ["a", "b"]}) == Classes(("a", "b"), ("a", "b"))
    assert classes_of({"classes": 2, "class_names": None}) == Classes(("0", "1"), None)


def test_an_unknown_class_is_refused_with_both_lists_unless_no_image_has_it():
    trained, found = Classes(("cat", "dog"), ("cat", "dog")), Classes(("dgo", "cat"), ("dgo", "cat"))
    with pytest.raises(
        DataError, match=r"not trained on dgo \(1 of the 2.*mean 'dog'.*It has: cat, dog\..*have: dgo, cat"
    ):
        numbers_of(found, trained, "here")
    assert numbers_of(found, trained, "here", used=[1]).tolist() == [-1, 0]


def test_only_the_test_images_are_needed_and_a_subset_keeps_the_trained_numbers(folder):
    facts = open_images(folder).facts()
    whole = joined(batches(open_images(folder), "test"))
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "val" / "n01")
    data = opened_again(folder, facts)
    found = joined(batches(data, "test"))
    expected = [(n, int(label)) for n, label in zip(whole["name"], whole["label"], strict=True) if "n01" not in n]
    assert list(zip(found["name"], found["label"].tolist(), strict=True)) == expected
    assert data.facts()["class_names"] == ["n01", "n02", "n03"] and data.tested_classes().tolist() == [1, 2]


def test_another_order_of_the_classes_is_undone_by_name(folder):
    facts = open_images(folder).facts()
    (folder / "rev.txt").write_text("n03\nn02\nn01\n")
    assert open_images(folder, class_index="rev.txt").facts()["class_names"] == ["n03", "n02", "n01"]
    one, other = (
        joined(batches(opened_again(folder, facts, class_index=index), "test")) for index in (None, "rev.txt")
    )
    assert one["label"].tolist() == other["label"].tolist() and one["name"] == other["name"]


def test_other_classes_and_more_of_them_are_refused(folder):
    facts = open_images(folder).facts()
    (folder / "val" / "n01").rename(folder / "val" / "n010")
    with pytest.raises(DataError, match=r"val: the model was not trained on n010.*Did you mean 'n01'"):
        opened_again(folder, facts)


def test_a_test_that_was_held_out_of_the_training_images_is_the_same_again(folder):
    data = open_images(folder, test=0.3, val_split=2)
    again = opened_again(folder, data.facts(), test=0.3, val_split=2)
    assert names_of(again, "test") == names_of(data, "test") and len(names_of(data, "test")) == 8
    assert "train" not in again.pictures


def test_the_same_list_of_names_is_the_same_classes_even_if_a_name_is_there_twice():
    """ImageNet's two cranes, in a checkpoint whose facts have no folders."""
    old = classes_of({"classes": 3, "class_names": ["crane", "tench", "crane"]})
    assert matched(TRAINED, old) == matched(old, TRAINED) == [0, 1, 2]


@pytest.mark.parametrize("test", ["auto", "val"])
def test_test_images_alone_are_found_by_themselves(folder, test):
    facts = open_images(folder).facts()
    shutil.rmtree(folder / "train")
    auto = {"format": "auto", "train": "auto", "val_split": "auto", "test": test}
    assert len(opened_again(folder, facts, **auto).pictures["test"]) == 7
    if test == "auto":
        assert len(opened_again(folder / "val", facts, **auto).pictures["test"]) == 7

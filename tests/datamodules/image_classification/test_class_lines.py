"""Class index files of text in the forms that people have."""

import pytest

from datamodules.errors import DataError
from datamodules.image_classification.class_index import read_class_index
from datamodules.image_classification.class_lines import pairs_of
from tests.datamodules.image_classification.small import open_images


@pytest.mark.parametrize(
    "lines, there, expected",
    [
        (["n01440764,tench"], None, [("n01440764", "tench")]),
        (["n01440764 tench, Tinca tinca"], None, [("n01440764", "tench, Tinca tinca")]),
        (["n01440764\ttench", "n01443537\tgoldfish"], None, [("n01440764", "tench"), ("n01443537", "goldfish")]),
        (["n02119789 1 kit_fox"], None, [("n02119789", "kit_fox")]),
        (["n02 2 cat", "n01 1 kit_fox"], None, [("n01", "kit_fox"), ("n02", "cat")]),
        (["n01", "n02"], None, [("n01", "n01"), ("n02", "n02")]),
        (["hot dog", "pizza"], None, [("hot dog", "hot dog"), ("pizza", "pizza")]),
        (["hot dog", "pizza"], ["hot dog", "pizza"], [("hot dog", "hot dog"), ("pizza", "pizza")]),
        (["hot dog", "ice cream"], ["hot", "ice"], [("hot", "dog"), ("ice", "cream")]),
        (["tench, Tinca tinca", "goldfish"], None, [("tench, Tinca tinca",) * 2, ("goldfish",) * 2]),
        (["a,Apple", "b,Big pear"], ["a", "b"], [("a", "Apple"), ("b", "Big pear")]),
        (["folder;name", "a;Apple", "b;Pear"], ["a", "b"], [("a", "Apple"), ("b", "Pear")]),
        (["1 dog", "0 cat"], None, [("cat", "cat"), ("dog", "dog")]),
        (["0,cat", "1,dog"], ["cat", "dog"], [("cat", "cat"), ("dog", "dog")]),
        (["7 up", "3 down"], None, [("7 up", "7 up"), ("3 down", "3 down")]),
        ([], None, []),
    ],
)
def test_the_usual_forms_of_a_line(lines, there, expected):
    assert pairs_of(lines, there) == expected


def test_comments_and_empty_lines_are_no_classes(tmp_path):
    (tmp_path / "index.txt").write_text("# classes\n\nhot dog\n  pizza \n")
    classes = read_class_index(tmp_path / "index.txt", ["hot dog", "pizza"])
    assert classes.folders == classes.names == ("hot dog", "pizza")


def test_folders_with_spaces_are_trained_on_with_a_list_of_them(folder):
    for split in ("train", "val"):
        for old, new in (("n01", "hot dog"), ("n02", "hot tea"), ("n03", "pizza")):
            (folder / split / old).rename(folder / split / new)
    (folder / "index.txt").write_text("pizza\nhot tea\nhot dog\n")
    facts = open_images(folder, class_index="index.txt", val_split=0).facts()
    assert facts["class_folders"] == facts["class_names"] == ["pizza", "hot tea", "hot dog"]
    assert facts["train_counts"] == [13, 5, 7]


def test_a_line_that_is_there_twice_is_named(tmp_path):
    (tmp_path / "index.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(DataError, match="cat more than once"):
        read_class_index(tmp_path / "index.txt")

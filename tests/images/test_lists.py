import numpy as np
import pytest

from vae_jax.data.errors import DataError
from vae_jax.images.celeba_lists import read_attributes, read_partition

NAMES = ("c.jpg", "a.jpg", "b.jpg")  # not in the lists' order

PARTITIONS = {
    "p.csv": "image_id,partition\na.jpg,0\nb.jpg,1\nc.jpg,2\n",
    "p.txt": "a.jpg 0\nb.jpg 1\nc.jpg 2\n",
    "windows.csv": "image_id,partition\r\na.jpg,0\r\nb.jpg,1\r\nc.jpg,2\r\n",
    "windows.txt": "a.jpg 0\r\nb.jpg 1\r\nc.jpg 2\r\n\r\n",
}
ATTRIBUTES = {
    "a.csv": "image_id,Male,Young\na.jpg,1,-1\nb.jpg,-1,-1\nc.jpg,1,1\n",
    "a.txt": "3\nMale Young\na.jpg  1 -1\nb.jpg -1 -1\nc.jpg  1  1\n",
}


def written(folder, name, text):
    path = folder / name
    path.write_bytes(text.encode())
    return path


def refusal(read, path, names=NAMES) -> str:
    """Reads a bad list and returns the message after the file's name, which is one line."""
    with pytest.raises(DataError) as caught:
        read(path, names)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(("name", "text"), PARTITIONS.items(), ids=PARTITIONS)
def test_parts_in_the_order_of_the_pictures(tmp_path, name, text):
    parts, notices = read_partition(written(tmp_path, name, text), NAMES)
    np.testing.assert_array_equal(parts, [2, 0, 1])
    assert parts.dtype == np.int8
    assert notices == []


@pytest.mark.parametrize(("name", "text"), ATTRIBUTES.items(), ids=ATTRIBUTES)
def test_attributes_in_the_order_of_the_pictures(tmp_path, name, text):
    attributes, attribute_names, notices = read_attributes(written(tmp_path, name, text), NAMES)
    np.testing.assert_array_equal(attributes, [[1, 1], [1, -1], [-1, -1]])
    assert attributes.dtype == np.int8
    assert attribute_names == ("Male", "Young")
    assert notices == []


@pytest.mark.parametrize(
    ("suffix", "count"), [("csv", 0), ("csv", 1), ("csv", 3), ("csv", 40), ("txt", 1), ("txt", 3), ("txt", 40)]
)
def test_any_number_of_attributes(tmp_path, suffix, count):
    columns = [f"A{i}" for i in range(count)]
    values = [["1" if (row + i) % 2 else "-1" for i in range(count)] for row in range(3)]
    rows = [[name, *row] for name, row in zip(sorted(NAMES), values, strict=True)]
    if suffix == "csv":
        text = "\n".join(",".join(row) for row in [["image_id", *columns], *rows])
    else:
        text = "\n".join(["3", " ".join(columns), *(" ".join(row) for row in rows)])
    attributes, attribute_names, notices = read_attributes(written(tmp_path, f"a.{suffix}", text), sorted(NAMES))
    np.testing.assert_array_equal(attributes, np.array(values, np.int8).reshape(3, count))
    assert attribute_names == tuple(columns)
    assert notices == []


@pytest.mark.parametrize("name", ["p.csv", "p.txt"])
def test_pictures_that_are_not_listed_are_for_training(tmp_path, name):
    parts, notices = read_partition(written(tmp_path, name, PARTITIONS[name]), ("new.jpg", "b.jpg", "a.jpg", "c.jpg"))
    np.testing.assert_array_equal(parts, [0, 1, 0, 2])
    assert notices == [f"{name} does not list 1 of the pictures; they are used for training"]


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_attributes_of_pictures_that_are_not_listed_are_unknown(tmp_path, name):
    attributes, _, notices = read_attributes(written(tmp_path, name, ATTRIBUTES[name]), ("1.jpg", "2.jpg", *NAMES))
    np.testing.assert_array_equal(attributes, [[0, 0], [0, 0], [1, 1], [1, -1], [-1, -1]])
    assert notices == [f"{name} does not list 2 of the pictures; their attributes are unknown"]


def test_listed_names_that_are_not_there_are_counted(tmp_path):
    _, notices = read_partition(written(tmp_path, "p.csv", PARTITIONS["p.csv"]), ["b.jpg"])
    assert notices == ["p.csv lists 2 pictures that are not there"]


def test_both_notices_at_once(tmp_path):
    parts, notices = read_partition(written(tmp_path, "p.txt", PARTITIONS["p.txt"]), ["b.jpg", "new.jpg"])
    np.testing.assert_array_equal(parts, [1, 0])
    assert [notice.split(";")[0] for notice in notices] == [
        "p.txt does not list 1 of the pictures",
        "p.txt lists 2 pictures that are not there",
    ]


def test_no_attributes_but_names_that_do_not_match(tmp_path):
    _, _, notices = read_attributes(written(tmp_path, "a.csv", "image_id\na.jpg\n"), NAMES)
    assert notices == ["a.csv does not list 2 of the pictures; their attributes are unknown"]


@pytest.mark.parametrize("text", [*PARTITIONS.values(), "image_id,partition\n"], ids=[*PARTITIONS, "header only"])
def test_list_of_none_of_the_pictures_is_refused(tmp_path, text):
    path = written(tmp_path, "p.csv" if "," in text else "p.txt", text)
    assert refusal(read_partition, path, ["x.jpg", "y.jpg"]) == "lists none of the 2 pictures"


def test_equal_lines_are_one(tmp_path):
    text = ATTRIBUTES["a.csv"] + "b.jpg,-1,-1\nb.jpg,-1,-1\na.jpg,1,-1\n"
    attributes, _, notices = read_attributes(written(tmp_path, "a.csv", text), NAMES)
    np.testing.assert_array_equal(attributes, [[1, 1], [1, -1], [-1, -1]])
    assert notices == []


@pytest.mark.parametrize("name", ["p.csv", "p.txt"])
def test_contradictory_parts_are_refused(tmp_path, name):
    text = PARTITIONS[name] + ("a.jpg,0\nb.jpg,2\n" if name == "p.csv" else "a.jpg 0\nb.jpg 2\n")
    message = refusal(read_partition, written(tmp_path, name, text))
    assert message == "b.jpg is listed more than once, with different values"


def test_contradictory_attributes_are_refused(tmp_path):
    path = written(tmp_path, "a.csv", ATTRIBUTES["a.csv"] + "c.jpg,1,-1\n")
    assert refusal(read_attributes, path) == "c.jpg is listed more than once, with different values"


MALFORMED_PARTITIONS = {
    "part 3": ("p.csv", "image_id,partition\na.jpg,0\nb.jpg,3\n", "b.jpg has '3', expected one of 0, 1, 2"),
    "part 3, txt": ("p.txt", "a.jpg 0\nb.jpg 3\n", "b.jpg has '3', expected one of 0, 1, 2"),
    "negative": ("p.csv", "image_id,partition\na.jpg,-1\n", "a.jpg has '-1', expected"),
    "words": ("p.txt", "a.jpg train\n", "a.jpg has 'train', expected"),
    "fraction": ("p.csv", "image_id,partition\na.jpg,0.0\n", "a.jpg has '0.0', expected"),
    "blank": ("p.csv", "image_id,partition\na.jpg,\n", "a.jpg has 'nan', expected"),
    "short line": ("p.csv", "image_id,partition\na.jpg,0\nb.jpg\n", "b.jpg has 'nan', expected"),
    "long line": ("p.csv", "image_id,partition\na.jpg,0\nb.jpg,1,1\n", "line 3"),
    "no header": ("p.csv", "a.jpg,0\nb.jpg,1\n", "malformed (the first line is of a.jpg, expected names of columns)"),
    "three columns": ("p.csv", "image_id,Male,Young\na.jpg,1,1\n", "3 columns, expected a name and a part"),
    "names alone": ("p.txt", "a.jpg\nb.jpg\n", "1 columns, expected a name and a part"),
    "empty": ("p.csv", "", "malformed ("),
    "empty, txt": ("p.txt", "", "malformed ("),
    "html": ("p.csv", "<!DOCTYPE html>\n<html></html>\n", "1 columns"),
    "unfinished quote": ("p.csv", 'image_id,partition\n"a.jpg,0\n', "malformed ("),
}


@pytest.mark.parametrize(("name", "text", "words"), MALFORMED_PARTITIONS.values(), ids=MALFORMED_PARTITIONS)
def test_malformed_parts_name_the_file_and_the_row(tmp_path, name, text, words):
    assert words in refusal(read_partition, written(tmp_path, name, text))


MALFORMED_ATTRIBUTES = {
    "value": ("a.csv", "image_id,M,Y\na.jpg,1,1\nb.jpg,1,yes\n", "b.jpg has 'yes', expected one of -1, 0, 1"),
    "value, txt": ("a.txt", "2\nM Y\na.jpg 1 1\nb.jpg 2 1\n", "b.jpg has '2', expected one of -1, 0, 1"),
    "short line": ("a.csv", "image_id,M,Y\na.jpg,1,1\nb.jpg,1\n", "b.jpg has 'nan'"),
    "short line, txt": ("a.txt", "2\nM Y\na.jpg 1 1\nb.jpg 1\n", "b.jpg has 1 values, a.jpg has 2"),
    "long line, txt": ("a.txt", "2\nM Y\na.jpg 1 1\nb.jpg 1 1 1\n", "b.jpg has 3 values, a.jpg has 2"),
    "no count": ("a.txt", "M Y\na.jpg 1 1\nb.jpg 1 1\n", "malformed (3 names of columns, but b.jpg has 2 values)"),
    "no header": ("a.csv", "a.jpg,1\nb.jpg,1\n", "malformed (the first line is of a.jpg, expected names of columns)"),
    "a name too few": ("a.csv", "image_id,M\na.jpg,1,-1\nb.jpg,1,1\n", "malformed (Error tokenizing data."),
    "a name twice": ("a.csv", "image_id,M,M\na.jpg,1,-1\nb.jpg,1,1\n", "malformed (two columns are called M)"),
    "a name twice, txt": ("a.txt", "1\nM M\na.jpg 1 -1\n", "malformed (two columns are called M)"),
    "count alone": ("a.txt", "2\n", "malformed ("),
    "semicolons": ("a.csv", "image_id;M\na.jpg;1\n", "lists none of the 3 pictures"),
}


@pytest.mark.parametrize(("name", "text", "words"), MALFORMED_ATTRIBUTES.values(), ids=MALFORMED_ATTRIBUTES)
def test_malformed_attributes_name_the_file_and_the_row(tmp_path, name, text, words):
    assert words in refusal(read_attributes, written(tmp_path, name, text))


@pytest.mark.parametrize("name", ["x.csv", "x.txt"])
@pytest.mark.parametrize("read", [read_partition, read_attributes])
def test_binary_or_unreadable_lists_are_refused(tmp_path, name, read):
    (tmp_path / name).write_bytes(bytes(range(256)))
    assert refusal(read, tmp_path / name).startswith("malformed (")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).mkdir()
    assert "Is a directory" in refusal(read, tmp_path / "folder" / name)

import numpy as np
import pytest

from vae_jax.images.drawn_faces import ATTRIBUTES, _Canvas, draw_face

SIZE, COUNT = 32, 600


@pytest.fixture(scope="module")
def faces() -> tuple[np.ndarray, np.ndarray]:
    """Many faces, 0..1, and their labels."""
    drawn = [draw_face(0, i, SIZE) for i in range(COUNT)]
    return np.stack([picture for picture, _ in drawn]) / 255, np.array([labels for _, labels in drawn])


@pytest.mark.parametrize("size", [1, 16, 33])
def test_shape_and_type(size):
    picture, labels = draw_face(0, 0, size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert len(labels) == len(ATTRIBUTES)
    assert set(labels) <= {-1, 1}


def test_same_seed_and_index_draw_the_same_face():
    first, second = draw_face(3, 7, SIZE), draw_face(3, 7, SIZE)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]


@pytest.mark.parametrize(("seed", "index"), [(3, 8), (4, 7), (7, 3)])
def test_other_seed_or_index_draws_another_face(seed, index):
    difference = draw_face(seed, index, SIZE)[0].astype(int) - draw_face(3, 7, SIZE)[0]
    assert np.abs(difference).mean() > 5


def test_attributes_alone_are_those_of_the_drawn_face():
    for i in range(50):
        nothing, labels = draw_face(1, i, None)
        assert nothing.shape == (0, 0, 3)
        assert labels == draw_face(1, i, 16)[1]


def test_size_does_not_change_the_face():
    small, large = draw_face(0, 5, 32)[0], draw_face(0, 5, 64)[0]
    averaged = large.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(averaged - small).mean() < 8


def test_shares_of_the_attributes():
    labels = np.array([draw_face(0, i, None)[1] for i in range(4000)])
    np.testing.assert_allclose((labels == 1).mean(0), [0.5, 0.3, 0.15, 0.35, 0.5, 0.4, 0.5], atol=0.03)
    assert np.abs(np.corrcoef(labels.T) - np.eye(len(ATTRIBUTES))).max() < 0.06  # drawn independently


REGIONS = {  # rows, columns, and how much brighter the region is with the attribute
    "Eyeglasses": (slice(14, 17), slice(9, 24), -0.2, -0.08),
    "Bald": (slice(6, 10), slice(10, 22), 0.1, 0.4),
    "Blond_Hair": (slice(6, 10), slice(10, 22), 0.3, 0.6),
    "Pale_Skin": (slice(18, 21), slice(10, 22), 0.15, 0.4),
}


@pytest.mark.parametrize(("name", "region"), REGIONS.items(), ids=REGIONS)
def test_attribute_shows_where_it_should(faces, name, region):
    pictures, labels = faces
    rows, columns, least, most = region
    has = labels[:, ATTRIBUTES.index(name)] == 1
    brightness = pictures[:, rows, columns].mean((1, 2, 3))
    assert least < brightness[has].mean() - brightness[~has].mean() < most


def test_open_mouth_shows_teeth_above_the_dark(faces):
    pictures, labels = faces
    has = labels[:, ATTRIBUTES.index("Mouth_Slightly_Open")] == 1
    mouth = pictures[:, 20:27, 14:18].mean((2, 3))
    difference = mouth[has].mean(0) - mouth[~has].mean(0)
    assert difference[:4].max() > 0.05
    assert difference[4:].min() < -0.03


def test_turned_left_moves_the_eyes_to_the_left(faces):
    pictures, labels = faces
    has = labels[:, ATTRIBUTES.index("Turned_Left")] == 1
    eyes = pictures[:, 12:18].mean((1, 3))
    left_minus_right = eyes[:, 8:12].mean(1) - eyes[:, 20:24].mean(1)
    assert left_minus_right[has].mean() - left_minus_right[~has].mean() < -0.05


def drawn_with(seed: int, size: int = 64, **changes: bool) -> np.ndarray:
    """A face of chosen attributes; the rest of it depends on the seed alone."""
    has = {**dict.fromkeys(ATTRIBUTES, False), **changes}
    return _Canvas(np.random.default_rng(seed), size).face(has).astype(int)


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [("Smiling", (36, 56), (14, 50)), ("Eyeglasses", (20, 40), (8, 56)), ("Mouth_Slightly_Open", (36, 56), (14, 50))],
)
def test_attribute_changes_nothing_elsewhere(name, rows, columns):
    for seed in range(10):
        changed = np.abs(drawn_with(seed, **{name: True}) - drawn_with(seed)).max(-1) > 0
        inside = np.zeros_like(changed)
        inside[slice(*rows), slice(*columns)] = True
        assert changed.any()
        assert not (changed & ~inside).any()


def test_smile_is_wider_and_its_ends_go_up():
    """The lips are where a face differs from itself with skin alone, that is with a mouth of another form."""
    for seed in range(10):
        smiling, plain = (drawn_with(seed, Smiling=smiles)[36:56, 14:50] for smiles in (True, False))
        redder = (smiling[..., 0] - smiling[..., 1]) - (plain[..., 0] - plain[..., 1]) > 30
        rows, columns = np.nonzero(redder)
        middle = np.abs(columns - columns.mean()) < 3
        ends = np.abs(columns - columns.mean()) > 5
        assert ends.any()
        assert rows[ends].mean() < rows[middle].mean() - 0.5


def test_faces_differ_from_one_another(faces):
    pictures, _ = faces
    assert pictures.std(0).min() > 0.05
    assert 0.2 < pictures.mean() < 0.8

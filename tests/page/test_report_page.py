"""The report pages as a reader has them: in a browser, on a phone, in the dark, on paper and without scripts."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from experiments.celeba import figures as face_figures
from experiments.celeba import page as face_page
from experiments.celeba.config import CelebaConfig
from experiments.celeba.model import Encoded
from experiments.fraud import figures, page
from experiments.fraud.config import FraudConfig
from experiments.fraud.results import Result
from experiments.measures import Scored, bootstrap_interval, count, measure
from experiments.page import slider
from experiments.page.charts import HistogramScale, draw_training, minus, tick
from experiments.page.sheets import Sheet, draw_sheet
from experiments.runs.experiment import describe_machine
from vae_jax import VAEDetector

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # there is none for root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TERMS = ("loss", "reconstruction", "kl")
LOG = [
    {"epoch": epoch, **{f"{part}{term}": 1 / epoch for part in ("", "validation_") for term in TERMS}}
    for epoch in (1, 2, 3)
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """Debian's Chromium, with everything that it says and asks for recorded."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no browser: install Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options, Service(driver))
    yield started
    started.quit()


def scored_rows(frauds: int) -> Scored:
    """Scores with a long tail, of which many are equal."""
    rng = np.random.default_rng(0)
    genuine, fraud = -20 + rng.normal(size=2_000) * 5, -20 - rng.exponential(200, frauds)
    test = np.concatenate([genuine, fraud]).round(1)
    return Scored(genuine, np.zeros(2_000, int), test, np.repeat([0, 1], [2_000, frauds]))


def recipe(frauds: int) -> Result:
    """A recipe whose boundary is as high as the score of several rows, which it does not call frauds."""
    scored = scored_rows(frauds)
    measures = measure(scored, "quantile", 0.01)
    boundary = float(scored.test[np.argmin(np.abs(scored.test - measures["threshold"]))])
    counts = count(scored.test, scored.test_labels, boundary)
    measures |= {"threshold": boundary, **asdict(counts), "precision": counts.precision, "recall": counts.recall}
    measures |= {
        "average_precision_interval": bootstrap_interval(scored.test, scored.test_labels, 0),
        "models": [dict(measures)],
        "models_mean": {},
        "models_sd": {},
        "active_latents": 2,
        "best_epoch": 3,
        "parameters": 100,
        "train_rows_per_second": 1e6,
        "score_rows_per_second": 1e5,
    }
    latents = np.random.default_rng(1).normal(size=(len(scored.test), 2))
    return Result(VAEDetector(), measures, scored, latents, LOG)


@dataclass(frozen=True)
class Page:
    """A page, and what it was made of."""

    path: Path
    metrics: dict
    results: dict


def fraud_page(folder: Path, frauds: int, recipes: tuple[str, ...] = ("report", "gaussian")) -> Page:
    """Draws and renders the page of a run that there was not."""
    results = {name: recipe(frauds) for name in recipes}
    data = {"source": "rows made up", "synthetic": False, "rows": 9_000, "train": 5_000, "validation": 2_000}
    data |= {"validation_frauds": 0, "test": 2_000 + frauds, "frauds": frauds, "test_frauds": frauds}
    column = "A_column_of_a_long_name_" * 8
    reason = f"{column} = a value of many words: 5.7 nats; 0.34 % of training rows"
    alarm = {"row": 1_234, "fraud": True, "score": -57.2, "reasons": [reason] * 3}
    metrics = {
        "notices": ["A notice."],
        "data": data | {"own": True},
        "columns": [(column, "category", "12 different words", "11 levels and the rare, categorical")],
        "alarms": {name: [alarm] for name in results},
        "settings": {name: {"latent_dim": 2, "epochs": 3, "num_models": 1} for name in results},
        "recipes": {name: result.measures for name, result in results.items()},
        "baselines": {"pca": results["gaussian"].measures},
        "config": asdict(FraudConfig()),
        "command": "bash run.sh fraud",
        "machine": describe_machine(),
    }
    scorers = {name: result.scored for name, result in results.items()}
    pictures = figures.draw(folder / "figures", results, {**scorers, "pca": scorers["gaussian"]}, metrics)
    (folder / "report.html").write_text(page.render_page(metrics, pictures, scorers))
    return Page(folder / "report.html", metrics, results)


def celeba_page(folder: Path) -> Page:
    """Draws and renders the page of a run that there was not; its faces are noise."""
    distances = {str(level): 1.0 for level in (64, 32, "mean")}
    kinds = ("training_pictures", "reconstructions", "prior_samples", "mixture_samples")
    errors = ("rmse", "mse", "psnr", "ssim", "kl", "training_rmse", "mean_picture_rmse", "train_images_per_second")
    metrics = {
        "notices": [],
        "data": {"source": "made up", "synthetic": True, "pictures": 30, "train": 10, "validation": 10, "test": 10}
        | {"left_out": 1, "left_out_examples": {"a.jpg": "spoilt"}},
        "evaluation": {
            **dict.fromkeys(errors, 0.5),
            "active_latents": 3,
            "informative_latents": 3,
            "parameters": 100,
            "sliced_wasserstein": dict.fromkeys(kinds, distances),
            "sliced_wasserstein_protocol": {"pictures": 10, "patches_per_picture": 1, "projections": 1, "seed": 0},
        },
        "best_epoch": 3,
        "weight": 2_000.0,
        "mixture_components": 2,
        "config": asdict(CelebaConfig()),
        "command": "bash run.sh celeba",
        "machine": describe_machine(),
    }
    rng = np.random.default_rng(0)
    names = ("reconstructions_held-out", "samples_prior", "traversals", "edits_Male", "latents", "training")
    paths = {name: folder / f"{name}.png" for name in names}
    for name in names[:-2]:
        draw_sheet(paths[name], Sheet(rng.random((2, 9, 128, 128, 3)), ["picture", "VAE"], ["+1"] * 9))
    face_figures.draw_latents(paths["latents"], Encoded({}, rng.normal(size=(20, 5)), np.zeros((20, 5))), 3)
    draw_training(paths["training"], {"vae": LOG})
    (folder / "report.html").write_text(face_page.render_page(metrics, paths))
    return Page(folder / "report.html", metrics, {})


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """The pages of both experiments."""
    return {
        "fraud": fraud_page(tmp_path_factory.mktemp("fraud"), frauds=200),
        "celeba": celeba_page(tmp_path_factory.mktemp("celeba")),
    }


@pytest.mark.parametrize("label", ["picture", "5 o Clock Shadow"])
def test_the_labels_beside_a_sheet_are_whole(label: str, tmp_path: Path) -> None:
    draw_sheet(tmp_path / "sheet.png", Sheet(np.ones((1, 2, 64, 64, 3)), [label]))
    with Image.open(tmp_path / "sheet.png") as picture:
        assert not np.asarray(picture)[:, 0, 3].any()  # no ink at the edge, where a longer label would be cut off


def test_an_axis_of_a_single_score_is_labelled_with_it() -> None:
    assert HistogramScale(-3.5, -3.5).ticks() == [-3.5]


@pytest.mark.parametrize(
    ("bottom", "top"), [(-1_000, 200), (-1_000, 1_500), (-1e9, 10), (-8, -1), (2, 4.2), (0.1, 0.3), (-1_201, -20)]
)
def test_an_axis_of_scores_has_labels_all_along_that_do_not_touch(bottom: float, top: float) -> None:
    scale = HistogramScale(bottom, top)
    ticks = sorted(scale.ticks())
    gaps = np.diff([0, *scale.share(ticks), 1])
    assert gaps[1:-1].min() > 0.03
    assert gaps.max() < 0.5
    assert [float(tick(score).replace("−", "-").replace(",", "")) for score in ticks] == pytest.approx(ticks)


def shown(browser: WebDriver, page: Page, width: int = 1100, media: str = "screen", scheme: str = "light") -> WebDriver:
    """The browser with a page in it."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 2, "mobile": width < 600},
    )
    browser.get(page.path.as_uri())
    return browser


def histogram(browser: WebDriver, name: str) -> WebElement:
    """The figure that holds a recipe's histogram and its slider."""
    return browser.find_element("id", f"histogram_{name}")


def move(figure: WebElement, position: int) -> None:
    """Drags the slider of a figure."""
    figure.parent.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
        figure.find_element("tag name", "input"),
        position,
    )


def numbers(figure: WebElement) -> dict[str, str]:
    """What the figure says of the boundary."""
    return {cell.get_attribute("data-show"): cell.text for cell in figure.find_elements("css selector", "[data-show]")}


def expected(boundary: float, scored: Scored) -> dict[str, str]:
    """What it must say, by Python's counts."""
    counts = count(scored.test, scored.test_labels, boundary)
    shares = {"precision": counts.precision, "recall": counts.recall}
    return {
        "boundary": minus(boundary, 1),
        "falseAlarms": f"{counts.false_positives:,}",
        "misses": f"{counts.false_negatives:,}",
        **{name: "–" if share is None else f"{100 * share:.1f} %" for name, share in shares.items()},
    }


@pytest.mark.parametrize("name", ["fraud", "celeba"])
def test_a_page_loads_without_errors_and_asks_nobody(name: str, browser: WebDriver, pages: dict[str, Page]) -> None:
    browser.get_log("browser"), browser.get_log("performance")
    shown(browser, pages[name])
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].path.as_uri()]
    assert not re.search("https?://", pages[name].path.read_text())


@pytest.mark.parametrize("name", ["fraud", "celeba"])
def test_every_picture_is_there_and_has_words(name: str, browser: WebDriver, pages: dict[str, Page]) -> None:
    shown(browser, pages[name])
    found = browser.find_elements("css selector", "img, svg")
    assert len(found) == {"fraud": 2 + 2 + 2 + 6, "celeba": 4 + 2 + 3}[name]
    for picture in found:
        words = picture.get_attribute("alt") or picture.get_attribute("aria-label")
        caption = picture.find_element("xpath", "ancestor::figure/figcaption").text
        assert len(words) > 20
        assert "Look for" in caption or "in use" in caption or "First:" in caption or "Frauds need not" in caption
        assert words not in caption
    for photographs in browser.find_elements("tag name", "img"):
        # Two dots or more for each pixel.
        assert int(photographs.get_property("naturalWidth")) >= 2 * int(photographs.get_property("clientWidth")) > 400


def test_ids_are_unique(browser: WebDriver, pages: dict[str, Page]) -> None:
    ids = re.findall(r' id="([^"]+)"', pages["fraud"].path.read_text())
    assert len(ids) == len(set(ids)) > 100


def test_a_setting_without_a_value_says_so(pages: dict[str, Page]) -> None:
    assert "<li><span>drop</span> <b>none</b></li>" in pages["fraud"].path.read_text()


@pytest.mark.parametrize("name", ["report", "gaussian"])
def test_the_slider_starts_at_the_runs_boundary(name: str, browser: WebDriver, pages: dict[str, Page]) -> None:
    figure = histogram(shown(browser, pages["fraud"]), name)
    measures = pages["fraud"].metrics["recipes"][name]
    assert numbers(figure) == {
        "boundary": minus(measures["threshold"], 1),
        "falseAlarms": str(measures["false_positives"]),
        "misses": str(measures["false_negatives"]),
        "precision": f"{100 * measures['precision']:.1f} %",
        "recall": f"{100 * measures['recall']:.1f} %",
    }
    # Rows as normal as the boundary are there, and no alarms.
    assert (scored_rows(200).test == measures["threshold"]).sum() > 1


def test_the_sliders_counts_are_pythons(browser: WebDriver, pages: dict[str, Page]) -> None:
    figure = histogram(shown(browser, pages["fraud"]), "gaussian")
    scored = pages["fraud"].results["gaussian"].scored
    boundaries = json.loads(figure.find_element("tag name", "script").get_property("textContent"))["boundary"]
    for position in (0, 1, 300, 650, 900, len(boundaries) - 1):
        move(figure, position)
        assert numbers(figure) == expected(boundaries[position], scored)
    assert browser.get_log("browser") == []


def test_positions_count_as_a_loop_does() -> None:
    scored = scored_rows(50)
    positions = slider.positions(scored.test, scored.test_labels, -35.5)
    assert positions["boundary"][positions["start"]] == -35.5
    assert (positions["genuine"], positions["frauds"]) == (2_000, 50)
    for i, boundary in enumerate(positions["boundary"]):
        counts = count(scored.test, scored.test_labels, boundary)
        assert (positions["false_alarms"][i], positions["found"][i]) == (counts.false_positives, counts.true_positives)
    assert positions["found"][0] == 0
    assert positions["found"][-1] == 50
    np.testing.assert_allclose(positions["place"], np.linspace(0, 1, len(positions["place"])), atol=2e-3)


def test_keys_move_the_slider_and_the_button_brings_it_back(browser: WebDriver, pages: dict[str, Page]) -> None:
    figure = histogram(shown(browser, pages["fraud"]), "report")
    moved, button = figure.find_element("tag name", "input"), figure.find_element("tag name", "button")
    assert moved.accessible_name == "Move the boundary"
    assert not button.is_enabled()
    start = numbers(figure)
    moved.send_keys(Keys.ARROW_LEFT * 5)
    assert float(numbers(figure)["boundary"].replace("−", "-")) < float(start["boundary"].replace("−", "-"))
    assert moved.get_attribute("aria-valuetext") == f"{numbers(figure)['boundary']} nats"
    moved.send_keys(Keys.HOME)
    assert numbers(figure)["falseAlarms"] == "0"
    button.click()
    assert numbers(figure) == start


@pytest.mark.parametrize("width", [400, 1100])
def test_the_line_stands_over_the_thumb(width: int, browser: WebDriver, pages: dict[str, Page]) -> None:
    figure = histogram(shown(browser, pages["fraud"], width), "gaussian")
    move(figure, 600)
    line, thumb = browser.execute_script(
        "const [line, input] = ['.marker line', 'input'].map(name => arguments[0].querySelector(name));"
        "const [box, side] = [input.getBoundingClientRect(), 10];"
        "return [line.getBoundingClientRect().x, box.x + side + (box.width - 2 * side) * input.value / input.max]",
        figure,
    )
    assert line == pytest.approx(thumb, abs=1)  # a pixel: the run's own boundary is one position more


@pytest.mark.parametrize("name", ["fraud", "celeba"])
@pytest.mark.parametrize(
    ("media", "scheme", "paper", "ink"),
    [
        ("screen", "light", ["255", "255", "255"], ["27", "32", "38"]),
        ("screen", "dark", ["20", "23", "26"], ["227", "231", "235"]),
        ("print", "dark", ["255", "255", "255"], ["27", "32", "38"]),
    ],
)
def test_light_dark_and_print(
    name: str, media: str, scheme: str, paper: list[str], ink: list[str], browser: WebDriver, pages: dict[str, Page]
) -> None:
    shown(browser, pages[name], 1100, media, scheme)
    for place, used, wanted in (("body", "background-color", paper), ("svg text", "fill", ink)):
        colour = browser.find_element("css selector", place).value_of_css_property(used)
        assert re.findall(r"\d+", colour)[:3] == wanted
    for control in browser.find_elements("css selector", ".slider"):
        assert control.is_displayed() == (media == "screen")


@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("name", ["fraud", "celeba"])
def test_nothing_is_wider_than_the_page(name: str, width: int, browser: WebDriver, pages: dict[str, Page]) -> None:
    root = shown(browser, pages[name], width).find_element("tag name", "html")
    assert root.get_property("scrollWidth") == root.get_property("clientWidth")
    for table in browser.find_elements("class name", "scroll"):
        assert table.get_property("scrollWidth") == table.get_property("clientWidth")


def test_on_a_phone_a_cell_stands_beside_its_columns_title(browser: WebDriver, pages: dict[str, Page]) -> None:
    def titles() -> list[str]:
        row = browser.find_elements("css selector", ".scroll tbody tr")[0].find_elements("css selector", "th, td")
        shown_before = "return getComputedStyle(arguments[0], '::before').content"
        return [browser.execute_script(shown_before, cell) for cell in row]

    head = re.findall('<th scope="col">(.*?)</th>', pages["fraud"].path.read_text())[1:9]
    shown(browser, pages["fraud"], 390)
    assert titles() == ["none", *(f'"{title}"' for title in head)]
    shown(browser, pages["fraud"], 1100)
    assert set(titles()) == {"none"}


def test_without_scripts_the_page_is_whole(browser: WebDriver, pages: dict[str, Page]) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        figure = histogram(shown(browser, pages["fraud"]), "gaussian")
        assert figure.find_element("tag name", "svg").is_displayed()
        assert not figure.find_element("class name", "slider").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_without_alarms_the_page_says_so(tmp_path: Path) -> None:
    made = fraud_page(tmp_path, frauds=5)
    scorers = {name: result.scored for name, result in made.results.items()}
    found = page.render_page({**made.metrics, "alarms": {"report": [], "gaussian": []}}, {}, scorers)
    assert "No test row is below a boundary" in found
    assert "with the lowest scores" not in found
    assert "No test row is below a boundary" not in made.path.read_text()


def test_the_exemplar_recipe_has_log_densities(tmp_path: Path) -> None:
    made = fraud_page(tmp_path, frauds=5, recipes=("exemplar", "gaussian"))
    scorers = {name: result.scored for name, result in made.results.items()}
    settings = {name: {"latent_dim": 2, "epochs": 3, "num_models": 3} for name in made.results}
    found = page.render_page({**made.metrics, "settings": settings}, {}, scorers)
    assert "as wide as the VAE reconstructs them, 2 latents, 3 epochs, 3 models, widths averaged" in found
    assert "3 epochs, 3 models, scores averaged" in found
    words = page.words(made.metrics, scorers)
    assert words["histogram_exemplar"].caption.startswith("Test rows by log density.")
    assert words["histogram_gaussian"].caption.startswith("Test rows by log reconstruction probability.")
    for name, label in (("exemplar", "log density"), ("gaussian", "log reconstruction probability")):
        drawn = (tmp_path / "figures" / f"histogram_{name}.svg").read_text()
        assert f"{label} in nats (higher = more normal)" in drawn
    alone = {**made.metrics, "settings": settings}
    alone |= {part: {"exemplar": made.metrics[part]["exemplar"]} for part in ("recipes", "alarms")}
    found = page.render_page(alone, {}, {"exemplar": scorers["exemplar"]})
    assert "density under kernels at genuine training" in found
    assert "reconstruction probability" not in found


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("quantile", "on the genuine ones the best epoch is chosen and the boundary set"),
        ("best-f1", "on the genuine ones the best epoch is chosen, and on all of them the boundary"),
    ],
)
def test_the_page_says_what_validation_rows_are_used_for(rule: str, words: str, pages: dict[str, Page]) -> None:
    made = pages["fraud"]
    scorers = {name: result.scored for name, result in made.results.items()}
    assert words in page.render_page({**made.metrics, "config": asdict(FraudConfig(boundary=rule))}, {}, scorers)


def test_without_frauds_the_verdict_is_about_the_model_to_be_used() -> None:
    measures = {"average_precision": None, "false_positives": 3, "true_negatives": 97}
    recipes = {"report": measures | {"false_positives": 1}, "gaussian": measures}
    expected = "There is no fraud to find; with the gaussian recipe, 3 of 100 genuine test rows raise an alarm."
    assert page.verdict({"recipes": recipes, "baselines": {}}) == expected


def test_without_frauds_the_slider_counts_false_alarms(browser: WebDriver, tmp_path: Path) -> None:
    page = fraud_page(tmp_path, frauds=0, recipes=("gaussian",))
    figure = histogram(shown(browser, page), "gaussian")
    assert numbers(figure) == expected(page.metrics["recipes"]["gaussian"]["threshold"], scored_rows(0))
    assert numbers(figure)["recall"] == "–"
    assert "no fraud to find" in page.path.read_text()
    assert browser.get_log("browser") == []

"""The explorer as its users have it: a server in a process of its own, and Debian's Chromium."""

import base64
import io
import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from explorer_server import ELSEWHERE, Server
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

import experiments.score.__main__ as score
from experiments.celeba import faces as celeba_faces
from experiments.command_line import run

WIDTHS = (1280, 390)
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
ARGUMENTS += (f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",)


@dataclass(frozen=True)
class Page(Server):
    """The browser, and the folder of what was saved."""

    browser: WebDriver
    saved: Path

    def open(self, path: str, ready: str, width: int = 1280) -> None:
        """Opens a page at a width, and waits until an element is there."""
        device = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
        self.browser.get(self.address + path)
        self.wait(lambda: self.all(ready))

    def all(self, selector: str) -> list:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str):
        return self.browser.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return self.one(selector).get_property("textContent")

    def value(self, name: str) -> float:
        return float(self.one(f"#{name} input").get_property("value"))

    def set(self, name: str, number: float) -> None:
        """Types a number, as it is or beside a slider."""
        field = self.one(f"#{name} input[type=number]")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(f"{number:g}")

    def drag(self, name: str, share: float) -> None:
        """Drags a slider from its middle, by a share of its width."""
        slider = self.one(f"#{name} input[type=range]")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
        pixels = round(share * slider.size["width"])
        ActionChains(self.browser).click_and_hold(slider).move_by_offset(pixels, 0).release().perform()

    def picture(self) -> str:
        """The face that is shown, as an address that holds it."""
        return self.one("#face img").get_property("src")

    def ends(self, command: str) -> bool:
        """Whether this is the end of the command that makes the face."""
        return self.text("#command pre").endswith(command)

    def told(self) -> str:
        """What the last error says."""
        return self.all("[data-testid=toast-text]")[-1].text if self.all("[data-testid=toast-text]") else ""

    def upload(self, name: str, path: Path) -> None:
        """Drops a file."""
        self.one(f"#{name} input[type=file]").send_keys(str(path))

    def wait(self, condition) -> None:
        """Waits until something has happened; elements may be replaced meanwhile."""
        WebDriverWait(self.browser, 60, 0.05, [StaleElementReferenceException]).until(lambda _: condition())

    def assert_fits(self) -> None:
        """Nothing is wider than the page, and the browser has nothing to complain of."""
        root = self.browser.execute_script(
            "return [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
        )
        assert root[1] <= root[0]
        said = [entry["message"] for entry in self.browser.get_log("browser")]
        assert [line for line in said if "Method not implemented" not in line] == []  # Gradio's, at each upload


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Page]:
    """The explorer of both runs, open in a browser."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no browser: install Debian's packages chromium and chromium-driver")
    saved = tmp_path_factory.mktemp("saved")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(saved)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, Service(driver))
    try:
        allowed = {"origin": server.address, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        browser.execute_cdp_cmd("Browser.grantPermissions", allowed)
        yield Page(server.address, server.folder, server.temporary, browser, saved)
    finally:
        browser.quit()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_leads_to_every_run(page: Page, width: int) -> None:
    page.open("/", "li a", width)
    assert [link.get_attribute("href") for link in page.all("li a")] == [
        f"{page.address}/{name}/" for name in ("fraud/transactions", "celeba/faces")
    ]
    page.assert_fits()


@pytest.mark.parametrize(("path", "name"), [("/fraud/transactions/", "transactions"), ("/celeba/faces/", "faces")])
def test_a_page_has_all_notices_of_its_run(page: Page, path: str, name: str) -> None:
    page.open(path, "#alarm-table tr[data-row], #face img")
    notices = json.loads((page.folder / name / "metrics.json").read_text())["notices"]
    assert [shown.text for shown in page.all("header ~ .notice")] == notices


@pytest.mark.parametrize("path", ["/fraud/transactions/", "/celeba/faces/"])
def test_a_page_asks_no_other_server_and_has_its_manifest(page: Page, path: str) -> None:
    page.browser.get_log("performance")
    page.open(path, "#alarm-table tr[data-row], #face img")
    events = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((page.address, "data:", "blob:"))] == []
    done = "fetch('/manifest.json').then((answer) => answer.json()).then(arguments[0])"
    assert page.browser.execute_async_script(done)["name"] == "vae_jax"
    page.assert_fits()


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_and_slider_set_one_boundary(page: Page, width: int) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]", width)
    page.set("share", 10)
    page.wait(lambda: "10.0 %" in page.text("#counts"))
    assert page.value("alarms") == pytest.approx(1_000, rel=0.02)
    page.wait(lambda: f"{page.value('score'):.1f}".replace("-", "\N{MINUS SIGN}") in page.text("#plot .legend"))
    page.wait(lambda: page.text("#alarm-table h2").startswith(f"{int(page.text('#counts b')) + found(page)} "))
    page.set("alarms", 500)
    page.wait(lambda: page.value("share") == pytest.approx(5, rel=0.02))
    page.set("a-day", 20_000)
    page.wait(lambda: page.value("alarms") == pytest.approx(1_000, rel=0.02))
    page.set("score", -1e6)
    page.wait(lambda: page.text("#counts b") == "0")
    page.assert_fits()


def test_the_number_of_rows_a_day_leaves_the_boundary_where_it_is(page: Page) -> None:
    scores = pd.read_csv(page.folder / "transactions" / "scores.csv")
    genuine = np.sort(scores.loc[scores.label == 0, "gaussian_log_reconstruction_probability"])
    # A boundary at which one row more is below the number that is shown.
    below = next(i for i in range(5, 50) if round(genuine[i], 3) > genuine[i])
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]")
    page.set("alarms", 10_000 * below / len(genuine))
    page.wait(lambda: page.value("share") == pytest.approx(100 * below / len(genuine), abs=1e-3))
    page.set("a-day", 20_000)
    page.wait(lambda: page.value("alarms") == pytest.approx(20_000 * below / len(genuine), abs=0.1))


def found(page: Page) -> int:
    """Frauds found, as the page counts them."""
    return int(page.all("#counts b")[2].get_property("textContent"))


@pytest.mark.parametrize("width", WIDTHS)
def test_dragging_the_boundary_changes_the_counts_and_once_it_rests_the_alarms(page: Page, width: int) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]", width)
    page.drag("boundary", -0.5)
    page.wait(lambda: page.value("share") == 0)
    before = page.text("#alarm-table h2")
    page.drag("boundary", 0.25)
    page.wait(lambda: page.value("share") > 0 and int(page.text("#counts b")) > 0)
    page.wait(lambda: page.text("#alarm-table h2") != before)
    page.wait(lambda: page.text("#alarm-table h2").startswith(f"{int(page.text('#counts b')) + found(page)} "))
    page.assert_fits()


def test_counts_and_numbers_follow_while_the_slider_moves(page: Page) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]")
    alarms = page.text("#alarm-table h2")
    seen = page.browser.execute_async_script(
        """
        const [done] = arguments, slider = document.querySelector("#boundary input[type=range]"), seen = [];
        const text = (selector) => document.querySelector(selector).textContent;
        const boundary = () => document.querySelector("#score input").value;
        (async () => {
          for (const position of [1000, 0, 600]) {
            const before = boundary();
            slider.value = position;
            slider.dispatchEvent(new Event("input", {bubbles: true}));
            for (let i = 0; i < 5000 && boundary() == before; i++) await new Promise((next) => setTimeout(next, 1));
            seen.push([Number(boundary()), text("#plot .legend"), text("#counts b"), text("#alarm-table h2")]);
          }
          done(seen);
        })();
        """
    )
    boundaries, legends, counts, tables = zip(*seen, strict=True)
    assert boundaries[1] < boundaries[2] < boundaries[0]
    assert int(counts[1]) == 0 < int(counts[0])
    for boundary, legend in zip(boundaries, legends, strict=True):
        assert f"{boundary:.1f}".replace("-", "\N{MINUS SIGN}") in legend
    assert tables[0] == alarms  # the table waits until the slider rests
    said = page.one("#boundary input[type=range]").get_attribute("aria-valuetext")
    assert said == page.text("#plot .legend .boundary")
    page.wait(lambda: page.text("#alarm-table h2").startswith(f"{int(page.text('#counts b')) + found(page)} "))
    assert page.value("score") == pytest.approx(boundaries[2], abs=2e-3)
    page.assert_fits()


def test_the_alarms_are_not_drawn_anew_at_every_move(page: Page) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]")
    drawn = page.browser.execute_async_script(
        """
        const [done] = arguments, slider = document.querySelector("#boundary input[type=range]");
        const pause = (ms) => new Promise((next) => setTimeout(next, ms));
        let drawn = 0;
        const table = document.querySelector("#alarm-table");
        new MutationObserver(() => drawn++).observe(table, {childList: true, subtree: true});
        (async () => {
          for (let i = 0; i < 40; i++) {
            slider.value = 200 + 5 * i;
            slider.dispatchEvent(new Event("input", {bubbles: true}));
            await pause(30);
          }
          for (let i = 0; i < 300 && !drawn; i++) await pause(20);
          await pause(1000);
          done(drawn);
        })();
        """
    )
    assert 1 <= drawn < 10  # of 40: once on a machine with nothing else to do


@pytest.mark.parametrize("width", WIDTHS)
def test_a_chosen_alarm_is_explained(page: Page, width: int) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]", width)
    row = page.one("#alarm-table tr[data-row='0']")
    number = row.find_element("css selector", "td").text
    row.click()
    page.wait(lambda: page.all("#why .feature"))
    assert page.text("#why h3").startswith(f"Row {number}, ")
    assert len(page.all("#why .feature")) == 29
    page.assert_fits()


def test_a_row_is_chosen_by_keys_alone(page: Page) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]")
    button = page.one("#alarm-table tr[data-row='1'] button")
    number = button.text
    button.send_keys(Keys.SPACE)
    page.wait(lambda: f"Row {number}, " in page.text("#why"))


def test_a_row_that_is_no_alarm_by_now_is_explained_all_the_same(page: Page) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]")
    number = page.text("#alarm-table tr[data-row='1'] td")
    page.browser.execute_async_script(
        """
        const [done] = arguments, boundary = document.querySelector("#score input");
        boundary.value = -1e6;
        boundary.dispatchEvent(new Event("input", {bubbles: true}));
        setTimeout(() => done(document.querySelector("#alarm-table tr[data-row='1']").click()), 100);
        """
    )
    page.wait(lambda: f"Row {number}, " in page.text("#why"))
    assert not page.told()


@pytest.mark.parametrize("width", WIDTHS)
def test_an_uploaded_table_is_scored_by_the_score_command_saved_and_removed(
    page: Page, width: int, tmp_path: Path
) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]", width)
    page.upload("table", page.folder / "own.csv")
    page.wait(lambda: len(page.all("#own-table tr[data-row]")) == 30)
    page.one("#own-table tr[data-row]").click()
    page.wait(lambda: page.all("#own-why .feature"))
    page.one("#told a").click()
    saved = page.saved / "own_scores.csv"
    page.wait(saved.exists)
    by_command = ["--model", str(page.folder / "transactions" / "model"), "--input", str(page.folder / "own.csv")]
    assert run(score.main, [*by_command, "--output", str(tmp_path / "scores.csv"), "--explain", "3"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(saved), pd.read_csv(tmp_path / "scores.csv"), rtol=1e-4)
    saved.unlink()
    assert page.kept() == []
    page.assert_fits()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_that_can_not_be_used_is_named_and_the_next_one_taken(page: Page, width: int) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]", width)
    page.upload("table", page.folder / "other.csv")
    page.wait(lambda: page.told().startswith("other.csv: none of the model's columns"))
    assert "\n" not in page.told()
    page.wait(lambda: page.all("#table input[type=file]"))
    page.upload("table", page.folder / "own.csv")
    page.wait(lambda: len(page.all("#own-table tr[data-row]")) == 30)
    assert page.kept() == []
    page.assert_fits()


def test_an_error_is_shown_as_it_is(page: Page, tmp_path: Path) -> None:
    header, row = (page.folder / "own.csv").read_text().splitlines()[:2]
    (tmp_path / "odd.csv").write_text(f"{header}\n{row.rsplit(',', 1)[0]},<b>odd</b>\n")
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]")
    page.upload("table", tmp_path / "odd.csv")
    page.wait(lambda: "no row that can be scored" in page.told() and "<b>odd</b>" in page.told())


def test_a_table_that_is_too_large_is_refused(page: Page) -> None:
    page.open("/fraud/transactions/", "#alarm-table tr[data-row]")
    page.upload("table", page.folder / "large.csv")
    page.wait(lambda: "maximum allowed size of 1" in page.told() and "large.csv" in page.told())
    page.browser.get_log("browser")  # Gradio asks how far the refused upload is
    assert page.kept() == []
    assert not page.all("#own-table tr[data-row]")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_new_face_follows_seed_and_sliders(page: Page, width: int) -> None:
    page.open("/celeba/faces/", "#face img", width)
    page.set("seed", 7)
    page.wait(lambda: "--seed 7 " in page.text("#command pre"))
    before = page.picture()
    page.drag("along-pc1", 0.5)
    page.wait(lambda: page.ends("--temperature 1 --shift pc1=3"))
    assert page.picture() != before
    page.set("along-pc2", 1.5)
    page.wait(lambda: page.ends("--shift pc1=3 pc2=1.5"))
    page.one("#reset").click()
    page.wait(lambda: page.ends("--temperature 1"))
    assert page.picture() == before
    assert page.value("along-pc2") == 0
    page.set("temperature", 0.5)
    page.wait(lambda: page.ends("--seed 7 --density mixture --temperature 0.5"))
    page.one("#density input[value=prior]").click()
    page.wait(lambda: page.ends("--seed 7 --density prior --temperature 0.5"))
    page.one("#another").click()
    page.wait(lambda: "--seed 7 " not in page.text("#command pre"))
    assert f"--seed {page.value('seed'):.0f} " in page.text("#command pre")
    page.assert_fits()


def test_a_line_is_copied_on_another_machine_as_well(page: Page) -> None:
    elsewhere = replace(page, address=page.address.replace("127.0.0.1", ELSEWHERE))
    elsewhere.open("/celeba/faces/", "#face img")
    assert not page.browser.execute_script("return isSecureContext")
    wanted = page.text("#command pre")
    page.one("#command button").click()
    page.open("/", "li a")
    copied = page.browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied.strip() == wanted


@pytest.mark.parametrize("width", WIDTHS)
def test_a_face_can_be_saved_and_its_command_copied(page: Page, width: int, tmp_path: Path) -> None:
    page.open("/celeba/faces/", "#face img", width)
    page.set("along-pc1", -2)
    page.wait(lambda: page.ends("--shift pc1=-2"))
    page.one("#command button").click()
    page.wait(lambda: page.text("#command button") == "Copied")
    copied = page.browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == page.text("#command pre")
    page.one("#face a").click()
    saved = page.saved / "face.png"
    page.wait(saved.exists)
    picture = saved.read_bytes()
    assert picture == base64.b64decode(page.picture().removeprefix("data:image/png;base64,"))
    saved.unlink()
    words = shlex.split(copied)[3:]
    made = tmp_path / "made"
    assert run(celeba_faces.main, [*words, "--model", str(page.folder / "faces"), "--output", str(made)]) == 0
    pictures = [picture, (made / "sample_0000.png").read_bytes()]
    shown, by_command = (np.asarray(Image.open(io.BytesIO(content)), int) for content in pictures)
    assert np.abs(shown - by_command).max() <= 1


def test_the_last_of_many_moves_is_shown(page: Page) -> None:
    page.open("/celeba/faces/", "#face img")
    page.browser.execute_script(
        """
        const slider = document.querySelector("#along-pc1 input[type=range]");
        for (let i = -30; i <= 21; i++) {
          slider.value = i / 10;
          slider.dispatchEvent(new Event("input", {bubbles: true}));
        }
        """
    )
    page.wait(lambda: page.ends("--shift pc1=2.1"))
    last = page.picture()
    page.one("#reset").click()
    page.wait(lambda: page.ends("--temperature 1"))
    page.set("along-pc1", 2.1)
    page.wait(lambda: page.ends("--shift pc1=2.1"))
    assert page.picture() == last


def test_without_an_answer_the_page_says_so_and_the_next_one_is_shown(page: Page) -> None:
    page.open("/celeba/faces/", "#face img")
    before = page.picture()
    page.browser.execute_cdp_cmd("Network.enable", {})
    page.browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*component_server*"]})
    try:
        page.set("along-pc1", 1)
        page.wait(lambda: page.text("#face figcaption").startswith("No answer from the server"))
        assert page.picture() == before
    finally:
        page.browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.set("along-pc1", 2)
    page.wait(lambda: page.ends("--shift pc1=2"))
    assert page.text("#face figcaption span") == "Edited"
    assert page.picture() != before
    page.browser.get_log("browser")  # the browser tells of the requests that it blocked


@pytest.mark.parametrize("width", WIDTHS)
def test_a_photograph_is_reconstructed_edited_and_removed(page: Page, width: int) -> None:
    page.open("/celeba/faces/", "#face img", width)
    page.upload("photo", page.folder / "photo0.png")
    page.wait(lambda: len(page.all("#before img")) == 2 and "reconstruct" in page.text("#command pre"))
    reconstruction = page.all("#before img")[1].get_property("src")
    assert page.picture() == reconstruction
    page.set("along-Smiling", 3)
    page.wait(lambda: page.ends("--input photo0.png --shift Smiling=3"))
    assert page.picture() != reconstruction
    assert [caption.text for caption in page.all(".stage figcaption span")] == [
        "Photograph",
        "Reconstruction",
        "Edited",
    ]
    sizes = {picture.size["width"] for picture in page.all(".stage img")}
    assert max(sizes) - min(sizes) <= 1
    page.one("#another").click()
    page.wait(lambda: not page.one("#before").is_displayed())
    assert "faces sample" in page.text("#command pre")
    page.upload("photo", page.folder / "photo0.png")
    page.wait(lambda: page.one("#before").is_displayed())
    assert page.ends("--input photo0.png --shift Smiling=3")
    assert page.kept() == []
    page.assert_fits()


@pytest.mark.parametrize("width", WIDTHS)
def test_two_photographs_give_the_way_between_them(page: Page, width: int) -> None:
    page.open("/celeba/faces/", "#face img", width)
    page.upload("first", page.folder / "photo0.png")
    page.upload("second", page.folder / "photo1.png")
    page.wait(lambda: len(page.all("#way img")) == 9)
    assert "faces interpolate" in page.text("#way pre")
    assert len({picture.get_property("src") for picture in page.all("#way img")}) > 1
    assert page.kept() == []
    page.assert_fits()


def test_a_slider_that_is_moved_while_the_model_is_opened_moves_the_face(page: Page) -> None:
    page.open("/celeba/faces/", "#along-pc1 input[type=number]")
    page.set("along-pc1", 2)
    page.wait(lambda: page.all("#face img") and page.ends("--shift pc1=2"))


@pytest.mark.parametrize("zone", ["photo", "first"])
def test_a_spoilt_photograph_is_named_and_the_next_one_taken(page: Page, zone: str) -> None:
    page.open("/celeba/faces/", "#face img")
    page.upload(zone, page.folder / "spoilt.png")
    page.wait(lambda: page.told().startswith("spoilt.png: not a JPEG, PNG"))
    page.wait(lambda: page.all(f"#{zone} input[type=file]"))
    page.upload(zone, page.folder / "photo0.png")
    page.wait(lambda: not page.kept())
    taken = "#before img" if zone == "photo" else "#first .file-preview"
    page.wait(lambda: page.all(taken))

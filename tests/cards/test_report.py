"""The report, in a real browser where there is one."""

import json
import re
import shutil
import subprocess
import sysconfig
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

import hepfm
from hepfm.cards.facts import Table
from hepfm.cards.page import data_block, html_table
from hepfm.cards.report import write_report
from hepfm.errors import HepfmError, InputError, StorageError

# A name of a folder that would be markup, if it were not escaped.
NAME = "jets <img src=x onerror=alert(1)> & 'co'"

READ_DISCS = """return [...arguments[0].querySelectorAll('.constituent')]
    .map(disc => ['cx', 'cy', 'r', 'fill'].map(name => disc.getAttribute(name)))"""
READ_COLOURS = """return [getComputedStyle(document.body).backgroundColor,
    getComputedStyle(document.querySelector('figure svg [style*="fill: var(--ink)"]')).fill]"""


@pytest.fixture(scope="module")
def folder(small_campaign, tmp_path_factory) -> Path:
    return shutil.copytree(small_campaign[1], tmp_path_factory.mktemp("report") / NAME)


@pytest.fixture(scope="module")
def page(folder) -> Path:
    path = folder.parent / "report.html"
    write_report(folder, path, n_events=12)
    return path


@pytest.fixture(scope="module")
def jets(page) -> list[dict]:
    """The jets in the page's data."""
    (block,) = re.findall(r'<script type="application/json" id="gallery">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(block)["jets"]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser, with the log of its network."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = Options()
    options.binary_location = browser
    for argument in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
        *("disable-background-networking", "disable-component-update", "window-size=1300,1000"),
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    yield found
    found.quit()


@pytest.fixture
def opened(chromium, page):
    """The browser with the page just opened."""
    chromium.get(page.as_uri())
    return chromium


@pytest.fixture
def without_plots(monkeypatch):
    """An installation that lacks a part of the `plots` extra."""
    monkeypatch.setattr("hepfm.cards.style.find_spec", lambda name: None if name == "hist" else object())


def panels(browser) -> list:
    return browser.find_elements(By.CSS_SELECTOR, "#panels svg")


def discs(element) -> list:
    return element.find_elements(By.CSS_SELECTOR, ".constituent")


def position(browser) -> str:
    return browser.find_element(By.ID, "position").text


def press(browser, *keys) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def caption(browser) -> str:
    return browser.find_element(By.ID, "caption").text


def test_every_constituent_of_every_view_is_a_disc_where_its_momentum_points(opened, small_campaign, jets):
    data = hepfm.open(small_campaign[1])
    shown = jets[0]
    views = data.views(shown["event"])
    views = {view.variation: view for view in views[views.jet_index == shown["jet"]]}
    assert len(panels(opened)) == len(data.variations)
    for panel, variation in zip(panels(opened), data.variations, strict=True):
        jet = views.get(variation)
        assert len(discs(panel)) == (0 if jet is None else jet.jet_nparticles)
        if jet is None:
            continue
        drawn = opened.execute_script(READ_DISCS, panel)
        order = np.argsort(-jet.particles.pt.to_numpy(), kind="stable")
        eta, phi = jet.particles.eta.to_numpy()[order], jet.particles.phi.to_numpy()[order]
        phi = (phi - jet.truth_phi + np.pi) % (2 * np.pi) - np.pi
        places = np.array([[float(a), float(b)] for a, b, *_ in drawn])
        # From radians to the panel's units: the same scale on both axes, azimuth upwards.
        scale = (places[0, 0] - places[-1, 0]) / (eta[0] - eta[-1])
        np.testing.assert_allclose(places[:, 0] - places[0, 0], scale * (eta - eta[0]), atol=0.05)
        np.testing.assert_allclose(places[:, 1] - places[0, 1], -scale * (phi - phi[0]), atol=0.05)
        radii = [float(r) for _, _, r, _ in drawn]
        assert radii == sorted(radii, reverse=True)
        assert len({fill for *_, fill in drawn}) > 1


def test_frozen_quarks_are_marked_at_the_same_place_in_all_views(opened, jets):
    number = next(i for i, jet in enumerate(jets) if len(jet["prongs"][0]) == 2)
    press(opened, *[Keys.ARROW_RIGHT] * number)
    marks = [
        [line.get_attribute("x1") for line in panel.find_elements(By.CSS_SELECTOR, ".prong")]
        for panel in panels(opened)
    ]
    assert len(marks[0]) == 4  # two lines a cross
    assert all(mark == marks[0] for mark in marks)


def test_buttons_keys_slider_and_list_choose_the_jet(opened, jets):
    n = len(jets)
    assert position(opened) == f"1 of {n}"
    opened.find_element(By.ID, "next").click()
    assert position(opened) == f"2 of {n}"
    assert f"Event {jets[1]['event']}" in caption(opened)
    press(opened, Keys.ARROW_RIGHT)
    assert position(opened) == f"3 of {n}"
    press(opened, Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert position(opened) == f"{n} of {n}"  # round the end
    opened.find_element(By.ID, "previous").click()
    assert position(opened) == f"{n - 1} of {n}"
    opened.find_element(By.ID, "slider").send_keys(Keys.HOME)
    assert position(opened) == f"1 of {n}"
    Select(opened.find_element(By.ID, "event")).select_by_index(4)
    assert position(opened) == f"5 of {n}"
    before = position(opened)
    opened.find_element(By.ID, "random").click()
    assert position(opened) != before


def test_filter_by_class_leaves_its_jets(opened, jets):
    Select(opened.find_element(By.ID, "class")).select_by_visible_text("Hbb")
    of_class = [jet for jet in jets if jet["class"] == "Hbb"]
    assert 0 < len(of_class) < len(jets)
    assert position(opened) == f"1 of {len(of_class)}"
    assert len(Select(opened.find_element(By.ID, "event")).options) == len(of_class)
    # A class and another class's process: nothing is left, and that is said.
    Select(opened.find_element(By.ID, "process")).select_by_visible_text("QCD")
    assert position(opened) == "0 of 0"
    assert "No jet of this class and process" in caption(opened)
    assert panels(opened) == []


def test_tooltip_tells_of_the_constituent_under_the_mouse(opened, jets):
    press(opened, *[Keys.ARROW_RIGHT] * next(i for i, jet in enumerate(jets) if "quick" in jet["views"]))
    number = next(i for i, jet in enumerate(jets) if "quick" in jet["views"])
    particles = jets[number]["views"]["quick"]["particles"]
    order = sorted(range(len(particles["pt"])), key=lambda i: -particles["pt"][i])
    # The one drawn last lies on top of all others.
    last = order[-1]
    ActionChains(opened).move_to_element(discs(panels(opened)[0])[-1]).perform()
    tooltip = opened.find_element(By.ID, "tooltip")
    kind = ["charged hadron", "neutral hadron", "photon", "electron", "muon"][particles["kind"][last]]
    assert tooltip.is_displayed()
    assert tooltip.text.startswith(f"{kind}\npt {particles['pt'][last]:.2f} GeV\ncharge ")
    assert "d0" in tooltip.text
    ActionChains(opened).move_to_element(opened.find_element(By.TAG_NAME, "h1")).perform()
    assert not tooltip.is_displayed()


def test_arrow_keys_go_through_the_constituents_of_a_panel(opened, jets):
    number = next(i for i, jet in enumerate(jets) if "quick" in jet["views"])
    press(opened, *[Keys.ARROW_RIGHT] * number)
    pt = sorted(jets[number]["views"]["quick"]["particles"]["pt"], reverse=True)
    tooltip = opened.find_element(By.ID, "tooltip")
    opened.execute_script("arguments[0].focus()", panels(opened)[0])
    for keys, place in (((Keys.ARROW_DOWN,), 0), ((Keys.ARROW_DOWN,), 1), ((Keys.ARROW_UP, Keys.ARROW_UP), -1)):
        press(opened, *keys)
        assert f"pt {pt[place]:.2f} GeV" in tooltip.text
    press(opened, Keys.ESCAPE)
    assert not tooltip.is_displayed()
    # The panel keeps the focus when the jet changes.
    press(opened, Keys.ARROW_RIGHT)
    assert opened.execute_script("return document.activeElement === document.querySelector('#panels svg')")


def test_click_on_a_kind_of_particle_hides_it(opened):
    n_all = len(discs(opened))
    photons = next(b for b in opened.find_elements(By.CSS_SELECTOR, "#kinds button") if b.text == "photon")
    n_photons = len([disc for disc in discs(opened) if disc.get_attribute("fill") == "#E69F00"])
    photons.click()
    assert photons.get_attribute("aria-pressed") == "false"
    assert 0 < n_photons < n_all
    assert len(discs(opened)) == n_all - n_photons
    photons.click()
    assert len(discs(opened)) == n_all


def test_page_asks_nobody_and_reports_no_error(chromium, page):
    chromium.get_log("performance")
    chromium.get_log("browser")
    chromium.get(page.as_uri())
    press(chromium, *[Keys.ARROW_RIGHT] * 12, "r")
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.as_uri() in asked
    assert chromium.get_log("browser") == []


def test_text_from_the_data_is_no_markup(opened):
    assert opened.find_element(By.TAG_NAME, "h1").text == NAME
    assert opened.title == NAME
    assert opened.find_elements(By.TAG_NAME, "img") == []
    assert "</script" not in data_block("x", {"a": "</script><script>"})[:-9]
    table = html_table(Table(("<a>", "`<b>`"), (("<c>", "&"),)))
    assert '<th scope="row">&lt;c&gt;</th>' in table
    assert "<code>&lt;b&gt;</code>" in table


def test_dark_and_narrow_screens_are_served(chromium, page):
    chromium.get(page.as_uri())
    colours = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours[scheme] = chromium.execute_script(READ_COLOURS)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    light, dark = ([sum(map(int, re.findall(r"\d+", c)[:3])) for c in colours[name]] for name in ("light", "dark"))
    assert light[0] > 600 > 200 > dark[0]
    assert light[1] < 300 < 500 < dark[1]
    size = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    widths = chromium.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widths[0] <= widths[1] == 360


def test_page_has_the_campaigns_facts(opened, small_campaign):
    campaign, _ = small_campaign
    text = opened.find_element(By.TAG_NAME, "body").text
    tiles = dict(
        zip(
            (e.text for e in opened.find_elements(By.CSS_SELECTOR, ".tiles dt")),
            (e.text for e in opened.find_elements(By.CSS_SELECTOR, ".tiles dd")),
            strict=True,
        )
    )
    assert tiles["frozen events"] == "60"
    assert tiles["views simulated"] == "120"
    assert tiles["jets"] == f"{len(hepfm.open(small_campaign[1])):,}"
    assert tiles["seed"] == "7"
    assert re.fullmatch(r"\(?\d.* ± .*", tiles["cross-section of Hbb [pb]"])
    assert re.fullmatch(r"\d+\.\d+ ± \d+\.\d+ %", tiles["events with a jet, quick"])
    assert "TimeShower:renormMultFac = 0.5" in text
    assert campaign.digest in text
    assert "pythia8mc 8." in text
    assert len(opened.find_elements(By.CSS_SELECTOR, ".figures figure svg")) == 8


def test_names_of_elements_are_unique(page):
    counts = Counter(re.findall(r'\bid="([^"]+)"', page.read_text()))
    assert [name for name, n in counts.items() if n > 1] == []


def test_the_same_dataset_gives_the_same_page(folder, page):
    again = folder.parent / "again.html"
    write_report(folder, again, n_events=12)
    assert again.read_bytes() == page.read_bytes()


def test_events_limits_the_jets_and_spreads_them_over_the_classes(jets):
    assert len(jets) == 12
    assert Counter(jet["class"] for jet in jets) == {"QCD": 6, "Hbb": 6}


def test_file_without_views_is_shown_jet_by_jet(chromium, shared, tmp_path):
    page = tmp_path / "report.html"
    written = write_report(shared / "data" / "jetclass2_example.root", page, n_events=20)
    chromium.get(page.as_uri())
    assert (written.n_jets, written.n_shown) == (100, 20)
    assert len(panels(chromium)) == 1
    assert len(discs(chromium)) > 5
    assert caption(chromium).startswith("Jet ")
    assert not chromium.find_element(By.CSS_SELECTOR, ".process-filter").is_displayed()
    text = chromium.find_element(By.TAG_NAME, "body").text
    assert all(sentence in text for sentence in written.left_out)
    assert any("campaign folders only" in sentence for sentence in written.left_out)
    assert chromium.find_elements(By.ID, "variations") == []


def test_without_frozen_events_no_quarks_are_marked_and_that_is_said(without_plots, folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("hard"))
    written = write_report(bare, tmp_path / "report.html", n_events=4)
    assert any("No frozen quarks" in sentence for sentence in written.left_out)
    # The report makes nothing in the campaign's folder.
    assert not (bare / "hard").exists()


def test_published_folder_has_a_report_of_its_views(without_plots, folder, tmp_path):
    from hepfm.publishing import stage

    stage(folder, tmp_path / "staged")
    written = write_report(tmp_path / "staged", tmp_path / "report.html", n_events=4)
    text = (tmp_path / "report.html").read_text()
    assert written.n_shown == 4
    assert "quick-fsr-up" in text


def test_without_the_plots_extra_the_page_has_no_figures_and_says_so(without_plots, folder, tmp_path):
    written = write_report(folder, tmp_path / "report.html", n_events=3)
    text = (tmp_path / "report.html").read_text()
    assert any('pip install "hepfm[plots]"' in sentence for sentence in written.left_out)
    assert "<figure>" not in text
    assert 'id="viewer"' in text


def test_no_events_no_viewer(without_plots, folder, tmp_path):
    assert write_report(folder, tmp_path / "report.html", n_events=0).n_shown == 0
    text = (tmp_path / "report.html").read_text()
    assert 'id="viewer"' not in text
    assert 'id="gallery"' not in text


def test_what_cannot_be_reported_is_one_line_and_loses_nothing(without_plots, folder, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("mine")
    with pytest.raises(InputError, match="no such file or folder"):
        write_report(tmp_path / "nothing", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HepfmError, match="not a campaign folder"):
        write_report(tmp_path / "empty", out)
    assert out.read_text() == "mine"
    with pytest.raises(StorageError, match="cannot write"):
        write_report(folder, tmp_path / "empty", n_events=0)


def test_a_page_does_not_replace_the_jets_that_it_is_about(without_plots, shared, tmp_path):
    jets = shutil.copy(shared / "data" / "jetclass2_example.root", tmp_path / "jets.root")
    before, surveyed = Path(jets).read_bytes(), []
    with pytest.raises(InputError, match="would be replaced"):
        write_report(jets, tmp_path / "jets.root", report=lambda *seen: surveyed.append(seen))
    assert Path(jets).read_bytes() == before
    assert surveyed == []


def test_a_page_of_one_view_of_events_does_not_compare_views(without_plots, unfinished, tmp_path):
    write_report(unfinished, tmp_path / "report.html", n_events=3)
    text = (tmp_path / "report.html").read_text()
    assert "10 hard collisions, each in one view, <code>quick</code>: " in text
    assert "of the same frozen" not in text
    assert "simulated again" not in text


def test_command_writes_the_page_and_says_so(folder, tmp_path):
    command = [Path(sysconfig.get_path("scripts")) / "hepfm-data", "report"]
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    done = run([*command, folder, "--out", "new/page.html", "--events", "3", "--json"])
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["n_shown"], answer["left_out"]) == (0, 3, [])
    assert (tmp_path / "new" / "page.html").stat().st_size == answer["n_bytes"]
    wrong = run([*command, tmp_path / "nothing"])
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("hepfm-data: ")
    assert wrong.stderr.count("\n") == 1

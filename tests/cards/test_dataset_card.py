"""The card of a dataset and its pictures."""

import json
import re
import shutil
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import hepfm
from hepfm import manifest
from hepfm.cards.dataset_card import dataset_card
from hepfm.cards.facts import efficiency, measured, read_facts
from hepfm.cards.texts import limitations
from hepfm.formats.hub_layout import INDEX, PublishedFile
from hepfm.publishing import stage
from hepfm.resim import Campaign, plan
from hepfm.resim.folder import CAMPAIGN_FILE
from hepfm.resim.variations import Variation
from hepfm.schema import COLUMNS


@pytest.fixture(scope="module")
def staged(small_campaign, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("card") / "resim-jets"
    stage(small_campaign[1], out, repo="hepfm/resim-jets")
    return out


@pytest.fixture(scope="module")
def card(staged) -> str:
    return (staged / "README.md").read_text()


def figures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("figures/*"))}


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the tables in a text, by their first cell."""
    found = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| "))
    return {cells[0].strip("`"): cells[1:] for cells in found}


def test_card_shows_a_jet_in_all_views_at_its_top_and_every_figure_once(staged, card):
    shown = re.findall(r"!\[(.+?)\]\((.+?)\)", card)
    assert shown[0][1] == "figures/views.png"
    assert card.index("figures/views.png") < card.index("\n## ")
    assert sorted(path for _, path in shown) == [f"figures/{name}" for name in figures(staged)]
    assert len(shown) == 9
    assert all(content.startswith(b"\x89PNG") for content in figures(staged).values())


def test_pictures_are_the_same_bytes_wherever_they_are_drawn(small_campaign, staged, tmp_path):
    stage(small_campaign[1], tmp_path / "again", repo="hepfm/resim-jets")
    assert figures(tmp_path / "again") == figures(staged)
    assert (tmp_path / "again" / INDEX).read_bytes() == (staged / INDEX).read_bytes()
    assert not any(b"Software" in content or b"matplotlib" in content for content in figures(staged).values())


def test_pictures_of_other_jets_are_drawn_anew_and_those_of_these_are_kept(small_campaign, staged, tmp_path):
    out = shutil.copytree(staged, tmp_path / "copy")
    kept, old = out / "figures" / "views.png", out / "figures" / "tau21.png"
    stamp = kept.stat().st_mtime_ns
    stage(small_campaign[1], out, repo="hepfm/resim-jets")
    assert kept.stat().st_mtime_ns == stamp
    old.write_bytes(old.read_bytes().replace(b"tEXtSource\0", b"tEXtSource\0x"))
    stage(small_campaign[1], out, repo="hepfm/resim-jets")
    assert figures(out) == figures(staged)


def test_without_the_plots_extra_the_card_has_no_pictures_and_a_note_says_so(
    small_campaign, staged, tmp_path, monkeypatch, caplog
):
    with monkeypatch.context() as lacking:
        lacking.setattr("hepfm.cards.style.find_spec", lambda _: None)
        stage(small_campaign[1], tmp_path, repo="hepfm/resim-jets")
        assert figures(tmp_path) == {}
        assert "![" not in (tmp_path / "README.md").read_text()
        (note,) = [record.getMessage() for record in caplog.records]
        assert 'pip install "hepfm[plots]"' in note
        # Pictures that are there, of these very jets, stay.
        kept = shutil.copytree(staged, tmp_path / "kept")
        stage(small_campaign[1], kept, repo="hepfm/resim-jets")
        assert figures(kept) == figures(staged)
    # With the extra, the pictures are added.
    stage(small_campaign[1], tmp_path, repo="hepfm/resim-jets")
    assert figures(tmp_path) == figures(staged)
    assert len(hepfm.open(tmp_path)) == len(hepfm.open(staged))


def code(card: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", section(card, "Reading"), re.MULTILINE | re.DOTALL)


def test_examples_of_the_card_load_a_split_that_is_there(small_campaign):
    folder = small_campaign[1]
    present = (("quick", "test"), ("quick", "validation"), ("quick-fsr-up", "test"))
    files = [PublishedFile(f"data/{name}/{split}.parquet", name, split, ("QCD",), 10, "") for name, split in present]
    card = dataset_card(folder, hepfm.open(folder), files, repo="a/b", license="cc-by-4.0")
    loaded = re.findall(r"load_dataset\((.*)\)", code(card)[0])
    assert loaded == ['"a/b", split="validation"', '"a/b", "quick-fsr-up", split="test"']


def test_card_of_one_variation_promises_no_second_one_and_its_code_runs(unfinished, tmp_path, capsys):
    stage(unfinished, tmp_path / "jets")
    card = (tmp_path / "jets" / "README.md").read_text()
    n_jets = len(hepfm.open(unfinished))
    assert f"{n_jets} simulated jets of 10 hard collisions, each in one view, `quick`." in card
    titles = ("Reading", "Variations", "Selection efficiencies", "Distributions", "Limitations", "Citation")
    said = card.split("\n## ")[0] + "".join(section(card, title) for title in titles)
    for promise in ("simulated again", "variations", "times", "its ratio", "pairs", "same frozen", "re-simulat"):
        assert promise not in said, promise
    loading, reading = code(card)
    assert loading.count("load_dataset(") == 1
    exec(compile(reading, "card", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_card_of_a_campaign_that_is_not_finished_counts_the_events_that_were_simulated(small_campaign, tmp_path):
    folder = shutil.copytree(small_campaign[1], tmp_path / "campaign")
    records = manifest.read(folder)
    kept = [json.dumps(asdict(record)) for record in records if record.chunk < 2]
    (folder / manifest.SHARDS).write_text("\n".join(kept) + "\n")
    stage(folder, tmp_path / "out")
    assert ": 40 hard collisions, each frozen" in (tmp_path / "out" / "README.md").read_text()


def test_limitations_follow_from_detector_and_source(small_campaign, unfinished, shared):
    built_in, none = small_campaign[0], Campaign.from_toml(unfinished / CAMPAIGN_FILE)
    powheg = plan(lhe=[shared / "data" / "powheg_hvq.lhe"], variations=built_in.variations)
    finished = plan(
        hepmc=[shared / "data" / "example_hepmc2.hepmc"], variations=(Variation("nominal"),), jet_pt=(5, None)
    )
    fast = "a fast, parametrised detector, not a full simulation."
    leading = "Leading order with a parton shower; no pile-up"
    order = "Hard processes are those of the files, at their order, with a parton shower; no pile-up"
    made = "Events are those of the files, with the order, the shower and the pile-up that they were made with"
    expected = (
        (built_in, f"* {leading}; {fast}"),
        (none, f"* {leading}; no detector: jets are of stable particles as generated."),
        (powheg, f"* {order}; {fast}"),
        (finished, f"* {made}; {fast}"),
    )
    for campaign, sentence in expected:
        assert limitations(campaign, 2).splitlines()[0] == sentence
    mixed = replace(none, variations=(*none.variations, Variation("seen", detector="cms")))
    assert "not a full simulation, or none." in limitations(mixed, 2)


def test_card_has_every_column_with_its_type_and_unit(card):
    found = rows(section(card, "Columns"))
    for name, column in COLUMNS.items():
        kind = f"list of {column.dtype}" if name.startswith("part_") else column.dtype
        assert found[name] == [kind, *([column.unit] if column.unit else [""]), column.meaning]


def test_card_has_the_exact_settings_and_sources_of_variations_and_processes(small_campaign, card):
    campaign, _ = small_campaign
    variations, processes = rows(section(card, "Variations")), rows(section(card, "Processes"))
    for variation in campaign.variations:
        assert all(setting in variations[variation.name][1] for setting in variation.settings)
    for process in campaign.processes:
        what, settings, source, n_events, cross_section = processes[process.name]
        assert (what, source, n_events) == (process.description, process.citation, "30")
        assert settings.strip("`").split("; ") == list(process.settings)
        assert " ± " in cross_section


def test_card_has_efficiencies_of_every_variation_and_process(small_campaign, card):
    found = rows(section(card, "Selection efficiencies"))
    data = hepfm.open(small_campaign[1])
    for variation in data.variations:
        passed = data.read(["event_id"], variation=variation, process="Hbb").event_id
        share, _, error = found[variation][found["variation"].index("`Hbb`")].removesuffix(" %").partition(" ± ")
        assert float(share) == pytest.approx(100 * len(set(passed.to_list())) / 30, abs=0.06)
        assert float(error) > 0


def test_card_says_how_to_make_the_dataset_again(small_campaign, card, tmp_path):
    campaign, folder = small_campaign
    (settings,) = re.findall(r"```toml\n(.*?)```", section(card, "How it was made"), re.DOTALL)
    (tmp_path / "campaign.toml").write_text(settings)
    assert Campaign.from_toml(tmp_path / "campaign.toml") == campaign
    made = rows(section(card, "How it was made"))
    assert made["seed"][0].startswith("7;")
    versions = manifest.read_header(folder)["versions"]
    for name, version in versions.items():
        assert any(f"{name} {version}" in cell for cells in made.values() for cell in cells)
    assert "R = 0.8" in made["jets"][0]


def test_card_names_no_folder_of_the_machine(small_campaign, tmp_path):
    campaign, folder = small_campaign
    copy = shutil.copytree(folder, tmp_path / "campaign")
    process = replace(campaign.processes[0], lhe="/secret/place/events.lhe.gz", n_available=30, sha256="0" * 64)
    other = replace(campaign.processes[1], lhe="/secret/place/more.lhe.gz", n_available=30, sha256="1" * 64)
    changed = replace(campaign, processes=(process, other))
    (copy / CAMPAIGN_FILE).write_text(changed.to_toml())
    files = [PublishedFile("data/quick/train-00000-of-00001.parquet", "quick", "train", ("QCD",), 10, "")]
    card = dataset_card(copy, hepfm.open(copy), files, repo="a/b", license="cc-by-4.0")
    assert "secret" not in card
    (settings,) = re.findall(r"```toml\n(.*?)```", card, re.DOTALL)
    assert [p["lhe"] for p in tomllib.loads(settings)["processes"]] == ["events.lhe.gz", "more.lhe.gz"]


def test_licence_is_a_choice_and_citations_are_bibtex(small_campaign, staged, card, tmp_path):
    assert "creativecommons.org/licenses/by/4.0" in section(card, "Licence")
    assert 'license: "cc-by-4.0"' in card
    stage(small_campaign[1], shutil.copytree(staged, tmp_path / "mit"), repo="hepfm/resim-jets", license="mit")
    assert section((tmp_path / "mit" / "README.md").read_text(), "Licence").strip().startswith("mit.")
    (bibtex,) = re.findall(r"```bibtex\n(.*?)```", section(card, "Citation"), re.DOTALL)
    assert re.findall(r"^@\w+\{(.*),$", bibtex, re.MULTILINE)[:2] == ["resim-jets", "Harris:2024sra"]
    assert bibtex.count("{") == bibtex.count("}")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.15512, 0.0264, "1.155 ± 0.026"),
        (0.000503912, 0.0000113, "(5.04 ± 0.11) × 10⁻⁴"),
        (123456.0, 1234.0, "(1.235 ± 0.012) × 10⁵"),
        (47.25, 1.44, "47.2 ± 1.4"),
        (950.0, 120.0, "950 ± 120"),
        (3.0, 0.0, "3.0000 ± 0.0000"),
        (0.0, 0.5, "0.00 ± 0.50"),
    ],
)
def test_numbers_have_the_digits_that_their_errors_allow(value, error, text):
    assert measured(value, error) == text


def test_efficiency_of_none_or_all_still_has_an_error(small_campaign):
    facts = read_facts(small_campaign[1])
    record = replace(facts.records[0], n_events=50, n_missing=0, n_without_jet=50)
    for n_without, share in ((50, 0), (0, 100)):
        one = replace(facts, records=(replace(record, n_without_jet=n_without),))
        value, _, error = efficiency(one, record.variation).removesuffix(" %").partition(" ± ")
        assert float(value) == share
        # Of a flat prior: some 1 / (n + 2).
        assert float(error) == pytest.approx(100 / 53, rel=0.1)
    assert efficiency(facts, "none of these") == ""

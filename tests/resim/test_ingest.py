"""Other generators in a campaign: run by a command, or from files that they left."""

import gzip
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import hepfm
from hepfm import manifest
from hepfm.errors import InputError
from hepfm.formats.hdf5 import read_attributes
from hepfm.resim import Campaign, extend, plan, run
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import read_campaign
from hepfm.resim.repair import repair
from hepfm.resim.variations import Variation

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "external" / "pythia_hepmc.py"
COMMAND = f"{sys.executable} {PROGRAM} {{lhe}} {{hepmc}} {{seed}} {{n_events}} --set 'PartonLevel:MPI = off'"
QUICK = Variation("quick", ("PartonLevel:MPI = off",))


def run_here(campaign: Campaign, folder: Path) -> dict[str, manifest.ShardRecord]:
    with ThreadPoolExecutor(1) as executor:
        return {r.path: r for r in run(campaign, folder, executor, workers=1)}


@pytest.fixture(scope="module")
def with_external(tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Path]:
    """Views of our own shower, of another program that drops every tenth event, and of its hadrons again."""
    variations = (
        QUICK,
        Variation("other", external=f"{COMMAND} --drop 10"),
        Variation("other-redetect", freeze="hadron", base="other"),
    )
    campaign = plan(200, variations, "Hbb", seed=3, chunk_events=100)
    folder = tmp_path_factory.mktemp("external") / "campaign"
    run_here(campaign, folder)
    return campaign, folder


# A command.


def test_program_of_ones_own_makes_one_more_view(with_external: tuple[Campaign, Path]) -> None:
    campaign, folder = with_external
    assert campaign.groups == ((0,), (1, 2))
    data = hepfm.open(folder)
    ours, theirs = data.pairs("quick", "other")
    assert len(ours) > 40
    # The same frozen particles, and jets of the same kind around them.
    assert ours.truth_pt.tolist() == theirs.truth_pt.tolist()
    assert abs(np.median(theirs.jet_sdmass) - 125) < 12
    correlation = np.corrcoef(np.asarray(ours.jet_pt), np.asarray(theirs.jet_pt))[0, 1]
    assert correlation > 0.5
    read = [np.asarray(data.read(["jet_nparticles"], variation=v).jet_nparticles) for v in ("quick", "other")]
    assert stats.ks_2samp(*read).pvalue > 0.01
    assert check_campaign(folder).problems == []


def test_events_that_the_program_drops_are_missing_and_all_others_in_their_place(
    with_external: tuple[Campaign, Path],
) -> None:
    campaign, folder = with_external
    for record in manifest.read(folder):
        chunk = next(c for c in campaign.chunks() if c.number == record.chunk)
        ids = campaign.event_ids(chunk.process, chunk.start, chunk.stop)
        dropped = ids[9::10].tolist() if record.variation.startswith("other") else []
        assert record.missing == dropped
        assert record.n_missing == len(dropped)
    data = hepfm.open(folder)
    first, second = data.pairs("other", "other-redetect")
    assert len(first) > 40
    assert first.truth_pt.tolist() == second.truth_pt.tolist()
    assert first.jet_pt.tolist() != second.jet_pt.tolist()


def test_shard_says_which_program_made_it(with_external: tuple[Campaign, Path]) -> None:
    campaign, folder = with_external
    chunk = next(iter(campaign.chunks()))
    attributes = read_attributes(folder / campaign.shard_path(chunk, 1))
    assert attributes["generator"] == campaign.variations[1].external
    assert read_attributes(folder / campaign.shard_path(chunk, 2))["shares_with"] == "other"


def test_campaign_repeats_the_program_with_the_same_seeds(with_external: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign, folder = with_external
    grown = run_here(replace(campaign, variations=(QUICK,)), tmp_path / "c")
    larger = extend(tmp_path / "c", campaign.variations[1:])
    assert larger == campaign
    grown = run_here(larger, tmp_path / "c")
    assert {path: r.sha256 for path, r in grown.items()} == {r.path: r.sha256 for r in manifest.read(folder)}


@pytest.fixture
def without_program(with_external: tuple[Campaign, Path], tmp_path: Path) -> Path:
    """The campaign as somebody else gets it, who does not have the program."""
    folder = shutil.copytree(with_external[1], tmp_path / "elsewhere")
    path = folder / "campaign.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(sys.executable, "./gone.sh"), encoding="utf-8")
    return folder


def test_finished_campaign_needs_the_program_no_more(without_program: Path) -> None:
    assert check_campaign(without_program).problems == []
    assert repair(without_program)[1] == []
    larger = extend(without_program, (Variation("again", QUICK.settings),))
    assert len(run_here(larger, without_program)) == larger.n_shards == 8


def test_new_events_need_the_program_before_any_shard_is_forgotten(without_program: Path) -> None:
    before = manifest.read(without_program)
    with pytest.raises(InputError, match=r"'other': program './gone.sh' is not found"):
        extend(without_program, n_events=300)
    assert manifest.read(without_program) == before


def test_wrong_program_is_refused_before_the_folder_is_made(tmp_path: Path) -> None:
    campaign = plan(10, (QUICK, Variation("other", external="./gone.sh {lhe} {hepmc}")))
    with pytest.raises(InputError, match=r"'other': program './gone.sh' is not found"):
        run_here(campaign, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_shower_of_another_program_cannot_be_kept() -> None:
    variations = (Variation("other", external=COMMAND), Variation("b", freeze="shower", base="other"))
    with pytest.raises(InputError, match="another generator's"):
        plan(10, variations)


# Files made elsewhere of a campaign's frozen events.


@pytest.fixture(scope="module")
def farmed(with_external: tuple[Campaign, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user makes of the frozen events on another farm: a HepMC file a block, named after it."""
    _, folder = with_external
    farm = tmp_path_factory.mktemp("farm")
    for block in (folder / "hard").iterdir():
        stem = block.name.removesuffix(".lhe.gz")
        (farm / f"{stem}.lhe").write_bytes(gzip.decompress(block.read_bytes()))
        words = [str(farm / f"{stem}.lhe"), str(farm / f"{stem}.hepmc.gz"), "17", "200", "--drop", "7"]
        subprocess.run([sys.executable, PROGRAM, *words, "--set", "PartonLevel:MPI = off"], check=True)
    return farm


def test_files_named_after_blocks_of_frozen_events_become_a_view(
    with_external: tuple[Campaign, Path], farmed: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(with_external[1], tmp_path / "c")
    campaign = extend(folder, (Variation("farmed", hepmc=str(farmed)),))
    records = [r for r in run_here(campaign, folder).values() if r.variation == "farmed"]
    assert [r.n_events for r in records] == [100, 100]
    assert sum(r.n_missing for r in records) == 200 // 7
    missing = sorted(event for r in records for event in r.missing)
    assert missing == campaign.event_ids(0, 0, 200)[6::7].tolist()
    ours, theirs = hepfm.open(folder).pairs("quick", "farmed")
    assert np.corrcoef(np.asarray(ours.jet_pt), np.asarray(theirs.jet_pt))[0, 1] > 0.5
    assert check_campaign(folder).problems == []


def test_views_of_files_do_not_grow_and_nothing_is_forgotten(
    with_external: tuple[Campaign, Path], farmed: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(with_external[1], tmp_path / "c")
    run_here(extend(folder, (Variation("farmed", hepmc=str(farmed)),)), folder)
    before = manifest.read(folder), read_campaign(folder)
    with pytest.raises(InputError, match="views of farmed come from files made of the smaller campaign") as raised:
        extend(folder, n_events=300)
    assert "\n" not in str(raised.value)
    assert (manifest.read(folder), read_campaign(folder)) == before


@pytest.mark.parametrize("names", [(), ("Hbb-000000.hepmc", "Hbb-000000.hepmc.gz"), ("Hbb-000001.hepmc",)])
def test_missing_file_is_one_clear_error_and_the_campaign_stays_as_it_was(
    with_external: tuple[Campaign, Path], tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder = shutil.copytree(with_external[1], tmp_path / "c")
    (tmp_path / "farm").mkdir()
    for name in names:
        (tmp_path / "farm" / name).touch()
    with pytest.raises(InputError, match=rf"{len(names) // 2 * 2} files Hbb-000000.hepmc\* in .*farm") as raised:
        extend(folder, (Variation("farmed", hepmc=str(tmp_path / "farm")),))
    assert "\n" not in str(raised.value)
    assert read_campaign(folder) == with_external[0]


# Finished events.


@pytest.fixture(scope="module")
def ingested(farmed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Path]:
    campaign = plan(hepmc=[farmed / "Hbb-000000.hepmc.gz"], variations=(Variation("nominal"),), chunk_events=50)
    folder = tmp_path_factory.mktemp("ingested") / "campaign"
    run_here(campaign, folder)
    return campaign, folder


def test_finished_events_become_jets_with_labels(ingested: tuple[Campaign, Path]) -> None:
    campaign, folder = ingested
    assert campaign.n_events == 200 - 200 // 7
    jets = hepfm.open(folder).jets
    higgs = jets[jets.truth_pdg_id == 25]
    assert len(higgs) > 100
    assert abs(np.median(higgs.jet_sdmass[higgs.jet_pt > 300]) - 125) < 12
    assert set(higgs.jet_label) == {1}
    assert not (folder / "hard").exists()
    assert check_campaign(folder).problems == []


def test_finished_events_give_the_same_jets_whatever_the_chunks(
    ingested: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = ingested
    run_here(replace(campaign, chunk_events=70), tmp_path / "c")
    ours, theirs = hepfm.open(tmp_path / "c").jets, hepfm.open(folder).jets
    assert ours.event_id.tolist() == theirs.event_id.tolist()
    assert ours.part_px.tolist() == theirs.part_px.tolist()


def test_finished_events_go_through_the_detector_again_but_not_through_a_shower(
    ingested: tuple[Campaign, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(ingested[1], tmp_path / "c")
    with pytest.raises(InputError, match="finished events"):
        extend(folder, (Variation("fsr-up", ("TimeShower:renormMultFac = 0.5",)),))
    with pytest.raises(InputError, match="its events come from files"):
        extend(folder, n_events=ingested[0].n_events + 1)
    campaign = extend(folder, (Variation("redetect", freeze="hadron"),))
    run_here(campaign, folder)
    first, second = hepfm.open(folder).pairs("nominal", "redetect")
    assert len(first) > 100
    assert first.jet_pt.tolist() != second.jet_pt.tolist()


@pytest.mark.parametrize("name", ["example_hepmc3.hepmc.zst", "example_hepmc2.hepmc"])
def test_real_files_are_taken_in(shared: Path, tmp_path: Path, name: str) -> None:
    campaign = plan(hepmc=[shared / "data" / name], variations=(Variation("nominal"),), jet_pt=(5.0, None))
    records = run_here(campaign, tmp_path / "c")
    assert sum(r.n_events for r in records.values()) == campaign.n_events == (25 if "3" in name else 1)
    assert sum(r.n_missing for r in records.values()) == 0
    assert check_campaign(tmp_path / "c").problems == []


def test_finished_events_that_changed_are_not_simulated_under_the_same_ids(shared: Path, tmp_path: Path) -> None:
    file, folder = Path(shutil.copy(shared / "data" / "example_hepmc2.hepmc", tmp_path)), tmp_path / "c"
    campaign = plan(hepmc=[file], variations=(Variation("nominal"),))
    before = run_here(campaign, folder)
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    larger = extend(folder, (Variation("redetect", freeze="hadron"),))
    with pytest.raises(InputError, match=r"example_hepmc2\.hepmc is not the file that the campaign was made from"):
        run_here(larger, folder)
    file.unlink()
    assert run_here(campaign, folder) == before, "what is finished needs the file no more"

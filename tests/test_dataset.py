import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pytest

import hepfm
from hepfm import manifest
from hepfm.dataset import Dataset
from hepfm.errors import CampaignError, HepfmError, InputError
from hepfm.formats.hdf5 import write_shard
from hepfm.jets import to_awkward
from hepfm.schema import COLUMNS, CONSTITUENT_COLUMNS, JET_COLUMNS, split_of
from hepfm.table import JetTable

VARIATIONS = ("nominal", "reseed", "fsr-up")
PROCESSES = ("QCD", "Hbb")
N_CHUNKS = 2
N_EVENTS = 30


def shard_table(variation: str, process: str, chunk: int) -> JetTable:
    """Jets of physical kinematics; events of the two processes alternate, and some jets are missing."""
    rng = np.random.default_rng([VARIATIONS.index(variation), PROCESSES.index(process), chunk])
    events = PROCESSES.index(process) + len(PROCESSES) * (chunk * N_EVENTS + np.arange(N_EVENTS))
    event_id, jet_index = np.repeat(events, 2), np.tile([0, 1], N_EVENTS)
    kept = rng.random(2 * N_EVENTS) < 0.8
    event_id, jet_index = event_id[kept], jet_index[kept]
    n = len(event_id)
    counts = rng.integers(1, 9, n)
    jet_of = np.repeat(np.arange(n), counts)
    p = rng.normal(size=(3, counts.sum())) * 40
    energy = np.sqrt((p**2).sum(axis=0) + 0.14**2)
    px, py, pz, e = (np.bincount(jet_of, x, minlength=n) for x in (*p, energy))
    pt = np.hypot(px, py)
    columns = {
        **JetTable.empty().columns,
        **{name: np.zeros(n, c.dtype) for name, c in JET_COLUMNS.items() if c.dtype != "str"},
        "event_id": event_id.astype(np.int64),
        "jet_index": jet_index.astype(np.int8),
        "view": np.full(n, VARIATIONS.index(variation), np.int16),
        "variation": np.full(n, variation),
        "process": np.full(n, process),
        "jet_pt": pt.astype(np.float32),
        "jet_eta": np.arcsinh(pz / pt).astype(np.float32),
        "jet_phi": np.arctan2(py, px).astype(np.float32),
        "jet_energy": e.astype(np.float32),
        "jet_nparticles": counts.astype(np.int32),
    }
    constituents = {name: np.zeros(len(jet_of), c.dtype) for name, c in CONSTITUENT_COLUMNS.items()}
    momenta = dict(zip(("part_px", "part_py", "part_pz"), p.astype(np.float32), strict=True))
    constituents |= {**momenta, "part_energy": energy.astype(np.float32)}
    constituents["part_charge"] = rng.integers(-1, 2, len(jet_of)).astype(np.int8)
    return JetTable(columns, np.cumsum([0, *counts]), constituents)


def add_shard(folder: Path, variation: str, process: str, chunk: int) -> JetTable:
    table = shard_table(variation, process, chunk)
    name = f"shards/{variation}/{process}-{chunk:06}.h5"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    record = manifest.ShardRecord(
        path=name,
        sha256=write_shard(folder / name, table, {}),
        variation=variation,
        process=process,
        chunk=chunk * len(PROCESSES) + PROCESSES.index(process),
        n_events=N_EVENTS,
        n_jets=table.n_jets,
        n_missing=0,
        n_retried=0,
        n_without_jet=0,
        n_bytes=(folder / name).stat().st_size,
        cross_sections={"QCD-000000": [1.0, 0.1]},
    )
    with manifest.recorder(folder) as add:
        add(record)
    return table


TASKS = [(v, p, chunk) for v in VARIATIONS for chunk in range(N_CHUNKS) for p in PROCESSES]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory) -> Path:
    """A campaign whose shards were finished in an order of their own."""
    folder = tmp_path_factory.mktemp("work") / "resim-jets"
    folder.mkdir()
    (folder / manifest.HEADER).write_text(json.dumps({"variations": VARIATIONS, "processes": PROCESSES}))
    for task in np.random.default_rng(1).permutation(len(TASKS)):
        add_shard(folder, *TASKS[task])
    return folder


@pytest.fixture(scope="module")
def everything() -> JetTable:
    """All jets of the campaign, in the dataset's order."""
    return JetTable.concatenate([shard_table(*task) for task in TASKS])


def test_a_campaign_shows_what_it_holds(campaign, everything):
    dataset = hepfm.open(campaign)

    assert len(dataset) == everything.n_jets
    assert dataset.variations == VARIATIONS
    assert dataset.processes == PROCESSES
    assert dataset.columns == tuple(COLUMNS)
    for part in ("resim-jets", f"{everything.n_jets:,} in 12 files", "nominal, reseed, fsr-up", "QCD, Hbb"):
        assert part in repr(dataset)


def test_read_gives_all_jets_in_the_campaigns_order(campaign, everything):
    jets = hepfm.open(str(campaign)).read()

    assert jets.fields == list(COLUMNS)
    for name, values in everything.columns.items():
        assert ak.to_list(jets[name]) == values.tolist(), name
    for name, values in everything.constituents.items():
        assert ak.flatten(jets[name]).to_numpy().tobytes() == values.tobytes(), name
        np.testing.assert_array_equal(ak.num(jets[name]), everything.counts)


def test_read_keeps_what_is_asked_for(campaign, everything):
    jets = hepfm.open(campaign).read(
        ["part_px", "jet_pt"], variation=["reseed", "fsr-up"], process="Hbb", split="train"
    )
    columns = everything.columns
    wanted = np.isin(columns["variation"], ["reseed", "fsr-up"]) & (columns["process"] == "Hbb")
    expected = everything.select(wanted & (split_of(columns["event_id"]) == 0))

    assert jets.fields == ["jet_pt", "part_px"]
    np.testing.assert_array_equal(jets.jet_pt, expected.columns["jet_pt"])
    np.testing.assert_array_equal(ak.flatten(jets.part_px), expected.constituents["part_px"])
    np.testing.assert_array_equal(ak.num(jets.part_px), expected.counts)


def test_splits_share_no_event_and_miss_none(campaign, everything):
    dataset = hepfm.open(campaign)
    events = [set(dataset.read(["event_id"], split=s).event_id) for s in ("train", "validation", "test")]

    assert sum(map(len, events)) == len(set.union(*events))
    assert set.union(*events) == set(everything.columns["event_id"])


def test_one_file_and_a_list_of_files_open_too(campaign, tmp_path):
    paths = sorted(campaign.glob("shards/nominal/*.h5"))
    mixed = tmp_path / "mixed.h5"
    tables = [shard_table("nominal", "QCD", 0), shard_table("fsr-up", "Hbb", 0)]
    write_shard(mixed, JetTable.concatenate(tables), {})
    dataset = hepfm.open(mixed)

    assert len(hepfm.open(paths)) == len(hepfm.open(campaign).read(variation="nominal"))
    assert dataset.variations == ("nominal", "fsr-up")  # as the jets come: the first is taken for the nominal one
    assert dataset.processes == ("QCD", "Hbb")
    assert len(dataset.read(variation="fsr-up")) == len(dataset.read(process="Hbb")) == tables[1].n_jets
    assert len(dataset.read(variation="fsr-up", process="QCD")) == 0


def test_index_and_slices_take_the_same_jets_as_a_list(campaign):
    dataset = hepfm.open(campaign)
    jets = dataset.read()
    events = jets.event_id.to_list()

    for where in (
        slice(None),
        slice(3, 200),
        slice(-5, None),
        slice(7, 3),
        slice(None, None, -7),
        slice(2, 90, 11),
    ):
        assert dataset[where].event_id.to_list() == events[where]
    assert dataset[-1].part_px.to_list() == jets[-1].part_px.to_list()
    assert dataset[10].event_id == events[10]
    assert [jet.event_id for jet in dataset] == events
    assert dataset["part_px"].to_list() == dataset.part_px.to_list() == jets.part_px.to_list()
    assert dataset[["jet_pt", "view"]].fields == ["jet_pt", "view"]
    with pytest.raises(IndexError, match="out of range"):
        dataset[len(dataset)]


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_batches_join_to_what_read_gives(campaign, size):
    dataset = hepfm.open(campaign)
    batches = list(dataset.batches(size, ["event_id", "part_py"], split="train"))
    expected = dataset.read(["event_id", "part_py"], split="train")

    assert {len(batch) for batch in batches[:-1]} <= {size}
    assert 0 < len(batches[-1]) <= size
    assert ak.concatenate(batches).to_list() == expected.to_list()


def test_large_shards_are_read_piece_by_piece_with_the_same_result(campaign, monkeypatch):
    expected = hepfm.open(campaign).read(process="QCD", split="train")
    monkeypatch.setattr("hepfm.dataset._PIECE", 5)

    assert hepfm.open(campaign).read(process="QCD", split="train").to_list() == expected.to_list()


def test_iter_files_gives_each_file_with_a_wanted_jet(campaign):
    shards = list(hepfm.open(campaign).iter_files(["variation", "process"], variation="reseed"))

    assert [(s.variation[0], s.process[0]) for s in shards] == [("reseed", p) for p in ("QCD", "Hbb")] * 2
    assert [len(s) for s in shards] == [shard_table(*task).n_jets for task in TASKS if task[0] == "reseed"]


def test_jets_load_each_column_when_it_is_used(campaign, everything, tmp_path):
    for path in campaign.glob("shards/nominal/*.h5"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        with h5py.File(tmp_path / path.name, "a") as file:
            del file["constituents/part_py"]
    jets = hepfm.open(sorted(tmp_path.glob("*.h5"))).jets

    assert ak.sum(jets.jet_nparticles) == ak.count(jets.part_px)
    assert sorted(set(jets.process)) == sorted(PROCESSES)
    with pytest.raises(HepfmError, match="part_py cannot be opened"):
        ak.sum(jets.part_py)
    lazy = hepfm.open(campaign).jets
    assert lazy[lazy.jet_pt > 100].part_px.to_list() == [
        px.tolist()
        for px, pt in zip(
            np.split(everything.constituents["part_px"], everything.offsets[1:-1]),
            everything.columns["jet_pt"],
            strict=True,
        )
        if pt > 100
    ]


def test_the_constituents_momenta_add_up_to_the_jets(campaign):
    jets = hepfm.open(campaign).read(variation="nominal")
    total = ak.sum(jets.particles, axis=1)

    # float32 keeps seven digits; momenta cancel within a jet, energies do not.
    for component in ("px", "py", "pz", "energy"):
        np.testing.assert_allclose(
            getattr(total, component), getattr(jets.p4, component), atol=1e-5 * np.max(jets.jet_energy)
        )
    np.testing.assert_allclose(jets.p4.pt, jets.jet_pt)
    mass2 = jets.jet_energy**2 - (jets.jet_pt * np.cosh(jets.jet_eta)) ** 2
    np.testing.assert_allclose(jets.p4.mass**2, mass2, atol=1e-5 * np.max(jets.jet_energy) ** 2)


def test_particles_carry_the_other_columns_and_copy_nothing(campaign):
    jets = hepfm.open(campaign).read()
    particles = jets.particles

    assert set(particles.fields) == {name.removeprefix("part_") for name in CONSTITUENT_COLUMNS}
    assert ak.parameters(particles[0])["__record__"] == "Momentum4D"
    np.testing.assert_allclose(
        ak.flatten(particles.pt), np.hypot(ak.flatten(jets.part_px), ak.flatten(jets.part_py)), rtol=1e-6
    )
    assert ak.all(particles[particles.charge != 0].charge ** 2 == 1)
    column, field = (ak.to_layout(array).content.data for array in (jets.part_px, particles.px))
    assert np.shares_memory(column, field)


def test_particles_are_those_of_px_py_pz_and_energy_whatever_coordinates_a_file_has_besides():
    others = ("x", "y", "rho", "pt", "phi", "z", "theta", "eta", "t", "E", "e", "tau", "M", "m", "mass", "charge")
    momenta = {"px": [3.0, 0.0], "py": [4.0, 1.0], "pz": [0.0, 2.0], "energy": [13.0, 3.0]}
    lists = {f"part_{name}": np.array(values) for name, values in momenta.items()}
    lists |= {f"part_{name}": np.full(2, 9.0) for name in others}
    jets = to_awkward(JetTable({}, np.array([0, 1, 2]), lists))
    particles = jets.particles

    assert set(particles.fields) == {*momenta, "charge"}
    assert (particles.pt.to_list(), particles.mass[0].to_list()) == ([[5.0], [1.0]], [12.0])
    assert (particles + particles).pt.to_list() == [[10.0], [2.0]]
    assert jets.part_pt.to_list() == jets.part_mass.to_list() == [[9.0], [9.0]]


def test_momenta_follow_selections_and_single_jets(campaign):
    jets = hepfm.open(campaign).read()
    some = jets[jets.process == "Hbb"][3:]

    assert some[0].p4.pt == some.jet_pt[0]
    assert some[0].particles.px.to_list() == some.part_px[0].to_list() == some.particles[0].px.to_list()
    assert len(some.p4) == len(some)


def test_momenta_without_their_columns_say_what_was_not_read(campaign):
    jets = hepfm.open(campaign).read(["jet_pt", "jet_phi", "part_px"])

    with pytest.raises(InputError, match="needs the columns jet_eta, jet_energy"):
        _ = jets.p4
    with pytest.raises(InputError, match="needs the columns part_py, part_pz, part_energy"):
        _ = jets.particles


def test_pairs_align_the_views_that_both_variations_have(campaign, everything):
    one, two = hepfm.open(campaign).pairs("nominal", "fsr-up")

    def keys(variation: str) -> set[tuple[int, int]]:
        rows = everything.columns["variation"] == variation
        return set(zip(everything.columns["event_id"][rows], everything.columns["jet_index"][rows], strict=True))

    assert len(keys("nominal") - keys("fsr-up")) > 0
    expected = sorted(keys("nominal") & keys("fsr-up"))
    for jets, variation in ((one, "nominal"), (two, "fsr-up")):
        assert list(zip(jets.event_id, jets.jet_index, strict=True)) == expected
        assert set(jets.variation) == {variation}
    assert one.fields == list(COLUMNS)
    assert ak.any(one.jet_pt != two.jet_pt)


def test_pairs_take_columns_and_selections(campaign):
    dataset = hepfm.open(campaign)
    one, two = dataset.pairs("reseed", "nominal", ["jet_pt"], process="QCD", split="validation")
    full, _ = dataset.pairs("reseed", "nominal")

    assert one.fields == two.fields == ["jet_pt"]
    chosen = full[(full.process == "QCD") & (split_of(full.event_id.to_numpy()) == 1)]
    assert one.jet_pt.to_list() == chosen.jet_pt.to_list()
    assert 0 < len(one) == len(two)


def test_views_are_all_rows_of_one_event(campaign, everything):
    event = int(everything.columns["event_id"][25])
    rows = everything.columns["event_id"] == event
    views = hepfm.open(campaign).views(event)

    assert len(set(views.variation)) > 1
    assert views.variation.to_list() == everything.columns["variation"][rows].tolist()
    np.testing.assert_array_equal(ak.flatten(views.part_px), everything.select(rows).constituents["part_px"])
    assert len(hepfm.open(campaign).views(-5)) == 0


def test_a_campaign_that_has_just_begun_is_empty(tmp_path):
    (tmp_path / manifest.HEADER).write_text("{}")
    dataset = hepfm.open(tmp_path)

    assert len(dataset) == len(dataset.read()) == len(dataset.jets) == len(dataset[:]) == 0
    assert dataset.read().fields == list(COLUMNS)
    assert list(dataset.batches(10)) == []


def test_a_shard_without_jets_is_no_obstacle(tmp_path):
    write_shard(tmp_path / "empty.h5", JetTable.empty(), {})
    table = shard_table("nominal", "QCD", 0)
    write_shard(tmp_path / "full.h5", table, {})
    dataset = hepfm.open([tmp_path / "empty.h5", tmp_path / "full.h5", tmp_path / "empty.h5"])

    assert len(dataset) == len(dataset.read()) == table.n_jets
    np.testing.assert_array_equal(dataset.jets.jet_pt, table.columns["jet_pt"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.read(["part_pxx"]), r"unknown column 'part_pxx'.*Did you mean 'part_px'\?"),
        (lambda d: d.read(variation="fsr-upp"), r"unknown variation 'fsr-upp'.*Did you mean 'fsr-up'\?"),
        (
            lambda d: d.pairs("nominal", "vincia"),
            "unknown variation 'vincia'. Known: nominal, reseed, fsr-up",
        ),
        (lambda d: d.read(process="hbb"), "unknown process 'hbb'. Known: QCD, Hbb"),
        (lambda d: d.read(split="valid"), "unknown split 'valid'. Known: train, validation, test"),
        (lambda d: list(d.batches(0)), "at least 1, got 0"),
        (lambda d: list(d.batches(5, ["pt"])), "unknown column 'pt'"),
    ],
)
def test_wrong_names_are_refused_with_what_there_is(campaign, call, message):
    with pytest.raises(InputError, match=message):
        call(hepfm.open(campaign))


def test_what_cannot_be_opened_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        hepfm.open(tmp_path / "nothing")
    with pytest.raises(InputError, match="the list of files is empty; expected at least one"):
        hepfm.open(tmp_path.glob("*.h5"))
    with pytest.raises(CampaignError, match="not a campaign folder"):
        hepfm.open(tmp_path)
    for name, content, words in (
        ("jets.root", b"root", "damaged, cut off or no ROOT file"),
        ("jets.h5", b"\x89HDF\r\n\x1a\n", "damaged, cut off or no HDF5 file"),
        ("jets.parquet", b"PAR1", "damaged or no Parquet file"),
        ("jets.txt", b"jets", "of no known format"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: {words}"):
            hepfm.open(tmp_path / name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = [1, 2]
    with pytest.raises(InputError, match=r"other\.h5: an HDF5 file of no known layout; it holds numbers"):
        hepfm.open(tmp_path / "other.h5")


def test_a_shard_that_disagrees_with_the_manifest_is_refused(tmp_path):
    table = add_shard(tmp_path, "nominal", "QCD", 0)
    (record,) = manifest.read(tmp_path)
    with manifest.recorder(tmp_path) as add:
        add(replace(record, n_jets=table.n_jets + 1))

    with pytest.raises(CampaignError, match=f"holds {table.n_jets} jets, but the manifest says"):
        hepfm.open(tmp_path).read()


def test_opening_is_lazy_and_importing_is_light():
    light = "import sys, hepfm; print(*{'h5py', 'awkward', 'vector', 'numpy'} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", light], capture_output=True, text=True).stdout == "\n"
    assert hepfm.Dataset is Dataset
    assert {"open", "Dataset"} <= set(dir(hepfm))
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = hepfm.opne
    with pytest.raises(AttributeError, match="no attribute 'part_pxx'"):
        _ = Dataset([], "nothing").part_pxx

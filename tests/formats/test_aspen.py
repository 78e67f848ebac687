import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
import vector
from hypothesis import given, settings
from hypothesis import strategies as st

from hepfm.errors import InputError
from hepfm.formats.aspen import is_aspen, open_aspen
from hepfm.formats.candidates import NOTES, constituents
from hepfm.formats.nanoaod import open_nanoaod
from hepfm.schema import CONSTITUENT_COLUMNS

SCORES = ("H4qvsQCD", "HbbvsQCD", "HccvsQCD", "QCD", "TvsQCD", "WvsQCD", "ZvsQCD")


def write_as_h5_maker_does(source, path, n_slots=150):
    """The file that AOJProcessing's H5_maker.py makes of NanoAOD, but without its selection of events and jets."""
    with uproot.open(source) as file:
        events = file["Events"].arrays(filter_name=["PFCands_*", "FatJet*", "run", "event", "luminosityBlock"])
    rows, kinematics, tagging, info = [], [], [], []
    for e in events:
        for j in range(len(e.FatJet_pt)):
            index = e.FatJetPFCands_pFCandsIdx[e.FatJetPFCands_jetIdx == j]
            c = {name: np.asarray(e[f"PFCands_{name}"][index]) for name in ("pt", "eta", "phi", "mass")}
            p4 = vector.array({name: values.astype(float) for name, values in c.items()})
            others = ("d0", "d0Err", "dz", "dzErr", "charge", "pdgId", "puppiWeight")
            cands = np.stack(
                [p4.px, p4.py, p4.pz, p4.E, *(np.asarray(e[f"PFCands_{name}"][index]) for name in others)], axis=1
            )
            cands = cands[:n_slots].astype(np.float32)
            cands = cands[np.flip(np.argsort(np.sqrt(cands[:, 0] ** 2 + cands[:, 1] ** 2)))]
            rows.append(np.pad(cands, ((0, n_slots - len(cands)), (0, 0))))
            kinematics.append([e[f"FatJet_{name}"][j] for name in ("pt", "eta", "phi", "msoftdrop")])
            tau = [e[f"FatJet_tau{n}"][j] for n in (1, 2, 3, 4)]
            tagging.append([len(index), *tau, *(e[f"FatJet_particleNet_{name}"][j] for name in SCORES), 0])
            info.append([e.run, e.luminosityBlock, e.event])
    with h5py.File(path, "w") as file:
        file.create_dataset("event_info", data=np.array(info, np.int64), chunks=True)
        for name, values in {"jet_kinematics": kinematics, "jet_tagging": tagging, "PFCands": rows}.items():
            file.create_dataset(name, data=np.array(values, np.float32), chunks=True, compression="gzip")
    return path


@pytest.fixture(scope="module")
def nano(shared):
    return shared / "data" / "cms_pfnano.root"


@pytest.fixture(scope="module")
def path(nano, tmp_path_factory):
    return write_as_h5_maker_does(nano, tmp_path_factory.mktemp("aspen") / "RunG_batch0.h5")


def test_aspen_and_nanoaod_of_the_same_collisions_give_the_same_jets(path, nano):
    """The two readers share little above single candidates: links against padding, pt eta phi m against px py pz E."""
    file, other = open_aspen(path), open_nanoaod(nano)
    shared = [c.name for c in file.columns if c.name in {d.name for d in other.columns}]
    assert {*CONSTITUENT_COLUMNS, "event_id", "jet_energy", "jet_sdmass", "jet_tau4", "jet_nparticles"} <= set(shared)
    assert "FatJet_particleNet_TvsQCD" in shared
    ours, theirs = file.read(shared, 0, 24), other.read(shared, 0, 24)
    ours.validate()

    np.testing.assert_array_equal(ours.offsets, theirs.offsets)
    for name, values in {**theirs.columns, **theirs.constituents}.items():
        found = {**ours.columns, **ours.constituents}[name]
        if name == "jet_energy":
            continue
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(found, values, err_msg=name)


def test_jet_energy_made_of_the_constituents_is_that_of_cms(path, nano):
    energy = open_nanoaod(nano).read(["jet_energy"], 0, 24).columns["jet_energy"]
    table = open_aspen(path).read(["jet_energy", "jet_pt", "jet_eta", "jet_phi"], 0, 24)

    np.testing.assert_allclose(table.columns["jet_energy"], energy, rtol=1e-4)
    jets = vector.array({name: table.columns[f"jet_{name}"].astype(float) for name in ("pt", "eta", "phi", "energy")})
    with uproot.open(nano) as file:
        mass = ak.to_numpy(ak.flatten(file["Events/FatJet_mass"].array()))
    np.testing.assert_allclose(jets.mass, mass, rtol=5e-3)


def test_the_file_is_known_by_its_datasets_and_says_what_is_assumed(path, tmp_path):
    file = open_aspen(path)
    assert (file.n_jets, file.classes, file.variations) == (24, (), ())
    assert set(NOTES) <= set(file.notes)
    assert any("150 candidates" in note for note in file.notes)
    assert {"run", "luminosityBlock", "event", "FatJet_nConstituents", "FatJet_particleNet_mass"} <= {
        c.name for c in file.columns
    }
    with h5py.File(path) as opened:
        assert is_aspen(opened)
    with h5py.File(tmp_path / "other.h5", "w") as opened:
        opened["data"] = np.zeros((2, 3, 4))
        assert not is_aspen(opened)


@pytest.mark.parametrize(("start", "stop"), [(0, 24), (5, 6), (7, 19), (24, 24), (0, 0)])
def test_any_part_and_any_columns_are_the_same_as_of_the_whole(path, start, stop):
    file = open_aspen(path)
    whole = file.read([c.name for c in file.columns], 0, 24).slice(start, stop)
    for names in (["part_d0val", "jet_energy"], ["jet_pt", "event"], ["jet_nparticles"], []):
        table = file.read(names, start, stop)
        table.validate()
        assert {*table.columns, *table.constituents} == set(names)
        for name, values in {**table.columns, **table.constituents}.items():
            np.testing.assert_array_equal(values, {**whole.columns, **whole.constituents}[name])
        if not names:
            np.testing.assert_array_equal(table.offsets, whole.offsets)


def test_files_without_event_info_have_no_event_id_and_say_so(path, tmp_path):
    with h5py.File(path) as old, h5py.File(tmp_path / "part.h5", "w") as new:
        for name in ("PFCands", "jet_kinematics"):
            old.copy(name, new)
    file = open_aspen(tmp_path / "part.h5")

    assert not {"event_id", "run", "jet_tau1"} & {c.name for c in file.columns}
    assert {"the file has no jet_tagging", "the file has no event_info"} <= set(file.notes)
    assert file.read(["jet_energy"], 0, 2).columns["jet_energy"].min() > 0


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "PFCands",
            np.zeros((24, 150, 16), "f4"),
            r"/PFCands should be .* \(24, any, 11\); it has shape \(24, 150, 16\)",
        ),
        ("jet_kinematics", np.zeros((23, 4), "f4"), r"/jet_kinematics .* \(24, 4\); it has shape \(23, 4\)"),
        ("jet_kinematics", None, "/jet_kinematics .* it is missing"),
        ("event_info", np.zeros((24, 3), "S4"), r"/event_info should be an array of numbers"),
    ],
)
def test_other_layouts_are_refused_by_the_name_of_the_dataset(path, tmp_path, name, values, message):
    with h5py.File(path) as old, h5py.File(tmp_path / "other.h5", "w") as new:
        for key in old:
            if key != name:
                old.copy(key, new)
        if values is not None:
            new[name] = values

    with pytest.raises(InputError, match=rf"other\.h5: no file of Aspen Open Jets: {message}"):
        open_aspen(tmp_path / "other.h5")


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_files_cut_off_or_damaged_give_one_clear_line(path, tmp_path, part):
    content = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match=r"cut\.h5: [^\n]*$"):
        open_aspen(tmp_path / "cut.h5")


def test_damaged_candidates_are_noticed(path, tmp_path):
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        chunk = file["PFCands"].id.get_chunk_info(0)
    content[chunk.byte_offset + 20 : chunk.byte_offset + 60] = b"\xff" * 40
    (tmp_path / "damaged.h5").write_bytes(content)

    with pytest.raises(InputError, match=r"damaged\.h5: damaged: /PFCands cannot be read"):
        open_aspen(tmp_path / "damaged.h5").read(["part_px"], 0, 24)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), counts=st.lists(st.integers(0, 20), max_size=12))
def test_weighting_agrees_with_vector_for_any_candidates(seed, counts):
    rng = np.random.default_rng(seed)
    n = sum(counts)
    p4 = vector.array(
        {"pt": rng.exponential(20, n) + 0.1, "eta": rng.normal(0, 2, n), "phi": rng.uniform(-3, 3, n)}
        | {"mass": rng.choice([0, 0.14], n)}
    )
    raw = {"px": p4.px, "py": p4.py, "pz": p4.pz, "energy": p4.E, "weight": rng.choice([0, 0.3, 1], n)}
    raw |= {"charge": rng.choice([-1, 0, 1], n), "pdg_id": rng.choice([211, 130, 22, -11, 13, 1, 2], n)}
    axes = rng.normal(0, 1, len(counts)), rng.uniform(-np.pi, np.pi, len(counts))
    offsets = np.cumsum([0, *counts])
    names = [name for name in CONSTITUENT_COLUMNS if not name.startswith(("part_d0", "part_dz"))]

    table = constituents("a file", offsets, raw.__getitem__, axes, names)

    table.validate()
    weighted = raw["weight"] * p4
    jet = np.repeat(np.arange(len(counts)), np.array(counts, int))
    order = np.lexsort((-weighted.pt, jet))
    order = order[raw["weight"][order] > 0]
    np.testing.assert_array_equal(table.counts, np.bincount(jet[order], minlength=len(counts)))
    for name in ("px", "py", "pz", "energy"):
        np.testing.assert_allclose(table.constituents[f"part_{name}"], getattr(weighted, name)[order], rtol=2e-6)
    mirror = np.where(axes[0][jet] < 0, -1, 1)[order]
    np.testing.assert_allclose(
        table.constituents["part_deta"], mirror * (p4.eta[order] - axes[0][jet][order]), rtol=1e-5, atol=1e-6
    )
    assert np.all(np.abs(table.constituents["part_dphi"]) <= np.float32(np.pi))
    flags = [table.constituents[name] for name in names if name.startswith("part_is")]
    assert np.all(np.sum(flags, axis=0) == 1)

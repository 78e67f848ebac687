"""weaver-core itself reads what we write as JetClass, with Particle Transformer's configuration for JetClass."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jet_tables import jet_table

from hepfm.formats.root import open_root, write_root
from hepfm.padding import pad
from hepfm.schema import JET_CLASSES
from hepfm.table import JetTable

LENGTH = 128
# Formulas, shifts, scales and limits are facts of JetClass_full.yaml (jet-universe/particle_transformer, MIT).
NEW_VARIABLES = {
    "part_mask": "ak.ones_like(part_energy)",
    "part_pt": "np.hypot(part_px, part_py)",
    "part_pt_log": "np.log(part_pt)",
    "part_e_log": "np.log(part_energy)",
    "part_logptrel": "np.log(part_pt/jet_pt)",
    "part_logerel": "np.log(part_energy/jet_energy)",
    "part_deltaR": "np.hypot(part_deta, part_dphi)",
    "part_d0": "np.tanh(part_d0val)",
    "part_dz": "np.tanh(part_dzval)",
}
POINTS = [["part_deta", None], ["part_dphi", None]]
KINEMATICS = [
    ["part_pt_log", 1.7, 0.7],
    ["part_e_log", 2.0, 0.7],
    ["part_logptrel", -4.7, 0.7],
    ["part_logerel", -4.7, 0.7],
    ["part_deltaR", 0.2, 4.0],
]
IDENTITY = [
    [f"part_{n}", None] for n in ("charge", "isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
]
IMPACT = [["part_d0", None], ["part_d0err", 0, 1, 0, 1], ["part_dz", None], ["part_dzerr", 0, 1, 0, 1]]
FEATURES = {"kin": KINEMATICS + POINTS, "full": KINEMATICS + IDENTITY + IMPACT + POINTS}
VECTORS = [["part_px", None], ["part_py", None], ["part_pz", None], ["part_energy", None]]
OBSERVERS = [f"jet_{n}" for n in ("pt", "eta", "phi", "energy", "nparticles", "sdmass", "tau1", "tau2", "tau3", "tau4")]

LOAD = """
import sys
import numpy as np
from torch.utils.data import DataLoader
from weaver.utils.dataset import SimpleIterDataset

path, configuration, out = sys.argv[1:]
data = SimpleIterDataset({"_": [path]}, configuration, for_training=False, fetch_step=1)
tensors, labels, observers = zip(*DataLoader(data, batch_size=64))
joined = {name: np.concatenate([batch[name].numpy() for batch in tensors]) for name in tensors[0]}
joined |= {name: np.concatenate([np.asarray(batch[name]) for batch in labels]) for name in labels[0]}
joined |= {name: np.concatenate([np.asarray(batch[name]) for batch in observers]) for name in observers[0]}
np.savez(out, **joined)
"""


def weaver_reads(path: Path, features: str) -> dict[str, np.ndarray]:
    """Load a file with weaver-core's own data set, in another process: what it warns of is its own affair."""
    pytest.importorskip("weaver", reason="weaver-core is not installed", exc_type=ImportError)
    configuration = {
        "selection": None,
        "new_variables": NEW_VARIABLES,
        "preprocess": {"method": "manual", "data_fraction": 0.5},
        "inputs": {
            "pf_points": {"length": LENGTH, "pad_mode": "wrap", "vars": POINTS},
            "pf_features": {"length": LENGTH, "pad_mode": "wrap", "vars": FEATURES[features]},
            "pf_vectors": {"length": LENGTH, "pad_mode": "wrap", "vars": VECTORS},
            "pf_mask": {"length": LENGTH, "pad_mode": "constant", "vars": [["part_mask", None]]},
        },
        "labels": {"type": "simple", "value": [f"label_{name}" for name in JET_CLASSES]},
        "observers": OBSERVERS,
        "weights": None,
    }
    # JSON is YAML.
    (path.parent / "JetClass.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    words = [sys.executable, "-c", LOAD, str(path), str(path.parent / "JetClass.yaml"), str(path.parent / "out.npz")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(path.parent / "out.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def expected(table: JetTable, features: str) -> dict[str, np.ndarray]:
    """The same tensors from the table alone."""
    c, jet = table.constituents, np.repeat(np.arange(table.n_jets), table.counts)
    values = {name: column.astype(np.float64) for name, column in c.items()}
    values["part_pt"] = np.hypot(values["part_px"], values["part_py"])
    values["part_pt_log"], values["part_e_log"] = np.log(values["part_pt"]), np.log(values["part_energy"])
    values["part_logptrel"] = np.log(values["part_pt"] / table.columns["jet_pt"][jet])
    values["part_logerel"] = np.log(values["part_energy"] / table.columns["jet_energy"][jet])
    values["part_deltaR"] = np.hypot(values["part_deta"], values["part_dphi"])
    values["part_d0"], values["part_dz"] = np.tanh(values["part_d0val"]), np.tanh(values["part_dzval"])
    # Shorter jets are filled by beginning again at their first constituent.
    index = table.offsets[:-1, np.newaxis] + np.arange(LENGTH) % table.counts[:, np.newaxis]

    def stack(variables: list[list]) -> np.ndarray:
        arrays = []
        for name, *transform in variables:
            column = values[name]
            if transform[0] is not None:
                shift, scale, low, high = [*transform, *(0, 1, -5, 5)[len(transform) :]]
                column = np.clip((column - shift) * scale, low, high)
            arrays.append(column[index])
        return np.stack(arrays, axis=1)

    mask = pad(np.ones(table.n_constituents), table.offsets, LENGTH)[:, np.newaxis]
    return {
        "pf_points": stack(POINTS),
        "pf_features": stack(FEATURES[features]),
        "pf_vectors": stack(VECTORS),
        "pf_mask": mask,
        **{name: table.columns[name] for name in OBSERVERS},
    }


@pytest.mark.parametrize("features", ["full", "kin"])
def test_weaver_makes_of_our_file_what_the_table_says(tmp_path, features):
    table = jet_table(5, 150, n_max=160)
    table = table.select(table.columns["jet_label"] >= 0)
    write_root(tmp_path / "jets.root", [table])

    found = weaver_reads(tmp_path / "jets.root", features)

    np.testing.assert_array_equal(found["_label_"], table.columns["jet_label"])
    for name, values in expected(table, features).items():
        assert found[name].shape == values.shape, name
        np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=2e-5, err_msg=name)


def test_weaver_reads_jetclass_two_after_it_went_through_ours(tmp_path, shared):
    file = open_root(shared / "data" / "jetclass2_example.root")
    table = file.read([c.name for c in file.columns], 0, file.n_jets)
    # Of the 188 classes, those of QCD and of X to bb are JetClass's, too; here the others are QCD as well.
    table.columns["jet_label"] = (table.columns["jet_label"] == 0).astype(np.int16)
    write_root(tmp_path / "jets.root", [table])

    found = weaver_reads(tmp_path / "jets.root", "full")

    np.testing.assert_array_equal(found["_label_"], table.columns["jet_label"])
    for name, values in expected(table, "full").items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=2e-5, err_msg=name)

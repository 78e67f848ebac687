"""Tables of other layouts than ours, for the tests of column maps; four-momenta are those of `vector`."""

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import uproot
import vector

FLAT = """
[constituents]
part_px = "pfcand_px"
part_py = "pfcand_py"
part_pz = "pfcand_pz"
part_energy = "pfcand_e"
"""

COUNTS = [40, 3, 200, 17, 1]


def read_all(file):
    table = file.read([c.name for c in file.columns], 0, file.n_jets)
    table.validate()
    return table


def write_map(tmp_path, text, name="map.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def particles(rng, counts, mass=0.13957):
    """Constituents of jets by falling pt, as arrays of vector, flat; and the jet of each."""
    jet = np.repeat(np.arange(len(counts)), counts)
    n = len(jet)
    axis = np.array([rng.uniform(-2, 2, len(counts)), rng.uniform(-np.pi, np.pi, len(counts))])[:, jet]
    pt = rng.exponential(20, n) + 0.5
    pt = pt[np.lexsort((-pt, jet))]
    eta, phi = axis[0] + rng.normal(0, 0.2, n), axis[1] + rng.normal(0, 0.2, n)
    return vector.array({"pt": pt, "eta": eta, "phi": phi, "mass": np.full(n, mass)}), jet


def padded(values, counts, width):
    result = np.zeros((len(counts), width))
    for row, (start, count) in enumerate(zip(np.cumsum([0, *counts[:-1]]), counts, strict=True)):
        result[row, :count] = values[start : start + count]
    return result


def sums(p4, jet, n_jets):
    return vector.array({k: np.bincount(jet, getattr(p4, k), n_jets) for k in ("px", "py", "pz", "E")})


def assert_momenta(table, p4, rtol=1e-5):
    for name, values in {"px": p4.px, "py": p4.py, "pz": p4.pz, "energy": p4.E}.items():
        np.testing.assert_allclose(table.constituents[f"part_{name}"], values, rtol=rtol, atol=1e-4, err_msg=name)


def top_tagging_frame(seed=1):
    p4, jet = particles(np.random.default_rng(seed), COUNTS, mass=0.0)
    arrays = {k: padded(getattr(p4, k), COUNTS, 200).astype(np.float32) for k in ("E", "px", "py", "pz")}
    columns = {f"{k.upper()}_{i}": values[:, i] for i in range(200) for k, values in arrays.items()}
    truth = {"truthE": [0, 700, 0, 800, 0], "truthPX": [0, 400, 0, -300, 0], "truthPY": [0, 300, 0, 400, 0]}
    columns |= {k: np.array(v, np.float32) for k, v in truth.items()} | {"truthPZ": np.zeros(5, np.float32)}
    columns |= {"ttv": np.full(5, 1), "is_signal_new": np.array([0, 1, 0, 1, 0])}
    return pd.DataFrame(columns), p4, jet


def write_jetnet(path, width=30, n_jets=6, seed=3):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, width + 1, n_jets)
    jet_pt, jet_eta = rng.uniform(800, 1200, n_jets), rng.normal(0, 1, n_jets)
    mask = np.arange(width) < counts[:, None]
    rel = np.stack(
        [rng.normal(0, 0.1, mask.shape), rng.normal(0, 0.1, mask.shape), rng.dirichlet(np.ones(width), n_jets)], 2
    )
    # As in JetNet, what fills the empty places need not be zero.
    features = np.concatenate([np.where(mask[..., None], rel, -0.01), mask[..., None]], axis=2)
    with h5py.File(path, "w") as file:
        file["particle_features"] = features.astype(np.float32)
        file["jet_features"] = np.stack([jet_pt, jet_eta, np.full(n_jets, 80.0), counts], axis=1).astype(np.float32)
    return features, mask, jet_pt, jet_eta


def ragged_columns(seed=5, counts=(4, 0, 7, 2)):
    p4, jet = particles(np.random.default_rng(seed), list(counts))
    lists = {
        k: ak.unflatten(getattr(p4, n).astype(np.float32), counts)
        for k, n in {"px": "px", "py": "py", "pz": "pz", "e": "E"}.items()
    }
    return {f"pfcand_{k}": v for k, v in lists.items()}, p4, jet


def write_flat(kind, path, lists, scalars):
    if kind == "parquet":
        arrays = {name: pa.array(v.tolist(), pa.list_(pa.float32())) for name, v in lists.items()}
        pq.write_table(pa.table({**arrays, **scalars}), path, row_group_size=3, write_page_checksum=True)
    else:
        branches = {**lists, **{k: np.asarray(v) for k, v in scalars.items()}}
        with uproot.recreate(path) as file:
            file.mktree("jets", {k: ak.type(v).content for k, v in branches.items()}).extend(branches)

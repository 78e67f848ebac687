"""Random jets of physical kinematics for the tests of formats."""

import numpy as np

from hepfm.schema import JET_CLASSES, JET_COLUMNS, JET_FLAVOURS, TYPE_FLAGS
from hepfm.table import JetTable

# The types of candidates, in the order of their frequencies below.
MASSES = np.array([0.13957, 0.49761, 0.0, 0.000511, 0.10566])


def jet_table(
    seed: int, n_jets: int, variation: str = "nominal", view: int = 0, first_event: int = 0, n_max: int = 60
) -> JetTable:
    """Complete jets whose columns agree with each other, constituents ordered by falling pt; two jets an event."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, n_max, n_jets)
    offsets = np.cumsum([0, *counts], dtype=np.int64)
    n, jet_of = int(offsets[-1]), np.repeat(np.arange(n_jets), counts)
    axis_eta, axis_phi = rng.uniform(-2.5, 2.5, n_jets), rng.uniform(-np.pi, np.pi, n_jets)
    pt = 1 + rng.exponential(15, n)
    pt = pt[np.lexsort((-pt, jet_of))]
    eta, phi = axis_eta[jet_of] + rng.normal(0, 0.2, n), axis_phi[jet_of] + rng.normal(0, 0.2, n)
    kind = rng.choice(5, n, p=[0.55, 0.15, 0.25, 0.03, 0.02])
    charge = np.where(np.isin(kind, (0, 3, 4)), rng.choice([-1, 1], n), 0)
    # As in real jets the four-momenta are single precision, and everything else is computed from them.
    px, py, pz = (x.astype(np.float32) for x in (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)))
    p = np.array([px, py, pz], np.float64)
    energy = np.sqrt((p**2).sum(axis=0) + MASSES[kind] ** 2).astype(np.float32)
    jet_px, jet_py, jet_pz, jet_e = (np.bincount(jet_of, x, minlength=n_jets) for x in (*p, energy))
    jet_pt, jet_phi = np.hypot(jet_px, jet_py), np.arctan2(jet_py, jet_px)
    jet_eta = np.arcsinh(jet_pz / jet_pt)
    part_eta, part_phi = np.arcsinh(p[2] / np.hypot(p[0], p[1])), np.arctan2(p[1], p[0])
    tracks = charge != 0
    columns = {
        "event_id": first_event + np.arange(n_jets) // 2,
        "jet_index": np.arange(n_jets) % 2,
        "view": np.full(n_jets, view),
        "variation": np.full(n_jets, variation),
        "process": rng.choice(["QCD", "Hbb"], n_jets),
        "jet_label": rng.integers(-1, len(JET_CLASSES), n_jets),
        "jet_flavour": rng.choice(list(JET_FLAVOURS.values()), n_jets),
        "jet_pt": jet_pt,
        "jet_eta": jet_eta,
        "jet_phi": jet_phi,
        "jet_energy": jet_e,
        "jet_nparticles": counts,
        "jet_sdmass": rng.exponential(80, n_jets),
        **{f"jet_tau{i}": rng.random(n_jets) / i for i in (1, 2, 3, 4)},
        "truth_pt": rng.uniform(400, 900, n_jets),
        "truth_eta": axis_eta,
        "truth_phi": axis_phi,
        "truth_pdg_id": rng.choice([25, 21, -5, 1000000016], n_jets),
        "weight": rng.random(n_jets),
    }
    constituents = {
        "part_px": px,
        "part_py": py,
        "part_pz": pz,
        "part_energy": energy,
        "part_deta": (np.sign(jet_eta)[jet_of] * (part_eta - jet_eta[jet_of])).astype(np.float32),
        "part_dphi": np.remainder(part_phi - jet_phi[jet_of] + np.pi, 2 * np.pi).astype(np.float32) - np.float32(np.pi),
        "part_d0val": np.where(tracks, rng.standard_t(2, n) * 0.05, 0).astype(np.float32),
        "part_d0err": np.where(tracks, rng.exponential(0.02, n), 0).astype(np.float32),
        "part_dzval": np.where(tracks, rng.standard_t(2, n) * 0.1, 0).astype(np.float32),
        "part_dzerr": np.where(tracks, rng.exponential(0.05, n), 0).astype(np.float32),
        "part_charge": charge.astype(np.int8),
        **{name: kind == i for i, name in enumerate(TYPE_FLAGS)},
    }
    typed = {name: np.asarray(columns[name]).astype(c.dtype) for name, c in JET_COLUMNS.items()}
    order = np.lexsort((-np.hypot(px, py), jet_of))
    table = JetTable(typed, offsets, {name: values[order] for name, values in constituents.items()})
    table.validate(complete=True)
    return table


def assert_same(found: JetTable, expected: JetTable) -> None:
    """Same columns, types and bits."""
    assert found.columns.keys() == expected.columns.keys()
    assert found.constituents.keys() == expected.constituents.keys()
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    assert found.offsets.dtype == np.int64
    for name, values in {**expected.columns, **expected.constituents}.items():
        other = {**found.columns, **found.constituents}[name]
        if values.dtype.kind == "U":
            np.testing.assert_array_equal(other, values, err_msg=name)
        else:
            assert (other.dtype, other.tobytes()) == (values.dtype, values.tobytes()), name

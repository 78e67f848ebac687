"""Jets that are easy to tell apart, and a backbone small enough to train in a second."""

from pathlib import Path

import numpy as np
import torch

from hepfm.formats.parquet import write_parquet
from hepfm.models import JetBackbone, JetBackboneConfig
from hepfm.schema import JET_CLASSES
from hepfm.table import JetTable
from hepfm.training.batches import PaddedJets

KINEMATICS = ("part_px", "part_py", "part_pz", "part_energy", "part_deta", "part_dphi")
NARROW, WIDE = JET_CLASSES.index("QCD"), JET_CLASSES.index("Hbb")


def toys(n_jets: int = 400, seed: int = 3, *, variation: str = "nominal", stretch: float = 1.0) -> JetTable:
    """Narrow jets (QCD) and wide ones (Hbb), every second each, one an event; `stretch` widens both."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_jets, dtype=np.int16) % 2
    counts = rng.integers(4, 12, n_jets)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    n = int(offsets[-1])
    width = np.where(np.repeat(label, counts) == 1, 0.4, 0.08) * stretch
    eta, phi = rng.normal(0, width), rng.normal(0, width)
    pt = np.concatenate([np.sort(rng.exponential(40, count) + 1)[::-1] for count in counts])
    parts = {
        "part_px": pt * np.cos(phi),
        "part_py": pt * np.sin(phi),
        "part_pz": pt * np.sinh(eta),
        "part_energy": pt * np.cosh(eta),
        "part_deta": eta,
        "part_dphi": phi,
        "part_d0val": rng.normal(0, 0.1, n),
        "part_d0err": np.full(n, 0.05),
        "part_dzval": rng.normal(0, 0.1, n),
        "part_dzerr": np.full(n, 0.05),
    }
    spread = np.add.reduceat(np.hypot(eta, phi), offsets[:-1]) / counts
    return JetTable(
        {
            "event_id": np.arange(n_jets, dtype=np.int64) + 1000,
            "jet_index": np.zeros(n_jets, np.int8),
            "view": np.zeros(n_jets, np.int16),
            "variation": np.full(n_jets, variation),
            "process": np.array(["QCD", "Hbb"])[label],
            "jet_label": np.where(label == 1, WIDE, NARROW).astype(np.int16),
            "jet_sdmass": (100 * spread).astype(np.float32),
            "is_wide": label == 1,
        },
        offsets,
        {name: values.astype(np.float32) for name, values in parts.items()}
        | {"part_charge": rng.integers(-1, 2, n).astype(np.int8)}
        | {f"part_is{kind}": rng.random(n) < 0.3 for kind in ("ChargedHadron", "NeutralHadron", "Photon")}
        | {f"part_is{kind}": np.zeros(n, bool) for kind in ("Electron", "Muon")},
    )


def write_toys(path: Path, *tables: JetTable) -> Path:
    """Toys as a file that `hepfm.open` reads."""
    write_parquet(path, tables or (toys(),), {})
    return path


def tiny_backbone(folder: Path, seed: int = 0) -> Path:
    """A backbone of width 16 with random weights, normalised to toys."""
    torch.manual_seed(seed)
    model = JetBackbone(JetBackboneConfig(width=16, depth=1, heads=2, head_width=16))
    table = toys(100)
    batch = PaddedJets(table, model.config.inputs, trim=True).__getitems__(range(100))
    model.fit_normalisation(batch["constituents"], batch["mask"])
    model.save_pretrained(folder)
    return folder

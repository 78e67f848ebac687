"""Jets of plausible constituents, and small networks."""

import numpy as np
import torch

from hepfm.models import EdgeConvBackbone, EdgeConvConfig, JetBackbone, JetBackboneConfig
from hepfm.models.configuration import JetConfig

KINDS = ("transformer", "registers", "edgeconv")


def random_jets(config: JetConfig, counts, seed=0, dtype=torch.float32):
    """Jets of plausible constituents: physical inputs (B, N, F) and mask (B, N)."""
    rng = np.random.default_rng(seed)
    counts = np.asarray(counts)
    shape = (len(counts), max(int(counts.max()), 1))
    pt = np.sort(rng.exponential(10, shape))[:, ::-1] + 0.5
    deta, dphi = rng.normal(0, 0.2, (2, *shape))
    charge = rng.integers(-1, 2, shape)
    kind = np.where(charge == 0, rng.integers(1, 3, shape), rng.choice([0, 0, 0, 3, 4], shape))
    flags = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
    columns = {
        "part_pt": pt,
        "part_energy": pt * np.cosh(1 + deta),
        "part_deta": deta,
        "part_dphi": dphi,
        "part_charge": charge,
        **{f"part_{flag}": kind == i for i, flag in enumerate(flags)},
    }
    for name in ("d0", "dz"):
        columns[f"part_{name}val"] = np.where(charge, rng.normal(0, 0.1, shape), 0)
        columns[f"part_{name}err"] = np.where(charge, rng.uniform(0.01, 0.1, shape), 0)
    values = np.stack([columns[name] for name in config.inputs], -1)
    mask = np.arange(shape[1]) < counts[:, None]
    return torch.tensor(values * mask[..., None], dtype=dtype), torch.from_numpy(mask)


def make(kind):
    """A small backbone that knows the data, in evaluation mode."""
    torch.manual_seed(1)
    model = {
        "transformer": lambda: JetBackbone(JetBackboneConfig(width=32, depth=2, heads=4)),
        "registers": lambda: JetBackbone(
            JetBackboneConfig(width=32, depth=2, heads=4, n_registers=3, pooling="registers")
        ),
        "edgeconv": lambda: EdgeConvBackbone(EdgeConvConfig(width=32, depth=2, k=6)),
    }[kind]()
    model.fit_normalisation(*random_jets(model.config, [20] * 64, seed=7))
    return model.eval()

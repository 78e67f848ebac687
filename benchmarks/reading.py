"""How fast jets are converted to Parquet, opened, and made into batches, against Arrow and memory.

    hepfm-data resim --n-events 4000 --variations 1
    python benchmarks/reading.py resim-jets

The jets of the campaign are repeated up to --jets, each time scaled by a random factor: no compressor profits from the
repetition. Ratios are of times taken in one run. Each time is the best and the median of --repetitions; where other
programs take the cores, the best is the one that says what the code needs.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader

import hepfm
from hepfm.formats.hdf5 import write_shard
from hepfm.formats.parquet import write_parquet
from hepfm.formats.root import write_root
from hepfm.schema import COLUMNS
from hepfm.table import JetTable
from hepfm.training.batches import PaddedJets

LENGTH = 128
FEATURES = (
    *("part_px", "part_py", "part_pz", "part_energy", "part_deta", "part_dphi"),
    *("part_d0val", "part_d0err", "part_dzval", "part_dzerr", "part_charge"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign")
    parser.add_argument("--jets", type=int, default=100_000)
    parser.add_argument("--least-constituents", type=int, default=52, help="of the jets that are repeated")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    jets = enlarged(hepfm.open(options.campaign).read_table(), options.jets, options.least_constituents)
    print(f"{jets.n_jets:,} jets of {jets.n_constituents / jets.n_jets:.1f} constituents")
    with tempfile.TemporaryDirectory() as folder:
        parquet(jets, Path(folder), options.repetitions)
    batches(jets, options.repetitions)


def enlarged(table: JetTable, n_jets: int, least: int, seed: int = 1) -> JetTable:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(table.counts >= least))
    table = table.select(np.resize(rows, n_jets))
    factor = np.repeat(rng.uniform(0.8, 1.25, n_jets), table.counts)
    numbers = {name: values for name, values in table.constituents.items() if values.dtype.kind == "f"}
    scaled = {name: (values * factor).astype(np.float32) for name, values in numbers.items()}
    return JetTable(table.columns, table.offsets, {**table.constituents, **scaled})


def parquet(jets: JetTable, folder: Path, repetitions: int) -> None:
    shards, path = [], folder / "jets.parquet"
    for start in range(0, jets.n_jets, 1000):
        shards.append(folder / f"{start}.h5")
        write_shard(shards[-1], jets.slice(start, min(start + 1000, jets.n_jets)), {})
    dataset = hepfm.open(shards)
    seconds = timed(lambda: write_parquet(path, dataset.tables(16384), {}), repetitions)
    size = path.stat().st_size
    print(
        f"HDF5 -> Parquet     {seconds}, {size / seconds.best / 1e6:.0f} MB/s of output, "
        f"{size / seconds.used / 1e6:.0f} MB in a second of a core, {size / jets.n_jets:.0f} B/jet"
    )
    print(f"HDF5, the same      {sum(p.stat().st_size for p in shards) / jets.n_jets:.0f} B/jet")
    root = folder / "jets.root"
    seconds = timed(lambda: write_root(root, dataset.tables(16384)), 1)
    print(
        f"HDF5 -> ROOT        {seconds}, {root.stat().st_size / jets.n_jets:.0f} B/jet: "
        f"Parquet takes {size / root.stat().st_size:.3f} of it"
    )
    momenta = ["part_px", "part_py", "part_pz", "part_energy", "part_deta", "part_dphi", "part_d0val"]
    for name, columns in (("all columns", list(COLUMNS)), ("7 columns of constituents", momenta)):
        ours = timed(lambda columns=columns: hepfm.open(path).read(columns), repetitions)
        theirs = timed(lambda columns=columns: pq.read_table(path, columns=columns), repetitions)
        pa.set_cpu_count(1)
        alone = timed(lambda columns=columns: pq.read_table(path, columns=columns), repetitions)
        pa.set_cpu_count(2)
        print(
            f"open as Awkward     {ours} ({name}); pyarrow reads them in {theirs}: "
            f"ratio {ours.best / theirs.best:.2f} (of cores {ours.used / theirs.used:.2f}); one thread {alone}"
        )


def batches(jets: JetTable, repetitions: int) -> None:
    torch.set_num_threads(1)
    padded = PaddedJets(jets, FEATURES, ["jet_label"], LENGTH)
    loader = DataLoader(padded, batch_size=512, shuffle=True, collate_fn=padded.collate)
    seconds = timed(lambda: [batch["mask"].shape for batch in loader], repetitions)
    n_bytes = len(padded) * LENGTH * len(FEATURES) * 4
    whole = torch.zeros(512, LENGTH, len(FEATURES))
    copying = timed(lambda: [whole.clone() for _ in range(len(loader))], repetitions)
    print(
        f"padded batches      {len(padded) / seconds.best:,.0f} jets/s, median {len(padded) / seconds.median:,.0f} "
        f"({LENGTH} x {len(FEATURES)}, shuffled, one core, {n_bytes / seconds.best / 1e9:.1f} GB/s); "
        f"copying such batches alone {len(padded) / copying.best:,.0f} jets/s"
    )


@dataclass(frozen=True)
class Seconds:
    """Of several repetitions: the best and the median, and the best of what all cores together spent."""

    best: float
    median: float
    used: float

    def __str__(self) -> str:
        """For people."""
        return f"{self.best:.3f} s (median {self.median:.3f}, of cores {self.used:.3f})"


def timed(work: Callable[[], object], repetitions: int) -> Seconds:
    found = []
    for _ in range(repetitions):
        start, used = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - start, time.process_time() - used))
    seconds, of_cores = np.array(found).T
    return Seconds(seconds.min(), float(np.median(seconds)), of_cores.min())


if __name__ == "__main__":
    main()

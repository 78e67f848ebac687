"""How fast constituents become codes: jets in batches of similar length, against jets padded to 128 constituents.

    python benchmarks/tokenizer.py resim-jets
    python benchmarks/tokenizer.py resim-jets --tokenizer runs/vqvae-512 --threads 2

All figures of a run come from the same jets in the same process, taken in turns: compare figures of one run only.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

import hepfm
from hepfm.inputs import columns_for
from hepfm.tokenizers import ParticleTokenizer
from hepfm.training.batches import PaddedJets

BATCH, LONGEST, N_ROUNDS = 128, 128, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="whatever hepfm.open opens")
    parser.add_argument("--tokenizer", default="hepfm/vqvae-512")
    parser.add_argument("--n-jets", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    tokenizer = ParticleTokenizer.from_pretrained(asked.tokenizer)
    table = hepfm.open(asked.data).read_table(columns_for(tokenizer.inputs))
    rows = np.random.default_rng(1).permutation(table.n_jets)[: asked.n_jets]
    table = table.select(rows)
    jets = PaddedJets(table, tokenizer.inputs, n_constituents=LONGEST)

    @torch.no_grad()
    def padded() -> None:
        for start in range(0, table.n_jets, BATCH):
            batch = jets.__getitems__(range(start, min(start + BATCH, table.n_jets)))
            constituents, mask = batch["constituents"], batch["mask"]
            inputs = tokenizer.targets.as_network_input(constituents)
            vectors = tokenizer.network.encode(inputs, constituents[..., :3], mask)
            tokenizer.network.quantiser.ids(vectors[mask])

    ways: dict[str, Callable[[], object]] = {
        "in batches of similar length": lambda: tokenizer.encode(table),
        f"padded to {LONGEST}": padded,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(N_ROUNDS):
        for name, way in ways.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            way()
            seconds[name].append(time.perf_counter() - start)
            cpu_seconds[name].append(time.process_time() - cpu_start)
    best = {name: min(times) for name, times in seconds.items()}
    length = table.n_constituents / table.n_jets
    print(f"{table.n_jets:,} jets of {length:.1f} constituents on average; {asked.threads} threads")
    for name, took in best.items():
        # Where other programs take the cores, CPU time says what the code needs.
        rate = table.n_jets / min(cpu_seconds[name])
        print(f"{name:30} {table.n_jets / took:9,.0f} jets/s; {rate:9,.0f} jets per second of one core")
    first, second = best.values()
    print(f"similar length is {second / first:.1f} times as fast")


if __name__ == "__main__":
    main()

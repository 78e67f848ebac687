"""How many of a preset's jets a pt_hat_min loses, and what it costs to lose fewer.

    python benchmarks/pt_hat_turn_on.py rs3l --variations nominal,fsr-up [--n-events 1000] [--workers 2]
    python benchmarks/pt_hat_turn_on.py rs3l --variations vincia --n-events 200
    python benchmarks/pt_hat_turn_on.py jetclass --n-events 500

Events are generated in slices of pTHat, equally many a slice, and weighted with the slices' cross-sections: so a
loss of a per cent can be measured with few of them. For each process and variation, and for each slice's lower
edge as pt_hat_min, a table shows the share of the selected jets that would be lost, the same for the first
20 GeV above the jets' pt_min, and the jets an event that would be left.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hepfm
from hepfm.resim import Campaign, plan, run
from hepfm.resim.processes import PRESETS, Process

Floats = NDArray[np.float64]
# By default the slices are 25 GeV wide, reach this far below and above the jets' pt_min, and the last is open.
BELOW, ABOVE, WIDTH = 150.0, 50.0, 25.0
NEAR_THRESHOLD = 20.0


def sliced(campaign: Campaign, edges: Floats, n_events: int) -> Campaign:
    """The campaign with each process cut into slices of pTHat, `n_events` events in each."""
    slices = tuple(
        replace(process, name=f"{process.name}-{low:g}", settings=_between(process, low, high))
        for process in campaign.processes
        for low, high in pairwise(edges)
    )
    return replace(campaign, processes=slices, n_events=n_events * len(slices), chunk_events=min(1000, n_events))


def _between(process: Process, low: float, high: float) -> tuple[str, ...]:
    upper = () if np.isinf(high) else (f"PhaseSpace:pTHatMax = {high:g}",)
    kept = tuple(line for line in process.settings if not line.startswith("PhaseSpace:pTHatMin"))
    return (*kept, f"PhaseSpace:pTHatMin = {low:g}", *upper)


def tables(folder: Path, campaign: Campaign, edges: Floats) -> Iterator[tuple[str, Floats]]:
    """For each process and variation a table, shape (slices, 6).

    Columns: share of jets lost below the slice, of those near the threshold, each with its error; jets an event
    from the slice on; jets an event in the slice.
    """
    records = run(campaign, folder)  # all there: it reads the list of shards
    dataset = hepfm.open(folder)
    low = campaign.selection.pt_min
    for process in dict.fromkeys(p.name.rsplit("-", 1)[0] for p in campaign.processes):
        for variation in (v.name for v in campaign.variations):
            jets = dataset.read_table(["process", "jet_pt"], variation=variation).columns
            rows = []
            for edge in edges[:-1]:
                name = f"{process}-{edge:g}"
                shards = [r for r in records if r.process == name and r.variation == variation]
                sections = {key: value[0] for r in shards for key, value in r.cross_sections.items()}
                pt = jets["jet_pt"][jets["process"] == name]
                n_events, section = sum(r.n_events for r in shards), np.mean(list(sections.values()))
                rows.append((n_events, section, len(pt), np.count_nonzero(pt < low + NEAR_THRESHOLD)))
            n_events, section, n_jets, n_near = np.transpose(rows)
            kept = np.cumsum((section * n_jets / n_events)[::-1])[::-1] / np.cumsum(section[::-1])[::-1]
            columns = (*_lost(n_jets, section / n_events), *_lost(n_near, section / n_events), kept, n_jets / n_events)
            yield f"{process}, {variation}", np.column_stack(columns)


def _lost(n_jets: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Share of the jets below each slice, and its statistical error."""
    below = np.concatenate([[0], np.cumsum(weight * n_jets)])
    variance = np.concatenate([[0], np.cumsum(weight**2 * n_jets)])
    return below[:-1] / below[-1], np.sqrt(variance[:-1]) / below[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--variations", default="nominal")
    parser.add_argument("--processes", help="names separated by commas, of those in the preset")
    parser.add_argument("--edges", help="lower edges of the slices in GeV, separated by commas")
    parser.add_argument("--n-events", type=int, default=1000, help="events a slice")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep the campaign here, or reuse it")
    options = parser.parse_args()

    detector = "jetclass" if options.preset == "jetclass" else "cms"
    campaign = plan(1, options.variations, options.preset, detector=detector)
    if options.processes:
        chosen = options.processes.split(",")
        campaign = replace(campaign, processes=tuple(p for p in campaign.processes if p.name in chosen))
    low = campaign.selection.pt_min
    edges = np.arange(low - BELOW, low + ABOVE + 1, WIDTH)
    if options.edges:
        edges = np.array([float(edge) for edge in options.edges.split(",")])
    edges = np.append(edges, np.inf)
    campaign = sliced(campaign, edges, options.n_events)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "campaign"
        run(campaign, folder, workers=options.workers)
        for title, table in tables(folder, campaign, edges):
            print(f"\n{title}: {options.n_events} events a slice, jets from {low:g} GeV\n")
            print(
                f"| pt_hat_min [GeV] | lost, % | lost of {low:g} to {low + NEAR_THRESHOLD:g} GeV, % | jets an event |"
            )
            print("|---|---|---|---|")
            for edge, row in zip(edges, table, strict=False):
                lost, near = (f"{100 * row[i]:.1f} ± {100 * row[i + 1]:.1f}" for i in (0, 2))
                print(f"| {edge:g} | {lost} | {near} | {row[4]:.3f} |")


if __name__ == "__main__":
    main()

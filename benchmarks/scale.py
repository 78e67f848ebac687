"""How reading a campaign scales: seconds and peak memory of everything that goes through its records.

    python benchmarks/scale.py [N_SHARDS]

Makes the records of a campaign that `hepfm.resim.plan` planned (100,000 shards by default; no shards) in a temporary
folder, and measures each step in a process of its own.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from hepfm import manifest
from hepfm.resim import plan
from hepfm.resim.campaign import Campaign
from hepfm.resim.folder import prepare

STEPS = {
    "import": "import hepfm.resim, hepfm.dataset",
    "read records": "from hepfm import manifest; manifest.read(sys.argv[1])",
    "decide what is missing": (
        "from hepfm import manifest; from hepfm.atomic import location; from hepfm.resim import Campaign\n"
        "campaign = Campaign.from_toml(location(sys.argv[1]) / 'campaign.toml')\n"
        "done = {record.path: record for record in manifest.read(sys.argv[1])}\n"
        "paths = (campaign.shard_path(t.chunk, view) for t in campaign.tasks() for view in t.views)\n"
        "assert sum(path not in done for path in paths) == 1"
    ),
    "hepfm-data info": (
        "import contextlib, os; from hepfm.cli import main; sys.argv[1:1] = ['info']\n"
        "with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere), contextlib.suppress(SystemExit):\n"
        "    main()"
    ),
    "hepfm.open": "import hepfm; len(hepfm.open(sys.argv[1]))",
}
_MEASURE = (
    "import resource, sys, time\nstart = time.perf_counter()\n{code}\n"
    "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def write_records(campaign: Campaign, folder: Path, n_unfinished: int = 1) -> int:
    """Make the folder of a campaign with records as a run leaves them, but for the last shards; no shards.

    Returns:
        The number of records.
    """
    prepare(campaign, folder)
    random_numbers = random.Random(1)
    paths = [(task.chunk, view) for task in campaign.tasks() for view in task.views]
    with (folder / manifest.SHARDS).open("w", encoding="utf-8") as file:
        for chunk, view in paths[: len(paths) - n_unfinished]:
            process, n_events = campaign.processes[chunk.process].name, chunk.stop - chunk.start
            missing = random_numbers.sample(range(chunk.start, chunk.stop), random_numbers.choice([0, 0, 0, 1, 5]))
            stages = ("freeze", "start", "shower", "detector", "jets", "labels", "write")
            record = {
                "path": campaign.shard_path(chunk, view),
                "sha256": f"{random_numbers.getrandbits(256):064x}",
                "variation": campaign.variations[view].name,
                "process": process,
                "chunk": chunk.number,
                "n_events": n_events,
                "n_jets": n_events - len(missing),
                "n_missing": len(missing),
                "n_retried": len(missing),
                "n_without_jet": 0,
                "n_bytes": 1_000_000,
                "cross_sections": {
                    f"{process}-{block:06d}": [random_numbers.random(), random_numbers.random(), n_events]
                    for block in range(chunk.start // 1000, (chunk.stop - 1) // 1000 + 1)
                },
                "missing": missing,
                "crashed": [],
                "seconds": {stage: random_numbers.random() for stage in stages},
            }
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
    return len(paths) - n_unfinished


def measure(code: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of some code in a fresh process, which finds the folder in sys.argv[1]."""
    words = [sys.executable, "-c", _MEASURE.format(code=code), str(folder)]
    seconds, kilobytes = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-2:]
    return float(seconds), float(kilobytes) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_shards", nargs="?", type=int, default=100_000)
    n_shards = parser.parse_args().n_shards
    campaign = plan(1000 * (n_shards // 8), "8")
    with tempfile.TemporaryDirectory() as folder:
        n_records = write_records(campaign, Path(folder) / "c")
        n_bytes = (Path(folder) / "c" / manifest.SHARDS).stat().st_size
        print(f"{n_records:,} records of {n_bytes / n_records:.0f} bytes")
        print(f"{'':24}{'seconds':>8}{'MB':>8}")
        for name, code in STEPS.items():
            seconds, megabytes = measure(code, Path(folder) / "c")
            print(f"{name:24}{seconds:8.2f}{megabytes:8.0f}")


if __name__ == "__main__":
    main()

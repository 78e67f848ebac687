"""How much memory and time it takes to publish a large campaign.

    hepfm-data resim --n-events 3000 --variations 1
    python benchmarks/publishing.py resim-jets

The jets of the campaign are repeated, as in reading.py, until there are --jets of them in shards of a thousand,
recorded as a run records them. That stand-in is converted (`hepfm.publishing.stage`) and sent
(`hepfm.hub.publish_folder`) to the loopback Hub of the tests, which runs in a process of its own and keeps digests.
Each step is a process whose peak memory is measured (on Linux). What looks for damage, `hepfm-data check`, is not part
of it: repeated events are damage. The Hub itself takes uploads by Xet, which cannot be measured without it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from reading import enlarged

import hepfm
from hepfm import manifest
from hepfm.formats.hdf5 import write_shard
from hepfm.resim.campaign import Campaign
from hepfm.resim.folder import CAMPAIGN_FILE, prepare

SHARD_JETS = 1000
REPO = "hepfm/large"
SERVER = Path(__file__).resolve().parents[1] / "tests" / "hub" / "server.py"
SEND = """
from hepfm.hub import publish_folder
publish_folder(Path(sys.argv[2]), sys.argv[3], sign="hepfm.json", tag="v1")"""
STEPS = {
    "convert": "from hepfm.publishing import stage\nstage(sys.argv[1], sys.argv[2], repo=sys.argv[3])",
    "send": SEND,
    "send nothing": SEND,
}
MEASURE = (
    "import sys, time\nfrom pathlib import Path\nstart, used = time.perf_counter(), time.process_time()\n{code}\n"
    "status = Path('/proc/self/status').read_text()\n"
    "peak = next(line.split()[1] for line in status.splitlines() if line.startswith('VmHWM'))\n"
    "print(time.perf_counter() - start, time.process_time() - used, peak)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("--jets", type=int, default=1_000_000)
    parser.add_argument("--least-constituents", type=int, default=40, help="of the jets that are repeated")
    parser.add_argument("--folder", type=Path, help="for the temporary files, some 3 kB a jet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary, loopback_hub() as environment:
        large, staged = Path(temporary) / "large", Path(temporary) / "staged"
        n_bytes = repeat(options.campaign, large, options.jets, options.least_constituents)
        print(f"{options.jets:,} jets, {n_bytes / 1e9:.2f} GB of shards")
        for name, code in STEPS.items():
            words = [sys.executable, "-c", MEASURE.format(code=code), str(large), str(staged), REPO]
            printed = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
            seconds, used, kilobytes = map(float, printed.split())
            n_bytes = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file())
            rates = f"{n_bytes / seconds / 1e6:.0f} MB/s, {n_bytes / used / 1e6:.0f} MB in a second of a core"
            print(f"{name:13} {n_bytes / 1e9:.2f} GB in {seconds:.1f} s: {rates}; peak {kilobytes / 1e3:.0f} MB")


def repeat(source: Path, folder: Path, n_jets: int, least: int) -> int:
    """Make a stand-in of a campaign with as many jets, all under its first variation; bytes of its shards."""
    campaign = Campaign.from_toml(source / CAMPAIGN_FILE)
    prepare(campaign, folder)
    first = next(record for record in manifest.read(source) if record.variation == campaign.variations[0].name)
    jets = hepfm.open(source).read_table(variation=first.variation)
    n_bytes = 0
    with manifest.recorder(folder) as record:
        for number, start in enumerate(range(0, n_jets, SHARD_JETS)):
            table = enlarged(jets, min(SHARD_JETS, n_jets - start), least, seed=number)
            # Splits are made by events.
            table.columns["event_id"] = np.arange(start, start + table.n_jets)
            path = f"shards/{first.variation}/{first.process}-{number:06}.h5"
            sha256 = write_shard(folder / path, table, {})
            size = (folder / path).stat().st_size
            record(
                replace(
                    first, path=path, sha256=sha256, chunk=number, n_events=table.n_jets, n_jets=table.n_jets,
                    n_without_jet=0, n_bytes=size,
                )
            )  # fmt: skip
            n_bytes += size
    return n_bytes


@contextmanager
def loopback_hub() -> Iterator[dict[str, str]]:
    """The environment of a client of a Hub on loopback."""
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip() if server.stdout else ""
        with tempfile.TemporaryDirectory() as home:
            ours = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_writer", "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}
            yield {**os.environ, **ours, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()

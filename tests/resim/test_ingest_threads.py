"""Finished events on an executor with threads, as a plain `dask worker` is."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hepfm import manifest
from hepfm.resim import plan, run
from hepfm.resim.variations import Variation


def test_threads_of_a_process_share_the_reader_of_a_file(shared: Path, tmp_path: Path) -> None:
    file = shared / "data" / "example_hepmc3.hepmc.zst"
    campaign = plan(hepmc=[file], variations=(Variation("nominal"),), jet_pt=(5.0, None), chunk_events=2)
    digests = []
    for n_threads in (1, 4):
        with ThreadPoolExecutor(n_threads) as executor:
            records = run(campaign, tmp_path / str(n_threads), executor, workers=n_threads)
        assert sum(record.n_jets for record in records) > 0
        digests.append({record.path: record.sha256 for record in manifest.read(tmp_path / str(n_threads))})
    assert digests[0] == digests[1]
    assert len(digests[0]) == campaign.n_shards == 13

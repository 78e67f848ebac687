"""What several tests of cards need."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hepfm import manifest
from hepfm.resim import plan, run
from hepfm.resim.variations import Variation


@pytest.fixture(scope="session")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of one variation, without a detector, half done: 10 of its 20 events. Do not change it: copy it."""
    quick = Variation("quick", ("PartonLevel:MPI = off",))
    folder = tmp_path_factory.mktemp("unfinished") / "campaign"
    with ThreadPoolExecutor(1) as executor:
        run(plan(20, (quick,), "Hbb", detector="none", seed=7, chunk_events=10), folder, executor, workers=1)
    records = (folder / manifest.SHARDS).read_text().splitlines(keepends=True)
    (folder / manifest.SHARDS).write_text(records[0])
    return folder

"""What several tests need: the reference data beside the repository, frozen events, a small campaign."""

import os

# As many tests run at a time as there are cores: threads of their own would only wait for each other. Before NumPy
# and PyTorch are imported, and for the programs that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from hepfm.resim import Campaign, plan, run
from hepfm.resim.generator import Beams
from hepfm.resim.hard import HardEvents, generate
from hepfm.resim.labels import find_targets
from hepfm.resim.processes import PROCESSES

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

QUICK_VARIATIONS = """
[[variation]]
name = "quick"
settings = ["PartonLevel:MPI = off"]
description = "nominal at a quarter of its price"

[[variation]]
name = "quick-fsr-up"
settings = ["PartonLevel:MPI = off", "TimeShower:renormMultFac = 0.5"]
"""

PT_HAT_MIN = "PhaseSpace:pTHatMin = 350"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the reference data are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def quick_variations(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A TOML file of two variations without underlying event, as `--variations` takes it."""
    path = tmp_path_factory.mktemp("variations") / "quick.toml"
    path.write_text(QUICK_VARIATIONS, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def frozen() -> Callable[..., HardEvents]:
    """Frozen events of a process of the catalogue, pTHat > 350 GeV, always the same: `frozen("Hbb", 100)`."""

    @cache
    def events(name: str, n_events: int = 60) -> HardEvents:
        process = PROCESSES[name]
        return generate(
            (*process.settings, PT_HAT_MIN),
            Beams(),
            20_240_307,
            np.arange(n_events),
            lambda made: find_targets(made, process.label).counts == process.n_targets,
        )

    return events


@pytest.fixture(scope="session")
def object_store() -> Iterator[None]:
    """An S3-compatible server on loopback, which the environment variables point to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            assert server.poll() is None, "the server did not start"
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            environment.setenv("AWS_ACCESS_KEY_ID", "tester")
            environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
            yield
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(object_store: None) -> str:
    """URL of a new bucket."""
    url = f"s3://{uuid.uuid4().hex}"
    UPath(url).mkdir()
    return url


@pytest.fixture(scope="session")
def small_campaign(tmp_path_factory: pytest.TempPathFactory, quick_variations: str) -> tuple[Campaign, Path]:
    """A finished campaign of 60 events, eight shards, and its folder. Do not change it: copy it."""
    campaign = plan(60, quick_variations, "QCD,Hbb", seed=7, chunk_events=20)
    folder = tmp_path_factory.mktemp("small") / "campaign"
    with ThreadPoolExecutor(1) as executor:
        run(campaign, folder, executor, workers=1)
    return campaign, folder

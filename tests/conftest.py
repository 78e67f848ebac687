"""What several tests need: the reference data beside the repository, frozen events, a small campaign."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

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
def small_campaign(tmp_path_factory: pytest.TempPathFactory, quick_variations: str) -> tuple[Campaign, Path]:
    """A finished campaign of 60 events, eight shards, and its folder. Do not change it: copy it."""
    campaign = plan(60, quick_variations, "QCD,Hbb", seed=7, chunk_events=20)
    folder = tmp_path_factory.mktemp("small") / "campaign"
    with ThreadPoolExecutor(1) as executor:
        run(campaign, folder, executor, workers=1)
    return campaign, folder

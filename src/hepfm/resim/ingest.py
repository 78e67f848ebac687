"""HepMC files that another generator made of a campaign's frozen events: which is whose, and whether all are there."""

import glob
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hepfm.atomic import names
from hepfm.errors import InputError
from hepfm.resim.campaign import BLOCK_EVENTS, Campaign


def file_of_block(hepmc: str, block: str) -> Path:
    """The file in a folder that was made from a block of frozen events.

    Args:
        hepmc: the folder.
        block: path of the block, as `Campaign.block_path` gives it.

    Raises:
        InputError: there is none, or more than one.
    """
    found = sorted(Path(hepmc).glob(f"{glob.escape(_stem_of(block))}.hepmc*"))
    _expect_one(len(found), hepmc, block)
    return found[0]


def check_block_files(campaign: Campaign, hepmc: str) -> None:
    """Check that a folder holds one HepMC file for each block of a campaign's frozen events.

    Raises:
        InputError: a block has none, or more than one.
    """
    counts = Counter(map(_stem, names(Path(hepmc), "*.hepmc*")))
    for stem, block in _blocks(campaign).items():
        _expect_one(counts[stem], hepmc, block)


def check_named(campaign: Campaign, files: Sequence[Path]) -> None:
    """Check that files are there, and named after blocks of a campaign's frozen events.

    Raises:
        InputError: one is not.
    """
    blocks = _blocks(campaign)
    for path in files:
        if not path.is_file():
            msg = f"cannot read {path}: there is no such file. Check its name."
            raise InputError(msg)
        if _stem(path.name) not in blocks:
            msg = (
                f"{path} is named after no block of frozen events. Expected a name such as {next(iter(blocks))}.hepmc."
            )
            raise InputError(msg)


def _blocks(campaign: Campaign) -> dict[str, str]:
    """Paths of a campaign's blocks of frozen events, by the name that a file made from one has before `.hepmc`."""
    paths = [
        campaign.block_path(process, block)
        for process in range(len(campaign.processes))
        for block in range(math.ceil(campaign.events_of(process) / BLOCK_EVENTS))
    ]
    return {_stem_of(path): path for path in paths}


def _expect_one(n_files: int, hepmc: str, block: str) -> None:
    if n_files != 1:
        msg = f"{n_files} files {_stem_of(block)}.hepmc* in {hepmc}. Expected one, made from {block}."
        raise InputError(msg)


def _stem_of(block: str) -> str:
    return Path(block).name.removesuffix(".lhe.gz")


def _stem(name: str) -> str:
    return name.rpartition(".hepmc")[0]

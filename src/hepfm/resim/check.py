"""Is a campaign what it claims to be? Digests, format, physics, alignment of views and splits."""

import gzip
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepfm import manifest
from hepfm.atomic import file_digest, location, open_file
from hepfm.errors import InputError
from hepfm.formats.hdf5 import read_shard
from hepfm.resim.campaign import Campaign, Chunk
from hepfm.resim.folder import read_campaign
from hepfm.table import JetTable

# Constituents are float32: sums of a hundred of them agree to some 1e-6.
_SUM_TOLERANCE = 1e-4
_END_OF_EVENT, _END_OF_EVENTS = b"</event>", b"</LesHouchesEvents>\n"
_SHARED = ("jet_label", "truth_pt", "truth_eta", "truth_phi", "truth_pdg_id", "weight")


@dataclass
class Findings:
    """What was wrong, one line each, and how much was looked at.

    `damaged_shards` and `damaged_blocks` are the paths of recorded shards and of frozen events that are gone or not as
    they were written: what making them again repairs.
    """

    problems: list[str] = field(default_factory=list)
    damaged_shards: list[str] = field(default_factory=list)
    damaged_blocks: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def check_campaign(folder: Path | str) -> Findings:
    """Check every shard of a campaign folder.

    Frozen events that can be read, digests against the manifest, the format, finite values, constituents
    in order of pt and adding up to their jet, every (event_id, jet_index) once a view, the same frozen
    particle in all views, and every event in its own chunk (so that no event can straddle a split). Memory
    does not grow with the number of jets.

    Raises:
        CampaignError: the folder is not a campaign.
        StorageError: the store cannot be reached.
    """
    folder = location(folder)
    campaign = read_campaign(folder)
    records = {record.path: record for record in manifest.read(folder)}
    findings = Findings()
    views: dict[Chunk, dict[int, str]] = defaultdict(dict)
    for chunk in campaign.chunks():
        for view in range(len(campaign.variations)):
            path = campaign.shard_path(chunk, view)
            if path in records:
                views[chunk][view] = path
    unknown = records.keys() - {path for paths in views.values() for path in paths.values()}
    findings.problems += [f"{path}: in the manifest but not of this campaign" for path in sorted(unknown)]
    missing = campaign.n_shards - len(records) + len(unknown)
    if missing:
        findings.problems.append(f"{missing} of {campaign.n_shards} shards are not done; run `hepfm-data resim` again")
    if not campaign.is_finished:
        _check_blocks(folder, campaign, views, findings)
    for chunk, paths in views.items():
        reference: dict[tuple[int, int], tuple[float, ...]] = {}
        ids = campaign.event_ids(chunk.process, chunk.start, chunk.stop)
        for view, path in paths.items():
            table = _checked_table(folder, records[path], findings)
            if table is None:
                continue
            findings.problems += [f"{path}: {problem}" for problem in _problems(table)]
            findings.problems += [f"{path}: {p}" for p in _misaligned(table, campaign, view, ids, reference)]
            findings.checked["shards"] += 1
            findings.checked["jets"] += table.n_jets
            findings.checked["constituents"] += table.n_constituents
    return findings


def _check_blocks(folder: Path, campaign: Campaign, chunks: Iterable[Chunk], findings: Findings) -> None:
    """Find frozen events of some chunks that are gone or damaged: by checksum, last line and, if Pythia's, number."""
    blocks = {path: (c.process, block) for c in chunks for path, block in campaign.blocks_of(c).items()}
    for path, block in sorted(blocks.items()):
        try:
            with open_file(folder / path) as packed, gzip.open(packed) as file:
                content = file.read()
            if not content.endswith(_END_OF_EVENTS):
                # gzip takes an empty file for empty contents.
                msg = "empty or cut off"
                raise EOFError(msg)
            found, expected = content.count(_END_OF_EVENT), len(campaign.events_of_block(*block))
            if found != expected and not campaign.from_files:
                msg = f"{found} of {expected}"
                raise EOFError(msg)
        except (OSError, EOFError, zlib.error) as error:
            findings.damaged_blocks.append(path)
            reason = getattr(error, "strerror", None) or error
            findings.problems.append(f"{path}: the frozen events cannot be read ({reason})")


def _checked_table(folder: Path, record: manifest.ShardRecord, findings: Findings) -> JetTable | None:
    try:
        if file_digest(folder / record.path) != record.sha256:
            problem = "damaged, its sha256 is not the one recorded"
        else:
            table = read_shard(folder / record.path)
            table.validate(complete=True)
            if table.n_jets == record.n_jets:
                return table
            problem = f"{table.n_jets} jets, {record.n_jets} recorded"
    except (InputError, OSError) as error:
        problem = str(error)
    findings.damaged_shards.append(record.path)
    findings.problems.append(f"{record.path}: {problem}")
    return None


def _problems(table: JetTable) -> list[str]:
    """What is impossible in a table of jets, whatever the campaign."""
    problems = []
    for name, values in (*table.columns.items(), *table.constituents.items()):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            problems.append(f"{name} holds values that are not finite")
    if not table.n_jets:
        return problems
    px, py, pz, energy = (table.constituents[f"part_{n}"].astype(float) for n in ("px", "py", "pz", "energy"))
    starts, counts = table.offsets[:-1], table.counts
    if (counts == 0).any():
        return [*problems, "a jet has no constituents"]
    if (counts != table.columns["jet_nparticles"]).any():
        problems.append("jet_nparticles is not the number of constituents")
    pt = np.hypot(px, py)
    falls = np.diff(pt) <= _SUM_TOLERANCE * pt[:-1]
    falls[starts[1:] - 1] = True
    if not falls.all():
        problems.append("constituents are not in order of pt")
    total = {n: np.add.reduceat(v, starts) for n, v in (("px", px), ("py", py), ("pz", pz), ("energy", energy))}
    sums = {"jet_energy": total["energy"], "jet_pt": np.hypot(total["px"], total["py"])}
    for name, expected in sums.items():
        if not np.allclose(table.columns[name], expected, rtol=_SUM_TOLERANCE):
            problems.append(f"{name} is not that of the sum of the constituents")
    if not np.allclose(np.sinh(table.columns["jet_eta"]) * sums["jet_pt"], total["pz"], rtol=1e-3, atol=0.01):
        problems.append("jet_eta is not that of the sum of the constituents")
    turned = (total["px"] + 1j * total["py"]) * np.exp(-1j * table.columns["jet_phi"].astype(float))
    if (np.abs(np.angle(turned)) > _SUM_TOLERANCE).any():
        problems.append("jet_phi is not that of the sum of the constituents")
    if (table.columns["jet_sdmass"] < 0).any():
        problems.append("jet_sdmass is negative")
    return problems


def _misaligned(
    table: JetTable,
    campaign: Campaign,
    view: int,
    ids: NDArray[np.int64],
    reference: dict[tuple[int, int], tuple[float, ...]],
) -> list[str]:
    """What keeps the rows of one view from pairing with the others; `reference` collects the frozen particles."""
    problems = []
    event_id = table.columns["event_id"]
    if not np.isin(event_id, ids).all():
        problems.append("holds events of another chunk")
    if (table.columns["view"] != view).any() or (table.columns["variation"] != campaign.variations[view].name).any():
        problems.append("view or variation is not the shard's")
    keys = list(zip(event_id.tolist(), table.columns["jet_index"].tolist(), strict=True))
    if len(set(keys)) < len(keys):
        problems.append("an (event_id, jet_index) appears twice")
    shared = zip(*(table.columns[name].tolist() for name in _SHARED), strict=True)
    changed = sum(reference.setdefault(key, values) != values for key, values in zip(keys, shared, strict=True))
    if changed:
        problems.append(f"the frozen particle of {changed} jets is not the same as in another view")
    return problems

"""Sums over a campaign's records, for people and scripts."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from hepfm.manifest import ShardRecord

_RECORDED = ("n_events", "n_jets", "n_missing", "n_retried", "n_without_jet", "n_bytes")
_COUNTS = (*_RECORDED, "n_rejected", "n_crashed")


# What a worker does once, not once a view.
_ONCE = ("freeze", "start")


def summarise(records: Sequence[ShardRecord], order: Sequence[str]) -> dict[str, Any]:
    """Sum up shards by variation and process.

    Args:
        records: of finished shards.
        order: names of the campaign's variations.

    Returns:
        `variations` (counts and milliseconds a view by name; `n_missing` is the sum of `n_rejected`, which the
        generator could not make, and `n_crashed`, which killed it), `processes` (frozen events, jets and
        cross-section in pb with its error by name), `n_shards`, `n_bytes`, `core_seconds` and
        `time_shares` by stage.
    """
    variations: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    processes: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    chunks: dict[int, ShardRecord] = {}
    stages: dict[str, float] = defaultdict(float)
    for record in records:
        variation = variations[record.variation]
        for name in _RECORDED:
            variation[name] += getattr(record, name)
        variation["n_crashed"] += len(record.crashed)
        variation["n_rejected"] += record.n_missing - len(record.crashed)
        processes[record.process]["n_jets"] += record.n_jets
        for stage, seconds in record.seconds.items():
            stages[stage] += seconds
            if stage not in _ONCE:
                variation["seconds"] += seconds
        chunks[record.chunk] = record
    estimates: dict[str, dict[str, list[float]]] = defaultdict(dict)
    weights: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    # In their order, for of a file's running estimate the last one counts, whichever chunk was finished last.
    for _, record in sorted(chunks.items()):
        processes[record.process]["n_events"] += record.n_events
        estimates[record.process] |= record.cross_sections
        for name, (_, _, *covered) in record.cross_sections.items():
            # Older records do not say how many events an estimate covers.
            weights[record.process][name] += covered[0] if covered else record.n_events / len(record.cross_sections)
    for process, found in estimates.items():
        shares = [weights[process][name] / sum(weights[process].values()) for name in found]
        parts = [
            (share * value, share * error) for share, (value, error, *_) in zip(shares, found.values(), strict=True)
        ]
        processes[process]["cross_section"] = math.fsum(value for value, _ in parts)
        processes[process]["cross_section_error"] = math.hypot(*(error for _, error in parts))
    for variation in variations.values():
        variation["ms_a_view"] = 1000 * variation.pop("seconds") / max(variation["n_events"], 1)
    total = sum(stages.values())
    return {
        "variations": {name: _whole(variations[name]) for name in order if name in variations},
        "processes": {name: _whole(p) for name, p in processes.items()},
        "n_shards": len(records),
        "n_bytes": sum(r.n_bytes for r in records),
        "core_seconds": total,
        "time_shares": {name: seconds / total for name, seconds in stages.items()} if total else {},
    }


def summarise_campaign(records: Sequence[ShardRecord], header: Mapping[str, object]) -> dict[str, Any]:
    """Sum up a campaign that may not be finished.

    Args:
        records: of finished shards.
        header: what `manifest.read_header` gives.

    Returns:
        As `summarise`, with the variations of which there is no shard yet, and `n_shards_planned`.
    """
    variations, n_shards = header.get("variations"), header.get("n_shards")
    order = variations if isinstance(variations, list) else []
    summary = summarise(records, order)
    nothing = dict.fromkeys((*_COUNTS, "ms_a_view"), 0)
    summary["variations"] = dict.fromkeys(order, nothing) | summary["variations"]
    return summary | {"n_shards_planned": n_shards if isinstance(n_shards, int) else len(records)}


def _whole(values: dict[str, float]) -> dict[str, float]:
    return {name: int(v) if name in _COUNTS else v for name, v in values.items()}

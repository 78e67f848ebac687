"""What the commands show: tables, the plan and the summary of a campaign, a progress bar and a log."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import progress
from rich.console import Console
from rich.table import Table

from hepfm import manifest
from hepfm.errors import CampaignError

if TYPE_CHECKING:
    from hepfm.resim.campaign import Campaign
    from hepfm.resim.estimate import Estimate
    from hepfm.resim.run import Progress

_PIPE_WIDTH = 160  # a pipe has no width: give it enough for every column
_WATCH_SECONDS = 2.0


@contextmanager
def progress_bar(n_events: int, n_variations: int, *, shown: bool = True) -> "Iterator[Callable[[Progress], None]]":
    """Show how a campaign proceeds, on standard error and only if that is a terminal and it is to be `shown`.

    Gives the function to call with every `Progress`.
    """
    console = Console(stderr=True)
    with progress.Progress(
        progress.TextColumn("{task.fields[events]} of {task.fields[n_events]} events"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[rate]} views/s"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[jets]} jets, {task.fields[rejected]} rejected"),
        console=console,
        disable=not (shown and console.is_terminal),
    ) as bar:
        start: dict[str, Any] = {"events": "0", "n_events": f"{n_events:,}", "rate": "-", "jets": "0", "rejected": "0"}
        row = bar.add_task("", total=n_events * n_variations, **start)
        n_before: int | None = None

        def report(done: "Progress") -> None:
            nonlocal n_before
            # What a run before this one has done does not count for the rate.
            n_before = done.n_views if n_before is None else n_before
            elapsed = bar.tasks[0].elapsed or 0.0
            rate = (done.n_views - n_before) / elapsed if elapsed > 0 else 0.0
            bar.update(
                row,
                completed=done.n_views,
                events=f"{done.n_views // n_variations:,}",
                rate=f"{rate:.0f}" if rate else "-",
                jets=f"{done.n_jets:,}",
                rejected=f"{done.n_missing:,}",
            )

        yield report


@contextmanager
def conversion_bar() -> "Iterator[Callable[[str, int, int], None]]":
    """Show how files are written, on standard error and only if that is a terminal.

    Gives the function to call with the name of a file, the jets written, and the jets in all.
    """
    console = Console(stderr=True)
    columns = ("[progress.description]{task.description}", progress.BarColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(row, description=name, completed=done, total=total)


@contextmanager
def log_to_stderr(*, as_json: bool) -> Iterator[None]:
    """Let what hepfm logs appear on standard error: notes for people, or every step as one JSON object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter("note: %(message)s"))
    logger = logging.getLogger("hepfm")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if as_json else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _JsonLines(logging.Formatter):
    """A log record as one line of JSON: time, level, event, and what else is known as `data`."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        known = {"time": stamp, "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(known | getattr(record, "data", {}))


def watch(folder: str) -> None:
    """Show how a campaign proceeds that another process runs, until it is finished.

    Raises:
        CampaignError: the folder is not a campaign.
    """
    from hepfm.atomic import location
    from hepfm.resim.run import Progress

    place = location(folder)
    header = manifest.read_header(place)
    n_events, variations, n_shards = (header.get(name) for name in ("n_events", "variations", "n_shards"))
    if not isinstance(n_events, int) or not isinstance(variations, list) or not isinstance(n_shards, int):
        msg = f"{folder}: {manifest.HEADER} does not say how large the campaign is; run it again, then watch it."
        raise CampaignError(msg)
    with progress_bar(n_events, len(variations)) as report:
        n_seen = -1
        while n_seen < n_shards:
            done = Progress(n_shards)
            for record in manifest.read(place):
                done.add(record)
            report(done)
            if done.n_shards_done > n_seen and not sys.stderr.isatty():
                counts = f"{done.n_shards_done:,} of {n_shards:,} shards, {done.n_views:,} views, {done.n_jets:,} jets"
                print(counts, file=sys.stderr)
            n_seen = done.n_shards_done
            if n_seen < n_shards:
                time.sleep(_WATCH_SECONDS)


def plan(campaign: "Campaign", folder: str, price: "Estimate", workers: int | None) -> dict[str, Any]:
    """What `--dry-run` answers: the size of a campaign, and its time on some workers."""
    from hepfm.resim.executors import n_cores

    workers = workers or n_cores()
    return {
        "folder": folder,
        "digest": campaign.digest,
        "n_events": campaign.n_events,
        "n_shards": campaign.n_shards,
        "workers": workers,
        "seconds": price.seconds_on(workers),
        "bytes": price.n_bytes,
        "frozen_bytes": price.frozen_bytes,
        "variations": [asdict(cost) for cost in price.variations],
    }


def print_plan(plan: dict[str, Any], campaign: "Campaign") -> None:
    """Print a plan for people."""
    print(f"{plan['folder']}: {campaign.n_events:,} events of {', '.join(p.name for p in campaign.processes)}")
    print(f"{len(campaign.variations)} variations, detector {campaign.detector}, seed {campaign.seed}")
    rows = [
        (
            e["variation"],
            f"{1000 * e['seconds_a_view']:.1f}",
            f"{e['jets_a_view']:.2f}",
            duration(e["seconds"]),
            size(e["n_bytes"]),
        )
        for e in plan["variations"]
    ]
    if plan["frozen_bytes"]:
        rows.append(("frozen events", "", "", "", size(plan["frozen_bytes"])))
    print_table(("variation", "ms/view", "jets/view", "core time", "disk"), rows)
    time, space = duration(plan["seconds"]), size(plan["bytes"])
    print(f"{plan['n_shards']:,} shards on {plan['workers']} workers: about {time}, {space}.")


def print_summary(summary: dict[str, Any]) -> None:
    """Print what is in a campaign, as `summarise` or `summarise_campaign` sums it up, for people."""
    variations = [
        (
            name,
            f"{v['n_events']:,}",
            f"{v['n_jets']:,}",
            f"{v['n_rejected']:,}",
            f"{v['n_crashed']:,}",
            f"{v['n_without_jet']:,}",
            f"{v['ms_a_view']:.1f}",
            size(v["n_bytes"]),
        )
        for name, v in summary["variations"].items()
    ]
    columns = ("variation", "views", "jets", "rejected", "crashed", "without jet", "ms/view", "size")
    print_table(columns, variations)
    processes = [
        (
            name,
            f"{p['n_events']:,}",
            f"{p['cross_section']:.4g} ± {p['cross_section_error']:.2g}",
            f"{p['n_jets']:,}",
        )
        for name, p in summary["processes"].items()
    ]
    print()
    print_table(("process", "events", "cross-section [pb]", "jets"), processes)
    print()
    stages = ", ".join(f"{name} {100 * share:.1f} %" for name, share in summary["time_shares"].items())
    print(
        f"{summary['folder']}: {summary['n_shards']:,} shards, {size(summary['n_bytes'])}, "
        f"{duration(summary['core_seconds'])} of core time" + (f" ({stages})" if stages else "")
    )
    n_shards, n_planned = summary["n_shards"], summary.get("n_shards_planned", summary["n_shards"])
    if n_shards < n_planned:
        print(f"unfinished: {n_shards:,} of {n_planned:,} shards are done")


def print_catalogue(entries: Sequence[dict[str, Any]]) -> None:
    """Print named things, each with its description and source, and below them what they consist of."""
    width = max(len(entry["name"]) for entry in entries) + 2
    for entry in entries:
        source = f" ({entry['source']})" if entry["source"] else ""
        print(f"{entry['name']:{width}}{entry['description']}{source}")
        for key in ("processes", "settings"):
            for line in entry.get(key, ()):
                print(f"{'':{width + 2}}{line}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under headings, numbers after the first column."""
    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    console.print(table, highlight=False, markup=False)


def size(n_bytes: float) -> str:
    """A number of bytes with its unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def duration(seconds: float) -> str:
    """A time with its unit."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

"""Tasks that killed their worker: run again in a process of their own, without the events that are to blame."""

import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hepfm import errors
from hepfm.atomic import location
from hepfm.errors import CampaignError, HepfmError
from hepfm.manifest import ShardRecord
from hepfm.resim.campaign import Campaign, Chunk, Task
from hepfm.resim.folder import CAMPAIGN_FILE
from hepfm.resim.frozen import events_of
from hepfm.resim.tasks import run_task
from hepfm.resim.views import simulate_views

# A variation that kills the generator more often than this is not worth going on with.
_MAX_CRASHES = 10
# An event is blamed if it kills so many processes while it is alone in them.
_DEATHS = 2
# Something else than an event may kill a process too: the out-of-memory killer, or a person.
_MAX_ATTEMPTS = 5


def run_isolated(campaign: Campaign, folder: str, task: Task) -> list[ShardRecord]:
    """Run a task as `run_task` does, in a process of its own, leaving out the events that kill that process.

    Since a view depends on its event alone, the search may divide the chunk as it likes. (Only views of a generator of
    somebody else, which has one seed for all of its events, differ where some are left out.)

    Raises:
        CampaignError: the process dies for another reason, or of too many events.
        HepfmError: as `run_task` would.
    """
    skip: list[int] = []
    for _ in range(_MAX_ATTEMPTS):
        answer = _in_child(folder, task, skip=skip)
        if answer is not None:
            return [ShardRecord(**record) for record in answer]
        ids = events_of(campaign, folder, task)[0].event_id.tolist()
        skip += _killers(folder, task, [i for i in ids if i not in skip], len(skip), n_deaths=0)
    msg = (
        f"{campaign.shard_path(task.chunk, task.views[0])}: the process that makes it dies again and again, whatever "
        "its events. Is the memory sufficient? Run the same command again to go on."
    )
    raise CampaignError(msg)


def _killers(folder: str, task: Task, ids: list[int], n_known: int, n_deaths: int) -> list[int]:
    """Those of some events that kill a process on their own.

    Args:
        folder: of the campaign.
        task: whose events they are.
        ids: of the events; a process has died of them, or of them and others that kill none.
        n_known: how many events of the task have been found already.
        n_deaths: how many processes have died that simulated these alone.
    """

    def kill(some: list[int]) -> bool:
        return _in_child(folder, task, only=some) is None

    if len(ids) < 2:
        if not ids or not all(kill(ids) for _ in range(_DEATHS - n_deaths)):
            return []
        if n_known >= _MAX_CRASHES:
            msg = (
                f"more than {_MAX_CRASHES} events of one chunk kill the generator, such as event {ids[0]}. "
                "Look at the variation's settings."
            )
            raise CampaignError(msg)
        return ids
    middle = len(ids) // 2
    found = _killers(folder, task, ids[:middle], n_known, n_deaths=1) if kill(ids[:middle]) else []
    if not found:  # then it is the other half
        return _killers(folder, task, ids[middle:], n_known, n_deaths=0)
    if kill(ids[middle:]):
        found += _killers(folder, task, ids[middle:], n_known + len(found), n_deaths=1)
    return found


def _in_child(
    folder: str, task: Task, *, skip: Sequence[int] = (), only: Sequence[int] | None = None
) -> list[dict[str, Any]] | None:
    """Let another process run a task, or only simulate some of its events; None if the process died.

    Raises:
        HepfmError: the task failed in a way that has nothing to do with the process.
        RuntimeError: it failed by a fault of the program, whose traceback this has.
    """
    request = {"folder": folder, "task": asdict(task), "skip": list(skip), "only": only}
    command = [sys.executable, "-c", "from hepfm.resim.isolation import _child; _child()"]
    # In a session of its own: Ctrl-C is for the parent. The open standard input tells the child that we live.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as child:
        if child.stdin is None or child.stdout is None:
            msg = "no pipes to the process"
            raise RuntimeError(msg)
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            pass  # died at once; what it says next, nothing, tells
        answer = child.stdout.read()
    if child.returncode != 0:
        return None
    result = json.loads(answer.splitlines()[-1])  # a library may have printed something as it was loaded
    if "error" in result:
        raise getattr(errors, result["error"], RuntimeError)(result["message"])
    records: list[dict[str, Any]] = result["records"]
    return records


def _child() -> None:
    """Do what the parent asks for on standard input, and answer on standard output."""
    # From here on what libraries print goes where messages go: nothing may follow the answer. Its pipe stays open to
    # the end: the parent reads until it is closed, then closes our input, and without a parent we do not end well.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", closefd=False)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = request["folder"]
    views, chunk = tuple(request["task"]["views"]), Chunk(**request["task"]["chunk"])
    try:
        campaign = Campaign.from_toml(location(folder) / CAMPAIGN_FILE)
        if request["only"] is None:
            records = run_task(campaign, folder, Task(chunk, views), request["skip"])
        else:
            records = []
            events, showered = events_of(campaign, folder, Task(chunk, views))
            rows = np.flatnonzero(np.isin(events.event_id, request["only"]))
            simulate_views(events.take(rows), campaign, chunk.process, views, showered and showered.of(rows))
        answer: dict[str, Any] = {"records": [asdict(record) for record in records]}
    except HepfmError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except Exception:  # a fault of the program, or of the machine: no event is to blame for it
        answer = {"error": "", "message": traceback.format_exc()}
    print(f"\n{json.dumps(answer)}", file=answers, flush=True)


def _end_with_parent() -> None:
    # Not through sys.stdin: a thread that waits there would keep the interpreter from ending.
    while os.read(0, 1):
        pass
    os._exit(1)  # the other end is closed: the parent is gone

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from server import WRITER, Hub

REPO = "hepfm/resim-jets"

# Publishes one campaign with several tokens, in several ways, and says what became of each.
PUBLISH = """
import json, os, sys
from hepfm.errors import HepfmError
from hepfm.publishing import Publication, publish
answers = []
for token, how in json.loads(sys.argv[2]):
    os.environ["HF_TOKEN"] = token
    try:
        publish(sys.argv[1], "staged", Publication(**how))
        answers.append(["done", ""])
    except HepfmError as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""


@contextmanager
def serving() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Client:
    """Runs programs whose Hub is ours, with a home of their own; Python code if it is one text."""

    hub: Hub
    folder: Path

    def __call__(self, *command: object, token: str | None = WRITER, ok: bool = True, **more: str):
        words = [sys.executable, "-c", command[0]] if len(command) == 1 else [str(word) for word in command]
        known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        known["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{known['PATH']}"
        ours = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.folder / "home"), "HF_HUB_DISABLE_XET": "1"}
        ours |= {"HF_HUB_DISABLE_TELEMETRY": "1", **({"HF_TOKEN": token} if token else {})}
        done = subprocess.run(
            words, env=known | ours | more, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )
        if ok:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def publish(self, campaign: Path, cases: Iterable[tuple[str, str | dict[str, object]]]) -> list[tuple[str, str]]:
        """Publish with tokens, each under a name or in a way, all in one process: the error and its text, or "done"."""
        ways = [(token, how if isinstance(how, dict) else {"repo": how}) for token, how in cases]
        done = self(sys.executable, "-c", PUBLISH, campaign, json.dumps(ways))
        return [(error, text) for error, text in json.loads(done.stdout)]


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub of its own on loopback, empty."""
    with serving() as server:
        yield server


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path)


@pytest.fixture(scope="session")
def published(small_campaign, tmp_path_factory) -> Iterator[Client]:
    """A client of a Hub that has the small campaign as REPO, in versions v1 and v2. Write to other repositories."""
    with serving() as server:
        client = Client(server, tmp_path_factory.mktemp("published"))
        command = ("hepfm-data", "publish", small_campaign[1], "--repo", REPO, "--out", "staged")
        client(*command, "--tag", "v1", "--license", "mit")
        client(*command, "--tag", "v2")
        yield client


@pytest.fixture
def campaign(published, small_campaign, tmp_path) -> Path:
    """The small campaign to publish or to damage, and beside it the folder `staged`, converted already."""
    shutil.copytree(published.folder / "staged", tmp_path / "staged")
    return shutil.copytree(small_campaign[1], tmp_path / "resim-jets")

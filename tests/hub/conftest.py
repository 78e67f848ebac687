import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from server import WRITER, Hub


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub of its own on loopback, empty."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program whose Hub is ours, with a home of its own; Python code if it is one text."""

    def run(*command: object, token: str | None = WRITER, ok: bool = True, **more: str):
        words = [sys.executable, "-c", command[0]] if len(command) == 1 else [str(word) for word in command]
        known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        known["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{known['PATH']}"
        ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        ours |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": token} if token else {}
        done = subprocess.run(
            words, env=known | ours | more, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        if ok:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run

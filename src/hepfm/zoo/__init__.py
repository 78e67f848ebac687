"""Networks that are part of the package: a folder each, with weights, configuration and card."""

from importlib import resources
from pathlib import Path

PACKAGE = "hepfm.zoo"
OWNER = "hepfm/"
"""Whose names they have on the Hub, too."""
_CONFIG, _CARD = "config.json", "README.md"


def bundled() -> tuple[str, ...]:
    """Names of the networks."""
    folders = resources.files(PACKAGE).iterdir()
    return tuple(sorted(OWNER + entry.name for entry in folders if (entry / _CONFIG).is_file()))


def folder_of(name: str) -> Path:
    """Where a network of `bundled` lies."""
    return Path(str(resources.files(PACKAGE) / name.removeprefix(OWNER)))


def description_of(name: str) -> str:
    """What its card begins with, after front matter and title."""
    card = (folder_of(name) / _CARD).read_text(encoding="utf-8")
    body = card.split("---\n", 2)[-1]
    return next((line for line in body.splitlines() if line and not line.startswith("#")), "")

"""`hepfm-data list`: the processes, variations, detectors and networks that there are."""

import json
from collections.abc import Callable
from typing import Any

import click

from hepfm.commands.options import json_option


@click.group(name="list")
def catalogue() -> None:
    """Explain the processes, variations, detectors and networks that there are."""


def _catalogue(name: str, entries: Callable[[], list[dict[str, Any]]]) -> None:
    """Add `hepfm-data list NAME`."""

    @catalogue.command(name=name, help=f"The {name} that there are.")
    @json_option
    def command(as_json: bool) -> None:
        from hepfm import terminal

        click.echo(json.dumps(entries(), ensure_ascii=False)) if as_json else terminal.print_catalogue(entries())


def _processes() -> list[dict[str, Any]]:
    from hepfm.resim.processes import PRESETS, PROCESSES

    presets = [_entry(name, p.description, p.citation, processes=p.processes) for name, p in PRESETS.items()]
    return presets + [_entry(p.name, p.description, p.citation, settings=p.settings) for p in PROCESSES.values()]


def _variations() -> list[dict[str, Any]]:
    from hepfm.resim.variations import VARIATIONS

    return [_entry(v.name, v.description, v.citation, settings=v.settings) for v in VARIATIONS.values()]


def _detectors() -> list[dict[str, Any]]:
    from hepfm.resim.detector import DETECTORS

    return [_entry(name, d.description) for name, d in DETECTORS.items()]


def _models() -> list[dict[str, Any]]:
    from hepfm.zoo import bundled, description_of

    return [_entry(name, description_of(name)) for name in bundled()]


def _entry(name: str, description: str, source: str = "", **lists: tuple[str, ...]) -> dict[str, Any]:
    return {"name": name, "description": description, "source": source, **lists}


_catalogue("processes", _processes)
_catalogue("variations", _variations)
_catalogue("detectors", _detectors)
_catalogue("models", _models)

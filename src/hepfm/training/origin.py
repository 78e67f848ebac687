"""Which data a training saw, so that its folder can say so and refuse others."""

import hashlib
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from hepfm.atomic import exists, file_digest, is_local, location
from hepfm.dataset import Dataset
from hepfm.hub import is_repo_id


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Say which jets a dataset is of.

    Returns:
        Its name, the number of jets, its variations, and a digest of the content of its files in their order,
        whatever they are called: of a campaign and of published jets from their lists, else by reading them. Of jets
        without events, which are split by their places, the digest of each file, too. Of jets from the Hub, that they
        are `published`.

    Raises:
        InputError: a file cannot be read.
    """
    of_files = [file.sha256 or _digest(file.path) for file in dataset.files]
    found: dict[str, Any] = {
        "name": dataset.name,
        "n_jets": len(dataset),
        "variations": list(dataset.variations),
        "digest": hashlib.sha256("".join(of_files).encode()).hexdigest(),
    }
    # Said of what is published alone: descriptions are compared with those of earlier versions.
    found |= {"published": True} if came_from_hub(dataset.name) else {}
    return found if dataset.knows_events else {**found, "files": of_files}


def came_from_hub(name: str) -> bool:
    """Whether something that was opened, here and now, came from the Hub: elsewhere its names look like paths."""
    return is_repo_id(name) and not exists(location(name))


def digests_of(described: Mapping[str, Any]) -> tuple[str, ...]:
    """By which the jets that `describe_data` described, or some of them, are known again."""
    return (described["digest"], *described.get("files", ()))


def is_part_of(described: Mapping[str, Any], digests: Collection[str]) -> bool:
    """Whether jets that are split by their places have files in common with others, but not all of them.

    Args:
        described: by `describe_data`.
        digests: of the others, as `digests_of` gives them.
    """
    return described["digest"] not in digests and any(digest in digests for digest in described.get("files", ()))


def _digest(path: str) -> str:
    place = location(path)
    if not is_local(place):
        return file_digest(path)
    state = place.stat()
    return _digest_of_state(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest_of_state(path: str, n_bytes: int, changed: int) -> str:
    """The digest of a file, which is read once as long as it stays what it is."""
    del n_bytes, changed
    return file_digest(path)

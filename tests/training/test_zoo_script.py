"""`recipes/zoo.sh` takes days: here its commands are recorded instead of run, and read by the command line."""

import os
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import click
import pytest

from hepfm.cli import cli
from hepfm.training.pretraining import PretrainingRecipe
from hepfm.training.recipes import read_recipe
from hepfm.zoo import bundled

ROOT = Path(__file__).resolve().parents[2]

# Writes a line a call: the command and its words, quoted.
_RECORD = """#!/bin/bash
printf '%q ' "${0##*/}" "$@" >>commands
echo >>commands
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    for name in ("hepfm-data", "python"):
        (folder / "bin" / name).parent.mkdir(exist_ok=True)
        (folder / "bin" / name).write_text(_RECORD)
        (folder / "bin" / name).chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "recipes/zoo.sh"], cwd=folder, env={**os.environ, "PATH": path}, check=True)
    return folder


@pytest.fixture(scope="module")
def calls(folder):
    return [shlex.split(line) for line in (folder / "commands").read_text().splitlines()]


def read(words):
    """What the command line makes of a command."""
    command = cli
    while isinstance(command, click.Group):
        name, *words = words
        command = command.commands[name]
    return command.make_context(name, words).params


def test_every_command_is_accepted_and_takes_what_an_earlier_one_made(calls, folder, monkeypatch):
    monkeypatch.chdir(folder)
    made = []
    for program, *words in calls:
        if program == "hepfm-data":
            read(words)
        result = words[1] if words[0] == "resim" else words[words.index("--out") + 1] if "--out" in words else None
        data = {word for option, word in pairwise(words) if option in ("--data", "--test-data", "--check")}
        for word in data | {word for word in words if word.startswith("runs/")} - {result}:
            exists = Path(word).exists() or any(Path(word).is_relative_to(place) for place in made)
            assert exists, f"{word} in {shlex.join(words)}"
        made += [result] if result else []
    assert len(made) > 40


def test_every_network_of_the_package_is_made_by_it(calls):
    names = {words[3] for words in calls if words[:2] == ["python", "recipes/bundle.py"]}
    trained = {words[words.index("--out") + 1] for words in calls if "--out" in words}
    assert names | {"kmeans-512"} == {name.partition("/")[2] for name in bundled()}
    assert all(f"runs/{name}" in trained for name in names)


def test_the_short_recipes_that_it_writes_differ_in_what_they_say(folder):
    recipes = {path.stem: read_recipe(PretrainingRecipe, path) for path in (folder / "runs" / "short").glob("*.toml")}
    assert {recipe.optimisation.n_steps for recipe in recipes.values()} == {800}
    assert len({repr(recipe) for recipe in recipes.values()}) == len(recipes) == 8

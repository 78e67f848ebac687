"""The rules of how the parts of hepfm depend on each other, and what the project's files must agree on."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import hepfm

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "hepfm"

# From the ground up: a part imports from lower layers, and from itself.
LAYERS = (
    ("errors", "hashing", "kinematics"),
    ("schema", "atomic", "zoo"),
    ("table", "manifest", "hub", "run_folder", "markdown"),
    ("padding", "inputs"),
    ("formats", "jets", "summary"),
    ("dataset",),
    ("opening",),
    ("networks",),
    ("resim", "tokenizers", "models"),
    ("training", "cards", "terminal", "arguments"),
    ("publishing", "exporting"),
    ("commands",),
    ("cli",),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

# Libraries that only some modules may import.
RESERVED = {
    "pythia8mc": ("resim.generator",),
    "fastjet": ("resim.clustering",),
    "pylhe": ("formats.lhe", "resim.hard"),
    "pyhepmc": ("formats.hepmc",),
    "h5py": ("formats",),
    "pyarrow": ("formats",),
    "uproot": ("formats",),
    "torch": ("networks", "tokenizers", "models", "training"),
    "transformers": ("networks", "tokenizers", "models", "training"),
    "vector_quantize_pytorch": ("tokenizers",),
    "datasets": (),
    "huggingface_hub": ("hub",),
    "requests": ("hub",),
    "httpx": ("hub",),
    "urllib.request": ("hub",),
    "socket": ("hub",),
    "upath": ("atomic",),
    "fsspec": ("atomic",),
    "s3fs": (),
    "matplotlib": ("cards",),
    "mplhep": ("cards",),
    "hist": ("cards",),
    "rich": ("terminal",),
    "click": ("cli", "commands", "arguments"),
    "multiprocessing": ("resim.executors",),
    "distributed": ("resim.executors",),
    "subprocess": ("resim.isolation", "resim.external", "resim.supervise"),
    # Tools of the tests.
    "pytest": (),
    "hypothesis": (),
    "scipy": (),
    "moto": (),
}
HEAVY = {
    "fsspec",
    "upath",
    "torch",
    "pythia8mc",
    "numba",
    "awkward",
    "datasets",
    "pyarrow",
    "uproot",
    "huggingface_hub",
    "transformers",
    "h5py",
    "fastjet",
    "matplotlib",
    "scipy",
}


def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its name without `hepfm.`; the package itself is ''."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imports(tree: ast.AST, *, for_types_too: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, at its top or inside of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports say the whole name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types_too:
            continue
        else:
            yield from imports(node, for_types_too=for_types_too)


def is_part_of(name: str, whole: str) -> bool:
    return name == whole or name.startswith(whole + ".")


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_imports_point_downwards(module):
    part = module.partition(".")[0]
    assert part in RANK, f"say in LAYERS where {part} belongs"
    for line, name in imports(MODULES[module], for_types_too=True):
        if not name.startswith("hepfm."):
            continue
        other = name.split(".")[1]
        if other in RANK and other != part:
            assert RANK[other] < RANK[part], f"{module}, line {line}: {part} may not import {other}"


@pytest.mark.parametrize("module", MODULES)
def test_each_library_is_imported_where_it_belongs(module):
    for line, name in imports(MODULES[module], for_types_too=False):
        for library, owners in RESERVED.items():
            if is_part_of(name, library):
                allowed = any(is_part_of(module, owner) for owner in owners)
                assert allowed, f"{module}, line {line}: only {', '.join(owners) or 'tests'} may import {library}"


def test_nothing_is_left_of_a_rule_that_no_longer_applies():
    for library in ("pythia8mc", "fastjet", "h5py", "rich", "click", "multiprocessing"):
        names = [name for tree in MODULES.values() for _, name in imports(tree, for_types_too=False)]
        assert any(is_part_of(name, library) for name in names), f"nobody imports {library} any more"


@pytest.mark.parametrize(
    "code",
    [
        "import hepfm; dir(hepfm)",
        "import runpy; sys.argv = ['hepfm-data', '--help']\ntry: runpy.run_module('hepfm.cli', run_name='__main__')\n"
        "except SystemExit: pass",
        "import hepfm.cli, hepfm.terminal",
    ],
    ids=["import hepfm", "hepfm-data --help", "import hepfm.cli"],
)
def test_importing_loads_nothing_heavy(code):
    code = f"import json, sys\n{code}\nprint(); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert "hepfm" in loaded
    assert loaded & HEAVY == set()


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_the_same_everywhere():
    version = project()["version"]
    assert hepfm.__version__ == version
    assert importlib.metadata.version("hepfm") == version
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [version]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_pin_every_dependency_to_a_version_that_the_project_allows():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    extras = project()["optional-dependencies"]
    for text in [*project()["dependencies"], *(line for extra in extras.values() for line in extra)]:
        requirement = Requirement(text)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name != "hepfm":
            assert name in pinned, f"{text} has no line in constraints.txt"
            assert requirement.specifier.contains(pinned[name]), f"{text}, but constraints.txt has {pinned[name]}"


def test_no_file_names_a_machine():
    """No address of a package registry, and no folder that only one machine has."""
    hosts = (r"pypi\.org", r"pythonhosted\.org", r"registry\.npmjs", r"deb\.debian")
    folders = ("work", "root", "home", "Users")
    pattern = re.compile("|".join([*hosts, *(r"(?<![\w.>~})/])/" + name + r"/[\w.]" for name in folders)]))
    places = ("src", "tests", "docs", "examples", "benchmarks", "recipes", ".ci")
    files = [path for place in places for path in (ROOT / place).rglob("*")]
    files += [path for path in ROOT.iterdir() if path.suffix in (".md", ".toml", ".txt", ".cff", ".yaml", "")]
    texts = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ""}
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        if path.is_file()
        and path.suffix in texts
        and path != Path(__file__).resolve()
        and "node_modules" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []

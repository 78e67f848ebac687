"""What the README and the tutorial show is run here, so that it stays true."""

import json
import math
import os
import re
import runpy
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

from hepfm.cli import cli
from hepfm.resim.variations import N_DEFAULT, VARIATIONS

ROOT = Path(__file__).resolve().parents[1]
README, TUTORIAL = ROOT / "README.md", ROOT / "docs" / "tutorial.md"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def one_core() -> None:
    """Campaigns have a worker a core: one is enough, for as many tests run at a time as there are cores."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % len(cores)]})


def run(command: list[str], folder: Path) -> str:
    """Run a command with hepfm-data on the path, and give what it prints."""
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        preexec_fn=one_core if hasattr(os, "sched_setaffinity") else None,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_reads_a_campaign_as_it_says(tmp_path):
    # As `make demo` does, with fewer events.
    run(["hepfm-data", "resim", "demo/resim-jets", "--n-events", "40", "--variations", "nominal,fsr-up"], tmp_path)
    (code,) = blocks(README, "python")
    difference, *_ = run([sys.executable, "-W", "error", "-c", code], tmp_path).split()
    assert math.isfinite(float(difference))


# What makes the README's commands small: a few events, steps and epochs instead of hours.
_MINIATURE = {
    "resim": "--n-events 200 --workers 1 --variations nominal,reseed",
    "tokenizer": "--steps 4 --batch-size 16",
    "pretrain": "--steps 4 --batch-size 16",
    "finetune": "--epochs 1",
    "study": "--labels 20 --seeds 1 --epochs 1",
}


def test_the_readme_goes_from_collisions_to_a_tagger(tmp_path, monkeypatch):
    (commands,) = [block for block in blocks(README, "bash") if "pretrain" in block]
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    for line in commands.splitlines():
        words = shlex.split(line)[1:]
        # Of an option that is given twice the last one counts.
        done = CliRunner().invoke(cli, [*words, *_MINIATURE.get(words[0], "").split()])
        assert done.exit_code == 0, f"{line}: {done.output} {done.exception!r}"
    evaluation = json.loads((tmp_path / "runs" / "tagger" / "evaluation.json").read_text(encoding="utf-8"))
    study = json.loads((tmp_path / "label-study" / "study.json").read_text(encoding="utf-8"))
    assert evaluation["n_jets"] > 0
    assert {row["mode"] for row in study["rows"]} == {"scratch", "frozen", "full"}


def test_the_tutorial_works_from_beginning_to_end(tmp_path):
    commands, code = blocks(TUTORIAL, "bash"), blocks(TUTORIAL, "python")
    assert len(commands) == 10
    assert len(code) == 8
    for command in commands:
        run(["bash", "-euc", command], tmp_path)
    run([sys.executable, "-W", "error", "-c", "\n".join(code)], tmp_path)
    assert (tmp_path / "views.png").stat().st_size > 10_000
    assert (tmp_path / "report.html").stat().st_size > 100_000


def test_the_readme_lists_the_default_variations_in_order():
    rows = re.findall(r"^\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"`(.+?)`", " ".join(rows)) == list(VARIATIONS)[:N_DEFAULT]


def test_the_readme_names_the_two_commands_of_a_newcomer():
    (commands, *_) = blocks(README, "bash")
    assert re.findall(r"^make \w+", commands, re.MULTILINE) == ["make demo", "make test"]


def test_the_curve_of_label_efficiency_has_every_number_of_its_table():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = list(runpy.run_path(str(ROOT / "recipes" / "label_efficiency.py"))["rows"](page))
    (table,) = re.findall(r"^\| \| 100 labels .*?\n\n", page, re.MULTILINE | re.DOTALL)
    assert [row["accuracy"]["mean"] for row in rows] == [float(mean) for mean in re.findall(r"\| (\.\d+)", table)]
    assert {row["mode"] for row in rows} == {"scratch", "frozen", "full"}
    assert sorted({row["n_labels"] for row in rows})[:2] == [100, 1_000]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{page.name} links to {target}"

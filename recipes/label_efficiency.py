"""Draw docs/figures/label-efficiency.png from the table of docs/results.md: python recipes/label_efficiency.py."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hepfm.cards.model_figures import draw_study

DOCS = Path(__file__).parents[1] / "docs"
MODES = {"fine-tuned": "full", "frozen": "frozen"}


def rows(page: str) -> Iterator[dict[str, Any]]:
    """The rows of a study, as `hepfm-data study labels` writes them, of the first table under "Ten classes"."""
    table = page.partition("## Ten classes")[2].partition("\n|")[2].partition("\n\n")[0]
    head, _, *lines = [line.strip("|").split("|") for line in f"|{table}".splitlines()]
    for name, *cells in lines:
        network, _, mode = name.strip().replace("`", "").partition(", ")
        kind = ("", "scratch") if network == "from scratch" else (network, MODES[re.split("[ ,]", mode)[0]])
        for labels, cell in zip(head[1:], cells, strict=True):
            mean, _, spread = cell.partition("±")
            if mean.strip():
                yield {
                    "network": kind[0],
                    "mode": kind[1],
                    "n_labels": int(re.sub(r"\D", "", labels.split(", ")[0])),
                    "signal_fraction": 0.0,
                    "accuracy": {"mean": float(mean), "spread": float(spread) if spread else None},
                }


if __name__ == "__main__":
    figure = draw_study({"rows": list(rows((DOCS / "results.md").read_text(encoding="utf-8")))})
    figure.savefig(DOCS / "figures" / "label-efficiency.png", dpi=150)

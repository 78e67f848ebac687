"""Pieces of an HTML page: tables, figures, data, and the page itself. Everything that goes in is escaped."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from hepfm.cards.facts import Table
from hepfm.cards.style import EDGE, FAINT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours of figures that follow the page's, light or dark.
_THEMED = {INK: "var(--ink)", FAINT: "var(--faint)", EDGE: "var(--edge)"}
_POINTS_AN_INCH = 72


def template(name: str) -> str:
    """A file of this package's templates."""
    return (files("hepfm.cards") / "templates" / name).read_text(encoding="utf-8")


def section(anchor: str, title: str, *parts: str) -> str:
    """A section of the page; its parts are HTML."""
    heading = f'<h2 id="{anchor}-title">{escape(title)}</h2>'
    return f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n{heading}\n' + "\n".join(parts) + "\n</section>"


def prose(text: str) -> str:
    """A paragraph of text."""
    return f'<p class="prose">{inline(text)}</p>'


def inline(text: str) -> str:
    """Text in HTML; what is between two backticks is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def tiles(facts: Mapping[str, str]) -> str:
    """The headline facts, by name."""
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())


def html_table(table: Table) -> str:
    """A table in HTML, which scrolls on narrow screens."""
    kinds = ["" if i < table.n_text else ' class="number"' for i in range(len(table.headings))]
    heads = "".join(
        f'<th scope="col"{kind}>{inline(name)}</th>' for kind, name in zip(kinds, table.headings, strict=True)
    )
    head = f"<thead><tr>{heads}</tr></thead>" if any(table.headings) else ""
    rows = "".join(
        f'<tr><th scope="row">{inline(first)}</th>'
        + "".join(f"<td{kind}>{inline(cell)}</td>" for kind, cell in zip(kinds[1:], cells, strict=True))
        + "</tr>"
        for first, *cells in table.rows
    )
    return f'<div class="scroll" tabindex="0"><table>{head}<tbody>{rows}</tbody></table></div>'


def html_figure(figure: "Figure", name: str, caption: str, text: str) -> str:
    """A matplotlib figure as SVG that follows the page's colours.

    Args:
        figure: consumed.
        name: unique in the page.
        caption: above it.
        text: for who cannot see it.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Every figure has its own name space, and numbers of the precision that can be seen.
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    for colour, variable in _THEMED.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(
        r'^<svg (.*?)width="[^"]*"', rf'<svg role="img" aria-label="{escape(text)}" \1', svg, count=1, flags=re.S
    )
    svg = re.sub(r'^(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def html_figures(figures: Sequence[str], width: float) -> str:
    """Figures beside each other as far as there is room.

    Args:
        figures: from `html_figure`.
        width: of one, in inches.
    """
    return f'<div class="figures" style="--figure: {width * _POINTS_AN_INCH:.0f}px">' + "\n".join(figures) + "</div>"


def data_block(name: str, content: object) -> str:
    """Data as JSON inside the page, which no text in them can end."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def page(
    title: str, lead: str, headline: Mapping[str, str], sections: Mapping[str, str], data: str, footer: str
) -> str:
    """The whole page.

    Args:
        title: text.
        lead: text, a sentence or two.
        headline: facts by name.
        sections: HTML by the name that the navigation shows; each has an id.
        data: blocks of data.
        footer: text.
    """
    anchors = {name: html.partition('id="')[2].partition('"')[0] for name, html in sections.items()}
    script = template("viewer.js")
    # The browser runs this script and no other, and asks no server for anything.
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    return Template(template("report.html")).substitute(
        title=escape(title),
        lead=inline(lead),
        navigation="".join(f'<a href="#{anchor}">{escape(name)}</a>' for name, anchor in anchors.items()),
        tiles=tiles(headline),
        sections="\n".join(sections.values()),
        data=data,
        footer=inline(footer),
        style=template("style.css"),
        script=script,
        script_hash=f"sha256-{digest}",
    )

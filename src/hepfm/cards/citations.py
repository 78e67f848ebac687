"""How to cite a dataset, and what it stands on."""

from hepfm.cards.facts import Facts

_PAPERS = (
    (
        "Harris:2024sra",
        "Harris, Philip and Kagan, Michael and Krupa, Jeffrey and Maier, Benedikt and Woodward, Nathaniel",
        "Re-Simulation-based Self-Supervised Learning for Pre-Training Foundation Models",
        "2403.07066",
        2024,
    ),
    (
        "Bierlich:2022pfr",
        "Bierlich, Christian and others",
        "A comprehensive guide to the physics and usage of {PYTHIA} 8.3",
        "2203.11601",
        2022,
    ),
    (
        "deFavereau:2013fsa",
        "de Favereau, J. and others",
        "{DELPHES} 3, A modular framework for fast simulation of a generic collider experiment",
        "1307.6346",
        2013,
    ),
    (
        "Cacciari:2011ma",
        "Cacciari, Matteo and Salam, Gavin P. and Soyez, Gregory",
        "{FastJet} User Manual",
        "1111.6097",
        2011,
    ),
    (
        "Qu:2022mxj",
        "Qu, Huilin and Li, Congqiao and Qian, Sitian",
        "Particle Transformer for Jet Tagging",
        "2202.03772",
        2022,
    ),
)
"""Method, generator, detector, jets, conventions: key, authors, title, number in the arXiv, year."""


def citation(facts: Facts, repo: str) -> str:
    """The card's section on citing, in Markdown.

    Args:
        facts: of the campaign.
        repo: the dataset's name, OWNER/NAME, or a folder.
    """
    software = facts.header.get("versions")
    version = software.get("hepfm", "") if isinstance(software, dict) else ""
    jets = "re-simulated jets" if len(facts.summary["variations"]) > 1 else "simulated jets"
    own = f"""\
@misc{{{repo.rsplit("/", 1)[-1]},
  title = {{{repo.rsplit("/", 1)[-1]}: {jets}}},
  note = {{made with hepfm {version}, campaign {facts.campaign.digest[:12]}; name the version (tag) that you use}}
}}
"""
    papers = "".join(
        f"@article{{{key},\n  author = {{{authors}}},\n  title = {{{title}}},\n"
        f"  eprint = {{{number}}}, archivePrefix = {{arXiv}}, year = {{{year}}}\n}}\n"
        for key, authors, title, number, year in _PAPERS
    )
    what = "The dataset, and what it stands on: method, generator, detector, jets, conventions."
    return f"{what}\n\n```bibtex\n{own}{papers}```\n"

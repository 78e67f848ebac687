"""hepfm: freeze a collision, re-simulate the rest, publish the views, pre-train on them."""

__version__ = "0.1.0"

"""A CMS-like detector: propagation, tracking, calorimeters and particle flow, after the formulas of Delphes.

`simulate` turns stable particles into particle-flow candidates. DETECTORS holds the detectors by name.
"""

from hepfm.resim.detector.cards import DETECTORS
from hepfm.resim.detector.description import Detector
from hepfm.resim.detector.simulation import simulate

__all__ = ["DETECTORS", "Detector", "simulate"]

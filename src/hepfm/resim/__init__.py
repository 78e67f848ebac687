"""Re-simulation campaigns: freeze a hard process, simulate the rest again under several variations.

>>> from hepfm.resim import plan, run
>>> campaign = plan(1000, "nominal,fsr-up")  # doctest: +SKIP
>>> run(campaign, "resim-jets")  # doctest: +SKIP
"""

from hepfm.resim.campaign import Campaign
from hepfm.resim.folder import extend
from hepfm.resim.planning import plan
from hepfm.resim.repair import repair
from hepfm.resim.run import run

__all__ = ["Campaign", "extend", "plan", "repair", "run"]

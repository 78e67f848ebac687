"""The 188 classes of JetClass-II, in the order of its `jet_label`.

Source: the classes of Sophon's output in public code that trains and evaluates it (jet-universe/sophon,
arXiv:2405.12972, `label_*` in JetClassII_full.yaml). The tests compare them with the decay products in JetClass-II's
example file.
"""

from collections.abc import Collection

# X to two: quarks and gluons (q is u or d), electrons, muons, taus by what they decay to.
_TWO = "bb cc ss qq bc cs bq cq sq gg ee mm tauhtaue tauhtaum tauhtauh"
# X to YY, of which three or four are in the jet.
_MANY = """
    bbbb bbcc bbss bbqq bbgg bbee bbmm bbtauhtaue bbtauhtaum bbtauhtauh bbb bbc bbs bbq bbg bbe bbm
    cccc ccss ccqq ccgg ccee ccmm cctauhtaue cctauhtaum cctauhtauh ccb ccc ccs ccq ccg cce ccm
    ssss ssqq ssgg ssee ssmm sstauhtaue sstauhtaum sstauhtauh ssb ssc sss ssq ssg sse ssm
    qqqq qqgg qqee qqmm qqtauhtaue qqtauhtaum qqtauhtauh qqb qqc qqs qqq qqg qqe qqm
    gggg ggee ggmm ggtauhtaue ggtauhtaum ggtauhtauh ggb ggc ggs ggq ggg gge ggm
    bee cee see qee gee bmm cmm smm qmm gmm
    btauhtaue ctauhtaue stauhtaue qtauhtaue gtauhtaue
    btauhtaum ctauhtaum stauhtaum qtauhtaum gtauhtaum
    btauhtauh ctauhtauh stauhtauh qtauhtauh gtauhtauh
    qqqb qqqc qqqs bbcq ccbs ccbq ccsq sscq qqbc qqbs qqcs bcsq bcs bcq bsq csq
    bcev csev bqev cqev sqev qqev bcmv csmv bqmv cqmv sqmv qqmv
    bctauev cstauev bqtauev cqtauev sqtauev qqtauev
    bctaumv cstaumv bqtaumv cqtaumv sqtaumv qqtaumv
    bctauhv cstauhv bqtauhv cqtauhv sqtauhv qqtauhv
"""
# Jets of QCD by the heavy quarks in them.
_QCD = """
    bbccss bbccs bbcc bbcss bbcs bbc bbss bbs bb bccss bccs bcc bcss bcs bc bss bs b ccss ccs cc css cs c ss s light
"""

JETCLASS2_CLASSES = (
    *(f"X_{name}" for name in _TWO.split()),
    *(f"X_YY_{name}" for name in _MANY.split()),
    *(f"QCD_{name}" for name in _QCD.split()),
)
"""Names of the classes, without the `label_` that they have in JetClass-II's configuration."""


def known_classes(columns: Collection[str]) -> tuple[str, ...]:
    """The classes of a file that does not name them: JetClass-II's, if it has its columns, else none."""
    return JETCLASS2_CLASSES if {"jet_label", "aux_genpart_isResX"} <= set(columns) else ()

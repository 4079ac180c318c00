"""The language that twins speak: common words, and made-up cue words that tell one label from another."""

from __future__ import annotations

_COMMON = """
the a an and or but if then than that this these those there here it its is are was were be been being
have has had do does did not no yes of in on at by to from for with about into over under after before
between during through up down out off again once all any each few more most other some such only own
same so too very can will just should now you he she they we me him her them us my your his their our
who what which when where why how one two three four five six seven eight nine ten first last next new
old good bad great small large long short high low early late big little young right left same different
time year day week month night morning people man woman child children friend family house home room
door window street city town country world school book story film movie music song game team player
water food bread fruit tree river road hill field garden dog cat bird horse car train boat light color
red blue green white black work money market price company group state law party report news question
answer number part place case point line hand head eye face body heart mind life death love war peace
make made take took give gave get got go went come came see saw know knew think thought say said tell
told ask asked find found keep kept let put run ran read write wrote play played move moved live lived
turn turned start started end ended open opened close closed buy sell pay paid
"""
COMMON = tuple(dict.fromkeys(_COMMON.split()))

GROUPS = 16
"""How many labels have cue words of their own; label k takes those of group k modulo this."""

CUES = tuple(
    tuple(f"{first}{vowel}{second}{vowel}x" for vowel, second in zip("aeio", "lmrt", strict=True))
    for first in ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z")
)
"""The words of each group: a word that no language has, so that no text outside a twin carries a cue."""

DIGITS = tuple("0123456789")
MARKS = tuple(".,:;!?'\"()-#$%+*=/<>")
ALL = (*COMMON, *(word for group in CUES for word in group))
"""Each of these is one token to every twin's tokenizer, wherever it stands after a space."""

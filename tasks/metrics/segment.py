"""The mixed segmentation of the CMRC2018 metric: one Chinese character, or one word of NLTK's `word_tokenize`.

Source: `cmrc2018_evaluate.py` of ymcui/cmrc2018 (v5 and v6 agree). NLTK 3.6.7 to 3.9.2 split words alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache

#: The characters the official metric drops. Its list also holds "……", which is no single character and never matches.
PUNCTUATION = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"

_DROP_PUNCTUATION = str.maketrans("", "", PUNCTUATION)

# Only U+4E00 to U+9FA5 are tokens by themselves; 〇, kana and CJK extensions belong to the runs between them.
NOT_HAN = re.compile("[^\u4e00-\u9fa5]+")

# What no rule of the word tokenizer can split: no quotes, brackets or marks, a full stop only inside a word, a comma
# only before a digit, and none of the six contractions that are split although they have no apostrophe.
_ORDINARY = r"[^\s.,:;?!@#$%&*()\[\]{}<>\"'`«»“”‘’„\-]"
_PLAIN = re.compile(rf"(?:{_ORDINARY}|\s|\.(?={_ORDINARY})|,(?=\d))*")
_CONTRACTED = re.compile("cannot|gimme|gonna|gotta|lemme|wanna", re.IGNORECASE)

# punkt's English model can't be shipped, but all it decides here is whether a full stop inside a run ends a sentence
# (and so becomes a token) or belongs to an abbreviation. These are the words that the model takes for abbreviations,
# as a public listing of it shows; docs/metrics.md says what each group changes. What is missing is missing there:
# "j.", "etc.", "no." and "mass." end a sentence.
_ABBREVIATIONS = (
    # single letters
    "c d e f g h k l m n p r s t v w",
    # titles, ranks and forms of address
    "adm col dr gen jr lt maj messrs mr mrs ms prof reps sen sr st",
    # companies and measures
    "ave bros chg cie co corp cos ct ft inc ltd mg ok sw vs yr",
    # months, days and states
    "jan feb aug sep sept oct nov dec tues wed fri",
    "ala ariz calif colo conn fla ga ill kan ky mich minn nev okla ore pa tenn va vt w.va wash wis",
    # countries, institutions, degrees, times and legal forms
    "a.d a.m a.m.e b.v c.i.t d.c i.m.s l.a l.p m.b.a m.d.c n.c n.d n.h n.j n.m n.v n.y p.a.m p.m ph.d r.i",
    "s.a s.a.y s.c s.p.a u.k u.n u.s u.s.a u.s.s.r",
    # initials of persons and firms in the newspaper that the model was trained on
    "a.a a.c a.g a.h a.s a.t b.f c.o.m.b c.v d.h d.w e.f e.h e.l e.m f.g f.j g.d g.f g.k h.c h.f h.m j.b j.c j.j",
    "j.k j.p j.r l.f m.j r.a r.h r.j r.k r.t s.g s.s t.j w.c w.r w.w",
)


def normalise(value: object) -> str:
    """Return `str(value)` lower-cased, stripped and without the listed punctuation: what exact match compares."""
    return str(value).lower().strip().translate(_DROP_PUNCTUATION)


@lru_cache(maxsize=1 << 16)
def split_words(run: str) -> tuple[str, ...]:
    """Return the words of a run without Chinese characters, as `word_tokenize` does, blanks dropped."""
    if _PLAIN.fullmatch(run) and not _CONTRACTED.search(run):
        return tuple(run.split())
    return tuple(_nltk()(run))


@cache
def _nltk() -> Callable[[str], list[str]]:
    """Return the slow, complete tokenizer. NLTK takes two seconds to import, and few runs need it."""
    from nltk.tokenize.destructive import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types.update(" ".join(_ABBREVIATIONS).split())
    sentences = PunktSentenceTokenizer(parameters)
    words = NLTKWordTokenizer()
    return lambda run: [word for sentence in sentences.tokenize(run) for word in words.tokenize(sentence)]

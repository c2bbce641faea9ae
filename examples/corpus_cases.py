"""Invented court cases, for the layout of CJRC: spans, yes, no, and questions that the text does not answer.

A case tells about half of the attributes and claims that can be asked for. A question about something told is
answered by a span, "YES" or "NO"; about anything else, by "".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corpus_lives import Attribute, Context, Question
from corpus_names import Names

#: How many attributes and claims a case tells: one of these numbers.
ATTRIBUTES_TOLD, CLAIMS_TOLD = (2, 3), (1, 2, 3)
#: At most so many questions of one case about attributes told, claims told, and anything that is not told.
ASKED = (2, 3, 1)
YES, NO, UNKNOWN = "YES", "NO", ""


@dataclass(frozen=True)
class Claim:
    """Something that a case says is so, or is not so.

    Args:
        yes: how it is affirmed.
        no: how the contrary is told.
        questions: ways to ask whether it is so.
    """

    yes: str
    no: str
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """What the cases of one domain tell, and how.

    Args:
        name: the published value of "domain".
        casenames: what the cases are about.
        party: spelling of the parties' names.
        roles: the two parties.
        commas: what ends a clause inside a case, drawn at random.
        stop: what ends a case.
        attributes: what is answered by a span.
    """

    name: str
    casenames: tuple[str, ...]
    party: str
    roles: tuple[str, str]
    commas: str
    stop: str
    attributes: tuple[Attribute, ...]


# Yes and no share no word, nor do two claims: a tiny model that starts from scratch needs words that tell both apart.
CLAIMS = (
    Claim("到庭应诉", "缺席审理", ("是否出庭？", "出庭了吗？")),
    Claim("全部承认", "矢口抵赖", ("是否认错？", "认错了吗？")),
    Claim("如数赔偿", "分文不付", ("是否赔钱？", "赔钱了吗？")),
    Claim("动手伤人", "秋毫无犯", ("有没有人受伤？", "有人受伤吗？")),
    Claim("愿意调解", "坚持判决", ("是否同意和解？", "同意和解吗？")),
)
CIVIL = Domain(
    "civil",
    ("民间借贷纠纷", "买卖合同纠纷", "返还原物纠纷"),
    "party",
    ("原告", "被告"),
    ",",  # Civil cases of CJRC have neither "，" nor "。".
    "",
    (
        Attribute("county", "被告住在X", ("被告住在哪里？", "被告的住处在哪里？")),
        Attribute("year", "借款于X", ("哪一年借款？", "什么时候借的款？")),
        Attribute("count", "欠款X", ("被告欠款多少？", "欠了多少钱？"), "元"),
        Attribute("master", "保证人是X", ("保证人是谁？", "保证人叫什么？")),
        Attribute("profession", "原告是一名X", ("原告的职业是什么？", "原告是做什么工作的？")),
        Attribute("animal", "抵押了一只X", ("抵押物是什么？", "抵押了什么动物？")),
        Attribute("book", "借走一本X", ("借走的书叫什么？", "被告借走了哪本书？")),
    ),
)
CRIMINAL = Domain(
    "criminal",
    ("盗窃罪", "诈骗罪", "抢劫罪"),
    "accused",
    ("被害人", "被告人"),
    "，。",
    "。",
    (
        Attribute("county", "案发于X", ("案发地在哪里？", "案件发生在哪里？")),
        Attribute("year", "作案于X", ("哪一年作案？", "什么时候作的案？")),
        Attribute("count", "赃款X", ("赃款有多少？", "被告人得了多少钱？"), "元"),
        Attribute("master", "同伙是X", ("同伙是谁？", "同伙叫什么？")),
        Attribute("profession", "被害人是一名X", ("被害人的职业是什么？", "被害人是做什么工作的？")),
        Attribute("temple", "藏身于X", ("被告人藏身于哪座寺庙？", "藏身的寺庙叫什么？")),
        Attribute("animal", "偷走一只X", ("偷走了什么动物？", "偷走的动物是什么？")),
    ),
)
# HTML entities are part of CJRC's text.
FILLERS = ("以上有&ldquo;笔录&rdquo;等证据在卷", "上述事实有证人证言在卷")
FILLER_SHARE = 0.15


def case(names: Names, domain: Domain) -> Context:
    """Return the next case of a domain; "YES", "NO" and "" have no place in it."""
    rng, used = names.rng, list[str]()
    parties = [role + names.entity(domain.party, used) for role in domain.roles]
    attributes = rng.sample(domain.attributes, len(domain.attributes))
    claims = rng.sample(CLAIMS, len(CLAIMS))
    n_attributes, n_claims = rng.choice(ATTRIBUTES_TOLD), rng.choice(CLAIMS_TOLD)
    told: list[Attribute | Claim] = [*attributes[:n_attributes], *claims[:n_claims]]
    rng.shuffle(told)
    text = f"经审理查明:{parties[0]}与{parties[1]}相识{domain.commas[0]}"
    spans, polar = [], []
    for i, fact in enumerate(told):
        if isinstance(fact, Claim):
            answer = rng.choice((YES, NO))
            polar.append(Question(rng.choice(fact.questions), answer, -1))
            text += fact.yes if answer == YES else fact.no
        else:
            value = names.entity(fact.kind, used) + fact.unit
            spans.append(Question(rng.choice(fact.questions), value, len(text) + fact.clause.index("X")))
            text += fact.clause.replace("X", value)
        text += rng.choice(domain.commas) if i + 1 < len(told) else domain.stop
    if rng.random() < FILLER_SHARE:
        text += rng.choice(FILLERS) + domain.stop
    untold: Sequence[Attribute | Claim] = [*attributes[n_attributes:], *claims[n_claims:]]
    unknown = [Question(rng.choice(fact.questions), UNKNOWN, -1) for fact in untold]
    asked = []
    for pool, n_at_most in zip((spans, polar, unknown), ASKED, strict=True):
        asked += rng.sample(pool, min(len(pool), n_at_most))
    return Context(rng.choice(domain.casenames), text, tuple(rng.sample(asked, len(asked))))

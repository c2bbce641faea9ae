"""The names, places, years and numbers of the demo corpora: spelled at random, never shared by train and dev."""

from __future__ import annotations

import random

SURNAMES = "赵钱孙李周吴郑王冯陈沈韩杨朱秦许何吕张孔曹严魏姜谢邹苏潘范彭鲁韦方任袁柳"
# Teachers and friends have compound surnames: a tiny model finds the start of an answer by its spelling first.
COMPOUND_SURNAMES = ("欧阳", "司马", "诸葛", "慕容", "皇甫", "尉迟", "令狐", "独孤", "轩辕", "夏侯")
# Shared by given names and titles.
SYLLABLES = "文子安远思齐云山白石春秋林月华平松柏青永宁天星玉龙凤竹金水梅兰雪风雨高新古田成志家国世荣"
# Outside the BMP: two UTF-16 units each, so that published offsets behind them differ from Python's.
ASTRAL = "𠮷𣲗𬱖"
#: Three-character entities: what their first, second and last character is drawn from.
SPELLINGS = {
    "county": ("江河湖海溪泉川港湾滩沙池渡桥", "东西南北前后左右上下", "县镇村州"),
    "temple": ("慈善福德仁义禅觉普法真如", "光明辉照恩缘慧净空圆", "寺庙庵"),
    "animal": ("黑红黄紫褐花斑卷短灰粉", "毛尾耳眼角嘴爪颈腿背", "狗猫羊兔鹿"),
    "profession": ("木铁铜纸布皮陶瓷漆银锡砖棉麻丝", "雕编刻画染织修刷烧磨补", "匠师工"),
}
GIVEN_ENDS = "杰伟强刚勇俊辰豪峰磊涛"
CONSONANTS, VOWELS = "bdklmnrst", "aeiou"
#: The share of years and numbers that only dev may use, in percent.
DEV_NUMBERS = 20


class Names:
    """Spells the entities of one split, which occur neither in the other split nor twice in a context."""

    def __init__(self, seed: str, *, dev: bool = False, forbidden: str = "") -> None:
        """Start a seeded generator.

        Args:
            seed: names the random sequence.
            dev: whether to use the numbers reserved for dev, or the others.
            forbidden: text in which no entity may occur.
        """
        self.rng, self.dev, self.forbidden = random.Random(seed), dev, forbidden

    def entity(self, kind: str, used: list[str]) -> str:
        """Return a new entity; it and those in `used`, which it joins, do not contain each other."""
        while True:
            value = self._spell(kind)
            core = value.strip("《》")
            if core not in self.forbidden and not any(core in other or other in core for other in used):
                used.append(core)
                return value

    def _spell(self, kind: str) -> str:
        match kind:
            case "person":
                return self._person()
            case "party":  # A party to a civil case, as the courts make names anonymous.
                return f"{self.rng.choice(SURNAMES)}x{self._number(10, 99)}"
            case "accused":
                return f"{self.rng.choice(SURNAMES)}某{self._syllables(1, 1)}"
            case "county" | "temple" | "animal" | "profession":
                first, second, last = SPELLINGS[kind]
                return self.rng.choice(first) + self.rng.choice(second) + self.rng.choice(last)
            case "master":
                return self.rng.choice(COMPOUND_SURNAMES) + self._syllables(1, 1) + self.rng.choice(GIVEN_ENDS)
            case "year":
                return self._number(1700, 2019) + "年"
            case "count":
                return self._number(100, 999)
            case _:
                return f"《{self._syllables(2, 3)}{self.rng.choice('记集录谱')}》"

    def _person(self) -> str:
        kind = self.rng.random()
        if kind < 0.02:
            parts = (self.rng.choice(CONSONANTS) + self.rng.choice(VOWELS) for _ in range(3))
            return "".join(parts).capitalize()
        given = self._syllables(1, 1) if kind < 0.25 else self._syllables(2, 2)
        if kind > 0.98:
            given = self.rng.choice(ASTRAL) + given[1:]
        return self.rng.choice(SURNAMES) + given

    def _syllables(self, low: int, high: int) -> str:
        return "".join(self.rng.sample(SYLLABLES, self.rng.randint(low, high)))

    def _number(self, low: int, high: int) -> str:
        while True:
            number = self.rng.randint(low, high)
            if (number * 37 % 100 < DEV_NUMBERS) == self.dev:
                return str(number)

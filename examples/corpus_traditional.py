"""The characters of the lives in traditional spelling: a table of our own, so that no converter's version matters.

Each sign of the grammar has one traditional form here (a surname 范 stays as it is, 只 counts animals only).
"""

SIMPLIFIED = (
    "业东丝严个么义书于云伟传兰养写冯净几凤刚动华县后吕吴国圆孙学宁师广庙开张强当录时杨杰桥欧涛湾滩烧独猫画砖禅红纸织"
    "编缘职艺苏荣补觉记许诸谁谢谱赵轩辉辕这远迟邹郑里钱铁铜银锡镇阳陈韦韩颈风马鲁黄齐龙只"
)
TRADITIONAL = (
    "業東絲嚴個麼義書於雲偉傳蘭養寫馮淨幾鳳剛動華縣後呂吳國圓孫學寧師廣廟開張強當錄時楊傑橋歐濤灣灘燒獨貓畫磚禪紅紙織"
    "編緣職藝蘇榮補覺記許諸誰謝譜趙軒輝轅這遠遲鄒鄭裡錢鐵銅銀錫鎮陽陳韋韓頸風馬魯黃齊龍隻"
)
_TABLE = str.maketrans(SIMPLIFIED, TRADITIONAL)


def traditional(text: str) -> str:
    """Return a text of the demo grammar in traditional characters, one for one."""
    return text.translate(_TABLE)

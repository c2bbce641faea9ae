"""A page of HTML, read tag by tag."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Parsed(HTMLParser):
    """What a page holds; complains of tags that are not closed in their order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.targets = [], Counter(), [], []
        self.texts, self.scripts, self.cells, self.attributes, self.headings = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), (tag, attrs)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.targets += [v[1:] for k, v in attrs if k == "href"]
        self.targets += [attributes[k] for k in ("aria-labelledby", "for") if k in attributes]
        if tag == "script":
            self.scripts.append("")
        if tag in ("th", "td"):
            self.cells.append("")
        if tag in ("h2", "h3"):
            self.headings.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)
        if {"th", "td"} & set(self.open):
            self.cells[-1] += data
        if {"h2", "h3"} & set(self.open):
            self.headings[-1] += data

"""Checks of a page that stand on ``html.parser`` alone: is it well formed, does it ask for anything from outside?"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "hr", "img", "col", "input"}
_LOADS = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background", "ping"}


class Page(HTMLParser):
    """What a page holds: elements with their attributes, the text of each element, and the faults found on the way."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        self.faults += [f"<{name}> is never closed" for name in self.open]
        identifiers = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        self.faults += [f"id {name} is used twice" for name in {n for n in identifiers if identifiers.count(n) > 1}]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "svg" not in self.open and tag not in _VOID:
            self.faults.append(f"<{tag}/> closes itself outside of a drawing")
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> closes <{self.open[-1] if self.open else 'nothing'}>")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self) -> str:
        """All text that a reader sees."""
        return " ".join(data for tag, data in self.texts if tag not in ("script", "style"))

    def having(self, name: str) -> list[dict[str, str]]:
        """The attributes of each element of that name."""
        return [attributes for tag, attributes in self.elements if tag == name]

    def requests(self) -> list[str]:
        """What the page would load from elsewhere: addresses in attributes and in styles, imports, event handlers."""
        found = []
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                if name in _LOADS and not value.startswith(("#", "data:")):
                    found.append(f"{tag} {name}={value}")
                if name.startswith("on") or re.search(r"url\(\s*['\"]?(?!data:)", value):
                    found.append(f"{tag} {name}={value}")
        styles = " ".join(data for tag, data in self.texts if tag == "style")
        return found + re.findall(r"@import[^;]*|url\(\s*['\"]?(?!data:)[^)]*", styles)

"""What a reader of a report finds in its HTML: elements, words and figures."""

import json
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Seen(HTMLParser):
    """Elements in order, with the text of each; raises AssertionError for a tag that closes nothing."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.scripts: list[tuple[dict, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif self.open and self.open[-1] != "style":
            self.text.append(data)

    def of(self, *tags):
        return [(tag, attributes) for tag, attributes in self.elements if tag in tags]


def words(seen: Seen) -> str:
    return " ".join(" ".join(seen.text).split())


def figures(seen: Seen) -> dict[str, dict]:
    """Figures by their descriptions, behind which their place makes them unique."""
    texts = {a["id"]: json.loads(t) for a, t in seen.scripts if a.get("type") == "application/json"}
    return {f"{a['aria-label']} {a['id']}": texts[a["data-figure"]] for _, a in seen.of("div") if "data-figure" in a}

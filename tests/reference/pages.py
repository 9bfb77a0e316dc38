"""What a browser would request when it opens a page: written for the tests, with the
standard library's parser.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.style = tag == "style"
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster") or (
                tag == "link" and name == "href"
            ):
                if not (value or "").startswith("data:"):
                    self.found.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        self.style = False

    def handle_data(self, data: str) -> None:
        if self.style:
            urls = re.findall(r"@import[^;]+|url\(\s*['\"]?(?!data:|#|['\"])[^)]*\)", data)
            self.found += [f"style {url[:80]}" for url in urls]


def loads(html: str) -> list[str]:
    """Everything the page would fetch from elsewhere: scripts, style sheets, pictures,
    frames, CSS urls.
    """
    parser = _Loads()
    parser.feed(html)
    return parser.found

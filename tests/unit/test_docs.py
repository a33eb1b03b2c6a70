"""Every page can be reached from the README or CONTRIBUTING, and every link leads somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
STARTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.MULTILINE)


def _text(page: Path) -> str:
    return _CODE.sub("", page.read_text(encoding="utf-8"))


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """Target and fragment of each link that stays in the checkout."""
    for match in _LINK.finditer(_text(page)):
        target = match[1] or match[2]
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            path, _, fragment = unquote(target).partition("#")
            yield ((page.parent / path).resolve() if path else page), fragment


def _anchors(page: Path) -> set[str]:
    """The fragments GitHub gives the page's headings: lower case, spaces as dashes."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, fragment in _links(page):
        assert target.exists(), f"{page.relative_to(ROOT)} links to {target}, which does not exist"
        if fragment and target.suffix == ".md":
            assert fragment in _anchors(target), f"{target.relative_to(ROOT)} has no #{fragment}"


def test_every_page_is_reachable() -> None:
    reached: set[Path] = set()
    waiting = list(STARTS)
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            waiting.extend(target for target, _ in _links(page))
    lost = sorted(str(page.relative_to(ROOT)) for page in set(PAGES) - reached)
    assert lost == [], "link these pages from the README or from a page it leads to"

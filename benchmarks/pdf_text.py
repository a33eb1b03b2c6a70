"""Text from PDF invoices: which library keeps a table's rows on one line, and at what price.

    python -m benchmarks.pdf_text --data FOLDER

Peers are measured if they are installed, which the project itself does not do:

    uv run --with pypdf,pdfplumber,docling-parse,'markitdown[pdf]' \
        python -m benchmarks.pdf_text --data FOLDER

FOLDER holds PDFs. Beside a PDF there may be what is known of it: a DANFE's NF-e (`NAME.xml`), or an
invoice's lines (`NAME.json`, `{"lines": [{"name": …, "price_subtotal": …}]}`).
"""

import argparse
import importlib
import json
import os
import platform
import re
import statistics
import time
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

NFE = "{http://www.portalfiscal.inf.br/nfe}"
SAMPLES = Path(__file__).resolve().parent.parent / "samples" / "documents"
REPEATS = 3


def rotina(path: Path) -> str:
    """Our layout on PDFium."""
    from rotina.knowledge.loading import load

    return load(path.read_bytes(), name=path.name).text


def pdfium_plain(path: Path) -> str:
    """PDFium's own order."""
    with importlib.import_module("pypdfium2").PdfDocument(path) as document:
        return "\n".join(page.get_textpage().get_text_range() for page in document)


def pypdf_plain(path: Path) -> str:
    """pypdf's default."""
    pages = importlib.import_module("pypdf").PdfReader(path).pages
    return "\n".join(page.extract_text() for page in pages)


def pypdf_layout(path: Path) -> str:
    """pypdf with `extraction_mode="layout"`."""
    pages = importlib.import_module("pypdf").PdfReader(path).pages
    return "\n".join(page.extract_text(extraction_mode="layout") for page in pages)


def pdfplumber_plain(path: Path) -> str:
    """pdfplumber's default: lines by height."""
    with importlib.import_module("pdfplumber").open(path) as document:
        return "\n".join(page.extract_text() for page in document.pages)


def pdfplumber_layout(path: Path) -> str:
    """pdfplumber with `layout=True`."""
    with importlib.import_module("pdfplumber").open(path) as document:
        return "\n".join(page.extract_text(layout=True) for page in document.pages)


def pdfminer(path: Path) -> str:
    """pdfminer.six's default."""
    return str(importlib.import_module("pdfminer.high_level").extract_text(path))


def docling_parse(path: Path) -> str:
    """docling-parse's line cells, in its order."""
    parser = importlib.import_module("docling_parse.pdf_parser").DoclingPdfParser(loglevel="fatal")
    unit = importlib.import_module("docling_core.types.doc.page").TextCellUnit.LINE
    document = parser.load(path_or_stream=str(path))
    cells = (cell for _, page in document.iterate_pages() for cell in page.iterate_cells(unit))
    return "\n".join(cell.text for cell in cells)


def markitdown(path: Path) -> str:
    """markitdown's Markdown."""
    return str(importlib.import_module("markitdown").MarkItDown().convert(str(path)).text_content)


READERS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "rotina": ("pypdfium2", rotina),
    "pypdfium2": ("pypdfium2", pdfium_plain),
    "pypdf": ("pypdf", pypdf_plain),
    "pypdf layout": ("pypdf", pypdf_layout),
    "pdfplumber": ("pdfplumber", pdfplumber_plain),
    "pdfplumber layout": ("pdfplumber", pdfplumber_layout),
    "pdfminer.six": ("pdfminer.six", pdfminer),
    "docling-parse": ("docling-parse", docling_parse),
    "markitdown": ("markitdown", markitdown),
}


@dataclass
class Known:
    """What a PDF is known to say."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    """Two cells of one line item."""
    keys: list[tuple[str, str]] = field(default_factory=list)
    """A caption and its value."""


@dataclass
class Score:
    """One reader over all files."""

    rows: int = 0
    keys: int = 0
    milliseconds: list[float] = field(default_factory=list)
    characters: int = 0
    failures: list[str] = field(default_factory=list)


def plain(text: str) -> str:
    """Without accents, case and runs of blanks."""
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[ \t|]+", " ", text).lower()


def known_of(path: Path) -> Known:
    """What lies beside `path`, and what the project's own samples say."""
    if (xml := path.with_suffix(".xml")).exists():
        return _from_nfe(ET.parse(xml).getroot())
    if (data := path.with_suffix(".json")).exists():
        found = json.loads(data.read_text())
        return Known(rows=list(_from_lines(found[0] if isinstance(found, list) else found)))
    if path.name == "invoice-harbor-lights.pdf":
        return Known(
            rows=[("HL-110", "358.00"), ("HL-204", "253.50"), ("HL-330", "214.80")],
            keys=[("Invoice number:", "HL-2026-0187"), ("Total due", "$1,372.87")],
        )
    if path.name == "nota-fiscal-padaria.pdf":
        return Known(
            rows=[("0101", "3.950,00"), ("0107", "285,60"), ("0212", "693,00")],
            keys=[("VALOR TOTAL DA NOTA", "5.108,60"), ("DATA DA EMISSÃO", "02/03/2026")],
        )
    return Known()


def _from_nfe(root: ET.Element) -> Known:
    def text(element: ET.Element | None, name: str) -> str:
        return (element.findtext(f".//{NFE}{name}") or "") if element is not None else ""

    items = [item.find(f"{NFE}prod") for item in root.iter(f"{NFE}det")]
    issued = text(root, "dhEmi")[:10].split("-")
    return Known(
        rows=[(text(item, "cProd"), _brazilian(text(item, "vProd"))) for item in items],
        keys=[
            ("VALOR TOTAL DA NOTA", _brazilian(text(root, "vNF"))),
            ("DATA DA EMISSÃO", "/".join(reversed(issued))),
            ("NATUREZA DA OPERAÇÃO", text(root, "natOp")[:20]),
        ],
    )


def _brazilian(amount: str) -> str:
    return f"{Decimal(amount or 0):,.2f}".translate(str.maketrans(",.", ".,"))


def _from_lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for line in found.get("lines") or []:
        name = str(line.get("code") or line.get("name") or line.get("desc") or "")
        amount = line.get("price_subtotal") or line.get("price") or line.get("price_unit")
        if name and isinstance(amount, int | float | str) and amount:
            yield name.split("\n", maxsplit=1)[0].split(maxsplit=1)[0], str(amount)


def has(line: str, value: str) -> bool:
    """Whether the line says the value; an amount may be written with a point or a comma."""
    pattern = re.escape(plain(value).strip())
    if re.fullmatch(r"\d+\.\d+", value):
        whole, _, cents = value.partition(".")
        pattern = f"{whole}[.,]{cents:0<2}"
    return re.search(rf"(?<![\w]){pattern}(?![\w])", line) is not None


def measure(name: str, path: Path, known: Known, score: Score) -> None:
    """Add one file to a reader's score."""
    read = READERS[name][1]
    try:
        text = read(path)  # once for the imports
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            text = read(path)
            times.append(1000 * (time.perf_counter() - began))
    except Exception as error:  # noqa: BLE001 - a peer may raise anything; it is reported
        score.failures.append(f"{path.name}: {type(error).__name__}")
        return
    score.milliseconds.append(statistics.median(times))
    score.characters += len(text)
    lines = plain(text).splitlines()
    score.rows += sum(
        any(has(line, one) and has(line, other) for line in lines) for one, other in known.rows
    )
    whole = re.sub(r"\s+", " ", plain(text))
    score.keys += sum(f"{plain(key)} {plain(value)}" in whole for key, value in known.keys)


def main() -> None:
    """Print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[], metavar="FOLDER")
    folders = [SAMPLES, *parser.parse_args().data]
    paths = sorted(path for folder in folders for path in folder.glob("*.pdf"))
    known = {path: known_of(path) for path in paths}
    rows = sum(len(one.rows) for one in known.values())
    keys = sum(len(one.keys) for one in known.values())
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{len(paths)} files, {rows} line items, {keys} captions with values")
    print(f"{'reader':18} {'version':>9} {'rows':>6} {'keys':>6} {'ms/file':>8} {'chars':>8}")
    scores: dict[str, Score] = {}
    for name, (package, _) in READERS.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            print(f"{name:18} is not installed")
            continue
        score = scores.setdefault(name, Score())
        for path in paths:
            measure(name, path, known[path], score)
        shares = f"{score.rows / max(rows, 1):6.2f} {score.keys / max(keys, 1):6.2f}"
        middle = statistics.median(score.milliseconds)
        failures = " ".join(score.failures)
        print(f"{name:18} {found:>9} {shares} {middle:8.1f} {score.characters:8} {failures}")
    _report(scores)


def _report(scores: dict[str, Score]) -> None:
    peers = {name: score for name, score in scores.items() if name != "rotina"}
    best = max(peers, key=lambda name: peers[name].rows)
    result = {
        "name": "pdf_text",
        "ratio": round(scores["rotina"].rows / max(peers[best].rows, 1), 3),
        "goal": "rows on one line >= the best peer",
        "peer": best,
        "details": {
            name: {
                "rows": score.rows,
                "keys": score.keys,
                "ms_per_file": round(statistics.median(score.milliseconds), 2),
            }
            for name, score in scores.items()
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

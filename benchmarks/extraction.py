"""Field accuracy, proven share and seconds a document of extraction, on labelled documents.

    python -m benchmarks.extraction --data DIR [--sets nfe,supplier,receipts] [--limit 20]

Needs a running stack (`rotina up`, or DATABASE_URL, REDIS_URL, a model and a worker); every
document is a run through the worker. DIR holds any of:

- `nfe_danfe/`: Brazilian invoices as NAME.pdf with the exact NAME.xml of the tax office;
- `invoice2data/compare/`: supplier invoices as NAME.pdf with NAME.json;
- `sroie/dev.jsonl`: receipts, one JSON object a line with `text` and four `gold` fields.

The peer, measured in the same run, is a regular expression for each receipt field.
"""

import argparse
import asyncio
import contextlib
import json
import platform
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from rotina.cli.tables import extraction_of
from rotina.runs import Run, Upload
from rotina.settings import load_settings
from rotina.worker import Client

RECEIPT_SCHEMA = {
    "type": "object",
    "properties": {
        "company": {"type": "string", "description": "company that issued the receipt"},
        "date": {"type": "string", "format": "date", "description": "date of the receipt"},
        "address": {"type": "string", "description": "address of the company"},
        "total": {"type": "number", "description": "total amount to pay"},
    },
}
GOAL = 1.0


@dataclass(frozen=True)
class Sample:
    """A document and what it says, by JSON Pointer."""

    name: str
    upload: Upload
    workflow: str
    value: dict[str, Any]
    gold: dict[str, Any]
    baseline: dict[str, Any] = field(default_factory=dict)


def nfe(folder: Path) -> Iterator[Sample]:
    """Brazilian invoices; gold from the XML."""
    for path in sorted((folder / "nfe_danfe").glob("*.pdf")):
        root = ET.parse(path.with_suffix(".xml")).getroot()
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        gold = {
            "/number": root.findtext(".//ide/nNF"),
            "/issue_date": (root.findtext(".//ide/dhEmi") or "")[:10],
            "/supplier/name": root.findtext(".//emit/xNome"),
            "/supplier/tax_id": root.findtext(".//emit/CNPJ"),
            "/buyer/name": root.findtext(".//dest/xNome"),
            "/buyer/tax_id": root.findtext(".//dest/CNPJ") or root.findtext(".//dest/CPF"),
            "/total": _decimal(root.findtext(".//total/ICMSTot/vNF")),
            "/currency": "BRL",
        }
        for index, item in enumerate(root.findall(".//det/prod")):
            gold[f"/lines/{index}/total"] = _decimal(item.findtext("vProd"))
            gold[f"/lines/{index}/quantity"] = _decimal(item.findtext("qCom"))
        yield _invoice(path, gold)


def supplier(folder: Path) -> Iterator[Sample]:
    """Supplier invoices in several languages; gold from JSON."""
    for path in sorted((folder / "invoice2data" / "compare").glob("*.json")):
        document = next(
            (p for p in (path.with_suffix(".pdf"), path.with_suffix(".txt")) if p.is_file()), None
        )
        entries = json.loads(path.read_text(encoding="utf-8"))
        if document is None or not entries:
            continue
        entry = entries[0]
        gold = {
            "/supplier/name": entry.get("issuer"),
            "/number": entry.get("invoice_number"),
            "/issue_date": entry.get("date"),
            "/total": _decimal(str(entry.get("amount"))),
            "/currency": entry.get("currency"),
        }
        yield _invoice(document, gold)


def receipts(folder: Path) -> Iterator[Sample]:
    """Receipts as text; gold for four fields, and what regular expressions find."""
    path = folder / "sroie" / "dev.jsonl"
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text, gold = row["text"], row["gold"]
        yield Sample(
            name=row["id"],
            upload=Upload(f"{row['id']}.txt", text.encode()),
            workflow="extract",
            value={"schema": RECEIPT_SCHEMA},
            gold={
                "/company": gold.get("company"),
                "/date": day_first(gold.get("date")),
                "/address": gold.get("address"),
                "/total": _decimal(re.sub(r"[^0-9.-]", "", gold.get("total") or "")),
            },
            baseline=regular_expressions(text),
        )


DATE_FORMATS = ("%d/%m/%Y", "%d/%m/%y", "%d %b %Y", "%d %b %y", "%d %B %Y", "%b %d %Y", "%Y/%m/%d")
"""How the receipts' labels write a date, the separators evened out. The day comes first."""


def day_first(label: str | None) -> str | None:
    """A date label as ISO 8601, read without any of Rotina's own code; None when it is no date."""
    plain = re.sub(r"[^0-9A-Za-z]+", " ", label or "").strip()
    for form in DATE_FORMATS:
        with contextlib.suppress(ValueError):
            return datetime.strptime(plain, form.replace("/", " ")).date().isoformat()  # noqa: DTZ007
    return None


def regular_expressions(text: str) -> dict[str, Any]:
    """The peer: first line with letters, first date, the amount after the last TOTAL."""
    day = re.search(r"\b\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}\b", text)
    total = re.findall(r"TOTAL[^\n]*\n?[^\d\n]*?(\d[\d,]*\.\d\d)", text, re.IGNORECASE)
    company = re.search(r"^.*[A-Za-z]{3}.*$", text, re.MULTILINE)
    return {
        "/company": company.group() if company else None,
        "/date": day_first(day.group()) if day else None,
        "/total": _decimal(total[-1].replace(",", "")) if total else None,
    }


SETS: dict[str, Callable[[Path], Iterator[Sample]]] = {
    "nfe": nfe,
    "supplier": supplier,
    "receipts": receipts,
}


def _invoice(path: Path, gold: Mapping[str, Any]) -> Sample:
    upload = Upload(path.name, path.read_bytes())
    stated = {key: value for key, value in gold.items() if value not in (None, "")}
    # Nobody is there to approve large ones.
    return Sample(path.stem, upload, "invoice_intake", {"approve_above": None}, stated)


def _decimal(text: str | None) -> Decimal | None:
    try:
        return Decimal(text or "")
    except InvalidOperation:
        return None


def is_right(found: Any, gold: Any) -> bool:
    """Numbers by value, everything else by its letters and digits, without case."""
    if isinstance(gold, Decimal):
        number = _decimal(str(found))
        return number is not None and number == gold
    letters = [re.sub(r"[\W_]+", "", str(value).casefold()) for value in (found, gold)]
    numbers = [letter.lstrip("0") for letter in letters]
    return found is not None and (letters[0] == letters[1] or numbers[0] == numbers[1])


def at(data: Any, pointer: str) -> Any:
    """The value at a JSON Pointer, None when there is none."""
    for key in pointer.strip("/").split("/"):
        if isinstance(data, list):
            data = data[int(key)] if int(key) < len(data) else None
        else:
            data = (data or {}).get(key)
    return data


@dataclass
class Tally:
    """What one set came to."""

    documents: int = 0
    failed: int = 0
    unlabelled: int = 0
    """Labels that are absent or cannot be read; they count for nobody."""
    right: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    peer: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    proven: list[bool] = field(default_factory=list)
    right_if_proven: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, sample: Sample, run: Run, seconds: float) -> None:
        """Count one document; a failed run has every field wrong."""
        self.documents += 1
        self.seconds.append(seconds)
        extraction = extraction_of(run)
        self.failed += extraction is None
        data = extraction.data if extraction else {}
        proven = {f.path: f.proven for f in extraction.fields} if extraction else {}
        self.proven.extend(proven.values())
        for pointer, gold in sample.gold.items():
            if gold in (None, ""):
                self.unlabelled += 1
                continue
            name = re.sub(r"/\d+/", "[]/", pointer)
            right = is_right(at(data, pointer), gold)
            self.right[name].append(right)
            if proven.get(pointer):
                self.right_if_proven.append(right)
            if pointer in sample.baseline:
                self.peer[name].append(is_right(sample.baseline[pointer], gold))

    def report(self) -> dict[str, Any]:
        """Shares between 0 and 1, rounded."""
        return {
            "documents": self.documents,
            "failed": self.failed,
            "unlabelled": self.unlabelled,
            "fields": {name: share(marks) for name, marks in self.right.items()},
            "accuracy": share([mark for marks in self.right.values() for mark in marks]),
            "proven": share(self.proven),
            "right_if_proven": share(self.right_if_proven),
            "seconds": round(statistics.median(self.seconds), 1) if self.seconds else None,
            "peer": {name: share(marks) for name, marks in self.peer.items()},
        }


def share(marks: list[bool]) -> float | None:
    """Share of True, None of nothing."""
    return round(sum(marks) / len(marks), 3) if marks else None


async def measure(folder: Path, sets: list[str], limit: int) -> dict[str, dict[str, Any]]:
    """Run every set, one document at a time, so that seconds are seconds of a document."""
    reports = {}
    async with Client.open(load_settings()) as client:
        for name in sets:
            tally = Tally()
            for number, sample in enumerate(SETS[name](folder)):
                if number == limit:
                    break
                began = time.monotonic()
                accepted = await client.start(sample.workflow, sample.value, upload=sample.upload)
                run = await client.wait(accepted.id, timeout=1800)
                tally.add(sample, run, time.monotonic() - began)
                print(f"{name} {sample.name} {run.state} {tally.report()['accuracy']}", flush=True)
            reports[name] = tally.report()
            print(json.dumps({name: reports[name]}, indent=1), flush=True)
    return reports


def main() -> None:
    """Print a report a set and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--limit", type=int, default=20, help="documents a set")
    options = parser.parse_args()
    reports = asyncio.run(measure(options.data, options.sets.split(","), options.limit))
    receipts_report = reports.get("receipts", {})
    peer = receipts_report.get("peer", {})
    ours = [receipts_report["fields"][name] for name in peer]
    ratio = statistics.mean(ours) / statistics.mean(peer.values()) if peer else None
    print(
        json.dumps(
            {
                "name": "extraction",
                "ratio": ratio and round(ratio, 3),
                "goal": GOAL,
                "peer": "regular expressions on the receipts' date, total and company",
                "details": {"hardware": platform.processor() or platform.machine(), **reports},
            }
        )
    )


if __name__ == "__main__":
    main()

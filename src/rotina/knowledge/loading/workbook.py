"""XLSX: one page a sheet, rows between tabs, values as the sheet shows them."""

import io
import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import zip_longest
from typing import Any

from openpyxl import load_workbook

from rotina.errors import DocumentTooLargeError
from rotina.knowledge.loading.archive import unpacked
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.text import Parsed, check_length, heading, one_line, row

_DECIMALS = re.compile(r"0\.(0+)")
_LITERALS = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')


def parse(content: bytes, limits: Limits) -> Parsed:
    """Read an XLSX file; a formula shows the value last computed, or itself if there is none."""
    data = unpacked(content, max_bytes=limits.max_unzipped_bytes)
    # Values and formulas stand in the same cell, and openpyxl gives one or the other.
    values = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    formulas = load_workbook(io.BytesIO(data), read_only=True, keep_links=False)
    try:
        titles = [sheet.title for sheet in values.worksheets]
        _check_sheets(len(titles), limits)
        texts = []
        left = limits.max_text_chars
        for shown, written in zip(values.worksheets, formulas.worksheets, strict=True):
            lines = [heading(one_line(shown.title), 1)] if len(titles) > 1 else []
            lines += _lines(shown, written, left)
            texts.append("\n".join(lines))
            left -= len(texts[-1])
        metadata = {
            "title": one_line(values.properties.title or ""),
            "author": one_line(values.properties.creator or ""),
            "sheets": ", ".join(titles),
        }
    finally:
        values.close()
        formulas.close()
    return Parsed(texts, paged=True, metadata=metadata)


def _check_sheets(count: int, limits: Limits) -> None:
    if count > limits.max_pages:
        raise DocumentTooLargeError(
            f"the workbook has {count} sheets and {limits.max_pages} are allowed: "
            "split it, or raise the setting max_pages"
        )


def _lines(shown: Any, written: Any, max_chars: int) -> list[str]:
    """The rows that hold anything, as text."""
    lines = []
    length = 0
    for cells in _rows(shown, written):
        line = row(cells)
        if line.strip():
            lines.append(line)
            length += len(line) + 1
            check_length(length, max_chars)
    return lines


def _rows(shown: Any, written: Any) -> Iterator[list[str]]:
    for sheet in (shown, written):
        sheet.reset_dimensions()  # a claim, which files get wrong
    for values, formulas in zip_longest(shown.iter_rows(), written.iter_rows(), fillvalue=()):
        yield [
            _show(value.value, value.number_format)
            if value.value is not None
            else _show(formula.value, "General")
            for value, formula in zip(values, formulas, strict=False)
        ]


def _show(value: Any, number_format: str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return _number(value, _LITERALS.sub("", number_format or ""))
    if isinstance(value, datetime):
        return str(value.date()) if value.time() == time() else value.isoformat(" ", "minutes")
    if isinstance(value, date | time | timedelta):
        return str(value)
    return str(getattr(value, "text", value))  # array formulas keep theirs in `text`


def _number(value: float, number_format: str) -> str:
    """Decimals and per cent as the cell's format has them; 15 digits, as in spreadsheets."""
    percent = "%" in number_format
    decimals = _DECIMALS.search(number_format)
    if percent:
        value *= 100
    if decimals:
        text = f"{value:.{len(decimals.group(1))}f}"
    elif percent:
        text = f"{value:.0f}"
    else:
        text = str(value) if isinstance(value, int) else _plain(value)
    return text + "%" * percent


def _plain(value: float) -> str:
    text = f"{value:.15g}"
    return f"{value:.0f}" if "e+" in text else text

"""CSV and its kin as rows between tabs."""

import csv
import io

from rotina.knowledge.loading.charset import decode
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.text import Parsed, check_length, row

_DELIMITERS = ",;\t|"
_SAMPLE = 8192


def parse(content: bytes, limits: Limits) -> Parsed:
    """Read rows with the delimiter that the first lines use."""
    text, charset = decode(content)
    lines: list[str] = []
    length = 0
    for cells in csv.reader(io.StringIO(text, newline=""), _dialect(text[:_SAMPLE])):
        lines.append(row(cells))
        length += len(lines[-1]) + 1
        check_length(length, limits.max_text_chars)
    return Parsed(["\n".join(lines)], metadata={"charset": charset})


def _dialect(sample: str) -> type[csv.Dialect]:
    try:
        return csv.Sniffer().sniff(sample, delimiters=_DELIMITERS)
    except csv.Error:  # one column, or rows of different kinds
        return csv.excel

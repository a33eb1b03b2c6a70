"""Moving modules below a package: `agents.invoices` becomes `shop.agents.invoices`.

Imports are found with `ast`, so that a variable or an attribute called `agents` stays what it is.
In strings and comments a name is changed only where it begins with a module or path that the
scaffold really holds, such as `"workers.app"` or `workflows/migrations`.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_TEXT_TOKENS = {tokenize.STRING, tokenize.COMMENT}
# From Python 3.12 and 3.14 on, the literal parts of f-strings and t-strings are tokens too.
_TEXT_TOKENS |= {
    getattr(tokenize, name)
    for name in ("FSTRING_MIDDLE", "TSTRING_MIDDLE")
    if hasattr(tokenize, name)
}


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


class Rewriter:
    """Rewrites text that refers to the top-level folders `children` names.

    `children` maps a folder to what lies directly in it: folders, and files with their endings.
    """

    def __init__(self, package: str, children: Mapping[str, frozenset[str]]) -> None:
        self.package = package
        self.folders = frozenset(children)
        self._references = _references(children)

    def text(self, text: str) -> str:
        """Prose or settings with each reference below the package."""
        if self._references is None:
            return text
        in_path = rf"{self.package}/"
        in_name = rf"{self.package}."
        return self._references.sub(
            lambda found: (in_path if found["path"] else in_name) + found[0], text
        )

    def python(self, source: str) -> str:
        """Python source with each absolute import, string and comment below the package.

        Raises `SyntaxError` for what is not Python.
        """
        positions = _Positions(source)
        edits = [*self._imports(source, positions), *self._texts(source, positions)]
        for edit in sorted(edits, reverse=True):
            source = source[: edit.start] + edit.text + source[edit.end :]
        return source

    def _texts(self, source: str, positions: "_Positions") -> Iterator[_Edit]:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in _TEXT_TOKENS:
                start, end = positions.of_token(token.start), positions.of_token(token.end)
                written = source[start:end]
                changed = self.text(written)
                if changed != written:
                    yield _Edit(start, end, changed)

    def _imports(self, source: str, positions: "_Positions") -> Iterator[_Edit]:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                if node.level == 0 and self._is_ours(node.module or ""):
                    start = positions.of_node(node)
                    keyword = re.compile(r"from(\s|\\\n)+").match(source, start)
                    assert keyword is not None
                    yield _Edit(keyword.end(), keyword.end(), f"{self.package}.")
            elif isinstance(node, ast.Import) and any(self._is_ours(n.name) for n in node.names):
                start, end = positions.of_node(node), positions.of_node_end(node)
                alone = not source[source.rfind("\n", 0, start) + 1 : start].strip()
                separator = "\n" + " " * node.col_offset if alone else "; "
                yield _Edit(start, end, separator.join(self._import(node)))

    def _import(self, node: ast.Import) -> Iterator[str]:
        """The statements that bind the same names as `node` did.

        `import agents.invoices` binds `agents`, which `import shop.agents.invoices` does not.
        """
        for alias in node.names:
            renamed = f" as {alias.asname}" if alias.asname else ""
            if not self._is_ours(alias.name):
                yield f"import {alias.name}{renamed}"
                continue
            head = alias.name.partition(".")[0]
            if renamed or head != alias.name:
                yield f"import {self.package}.{alias.name}{renamed}"
            if not renamed:
                yield f"from {self.package} import {head}"

    def _is_ours(self, module: str) -> bool:
        return module.partition(".")[0] in self.folders


def _references(children: Mapping[str, frozenset[str]]) -> re.Pattern[str] | None:
    names, paths = [], []
    for folder, entries in sorted(children.items()):
        for entry in sorted(entries, key=len, reverse=True):
            paths.append(re.escape(f"{folder}/{entry}"))
            if "." not in entry or entry.endswith(".py"):
                names.append(re.escape(f"{folder}.{entry.removesuffix('.py')}"))
    if not paths:
        return None
    return re.compile(
        rf"(?<![\w./-])(?:(?P<path>{'|'.join(paths)})|(?:{'|'.join(names) or '(?!)'}))(?!\w)"
    )


class _Positions:
    """Offsets in a source, from the positions that `tokenize` and `ast` give."""

    def __init__(self, source: str) -> None:
        self._lines = source.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def of_token(self, position: tuple[int, int]) -> int:
        """`position` is a line from 1 and a column in characters."""
        return self._starts[position[0] - 1] + position[1]

    def of_node(self, node: ast.stmt) -> int:
        return self._of_bytes(node.lineno, node.col_offset)

    def of_node_end(self, node: ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._of_bytes(node.end_lineno, node.end_col_offset)

    def _of_bytes(self, line: int, column: int) -> int:
        before = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(before)

"""One version of a prompt in one language: its front matter, its messages, its variables."""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rotina.errors import PromptError
from rotina.gateway.answer import Message

Kind = Literal["any", "text", "integer", "number", "json"]

_FRONT = re.compile(
    r"\A\+\+\+[ \t]*\n(?P<head>.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_SECTION = re.compile(r"^## (system|user|assistant)[ \t]*$", re.MULTILINE)
_TOKEN = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class PromptReference:
    """Which prompt a call was made with; as text `greeting@v2#3fa9c1d2e4b5a697`."""

    name: str
    version: str
    hash: str
    """The first 16 hexadecimal digits of the SHA-256 of the file."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}#{self.hash}"


@dataclass(frozen=True)
class Rendered(Sequence[Message]):
    """The messages of a prompt with its variables put in; `gateway.chat` takes it as it is."""

    messages: tuple[Message, ...]
    prompt: PromptReference

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Message, ...]: ...
    def __getitem__(self, index: int | slice) -> Message | tuple[Message, ...]:
        """One message, or a tuple of some, which no longer knows its prompt."""
        return self.messages[index]

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def then(self, further: Sequence[Message]) -> "Rendered":
        """The same prompt with further messages after it: what was said since."""
        return Rendered((*self.messages, *further), self.prompt)


class Variable(BaseModel):
    """What a template asks for by one name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    type: Kind = "any"


class _Front(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    language: str | None = None
    variables: dict[str, Variable] = Field(default_factory=dict)

    @field_validator("variables", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, list) and all(isinstance(name, str) for name in given):
            given = dict.fromkeys(given, "")
        if not isinstance(given, dict):
            raise ValueError("must be a list of names, or a table")  # noqa: TRY004 - pydantic takes this one
        strange = next((name for name in given if not _NAME.match(name)), None)
        if strange is not None:
            raise ValueError(f"{strange!r} is no name of a variable: letters, digits and _")
        return {
            name: {"description": told} if isinstance(told, str) else told
            for name, told in given.items()
        }


@dataclass(frozen=True)
class Template:
    """A prompt's file, read and checked."""

    reference: PromptReference
    description: str
    language: str | None
    variables: Mapping[str, Variable]
    messages: tuple[tuple[str, str], ...]
    """Role and text, with `{{ variable }}` in it."""

    @classmethod
    def read(cls, text: str, name: str, version: str, where: str) -> "Template":
        """Raises `PromptError` naming `where` and what is wrong there."""
        # Git may turn line ends round on its way to another machine; the prompt is the same.
        text = text.replace("\r\n", "\n")
        front, body = _front(text, where)
        messages = tuple(_sections(body, where))
        used = {found for _, part in messages for found in _TOKEN.findall(part)}
        unknown = sorted(used - set(front.variables))
        if unknown:
            raise PromptError(
                f"{where} uses {{{{ {unknown[0]} }}}}, which it does not declare: add it to "
                "`variables` between the +++ lines at its top"
            )
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        reference = PromptReference(name, version, digest)
        return cls(reference, front.description, front.language, front.variables, messages)

    def render(self, values: Mapping[str, Any]) -> Rendered:
        """The messages; what a value holds is text, whatever it looks like.

        Raises `PromptError` for a variable that is missing, unknown or of another type.
        """
        self._check(values)
        texts = {
            name: _text(values[name], declared.type, f"{name!r} of prompt {self.reference}")
            for name, declared in self.variables.items()
        }
        return Rendered(
            tuple(
                Message(role=role, content=_TOKEN.sub(lambda token: texts[token[1]], part))
                for role, part in self.messages
            ),
            self.reference,
        )

    def _check(self, values: Mapping[str, Any]) -> None:
        missing = sorted(set(self.variables) - set(values))
        unknown = sorted(set(values) - set(self.variables))
        if missing or unknown:
            told = [f"needs {', '.join(missing)}"] if missing else []
            told += [f"does not know {', '.join(unknown)}"] if unknown else []
            known = ", ".join(self.variables) or "none"
            raise PromptError(
                f"Prompt {self.reference} {' and '.join(told)}; its variables are: {known}"
            )


def _front(text: str, where: str) -> tuple[_Front, str]:
    found = _FRONT.match(text)
    if found is None:
        if text.startswith("+++"):
            raise PromptError(f"{where} begins with +++ and has no second line of +++: close it")
        return _Front(), text
    try:
        head = _Front.model_validate(tomllib.loads(found["head"]))
    except tomllib.TOMLDecodeError as error:
        raise PromptError(f"{where} has no valid TOML between its +++ lines: {error}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise PromptError(
            f"{where}: {key}: {problem['msg'].removeprefix('Value error, ')}; there may be "
            f"description, language and variables (types: {', '.join(get_args(Kind))})"
        ) from None
    return head, text[found.end() :]


def _sections(body: str, where: str) -> Iterator[tuple[str, str]]:
    """Without a section everything is one message of the user."""
    before, *parts = _SECTION.split(body)
    if not parts:
        parts, before = ["user", before], ""
    if before.strip():
        raise PromptError(f"{where} has text before its first section: put it under ## system")
    for role, part in zip(parts[::2], parts[1::2], strict=True):
        if not part.strip():
            raise PromptError(f"{where} has nothing under ## {role}: write it, or take it out")
        yield role, part.strip()


def _text(value: Any, kind: Kind, name: str) -> str:
    if kind == "json":
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError):
            raise PromptError(f"Variable {name} is to be JSON: give it what json takes") from None
    fits = {
        "any": isinstance(value, str | int | float | Decimal),
        "text": isinstance(value, str),
        "integer": isinstance(value, int),
        "number": isinstance(value, int | float | Decimal),
    }[kind]
    if isinstance(value, bool) or not fits:
        wanted = "text or a number" if kind == "any" else kind
        raise PromptError(f"Variable {name} is to be {wanted}, not {type(value).__name__}")
    return str(value)

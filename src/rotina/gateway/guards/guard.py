"""What a guard is, and the three kinds there are."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rotina.errors import GuardError
from rotina.gateway.guards.credentials import find_secrets
from rotina.gateway.guards.finding import Found, disjoint, redacted, replaced
from rotina.gateway.guards.pii import find_pii, recognizers, require_presidio
from rotina.gateway.guards.vault import Vault
from rotina.settings import GuardTable, Side

Finder = Callable[[str], Sequence[Found]]

KINDS = (
    "EMAIL", "IBAN", "CARD", "SSN", "CNPJ", "CPF", "PIS", "PHONE", "CEP", "IP",
)  # fmt: skip
_WORDS = {
    "EMAIL": "an e-mail address", "IBAN": "an IBAN", "CARD": "a card number",
    "SSN": "a US social security number", "CNPJ": "a CNPJ", "CPF": "a CPF", "PIS": "a PIS number",
    "PHONE": "a phone number", "CEP": "a CEP", "IP": "an IP address",
    "PRIVATE_KEY": "a private key", "AWS_KEY": "an AWS key", "GITHUB_TOKEN": "a GitHub token",
    "GITLAB_TOKEN": "a GitLab token", "SLACK_TOKEN": "a Slack token",
    "GOOGLE_KEY": "a Google key", "API_KEY": "an API key", "JWT": "a JSON web token",
    "PASSWORD": "a password", "TOKEN": "a token", "SECRET": "a secret",
}  # fmt: skip


@dataclass(frozen=True)
class Passage:
    """Texts on their way, and the call they belong to."""

    side: Side
    vault: Vault | None
    """None where nothing is to come back: what would be restored is redacted."""
    messages: int = 0
    """Messages of the request; 0 for an answer and for texts to embed."""


class Guard(Protocol):
    """One link of a route's chain."""

    @property
    def on(self) -> frozenset[Side]:
        """Which way it looks."""

    @property
    def waits(self) -> bool:
        """Whether it has to see a whole answer before any of it is given out."""

    def texts(self, texts: Sequence[str], passage: Passage) -> list[str]:
        """All texts of a request, or of an answer, as they may go on.

        Raises `GuardError`, which names what was found, never its value.
        """


@dataclass(frozen=True)
class Finding:
    """Takes out, or refuses, what it finds."""

    name: str
    on: frozenset[Side]
    action: str
    find: Finder

    @property
    def waits(self) -> bool:
        """Restoring needs no more than a placeholder at a time."""
        return self.action != "restore"

    def texts(self, texts: Sequence[str], passage: Passage) -> list[str]:
        """As `Guard` says."""
        if self.action == "restore" and passage.side == "output":
            assert passage.vault is not None
            return [passage.vault.restored(text) for text in texts]
        found = [disjoint(self.find(text)) for text in texts]
        if self.action == "refuse":
            self._refuse(found, passage.side)
        keep = passage.vault is not None and self.action == "restore"
        by = passage.vault.placeholder if passage.vault is not None and keep else redacted
        return [replaced(text, places, by) for text, places in zip(texts, found, strict=True)]

    def _refuse(self, found: Sequence[Sequence[Found]], side: Side) -> None:
        kinds = Counter(place.kind for places in found for place in places)
        if kinds:
            told = ", ".join(
                f"{_WORDS[kind]}{f' ({many} times)' if many > 1 else ''}"
                for kind, many in kinds.items()
            )
            what = "request" if side == "input" else "answer"
            raise GuardError(
                f"Guard {self.name!r} refused the {what}: it holds {told}. Leave it out"
            )


@dataclass(frozen=True)
class Size:
    """Refuses what is too long."""

    name: str
    on: frozenset[Side]
    max_chars: int | None
    max_messages: int | None
    waits = False

    def texts(self, texts: Sequence[str], passage: Passage) -> list[str]:
        """As `Guard` says."""
        self.check(sum(map(len, texts)), passage.side)
        if self.max_messages is not None and passage.messages > self.max_messages:
            raise GuardError(
                f"Guard {self.name!r} refused the request: it has {passage.messages} messages, and "
                f"may have {self.max_messages}. Send fewer"
            )
        return list(texts)

    def check(self, characters: int, side: Side) -> None:
        """Raises `GuardError` for more than there may be."""
        if self.max_chars is not None and characters > self.max_chars:
            what, remedy = (
                ("request", "Send less text") if side == "input" else ("answer", "Ask for less")
            )
            raise GuardError(
                f"Guard {self.name!r} refused the {what}: it has more than {self.max_chars} "
                f"characters. {remedy}"
            )


def make(name: str, table: GuardTable) -> Guard:
    """The guard that a table of the settings declares.

    Loads what it needs, which takes seconds the first time. Raises `SettingsError` where an extra
    is missing.
    """
    if table.kind == "size":
        return Size(name, table.on, table.max_chars, table.max_messages)
    if table.kind == "secrets":
        return Finding(name, table.on, table.action, find_secrets)
    require_presidio()
    asked = None if table.entities is None else {entity.upper() for entity in table.entities}
    kinds = [kind for kind in KINDS if asked is None or kind in asked]
    for kind in kinds:
        recognizers(kind, table.language)
    language = table.language
    return Finding(name, table.on, table.action, lambda text: find_pii(text, kinds, language))

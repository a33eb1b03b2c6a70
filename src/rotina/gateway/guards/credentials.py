"""Secrets: keys and tokens in the forms that their issuers give them, passwords in URLs, and values
that are assigned to a name that says so."""

import math
import re
from collections import Counter

from rotina.gateway.guards.finding import Found, plain

_FORMS = {
    "PRIVATE_KEY": r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[\s\S]{0,20000}?-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"|[\w+/=\s\\:,-]{0,20000})",
    "AWS_KEY": r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Za-z0-9])",
    "GITHUB_TOKEN": r"\bgh[pousr]_[A-Za-z0-9]{36,255}|\bgithub_pat_[A-Za-z0-9_]{22,255}",
    "GITLAB_TOKEN": r"\bgl(?:pat|ptt|dt|rt|cbt)-[\w-]{20,255}",
    "SLACK_TOKEN": r"\bxox[abeoprs]-[\w-]{10,255}|\bxapp-[\w-]{10,255}"
    r"|https://hooks\.slack\.com/(?:services|workflows)/[\w/+-]{20,255}",
    "GOOGLE_KEY": r"\bAIza[\w-]{35}(?![\w-])|\bya29\.[\w-]{20,2048}|\bGOCSPX-[\w-]{20,64}",
    "API_KEY": r"\b(?:sk|rk|pk)[-_](?:live|test|proj|ant|or|svcacct|admin)[-_][\w-]{16,255}"
    r"|\bsk-[A-Za-z0-9]{20,255}|\b(?:hf|gsk|npm|dop_v1|shpat)_[A-Za-z0-9]{20,255}"
    r"|\bxai-[A-Za-z0-9]{20,255}|\bpypi-[\w-]{40,512}|\bSG\.[\w-]{16,64}\.[\w-]{16,64}"
    r"|\brk_[A-Za-z0-9]{32,64}|\brtn_[0-9a-f]{12}_[\w-]{43}",
    "JWT": r"\beyJ[\w-]{8,4096}\.eyJ[\w-]{8,8192}\.[\w-]{16,2048}",
    "PASSWORD": r"(?<=://)[^\s/?#@:]{0,128}:(?P<value>[^\s/?#@]{1,256})(?=@)",
    "TOKEN": r"(?i:\bauthorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:bearer|basic|token)\s{1,3}"
    r"|\bbearer\s{1,3})(?P<value>[\w.~+/-]{16,4096}={0,2})",
}
_KNOWN = [(kind, re.compile(pattern)) for kind, pattern in _FORMS.items()]

_NAMES = (
    r"pass(?:word|wd|phrase|code)?|pwd|senha|secret|segredo|token|credential|credencial"
    r"|(?:api|access|auth|account|private|secret|encryption|signing|license)[_-]?key"
    r"|chave(?:[_-](?:de[_-])?(?:api|acesso|privada|secreta))?|client[_-]?secret"
)
_ASSIGNED = re.compile(
    rf"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?P<name>(?i:{_NAMES}))(?:[_-]\w{{1,20}})?"
    r"[\"'`]?\s{0,3}(?::=|=>|=|:|\bis\b|\bé\b)\s{0,3}[\"'`]?"
    r"(?P<value>[^\s\"'`<>,;(){}\[\]]{4,512})"
)
_WORDED = re.compile(r"(?i)pass|pwd|senha")

ENTROPY = 3.2
"""Bits a character, from which a long value is no word. English text of 20 letters has about 3;
random hexadecimal digits have 3.4 and more, random base 64 has 3.8."""
LONG = 16


def find_secrets(text: str) -> list[Found]:
    """What looks like a secret, in no order and maybe overlapping."""
    copy = plain(text)
    found = []
    for kind, pattern in _KNOWN:
        group = "value" if "value" in pattern.groupindex else 0
        found += [Found(*match.span(group), kind) for match in pattern.finditer(copy)]
    for match in _ASSIGNED.finditer(copy):
        value = match["value"].rstrip(".:!?")
        if _is_secret(match["name"], value):
            start = match.start("value")
            kind = "PASSWORD" if _WORDED.search(match["name"]) else "SECRET"
            found.append(Found(start, start + len(value), kind, 0.5))
    return found


def _is_secret(name: str, value: str) -> bool:
    """People choose short passwords, with a digit in them; keys are long and without order."""
    letter = any(one.isalpha() for one in value)
    digit = any(one.isdigit() for one in value)
    if _WORDED.search(name) and letter and digit:
        return True
    return len(value) >= LONG and digit and entropy(value) >= ENTROPY


def entropy(text: str) -> float:
    """Shannon's, in bits a character."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)

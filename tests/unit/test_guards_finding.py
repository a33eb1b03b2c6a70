"""What guards find in a text, what they leave alone, and that nothing of it is left over."""

import random
import string
import subprocess
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotina.gateway import redact
from rotina.gateway.guards.brazil import is_cnpj, is_cpf, is_pis
from rotina.gateway.guards.credentials import find_secrets
from rotina.gateway.guards.finding import Found, disjoint, redacted, replaced
from rotina.gateway.guards.guard import KINDS
from rotina.gateway.guards.pii import find_pii

CPF, CNPJ, LETTERS = "529.982.247-25", "11.222.333/0001-81", "12.ABC.345/01DE-35"
"""The last is the example that the Receita Federal gives of a CNPJ with letters."""


def pii(text: str, kinds: Iterable[str] = KINDS, language: str | None = None) -> list[str]:
    """`KIND value` for each that is found."""
    found = disjoint(find_pii(text, kinds, language))
    return [f"{one.kind} {text[one.start : one.end]}" for one in found]


def secrets(text: str) -> list[str]:
    return [f"{one.kind} {text[one.start : one.end]}" for one in disjoint(find_secrets(text))]


# ── check digits ──────────────────────────────────────────────────────────────────────────────


def test_check_digits() -> None:
    assert is_cpf(CPF)
    assert is_cpf("52998224725")
    assert not is_cpf("529.982.247-26")
    assert not is_cpf("111.111.111-11"), "right digits, and never given out"
    assert is_cnpj(CNPJ)
    assert is_cnpj(LETTERS)
    assert is_cnpj(LETTERS.lower())
    assert not is_cnpj("12.ABC.345/01DE-36")
    assert not is_cnpj("00.000.000/0000-00")
    assert not is_cnpj("11.222.333/0001-8A")
    assert is_pis("120.54789.01-3")
    assert not is_pis("120.54789.01-4")
    assert not is_pis("000.00000.00-0")
    assert not is_cpf("")


@given(st.text(alphabet="0123456789", min_size=9, max_size=9))
def test_one_pair_of_check_digits_in_a_hundred_is_right(base: str) -> None:
    right = [pair for pair in range(100) if is_cpf(f"{base}{pair:02}")]
    assert len(right) == (0 if len(set(base)) == 1 and base[0] * 2 == f"{_pair(base):02}" else 1)


def _pair(base: str) -> int:
    """The check digits by the rule's other wording: the sum times ten, modulo eleven."""
    digits = [int(one) for one in base]
    for _ in range(2):
        weights = range(len(digits) + 1, 1, -1)
        total = sum(digit * weight for digit, weight in zip(digits, weights, strict=True))
        digits.append(total * 10 % 11 % 10)
    return digits[9] * 10 + digits[10]


# ── personal data ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"O CPF do cliente é {CPF}.", [f"CPF {CPF}"]),
        ("cpf:52998224725, ok", ["CPF 52998224725"]),
        ("Her CPF is 529 982 247 25", ["CPF 529 982 247 25"]),
        (f"CNPJ {CNPJ} e {LETTERS}", [f"CNPJ {CNPJ}", f"CNPJ {LETTERS}"]),
        ("cnpj 11222333000181", ["CNPJ 11222333000181"]),
        ("CNPJ 12ABC34501DE35;", ["CNPJ 12ABC34501DE35"]),
        ("Ligue para (11) 91234-5678 hoje", ["PHONE (11) 91234-5678"]),
        ("whatsapp 11912345678", ["PHONE 11912345678"]),
        ("+55 11 91234-5678", ["PHONE +55 11 91234-5678"]),
        ("+5521987654321", ["PHONE +5521987654321"]),
        ("fixo: (21) 3123-4567", ["PHONE (21) 3123-4567"]),
        ("call +44 20 7946 0958", ["PHONE +44 20 7946 0958"]),
        ("call (212) 555-0123", ["PHONE (212) 555-0123"]),
        ("CEP 01310-100, São Paulo", ["CEP 01310-100"]),
        ("cep: 01310100", ["CEP 01310100"]),
        ("Escreva para joão.silva@exemplo.com.br!", ["EMAIL joão.silva@exemplo.com.br"]),
        ("Mail ana+x@intranet.local, please", ["EMAIL ana+x@intranet.local"]),
        ("IBAN DE89 3704 0044 0532 0130 00.", ["IBAN DE89 3704 0044 0532 0130 00"]),
        ("card 4111 1111 1111 1111 exp", ["CARD 4111 1111 1111 1111"]),
        ("cartão 5555-5555-5555-4444", ["CARD 5555-5555-5555-4444"]),
        ("cartão 2223 0031 2200 3222", ["CARD 2223 0031 2200 3222"]),
        ("Amex 3782 822463 10005", ["CARD 3782 822463 10005"]),
        ("PIS 12054789013 ou 120.54789.01-3", ["PIS 12054789013", "PIS 120.54789.01-3"]),
        ("SSN 536-22-1234", ["SSN 536-22-1234"]),
        ("from 203.0.113.7 at noon", ["IP 203.0.113.7"]),
        ("host 2001:db8::8a2e:370:7334", ["IP 2001:db8::8a2e:370:7334"]),
        # As web pages, word processors and JSON write them.
        ("CPF\u00a0529.982.247\u201125", ["CPF 529.982.247\u201125"]),
        ('{"note": "CPF:\\n529.982.247-25"}', ["CPF 529.982.247-25"]),
        ("５２９.９８２.２４７-２５", ["CPF ５２９.９８２.２４７-２５"]),
    ],
)
def test_what_is_found(text: str, found: list[str]) -> None:
    assert pii(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "Pedido 529.982.247-26 enviado",
        "Order 52998224726 shipped",
        "nota fiscal 11222333000182",
        "Invoice INV-2026-000123, total R$ 1.234,56",
        "order 12345678901 and 2125551234",
        "protocolo 11912345678901",
        "2026-11-24 10:00:00, item 1234-5678",
        "chave 35260911222333000181550010000001231000001234",
        "card 4111 1111 1111 1112",
        "IBAN DE89 3704 0044 0532 0130 01",
        "npm install left-pad@1.3.0; user@host",
        "página 12345678",
        "hotel 11912345678, religado 11912345678",
        "SSN 000-22-1234",
        "",
        "Uma frase sem números; a sentence without numbers.",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert pii(text) == []
    assert redact(text) == text


def test_only_what_is_asked_for_is_looked_for() -> None:
    text = f"{CPF} ana@example.org"
    assert pii(text, ["EMAIL"]) == ["EMAIL ana@example.org"]
    assert pii(text, []) == []


def test_whose_numbers_are_phone_numbers() -> None:
    assert pii("call 0117 496 0123 now", ["PHONE"], "en") == ["PHONE 0117 496 0123"]
    assert pii("call 0117 496 0123 now", ["PHONE"], "pt") == []


def test_nothing_is_asked_of_the_internet() -> None:
    """Presidio's own recogniser of addresses downloads a list of domains."""
    program = (
        "import socket\n"
        "def refuse(*_, **__): raise SystemExit('asked the network')\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "from rotina.gateway import redact\n"
        "print(redact('Mail ana@example.org, key ghp_' + 'a1B2' * 9))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "Mail <EMAIL>, key <GITHUB_TOKEN>"


BETWEEN = st.sampled_from([" ", ", ", " ção ", "\n", " 🙂 ", " (", ") ", ": "])


@given(
    st.lists(st.tuples(st.text(alphabet="0123456789", min_size=9, max_size=9), st.booleans())),
    st.lists(BETWEEN, min_size=1, max_size=4),
)
def test_every_cpf_is_found_wherever_it_stands(
    bases: list[tuple[str, bool]], between: list[str]
) -> None:
    text, expected = "x", []
    for at, (base, punctuated) in enumerate(bases):
        whole = f"{base}{_pair(base):02}"
        if len(set(whole)) == 1:
            continue
        if punctuated:
            whole = f"{whole[:3]}.{whole[3:6]}.{whole[6:9]}-{whole[9:]}"
        expected.append(f"CPF {whole}")
        text += f"{between[at % len(between)]}{whole}"
    assert pii(text, ["CPF"]) == expected


# ── secrets ───────────────────────────────────────────────────────────────────────────────────

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK==\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("key AKIAIOSFODNN7EXAMPLE.", ["AWS_KEY AKIAIOSFODNN7EXAMPLE"]),
        ("ghp_" + "a1B2" * 9, ["GITHUB_TOKEN ghp_" + "a1B2" * 9]),
        ("github_pat_" + "a1B2" * 9, ["GITHUB_TOKEN github_pat_" + "a1B2" * 9]),
        ("xoxb-123456789012-abcdef", ["SLACK_TOKEN xoxb-123456789012-abcdef"]),
        ("AIza" + "a1B2C" * 7, ["GOOGLE_KEY AIza" + "a1B2C" * 7]),
        ("use sk-proj-" + "a1B2" * 9, ["API_KEY sk-proj-" + "a1B2" * 9]),
        ("sk_live_" + "a1B2" * 6, ["API_KEY sk_live_" + "a1B2" * 6]),
        (
            f"eyJ{'a' * 12}.eyJ{'b' * 12}.{'c' * 20}",
            [f"JWT eyJ{'a' * 12}.eyJ{'b' * 12}.{'c' * 20}"],
        ),
        ("postgresql://app:s3nha%21@db/x", ["PASSWORD s3nha%21"]),
        ("redis://:hunter2@cache", ["PASSWORD hunter2"]),
        ("Authorization: Bearer " + "aB3-" * 6, ["TOKEN " + "aB3-" * 6]),
        ("DB_PASSWORD=Tr0ub4dor&3", ["PASSWORD Tr0ub4dor&3"]),
        ("dbPassword: 'c0rrect'", ["PASSWORD c0rrect"]),
        ("A senha é gato123!", ["PASSWORD gato123"]),
        ('"api_key": "9f8e7d6c5b4a39281706"', ["SECRET 9f8e7d6c5b4a39281706"]),
        ("client_secret = Zx81QmPq72LkVb09", ["SECRET Zx81QmPq72LkVb09"]),
        (f"before {PEM} after.", [f"PRIVATE_KEY {PEM}"]),
        (PEM.replace("\n", "\\n"), ["PRIVATE_KEY " + PEM.replace("\n", "\\n")]),
    ],
)
def test_secrets_are_found(text: str, found: list[str]) -> None:
    assert secrets(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "The password is required; see the settings.",
        "A senha é obrigatória e o token: opcional.",
        "token: str = Field(default=None)",
        "max_tokens=4096, api_key_env = GPU_KEY_VARIABLE",
        "https://example.org:8080/path?x=1#user@host",
        "commit 3fa9c1d2e4b5a6978899aabbccddeeff00112233",
        "task-sk-learn and desk-lamps-are-fine",
        "secret: internationalisation-of-things",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert secrets(text) == []


def test_a_key_that_was_cut_is_taken_out_as_far_as_it_goes() -> None:
    assert redact("x -----BEGIN PRIVATE KEY-----\nMIIEow\nIBAAK") == "x <PRIVATE_KEY>"


# ── places ────────────────────────────────────────────────────────────────────────────────────


def test_overlapping_places_leave_no_end_over() -> None:
    found = [Found(0, 6, "A", 0.5), Found(4, 9, "B", 1.0), Found(9, 11, "C"), Found(5, 6, "D")]
    assert disjoint(found) == [Found(0, 9, "B", 1.0), Found(9, 11, "C")]
    assert replaced("0123456789abc", disjoint(found), redacted) == "<B><C>bc"
    assert disjoint([]) == []


@given(
    st.text(max_size=30),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.sampled_from("AB"))),
)
def test_what_is_covered_goes_and_all_else_stays(
    text: str, places: list[tuple[int, int, str]]
) -> None:
    found = [
        Found(start, min(start + length, len(text)), kind)
        for start, length, kind in places
        if start < len(text)
    ]
    covered = {at for one in found for at in range(one.start, one.end)}
    left = "".join(one for at, one in enumerate(text) if at not in covered)
    assert replaced(text, disjoint(found), lambda _, __: "") == left


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "1 ", "-", "a-", "1.", "pass", "@a.", "eyJa.", "://a:", "<", "(11) 9", " 9A "],
)
def test_no_text_makes_it_slow(unit: str) -> None:
    """A pattern that tries everything would not come to an end."""
    text = (unit * 50_000)[:50_000]
    assert len(redact(text)) <= 10 * len(text)
    assert len(redact(text.upper())) <= 10 * len(text)


def test_random_order_numbers_are_rarely_taken_for_a_cpf() -> None:
    """Two check digits let one number in a hundred pass; nothing else of eleven digits does."""
    source = random.Random(7)
    numbers = ["".join(source.choices(string.digits, k=11)) for _ in range(2000)]
    found = sum(bool(pii(f"Pedido {number} enviado")) for number in numbers)
    assert found <= 40

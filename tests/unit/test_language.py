"""Language detection between English and Portuguese."""

import subprocess
import sys

import pytest

from rotina.graphs.language import Language, detect

ENGLISH = (
    "where is my order?",
    "I WANT TO TALK TO A PERSON",
    "Invoice for November: $1,234.50",
    "password reset",
    "My e-mail is ana@exemplo.com.br and the page is https://loja.exemplo.com.br/pedidos",
    "hello",
    "No.",
)
PORTUGUESE = (
    "cadê meu pedido?",
    "cade meu pedido",
    "QUERO FALAR COM ATENDENTE",
    "Fatura de novembro: R$ 1.234,50",
    "esqueci a senha",
    "Meu e-mail é joe@example.com e a página é https://shop.example.com/orders/list",
    "Sim!",
    "nao",
)


@pytest.mark.parametrize("text", ENGLISH)
def test_english(text: str) -> None:
    assert detect(text, default="pt") == "en"


@pytest.mark.parametrize("text", PORTUGUESE)
def test_portuguese(text: str) -> None:
    assert detect(text, default="en") == "pt"


@pytest.mark.parametrize(
    "text",
    ["", " \n\t", "1.234,50", "2025-03-04 A-7/12", "ana@exemplo.com.br", "{{name}} {x}", "…"],
)
@pytest.mark.parametrize("default", ["en", "pt"])
def test_a_text_without_words_gets_the_default(text: str, default: Language) -> None:
    assert detect(text, default=default) == default


def test_the_beginning_of_a_long_text_decides() -> None:
    assert detect("O pedido chegou ontem à tarde. " * 400) == "pt"
    assert detect("The order arrived yesterday. " * 400 + "O pedido chegou. " * 4000) == "en"


def test_letters_that_no_utf8_text_holds_are_no_error() -> None:
    assert detect("o pedido n\udce3o chegou ontem") == "pt"


def test_importing_loads_no_model() -> None:
    code = "import sys, rotina.graphs.language; sys.exit('py3langid' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The fixed sentences of a support bot, in both languages."""

from collections.abc import Sequence

from rotina.graphs.language import Language
from rotina.graphs.support.tool import Tool, Words

YES_OR_NO: Words = {"en": "(yes or no)", "pt": "(sim ou não)"}
GREETING: Words = {
    "en": "Hello! Ask me anything about our services.",
    "pt": "Olá! Pergunte o que quiser sobre os nossos serviços.",
}
OFFER: Words = {
    "en": "Shall I pass this on to a person?",
    "pt": "Quer que eu passe isso para uma pessoa?",
}
HANDED_OVER: Words = {
    "en": "I have passed this on to a person, who will get back to you.",
    "pt": "Passei isso para uma pessoa, que vai falar com você.",
}
DECLINED: Words = {
    "en": "All right, I have not done anything.",
    "pt": "Tudo bem, não fiz nada.",
}
_NEEDED: Words = {"en": "For that, please tell me {}.", "pt": "Para isso, me informe {}."}
_DROPPED: Words = {"en": "(I did not {}.)", "pt": "(Não fui adiante com: {}.)"}
_AND: Words = {"en": " and ", "pt": " e "}


def needed(tool: Tool, missing: Sequence[str], language: Language) -> str:
    """Asks for the arguments that the customer has not given."""
    named = [tool.asks_for[name][language] for name in missing if name in tool.asks_for]
    listed = _AND[language].join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return _NEEDED[language].format(listed)


def dropped(tool: Tool, language: Language) -> str:
    """Tells that what a yes or no was asked for is not going to happen."""
    return _DROPPED[language].format(tool.label[language])

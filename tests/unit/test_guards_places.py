"""Guards look into every place of a request and an answer where a text may stand."""

import json
from typing import Any

import pytest

from rotina.errors import ModelOutputError
from rotina.gateway import Gateway, redact
from rotina.gateway.guards.walk import in_message
from rotina.settings import Deployment, GuardTable, Route, Settings
from tests.scripted_model import ScriptedModel, chat

CPF = "111.444.777-35"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("rtn_0123456789ab_" + "aB3" * 14 + "x", "<API_KEY>"),
        ("Telefone: 98765-4321", "Telefone: <PHONE>"),
        ("caixa 98765-4321", "caixa 98765-4321"),
        ("social security number is 536904399", "social security number is <SSN>"),
        ("order 536904399", "order 536904399"),
        (f"日本語{CPF}日本語", "日本語<CPF>日本語"),
        ("section 4.5.6.7.8", "section 4.5.6.7.8"),
        ("std::string and a::b", "std::string and a::b"),
        ("from 10.1.2.3:80, 2001:db8::8a2e:370:7334", "from <IP>:80, <IP>"),
    ],
)
def test_what_is_found_and_what_stays(text: str, left: str) -> None:
    assert redact(text) == left


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"cpf": 11144477735}', {"cpf": "<CPF>"}),
        ('{"senha": "c4valoBateria9"}', {"senha": "<PASSWORD>"}),
        ('{"cep": "01310100", "n": 7, "ok": true}', {"cep": "<CEP>", "n": 7, "ok": True}),
        ('{"a": "{\\"password\\": \\"c4valoBateria9\\"}"}', {"a": '{"password": "<PASSWORD>"}'}),
        (f'["x", "{CPF}"]', ["x", "<CPF>"]),
    ],
)
def test_json_stays_json_and_names_say_what_values_are(text: str, value: Any) -> None:
    assert json.loads(redact(text)) == value


def test_parts_within_parts() -> None:
    inner = [{"type": "text", "text": CPF}, {"type": "image", "data": "AAAA"}]
    parts: Any = [
        {"type": "tool_result", "content": inner},
        {"type": "tool_use", "input": {"cpf": CPF, "deep": [{"x": CPF}]}},
        {"type": "tool_result", "content": f"CPF {CPF}"},
    ]
    changed = in_message({"role": "user", "content": parts}, redact)
    assert CPF not in json.dumps(changed)
    assert '"data": "AAAA"' in json.dumps(changed)


def guarded(model: ScriptedModel, **table: Any) -> Gateway:
    from pydantic import SecretStr

    one = Deployment(model="tiny", base_url=SecretStr(model.base_url))
    return Gateway(
        Settings(
            deployments={"one": one},
            routes={"smart": Route(deployments=["one"], guards=["own"])},
            guards={"own": GuardTable(kind="pii", **table)},
        )
    )


@pytest.mark.parametrize("action", ["redact", "restore"])
async def test_a_refusal_passes_the_guards_too(action: str) -> None:
    said = "<CPF_1>" if action == "restore" else CPF
    refusal = chat(None, refusal=f"I cannot look up {said}.")
    async with ScriptedModel(refusal) as model, guarded(model, action=action) as gateway:
        with pytest.raises(ModelOutputError) as caught:
            await gateway.chat([{"role": "user", "content": f"Who is {CPF}?"}])
    assert CPF not in str(caught.value), "errors show placeholders"
    answer = caught.value.answer
    assert answer is not None
    told = CPF if action == "restore" else "<CPF>"
    assert answer.refusal == f"I cannot look up {told}."

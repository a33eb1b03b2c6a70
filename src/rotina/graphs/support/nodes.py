"""Nodes of support: listen, understand, then one of what can be done, then reply."""

from datetime import datetime
from uuid import UUID

from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.gateway import Message
from rotina.graphs.answering.answer import Answer
from rotina.graphs.answering.asking import answer
from rotina.graphs.answering.retrieving import retrieve
from rotina.graphs.context import Context
from rotina.graphs.language import Language, detect
from rotina.graphs.support import phrases
from rotina.graphs.support.arguments import Checked, check_arguments
from rotina.graphs.support.consent import read_consent
from rotina.graphs.support.prompts import decision_schema, messages
from rotina.graphs.support.state import Decision, Pending, SupportState
from rotina.graphs.support.support import PERSON, ReplyStatus, Support, SupportReply
from rotina.graphs.support.tool import Call, Tool
from rotina.grounding.facts import Facts
from rotina.knowledge import Passage
from rotina.runs import ThreadMessage, now

HISTORY_MESSAGES = 40
"""Messages of a thread that the bot still knows."""
DECISION_TOKENS = 300


class Nodes:
    """The nodes of one support bot."""

    def __init__(self, support: Support) -> None:
        self._support = support

    async def listen(self, state: SupportState, runtime: Runtime[Context]) -> SupportState:
        """What was said before. Raises `TryLaterError` while an earlier message is answered."""
        conversation = await runtime.context.conversation(UUID(state["thread"]))
        remembered = conversation.thread.state
        return {
            "today": (await now()).date().isoformat(),
            "language": detect(state["text"], default=remembered.get("language", "en")),
            "customer": conversation.thread.customer,
            "history": [_message(line) for line in conversation.history[-HISTORY_MESSAGES:]],
            "pending": remembered.get("pending"),
        }

    async def understand(self, state: SupportState, runtime: Runtime[Context]) -> SupportState:
        """What the customer wants: a plain yes or no by code, all else by one model call."""
        pending = state["pending"]
        if pending and (consent := read_consent(state["text"])):
            # "ok" is both languages': the one of the question goes on.
            language = pending["language"]
            action = "confirm" if consent == "yes" else "decline"
            return {"decision": {"action": action}, "language": language}
        reply = await runtime.context.at("understand").chat(
            messages(self._support, state["text"], state["history"], pending),
            route=self._support.route,
            schema=decision_schema(self._support, pending=pending is not None),
            schema_name="decision",
            max_tokens=DECISION_TOKENS,
        )
        decision: Decision = reply.data
        if decision["action"] == "confirm" and not _agrees(state["text"], pending):
            decision = {"action": "answer", "question": state["text"]}
        return {"decision": decision}

    async def retrieve(self, state: SupportState, runtime: Runtime[Context]) -> SupportState:
        """Passages in the customer's language, else in the other."""
        spoken = state["language"]
        collections = self._support.collections
        found: list[Passage] = []
        for language in sorted(collections, key=lambda each: each != spoken):
            found = found or await retrieve(
                runtime.context.knowledge,
                _question(state),
                collections[language],
                k=self._support.k,
                floor=self._support.floor,
            )
        return {"passages": [passage.model_dump(mode="json") for passage in found]}

    async def answer_question(self, state: SupportState, runtime: Runtime[Context]) -> SupportState:
        """The checked answer; where the sources do not say, a person is offered."""
        found = await answer(
            _question(state),
            [Passage.model_validate(passage) for passage in state["passages"]],
            runtime.context.at("answer_question"),
            language=state["language"],
            route=self._support.route,
            persona=self._support.persona,
        )
        return self._offer(state, found) if found.status == "unknown" else _answered(found)

    async def look_up(self, state: SupportState, runtime: Runtime[Context]) -> SupportState:
        """Run a read tool with arguments that the customer gave."""
        tool, checked = self._checked(state)
        if checked.values is None:
            return _needs(tool, checked, state["language"])
        arguments = tool.arguments.model_validate(checked.values)
        return await self._run(tool, arguments, state, runtime.context, "told")

    async def propose(self, state: SupportState) -> SupportState:
        """Ask for a yes or no before an effect."""
        tool, checked = self._checked(state)
        language = state["language"]
        if checked.values is None:
            return _needs(tool, checked, language)
        assert tool.confirmation is not None, "the declaration was checked"
        arguments = tool.arguments.model_validate(checked.values)
        asked = f"{tool.confirmation(arguments, language)} {phrases.YES_OR_NO[language]}"
        pending: Pending = {
            "tool": tool.name,
            "arguments": checked.values,
            "asked": asked,
            "language": language,
        }
        said = _says(asked, "asked", language, tool=tool.name)
        return {**said, "next_pending": pending}

    async def carry_out(self, state: SupportState, runtime: Runtime[Context]) -> SupportState:
        """Do what the customer said yes to."""
        pending = state["pending"]
        assert pending is not None, "routed here by a yes"
        tool = self._support.by_name[pending["tool"]]
        arguments = tool.arguments.model_validate(pending["arguments"])
        return await self._run(tool, arguments, state, runtime.context, "done")

    async def decline(self, state: SupportState) -> SupportState:
        """The customer said no: nothing is done."""
        pending = state["pending"]
        language = state["language"]
        return _says(
            phrases.DECLINED[language], "declined", language, tool=pending and pending["tool"]
        )

    async def hand_over(self, state: SupportState, runtime: Runtime[Context]) -> SupportState:
        """Pass the conversation on to a person."""
        language = state["language"]
        receipt = None
        if self._support.hand_over is not None:
            pending = state["pending"]
            asked = "" if pending is None else pending["arguments"].get("question", "")
            receipt = await self._support.hand_over(
                _call(state, runtime.context), asked or state["text"]
            )
        return _says(phrases.HANDED_OVER[language], "handed_over", language, result=receipt)

    async def talk(self, state: SupportState) -> SupportState:
        """A greeting: fixed, because nothing proves what a model would say."""
        language = state["language"]
        return _says(self._support.greeting[language], "talk", language)

    async def reply(self, state: SupportState, runtime: Runtime[Context]) -> SupportState:
        """Write the reply and what is remembered, in one transaction."""
        said = SupportReply.model_validate(state["reply"])
        pending, following = state["pending"], state.get("next_pending")
        left = self._left_undone(state, said)
        if left is not None:
            text = f"{said.text}\n{phrases.dropped(left, said.language)}"
            said = said.model_copy(update={"text": text})
        conversation = await runtime.context.conversation(UUID(state["thread"]))
        data = said.model_dump(mode="json", exclude={"text"})
        if pending is not None:
            data["answered_to"] = pending["asked"]
        remembered = {"language": said.language, "pending": following}
        await conversation.reply(said.text, data, state=remembered)
        return {"reply": said.model_dump(mode="json")}

    def _left_undone(self, state: SupportState, said: SupportReply) -> Tool | None:
        """The effect that waited for a yes or no and got neither: it is dropped, and told."""
        pending = state["pending"]
        settled = state["decision"]["action"] in {"confirm", "decline"}
        if pending is None or settled or said.tool == pending["tool"]:
            return None
        return self._support.by_name.get(pending["tool"])

    def _checked(self, state: SupportState) -> tuple[Tool, Checked]:
        decision = state["decision"]
        tool = self._support.by_name[decision["action"]]
        earlier = [str(m["content"]) for m in state["history"] if m["role"] == "user"]
        checked = check_arguments(
            decision["arguments"],
            tool.arguments,
            "\n".join([*earlier, state["text"]]),
            free=tool.free,
            today=datetime.fromisoformat(state["today"]).date(),
        )
        return tool, checked

    async def _run(
        self,
        tool: Tool,
        arguments: BaseModel,
        state: SupportState,
        context: Context,
        status: ReplyStatus,
    ) -> SupportState:
        result = await tool.run(_call(state, context), arguments)
        language = state["language"]
        text = tool.tells(result, language)
        return _says(text, status, language, tool=tool.name, result=result)

    def _offer(self, state: SupportState, found: Answer) -> SupportState:
        """Say that it is not known, and offer a person."""
        language = found.language
        asked = f"{phrases.OFFER[language]} {phrases.YES_OR_NO[language]}"
        pending: Pending = {
            "tool": PERSON,
            "arguments": {"question": state["text"]},
            "asked": asked,
            "language": language,
        }
        said = _says(f"{found.text} {asked}", "unknown", language, dropped=found.dropped)
        return {**said, "next_pending": pending}


def _message(line: ThreadMessage) -> Message:
    return {"role": line.role, "content": line.text}


def _question(state: SupportState) -> str:
    """The first message as the customer wrote it; a later one so that it stands alone."""
    rewritten = state["decision"].get("question", "").strip()
    return rewritten if rewritten and state["history"] else state["text"]


def _agrees(text: str, pending: Pending | None) -> bool:
    """Whether a yes that a model heard is one to what was asked: it brings in nothing new."""
    return pending is not None and not Facts(text).missing_in(Facts(pending["asked"]))


def _call(state: SupportState, context: Context) -> Call:
    return Call(
        context=context,
        thread=UUID(state["thread"]),
        customer=state["customer"],
        language=state["language"],
        text=state["text"],
    )


def _answered(found: Answer) -> SupportState:
    said = SupportReply(
        text=found.text,
        status="answered",
        language=found.language,
        citations=found.citations,
        dropped=found.dropped,
    )
    return {"reply": said.model_dump(mode="json"), "next_pending": None}


def _needs(tool: Tool, checked: Checked, language: Language) -> SupportState:
    text = phrases.needed(tool, checked.missing, language)
    return _says(text, "needs", language, tool=tool.name)


def _says(
    text: str,
    status: ReplyStatus,
    language: Language,
    *,
    tool: str | None = None,
    result: dict[str, object] | None = None,
    dropped: list[str] | None = None,
) -> SupportState:
    said = SupportReply(
        text=text,
        status=status,
        language=language,
        tool=tool,
        result=result,
        dropped=dropped or [],
    )
    return {"reply": said.model_dump(mode="json"), "next_pending": None}

"""Nodes of extraction: load, split, extract (once a piece), ground, validate."""

from typing import Any

from jsonschema import Draft202012Validator
from langgraph.runtime import Runtime
from langgraph.types import Send
from pydantic import BaseModel, ValidationError

from rotina.errors import ContextTooLongError, ModelTruncatedError
from rotina.graphs.context import Context
from rotina.graphs.extraction.extraction import (
    ExtractedField,
    Extraction,
    ExtractionResult,
    Problem,
    ReadDocument,
)
from rotina.graphs.extraction.prompts import messages, system_prompt
from rotina.graphs.extraction.reading import merge, pointer, read
from rotina.graphs.extraction.state import Answer, ExtractionState, PieceState
from rotina.graphs.splitting import halve, room, split
from rotina.grounding import GroundedField, Source, ground
from rotina.knowledge.document import Document
from rotina.runs import FileReference


class Nodes:
    """The nodes of one extraction graph."""

    def __init__(self, extraction: Extraction | None) -> None:
        self._extraction = extraction

    async def load(self, state: ExtractionState, runtime: Runtime[Context]) -> ExtractionState:
        """The document's text. Raises `DocumentError` when it has none, `SchemaError` early."""
        _ = self._spec(state).wire
        reference = FileReference.model_validate(state["document"])
        document = await runtime.context.load(reference)
        return {"loaded": document.model_dump(mode="json")}

    async def split(self, state: ExtractionState, runtime: Runtime[Context]) -> ExtractionState:
        """Pieces that leave room for prompt and answer in the model's context."""
        spec = self._spec(state)
        document = Document.model_validate(state["loaded"])
        constant = messages(system_prompt(spec.schema, spec.instructions), spec.examples, "")
        limit = room(runtime.context.gateway, spec.route, spec.answer_tokens, constant)
        starts = [page.start for page in document.pages]
        return {"pieces": split(document.text, starts, limit)}

    def fan_out(self, state: ExtractionState) -> list[Send]:
        """One `extract` task a piece; finished ones are checkpointed one by one."""
        text = state["loaded"]["text"]
        schema = state.get("schema")
        return [
            Send("extract", _piece_state(text[piece["start"] : piece["end"]], piece, schema))
            for piece in state["pieces"]
        ]

    async def extract(self, state: PieceState, runtime: Runtime[Context]) -> ExtractionState:
        """Ask the model about one piece; a piece that is too long for it is halved."""
        data = await self._ask(self._spec(state), state["text"], runtime.context)
        answer: Answer = {"index": state["piece"]["index"], "data": data}
        return {"answers": [answer]}

    async def ground(self, state: ExtractionState) -> ExtractionState:
        """Merge the answers, read them as typed values, and find the characters that prove each."""
        spec = self._spec(state)
        document = Document.model_validate(state["loaded"])
        source = Source(document.text)
        answers = sorted(state.get("answers", []), key=lambda answer: answer["index"])
        wire = merge(answer["data"] for answer in answers)
        data, problems = read(wire, spec.schema, source)
        grounded = ground(data, source, schema=spec.schema)
        result = ExtractionResult(
            data=data or {},
            fields=[_field(field, document) for field in grounded],
            problems=problems,
            document=_read_document(document),
            pieces=len(state["pieces"]),
        )
        return {"extraction": result.model_dump(mode="json")}

    async def validate(self, state: ExtractionState) -> ExtractionState:
        """Check the data against the user's schema and checks; problems are told, not hidden."""
        spec = self._spec(state)
        result = ExtractionResult.model_validate(state["extraction"])
        problems = [*result.problems, *_violations(spec, result.data)]
        for check in spec.checks:
            problems += check(result.data)
        checked = result.model_copy(update={"problems": problems})
        return {"extraction": checked.model_dump(mode="json")}

    def _spec(self, state: ExtractionState | PieceState) -> Extraction:
        return self._extraction or Extraction(shape=state.get("schema") or {})

    async def _ask(self, spec: Extraction, text: str, context: Context) -> dict[str, Any]:
        system = system_prompt(spec.schema, spec.instructions)
        try:
            answer = await context.at("extract").chat(
                messages(system, spec.examples, text),
                route=spec.route,
                schema=spec.wire,
                max_tokens=spec.answer_tokens,
            )
        except (ContextTooLongError, ModelTruncatedError):
            halves = halve(text)
            if not halves:
                raise
            return merge([await self._ask(spec, half, context) for half in halves])
        assert isinstance(answer.data, dict), "the gateway validated it against the schema"
        return answer.data


def _piece_state(text: str, piece: Any, schema: dict[str, Any] | None) -> PieceState:
    state: PieceState = {"piece": piece, "text": text}
    if schema is not None:
        state["schema"] = schema
    return state


def _field(field: GroundedField, document: Document) -> ExtractedField:
    proof = field.evidence
    if proof is None:
        return ExtractedField(path=field.path, value=field.value, proven=False)
    return ExtractedField(
        path=field.path,
        value=field.value,
        proven=True,
        quote=proof.quote,
        start=proof.start,
        end=proof.end,
        page=document.page_of(proof.start),
        line=document.line_of(proof.start),
        method=proof.method,
    )


def _read_document(document: Document) -> ReadDocument:
    return ReadDocument(
        name=document.name,
        sha256=document.sha256,
        media_type=document.media_type,
        pages=len(document.pages),
        text=document.text,
    )


def _violations(spec: Extraction, data: dict[str, Any]) -> list[Problem]:
    """What the user's schema says against the data; what is absent counts only if required."""
    stated = _without_nulls(data)
    if isinstance(spec.shape, type) and issubclass(spec.shape, BaseModel):
        try:
            spec.shape.model_validate(stated)
        except ValidationError as error:
            return [
                Problem(path=_pointer(problem["loc"]), message=problem["msg"])
                for problem in error.errors(include_url=False, include_context=False)
            ]
        return []
    validator = Draft202012Validator(
        spec.schema, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    return [
        Problem(path=_pointer(error.absolute_path), message=error.message[:300])
        for error in sorted(validator.iter_errors(stated), key=lambda error: list(error.path))
    ]


def _pointer(parts: Any) -> str:
    path = ""
    for part in parts:
        path = pointer(path, part)
    return path


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value

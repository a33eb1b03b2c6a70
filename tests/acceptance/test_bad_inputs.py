"""Documents nobody wants: each ends as a clear error or result on its run, never hung or lost."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from tests.acceptance.scripts import document
from tests.acceptance.stack import Stack

CYCLE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}},
    },
}


def pdf(draw: Callable[[Canvas], None], **options: Any) -> bytes:
    """A PDF that `draw` paints."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, **options)
    draw(canvas)
    canvas.save()
    return buffer.getvalue()


def encrypted() -> bytes:
    """Needs a password to open."""
    encryption = StandardEncryption("secret", canPrint=0)
    return pdf(lambda canvas: canvas.drawString(72, 700, "Total 1"), encrypt=encryption)


def scanned() -> bytes:
    """A page with a drawing and no text."""
    return pdf(lambda canvas: canvas.rect(72, 72, 200, 200, fill=1))


def long() -> bytes:
    """300 pages."""

    def draw(canvas: Canvas) -> None:
        for number in range(300):
            canvas.drawString(72, 700, f"page {number}")
            canvas.showPage()

    return pdf(draw)


def bomb() -> bytes:
    """A DOCX that unzips to 400 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", b"\0" * 400_000_000)
    return buffer.getvalue()


BAD = {
    "encrypted.pdf": (encrypted, "EncryptedDocumentError", "password"),
    "scanned.pdf": (scanned, "NoTextLayerError", "text"),
    "empty.pdf": (lambda: b"", "EmptyDocumentError", "0 bytes"),
    "long.pdf": (long, "DocumentTooLargeError", "max_pages"),
    "bomb.docx": (bomb, "DocumentTooLargeError", "bomb.docx"),
    "picture.bin": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "CorruptDocumentError", "png"),
    "program.bin": (lambda: b"\x7fELF" + bytes(100), "UnsupportedDocumentError", "a program"),
}


def run_json(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines of `rotina run … --json`."""
    done = stack.run("run", *arguments, "--json", timeout=240)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    return lines


@pytest.mark.timeout(300)
def test_every_bad_document_ends_with_its_error(scripted: Stack, tmp_path: Path) -> None:
    scripted.worker()
    for name, (make, _, _) in BAD.items():
        (tmp_path / name).write_bytes(make())
    (tmp_path / "latin1.txt").write_bytes(
        document(1).replace("Acme 1 Ltd.", "Açaí do Sertão Ltda.").encode("latin-1")
    )
    paths = [str(tmp_path / name) for name in (*BAD, "latin1.txt")]
    *bad, latin = run_json(scripted, "invoice_intake", *paths)
    for line, (name, (_, error, said)) in zip(bad, BAD.items(), strict=True):
        assert line["state"] == "failed", name
        assert line["error"]["type"] == error, line
        assert said in line["error"]["message"].lower() or said in line["error"]["message"]
        assert line["error"]["node"] == "load"
        assert line["attempts"] == 1, "nothing about it gets better by trying again"
    assert latin["state"] == "succeeded"
    assert latin["result"]["extraction"]["data"]["supplier"]["name"] == "Açaí do Sertão Ltda."


def test_a_schema_without_an_end_is_refused(scripted: Stack, tmp_path: Path) -> None:
    scripted.worker()
    path = tmp_path / "a.txt"
    path.write_text("anything")
    (line,) = run_json(scripted, "extract", str(path), "--input", json.dumps({"schema": CYCLE}))
    assert (line["state"], line["error"]["type"]) == ("failed", "SchemaError")
    assert "refers to itself" in line["error"]["message"]


def test_what_the_command_line_refuses_by_itself(scripted: Stack, tmp_path: Path) -> None:
    """Nothing is accepted, so nothing is left behind."""
    big = tmp_path / "big.txt"
    big.write_text("x" * 100)
    scripted.environment = {**scripted.environment, "ROTINA_MAX_FILE_BYTES": "10"}
    cases = [
        (("nonsense",), "UnknownWorkflowError"),
        (("invoice_intake",), "InvalidInputError"),
        (("invoice_intake", "--input", "{"), "InvalidInputError"),
        (("invoice_intake", str(big)), "DocumentTooLargeError"),
        (("invoice_intake", str(tmp_path / "absent.pdf")), "FileNotFoundError"),
    ]
    for arguments, error in cases:
        done = scripted.run("run", *arguments)
        assert done.returncode == 1, arguments
        assert error in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert scripted.run("runs").stdout.startswith("no runs yet")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("not json at all", "ModelOutputError"),
        ('{"number": "1"}', "ModelOutputError"),
    ],
)
def test_a_model_that_answers_nonsense(
    processes: Stack, tmp_path: Path, answer: str, error: str
) -> None:
    script = tmp_path / "nonsense.py"
    script.write_text(f"def answer(request):\n    return {answer!r}\n")
    processes.environment = {**processes.environment, "PYTHONPATH": str(tmp_path)}
    url = processes.model("nonsense:answer")
    processes.environment = {
        **processes.environment, "OPENAI_BASE_URL": url, "ROTINA_MODEL": "scripted",
    }  # fmt: skip
    processes.worker()
    path = tmp_path / "a.txt"
    path.write_text(document(1))
    (line,) = run_json(processes, "invoice_intake", str(path))
    assert (line["state"], line["error"]["type"]) == ("failed", error)

"""Writes the sample documents: `python samples/make_samples.py [FOLDER]`.

Everybody in them is invented. The output is the same at every run: dates are fixed, and sums are
computed here, so they are right.
"""

import io
import re
import sys
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from docx import Document
from docx.shared import Pt
from openpyxl import Workbook
from openpyxl.styles import Font
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

DOCUMENTS = Path(__file__).resolve().parent / "documents"
_MOMENT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_ZIP_MOMENT = (2026, 3, 2, 9, 0, 0)
_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Line:
    """A line item."""

    code: str
    name: str
    quantity: int
    price: Decimal

    @property
    def total(self) -> Decimal:
        """Quantity times price."""
        return self.quantity * self.price


def total(lines: list[Line]) -> Decimal:
    """The sum of the lines."""
    return sum((line.total for line in lines), Decimal())


def percent(amount: Decimal, rate: str) -> Decimal:
    """`rate` per cent of `amount`, in whole cents."""
    return (amount * Decimal(rate) / 100).quantize(_CENT)


def english(amount: Decimal) -> str:
    """1,234.56"""
    return f"{amount:,.2f}"


def brazilian(amount: Decimal) -> str:
    """1.234,56"""
    return english(amount).translate(str.maketrans(",.", ".,"))


HARBOR = [
    Line("HL-110", "Brass deck lantern", 4, Decimal("89.50")),
    Line("HL-204", "Marine LED strip, 5 m", 6, Decimal("42.25")),
    Line("HL-330", "Waterproof junction box", 12, Decimal("17.90")),
    Line("SRV-01", "On-site installation, hours", 5, Decimal("95.00")),
]
PADARIA = [
    Line("0101", "FARINHA DE TRIGO TIPO 1 25KG", 40, Decimal("98.75")),
    Line("0107", "FERMENTO BIOLÓGICO FRESCO 500G", 24, Decimal("11.90")),
    Line("0212", "AÇÚCAR REFINADO 10KG", 15, Decimal("46.20")),
]
PEDIDO = [
    Line("CX-40", "Caixa de papelão 40x30x20 cm", 500, Decimal("3.45")),
    Line("FT-12", "Fita adesiva transparente 48 mm", 72, Decimal("6.80")),
    Line("PL-05", "Plástico bolha, rolo de 100 m", 8, Decimal("89.90")),
]
NORTHWIND = [
    Line("A-17", "Office chair, mesh back", 8, Decimal("134.00")),
    Line("D-02", "Standing desk 140 cm", 3, Decimal("412.50")),
    Line("L-09", "Desk lamp", 11, Decimal("28.40")),
]
GREENFIELD = [
    Line("S-1", "Lavender seedlings, tray of 20", 30, Decimal("12.40")),
    Line("S-4", "Potting soil 40 l", 55, Decimal("7.95")),
    Line("T-2", "Pruning shears", 6, Decimal("24.90")),
]
COPPER = [
    Line("WEB-1", "Landing page design", 1, Decimal("1850.00")),
    Line("WEB-7", "Photo editing, images", 45, Decimal("6.50")),
    Line("HOST", "Hosting, months", 12, Decimal("19.00")),
]


def harbor_lights() -> bytes:
    """An English invoice as PDF."""
    stream = io.BytesIO()
    canvas = _canvas(stream, "Invoice HL-2026-0187", "Harbor Lights Electrical Co.")
    _put(canvas, 50, 790, ["Harbor Lights Electrical Co."], size=15, bold=True)
    _put(canvas, 50, 772, ["27 Quayside Road", "Portland, ME 04101", "Tax ID 01-5550187"])
    _put(canvas, 400, 790, ["INVOICE"], size=20, bold=True)
    keys = ["Invoice number:", "Issue date:", "Due date:", "Currency:"]
    _put(canvas, 360, 765, keys)
    _put(canvas, 460, 765, ["HL-2026-0187", "March 2, 2026", "April 1, 2026", "USD"])
    _put(canvas, 50, 690, ["Bill to:"], bold=True)
    _put(canvas, 50, 676, ["Seagrass Marina LLC", "4 Pier Avenue", "Kennebunk, ME 04043"])
    _table(canvas, 610, ("Item", "Description", "Qty", "Unit price", "Amount"), HARBOR)
    subtotal, tax = total(HARBOR), percent(total(HARBOR), "5.5")
    sums = [("Subtotal", subtotal), ("Sales tax 5.5%", tax), ("Total due", subtotal + tax)]
    for index, (name, amount) in enumerate(sums):
        bold = name == "Total due"
        _put(canvas, 400, 500 - 16 * index, [name], bold=bold)
        _put(canvas, 545, 500 - 16 * index, ["$" + english(amount)], bold=bold, right=True)
    terms = [
        "Payment terms: net 30 days, by bank transfer.",
        "Please quote the invoice number with your payment.",
    ]
    _put(canvas, 50, 430, terms)
    canvas.save()
    return stream.getvalue()


def nota_fiscal() -> bytes:
    """A Brazilian nota fiscal as PDF, laid out as a DANFE: captions above values, in boxes."""
    stream = io.BytesIO()
    canvas = _canvas(stream, "NF-e 000.012.408", "Moinho Serra Clara Ltda.")
    form = _Form(canvas)
    _put(canvas, 45, 790, ["MOINHO SERRA CLARA LTDA."], size=12, bold=True)
    address = ["Estrada do Trigal, 1850", "Distrito Industrial", "Pouso Alegre - MG  CEP 37550-000"]
    _put(canvas, 45, 774, address, size=8)
    _put(canvas, 262, 791, ["DANFE"], size=13, bold=True)
    _put(canvas, 262, 776, ["Documento Auxiliar da", "Nota Fiscal Eletrônica"], size=7)
    _put(canvas, 262, 752, ["Nº 000.012.408", "SÉRIE 1"], size=9, bold=True)
    emitter, buyer = cnpj("482170360001"), cnpj("519384270001")
    form.box(366, 762, 189, "CHAVE DE ACESSO", _grouped(access_key(emitter)))
    form.row(720, ("NATUREZA DA OPERAÇÃO", "Venda de mercadoria"), ("CNPJ", _cnpj_shown(emitter)))
    form.title(700, "DESTINATÁRIO")
    form.row(
        678,
        ("NOME / RAZÃO SOCIAL", "PADARIA PÃO DOURADO LTDA."),
        ("CNPJ", _cnpj_shown(buyer)),
        ("DATA DA EMISSÃO", "02/03/2026"),
    )
    form.row(
        654,
        ("ENDEREÇO", "Rua das Acácias, 77, Centro"),
        ("MUNICÍPIO", "Itajubá - MG"),
        ("DATA DA SAÍDA", "03/03/2026"),
    )
    form.title(634, "DADOS DOS PRODUTOS")
    _products(canvas, 620)
    freight = Decimal("180.00")
    form.title(540, "CÁLCULO DO TOTAL")
    form.row(
        518,
        ("VALOR DOS PRODUTOS", brazilian(total(PADARIA))),
        ("VALOR DO FRETE", brazilian(freight)),
        ("VALOR TOTAL DA NOTA", brazilian(total(PADARIA) + freight)),
    )
    form.title(498, "DADOS ADICIONAIS")
    _put(
        canvas,
        45,
        484,
        ["Pagamento em 28 dias por boleto bancário. Vencimento: 30/03/2026."],
        size=8,
    )
    canvas.save()
    return stream.getvalue()


def pedido() -> bytes:
    """A purchase order in Portuguese as e-mail: UTF-8, quoted-printable, words in the headers."""
    message = EmailMessage(policy=SMTP.clone(max_line_length=78))
    message["From"] = "Conceição Araújo <compras@ateliejacaranda.example>"
    message["To"] = "Vendas Embalagens São Brás <vendas@saobras.example>"
    message["Subject"] = "Pedido de compra nº 4471 – reposição de embalagens"
    message["Date"] = _MOMENT
    message["Message-ID"] = "<pc-4471@ateliejacaranda.example>"
    items = "\n".join(
        f"- {line.code}: {line.name}, {line.quantity} unidades a R$ {brazilian(line.price)}"
        f" = R$ {brazilian(line.total)}"
        for line in PEDIDO
    )
    body = f"""Bom dia,

Segue nosso pedido de compra nº 4471.

Comprador: Ateliê Jacarandá Ltda., CNPJ {_cnpj_shown(cnpj("607421950001"))}
Fornecedor: Embalagens São Brás Ltda.
Data do pedido: 02/03/2026
Entrega até: 16/03/2026, na Rua do Sabão, 310, Ouro Preto - MG

Itens:
{items}

Total do pedido: R$ {brazilian(total(PEDIDO))}
Condição de pagamento: 30 dias após a entrega.

Por favor, confirmem o recebimento.

Atenciosamente,
Conceição Araújo
Compras
"""
    message.set_content(body, charset="utf-8", cte="quoted-printable")
    return message.as_bytes()


def northwind() -> bytes:
    """An English invoice as DOCX, with a table."""
    document = Document()
    document.styles["Normal"].font.size = Pt(10)
    properties = document.core_properties
    properties.title, properties.author = "Invoice NW-5521", "Northwind Joinery Ltd"
    properties.created = properties.modified = _MOMENT.replace(tzinfo=None)
    document.sections[0].header.paragraphs[0].text = "Northwind Joinery Ltd, 8 Mill Lane, Leeds"
    document.add_heading("Invoice NW-5521", level=1)
    for text in ("Issue date: 2 March 2026", "Due date: 16 March 2026", "VAT no. GB 555 0187 21"):
        document.add_paragraph(text)
    document.add_paragraph("Bill to: Calder & Finch Architects, 19 Canal Street, Bradford")
    table = document.add_table(rows=1, cols=5)
    heads = ("Code", "Description", "Quantity", "Unit price (GBP)", "Amount (GBP)")
    for cell, text in zip(table.rows[0].cells, heads, strict=True):
        cell.text = text
    for line in NORTHWIND:
        for cell, text in zip(table.add_row().cells, _cells(line), strict=True):
            cell.text = text
    net, vat = total(NORTHWIND), percent(total(NORTHWIND), "20")
    document.add_paragraph(f"Net total: £{english(net)}")
    document.add_paragraph(f"VAT 20%: £{english(vat)}")
    document.add_paragraph(f"Total to pay: £{english(net + vat)}")
    document.add_paragraph("Payment terms: 14 days. Thank you for your business.")
    stream = io.BytesIO()
    document.save(stream)
    return _fixed_moments(stream.getvalue())


def recibo() -> bytes:
    """A receipt in Portuguese as text in Latin-1."""
    text = f"""OFICINA MECÂNICA DO ZÉ ANTÔNIO
Av. Três Corações, 905 - Poços de Caldas - MG
CNPJ {_cnpj_shown(cnpj("738815200001"))}

RECIBO Nº 0892

Recebi de Márcia Gonçalves a importância de R$ 685,00
(seiscentos e oitenta e cinco reais), referente a:

Troca de óleo e filtro         R$ 220,00
Pastilhas de freio dianteiras  R$ 315,00
Mão de obra                    R$ 150,00
TOTAL                          R$ 685,00

Forma de pagamento: cartão de débito
Poços de Caldas, 27 de fevereiro de 2026

José Antônio de Assunção
"""
    return text.encode("latin-1")


def greenfield() -> bytes:
    """An English invoice as XLSX."""
    workbook = Workbook()
    workbook.properties.title = "Invoice GF-3090"
    workbook.properties.creator = "Greenfield Nursery"
    workbook.properties.created = workbook.properties.modified = _MOMENT.replace(tzinfo=None)
    workbook.remove(workbook.worksheets[0])
    sheet = workbook.create_sheet("Invoice")
    rows: list[tuple[str | int | date | Decimal, ...]] = [
        ("Greenfield Nursery, 12 Orchard Way, Salem, OR 97301",),
        ("Invoice number", "GF-3090"),
        ("Issue date", _MOMENT.date()),
        ("Due date", date(2026, 3, 17)),
        ("Bill to", "Willow Creek Landscaping, 88 Alder Street, Bend, OR 97701"),
        ("Currency", "USD"),
        (),
        ("Code", "Description", "Quantity", "Unit price", "Amount"),
    ]
    rows += [(x.code, x.name, x.quantity, x.price, x.total) for x in GREENFIELD]
    rows += [(), ("", "", "", "Total", total(GREENFIELD))]
    rows += [("Payment terms: 15 days, no sales tax in Oregon.",)]
    for values in rows:
        sheet.append(values)
    for cells in sheet.iter_rows(min_row=9, min_col=4, max_col=5):
        for cell in cells:
            cell.number_format = "#,##0.00"
    sheet["A1"].font = Font(bold=True)
    stream = io.BytesIO()
    workbook.save(stream)
    return _fixed_moments(stream.getvalue())


def copper() -> bytes:
    """An English invoice as HTML."""
    lines = "\n".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in _cells(line)) + "</tr>" for line in COPPER
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Invoice CK-77</title>
<style>td {{ padding: 4px }}</style></head>
<body>
<h1>Invoice CK-77</h1>
<p>Copper Kettle Studio<br>5 Foundry Yard, Galway, Ireland<br>VAT IE5550187K</p>
<p>Billed to: Brígh Tea Rooms, 31 Shop Street, Galway</p>
<ul><li>Issue date: 2026-03-02</li><li>Due date: 2026-03-31</li><li>Currency: EUR</li></ul>
<table>
<tr><th>Code</th><th>Description</th><th>Quantity</th><th>Unit price</th><th>Amount</th></tr>
{lines}
</table>
<p>Subtotal: €{english(total(COPPER))}</p>
<p>VAT 23%: €{english(percent(total(COPPER), "23"))}</p>
<p><strong>Total: €{english(total(COPPER) + percent(total(COPPER), "23"))}</strong></p>
<p>Payment terms: end of month, by SEPA transfer.</p>
</body></html>
""".encode()


def cnpj(stem: str) -> str:
    """The 12 digits of `stem` with their two check digits."""
    for _ in range(2):
        weights = [(index % 8) + 2 for index in range(len(stem))]
        rest = _weighted(stem, weights) % 11
        stem += str(0 if rest < 2 else 11 - rest)
    return stem


def access_key(emitter: str) -> str:
    """An NF-e's key: state 31 (MG), 2603, emitter, model 55, series, number, code, check digit."""
    stem = f"312603{emitter}55001{12408:09d}1{73550126:08d}"
    rest = _weighted(stem, [(index % 8) + 2 for index in range(len(stem))]) % 11
    return stem + str(0 if rest < 2 else 11 - rest)


def _weighted(digits: str, weights: list[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(reversed(digits), weights, strict=True))


def _cnpj_shown(digits: str) -> str:
    return f"{digits[:2]}.{digits[2:5]}.{digits[5:8]}/{digits[8:12]}-{digits[12:]}"


def _grouped(key: str) -> str:
    return " ".join(key[index : index + 4] for index in range(0, len(key), 4))


def _cells(line: Line) -> tuple[str, str, str, str, str]:
    return line.code, line.name, str(line.quantity), english(line.price), english(line.total)


def _canvas(stream: io.BytesIO, title: str, author: str) -> Canvas:
    canvas = Canvas(stream, pagesize=A4, invariant=1)
    canvas.setTitle(title)
    canvas.setAuthor(author)
    canvas.setSubject(title)
    return canvas


def _put(
    canvas: Canvas,
    x: float,
    y: float,
    lines: list[str],
    *,
    size: float = 10,
    bold: bool = False,
    right: bool = False,
) -> None:
    canvas.setFont("Helvetica-Bold" if bold else "Helvetica", size)
    for index, line in enumerate(lines):
        draw = canvas.drawRightString if right else canvas.drawString
        draw(x, y - index * size * 1.3, line)


def _table(canvas: Canvas, top: float, heads: tuple[str, ...], lines: list[Line]) -> None:
    columns = ((50, False), (105, False), (360, True), (450, True), (545, True))
    for index, cells in enumerate([heads, *(_cells(line) for line in lines)]):
        for (x, right), cell in zip(columns, cells, strict=True):
            _put(canvas, x, top - 18 * index, [cell], bold=index == 0, right=right)
    canvas.line(50, top - 5, 545, top - 5)


def _products(canvas: Canvas, top: float) -> None:
    columns = ((45, False), (90, False), (330, False), (385, True), (465, True), (550, True))
    heads = ("CÓDIGO", "DESCRIÇÃO", "UN", "QTD", "VALOR UNIT.", "VALOR TOTAL")
    for (x, right), head in zip(columns, heads, strict=True):
        _put(canvas, x, top, [head], size=6, right=right)
    for index, line in enumerate(PADARIA, start=1):
        prices = brazilian(line.price), brazilian(line.total)
        cells = (line.code, line.name, "UN", str(line.quantity), *prices)
        for (x, right), cell in zip(columns, cells, strict=True):
            _put(canvas, x, top - 15 * index, [cell], size=8, right=right)


class _Form:
    """Boxes with a small caption above a value."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas

    def title(self, y: float, text: str) -> None:
        _put(self.canvas, 42, y + 4, [text], size=7, bold=True)

    def row(self, y: float, *cells: tuple[str, str]) -> None:
        width = 515 / len(cells)
        for index, (caption, value) in enumerate(cells):
            self.box(40 + index * width, y, width, caption, value)

    def box(self, x: float, y: float, width: float, caption: str, value: str) -> None:
        self.canvas.rect(x, y - 4, width, 22)
        _put(self.canvas, x + 3, y + 11, [caption], size=5.5)
        _put(self.canvas, x + 3, y, [value], size=8 if len(value) < 40 else 6.6)


def _fixed_moments(content: bytes) -> bytes:
    """The ZIP file with every entry dated alike, or each run would differ."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename == "docProps/core.xml":  # openpyxl writes when it saved
                data = re.sub(rb"[\d-]{10}T[\d:]{8}Z", _MOMENT.strftime("%FT%TZ").encode(), data)
            target.writestr(zipfile.ZipInfo(entry.filename, _ZIP_MOMENT), data)
    return stream.getvalue()


SAMPLES = {
    "invoice-harbor-lights.pdf": harbor_lights,
    "nota-fiscal-padaria.pdf": nota_fiscal,
    "pedido-de-compra.eml": pedido,
    "invoice-northwind.docx": northwind,
    "recibo-oficina.txt": recibo,
    "invoice-greenfield.xlsx": greenfield,
    "invoice-copper-kettle.html": copper,
}


def main(folder: Path = DOCUMENTS) -> None:
    """Write every sample into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in SAMPLES.items():
        (folder / name).write_bytes(make())
        print(folder / name)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))

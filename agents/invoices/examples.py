"""Two worked examples, one a language: they show the model the shape, and to copy as written."""

from typing import Any

_ENGLISH = """\
Bluebird Stationery Ltd.   VAT GB 123 4567 89
INVOICE No. BS-2291
Date: 5 June 2024   Payment due: 19 June 2024
Bill to: Old Mill School
Item                 Qty   Price     Amount
Notebook A5           10    £3.20    £32.00
Subtotal £32.00
VAT 20% £6.40
Amount due £38.40"""

_ENGLISH_ANSWER: dict[str, Any] = {
    "number": "BS-2291",
    "issue_date": "5 June 2024",
    "due_date": "19 June 2024",
    "currency": "GBP",
    "supplier": {"name": "Bluebird Stationery Ltd.", "tax_id": "GB 123 4567 89"},
    "buyer": {"name": "Old Mill School", "tax_id": None},
    "lines": [
        {"description": "Notebook A5", "quantity": "10", "unit_price": "3.20", "total": "32.00"}
    ],
    "subtotal": "32.00",
    "tax": "6.40",
    "total": "38.40",
}

_PORTUGUESE = """\
CERÂMICA DO VALE LTDA  CNPJ 45.997.418/0001-53
NOTA FISCAL Nº 000.812
DATA DE EMISSÃO 03/04/2024
DESTINATÁRIO: Jardim Botânico Eventos ME  CNPJ 60.872.504/0001-23
DESCRIÇÃO            QTD   V. UNIT     V. TOTAL
VASO DE BARRO 30CM    12    85,50      1.026,00
VALOR TOTAL DOS PRODUTOS 1.026,00
VALOR DO ICMS 184,68
VALOR TOTAL DA NOTA R$ 1.026,00"""

_PORTUGUESE_ANSWER: dict[str, Any] = {
    "number": "000.812",
    "issue_date": "03/04/2024",
    "due_date": None,
    "currency": "BRL",
    "supplier": {"name": "CERÂMICA DO VALE LTDA", "tax_id": "45.997.418/0001-53"},
    "buyer": {"name": "Jardim Botânico Eventos ME", "tax_id": "60.872.504/0001-23"},
    "lines": [
        {
            "description": "VASO DE BARRO 30CM",
            "quantity": "12",
            "unit_price": "85,50",
            "total": "1.026,00",
        }
    ],
    "subtotal": "1.026,00",
    "tax": "184,68",
    "total": "1.026,00",
}

EXAMPLES = ((_ENGLISH, _ENGLISH_ANSWER), (_PORTUGUESE, _PORTUGUESE_ANSWER))

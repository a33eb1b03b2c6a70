"""The sample documents are what their script makes, and read well."""

import importlib.util
import sys
from pathlib import Path

import pytest

from rotina.knowledge.loading import load

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
DOCUMENTS = sorted(path.name for path in (SAMPLES / "documents").iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("make_samples", SAMPLES / "make_samples.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_samples"] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        folder = tmp_path_factory.mktemp("samples")
        module.main(folder)
    finally:
        del sys.modules["make_samples"]
    return folder


def test_every_sample_is_made(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == DOCUMENTS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_sample_says_what_its_script_makes(name: str, made: Path) -> None:
    kept = load((SAMPLES / "documents" / name).read_bytes(), name=name)
    fresh = load((made / name).read_bytes(), name=name)
    assert fresh.text == kept.text
    assert len(kept.text.splitlines()) < 45


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("invoice-harbor-lights.pdf", ["HL-110  Brass deck lantern  4  89.50  358.00"]),
        (
            "nota-fiscal-padaria.pdf",
            [
                "0107  FERMENTO BIOLÓGICO FRESCO 500G  UN  24  11,90  285,60",
                "VALOR DOS PRODUTOS 4.928,60  VALOR DO FRETE 180,00  VALOR TOTAL DA NOTA 5.108,60",
            ],
        ),
        ("invoice-northwind.docx", ["L-09\tDesk lamp\t11\t28.40\t312.40"]),
        ("invoice-greenfield.xlsx", ["T-2\tPruning shears\t6\t24.90\t149.40"]),
        ("invoice-copper-kettle.html", ["HOST\tHosting, months\t12\t19.00\t228.00"]),
        ("recibo-oficina.txt", ["Mão de obra  R$ 150,00"]),
        ("pedido-de-compra.eml", ["Total do pedido: R$ 2.933,80"]),
    ],
)
def test_rows_stand_on_one_line(name: str, lines: list[str]) -> None:
    document = load((SAMPLES / "documents" / name).read_bytes(), name=name)
    assert set(lines) <= set(document.text.splitlines())

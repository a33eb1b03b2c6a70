"""Settings: sources, precedence, and errors that name the key and the remedy."""

from pathlib import Path

import pytest

from rotina.errors import SettingsError
from rotina.settings import Services, load_settings


def write(folder: Path, text: str, name: str = "rotina.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_defaults_need_no_file(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert settings.database_url is None
    assert settings.data_path == tmp_path / ".rotina"


def test_the_table_in_pyproject_is_found_from_a_folder_below(tmp_path: Path) -> None:
    write(tmp_path, '[tool.rotina]\nworkflows = ["shop.workflows"]\n', "pyproject.toml")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    settings = load_settings(below)
    assert settings.workflows == ["shop.workflows"]
    assert settings.project_dir == tmp_path


def test_rotina_toml_wins_over_pyproject_and_the_environment_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "[tool.rotina]\npool_size = 3\n", "pyproject.toml")
    write(tmp_path, "pool_size = 4\n")
    assert load_settings(tmp_path).pool_size == 4
    monkeypatch.setenv("ROTINA_POOL_SIZE", "5")
    assert load_settings(tmp_path).pool_size == 5


def test_an_unknown_key_is_named_with_the_likely_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'pol_size' in .*rotina\.toml.*'pool_size'"):
        load_settings(write(tmp_path, "pol_size = 3\n"))


def test_an_unknown_nested_key_is_named(tmp_path: Path) -> None:
    table = '[deployments.gpu]\nmodel = "m"\nbase_ur = "http://gpu/v1"\n'
    with pytest.raises(SettingsError, match=r"deployments\.gpu\.base_ur: is not a known key"):
        load_settings(write(tmp_path, table))


def test_an_unknown_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTINA_POOLSIZE", "3")
    with pytest.raises(SettingsError, match=r"ROTINA_POOLSIZE.*ROTINA_POOL_SIZE"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("variable", "value", "form"),
    [
        ("DATABASE_URL", "mysql://root:hunter2@db/shop", "postgresql://"),
        ("DATABASE_URL", "hunter2", "postgresql://"),
        ("DATABASE_URL", "postgresql://u:hunter2%ss@db/shop", "%25"),
        ("REDIS_URL", "http://:hunter2@cache", "redis://"),
        ("REDIS_URL", "redis://:hunter2@cache:99999999", "redis://"),
        ("OPENAI_BASE_URL", "ftp://hunter2@models", "https://"),
    ],
)
def test_a_bad_url_names_its_variable_and_not_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, form: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path)
    assert variable in str(caught.value)
    assert form in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_malformed_toml_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"rotina\.toml is not valid TOML.*line 1"):
        load_settings(write(tmp_path, "pool_size = = 3\n"))


def test_a_route_over_an_undeclared_deployment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"routes\.smart.*'gpu'.*not.*declared"):
        load_settings(write(tmp_path, '[routes.smart]\ndeployments = ["gpu"]\n'))


def test_a_list_in_the_environment_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTINA_WORKFLOWS", "workflows")
    with pytest.raises(SettingsError, match=r"workflows.*JSON"):
        load_settings(tmp_path)


def test_a_key_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    table = '[deployments.gpu]\nmodel = "m"\napi_key_env = "GPU_KEY"\n'
    with pytest.raises(SettingsError, match=r"GPU_KEY.*export"):
        load_settings(write(tmp_path, table))


def test_openai_variables_make_the_standard_routes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    with pytest.raises(SettingsError, match="ROTINA_MODEL"):
        load_settings(tmp_path)
    monkeypatch.setenv("ROTINA_MODEL", "qwen3")
    settings = load_settings(tmp_path)
    assert settings.routes["fast"].deployments == settings.routes["smart"].deployments == ["openai"]
    assert settings.deployments["openai"].model == "qwen3"
    assert "embed" not in settings.routes


def test_what_is_running_is_used_unless_the_user_brings_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / ".rotina"
    data.mkdir()
    offered = Services(
        supervisor_pid=1,
        database_url="postgresql://here/db",
        redis_url="redis://here",
        deployments={
            "embedded-chat": {"model": "small", "base_url": "http://127.0.0.1:1/v1"},
            "embedded-embed": {"model": "vectors", "base_url": "http://127.0.0.1:2/v1"},
        },
        routes={
            "fast": {"deployments": ["embedded-chat"]},
            "smart": {"deployments": ["embedded-chat"]},
            "embed": {"deployments": ["embedded-embed"]},
        },
    )
    (data / "services.json").write_text(offered.model_dump_json())
    assert load_settings(tmp_path).require_database_url() == "postgresql://here/db"
    assert load_settings(tmp_path, services=False).database_url is None
    monkeypatch.setenv("DATABASE_URL", "postgresql://own/db")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("ROTINA_MODEL", "big")
    settings = load_settings(tmp_path)
    assert settings.require_database_url() == "postgresql://own/db"
    assert settings.require_redis_url() == "redis://here"
    assert settings.routes["smart"].deployments == ["openai"]
    assert settings.routes["embed"].deployments == ["embedded-embed"]


def test_a_broken_services_file_is_an_error(tmp_path: Path) -> None:
    data = tmp_path / ".rotina"
    data.mkdir()
    (data / "services.json").write_text("{")
    with pytest.raises(SettingsError, match=r"services\.json.*rotina up"):
        load_settings(tmp_path)


def test_a_secret_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://u:hunter2@db/shop\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(secret))
    assert load_settings(tmp_path).require_database_url() == "postgresql://u:hunter2@db/shop"
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match=r"DATABASE_URL_FILE.*absent"):
        load_settings(tmp_path)


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    with pytest.raises(SettingsError, match=r"DATABASE_URL.*rotina up"):
        settings.require_database_url()
    with pytest.raises(SettingsError, match=r"REDIS_URL.*rotina up"):
        settings.require_redis_url()


def test_secrets_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@db/shop")
    monkeypatch.setenv("REDIS_URL", "redis://:hunt%40er3@cache")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter4")
    monkeypatch.setenv("ROTINA_MODEL", "m")
    settings = load_settings(tmp_path)
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hunt" not in shown
    leaked = "connecting as hunter2 to hunt@er3 or hunt%40er3 with sk-hunter4 failed"
    assert "hunt" not in settings.redact(leaked)
    assert settings.redact("nothing to hide") == "nothing to hide"


def test_every_setting_is_documented() -> None:
    from rotina.settings import Deployment, Settings

    page = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
    text = page.read_text(encoding="utf-8")
    names = [*Settings.model_fields, *Deployment.model_fields]
    missing = [name for name in names if f"`{name}`" not in text and name != "project_dir"]
    assert missing == []

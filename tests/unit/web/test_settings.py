"""Settings that are lists: from a file, the environment or a flag, checked."""

import json
from pathlib import Path
from typing import Any

import pytest

from web.configured import ConfiguredModel
from web.settings import CONFIG_VARIABLE, SettingsError, load_settings

MINE = {"provider": "openai", "id": "mine"}
WHOLE = {
    **MINE,
    "name": "Mine",
    "context_tokens": 8_192,
    "output_tokens_max": 512,
    "reasoning": False,
    "vision": True,
    "input_price": 0.5,
    "output_price": 2,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (CONFIG_VARIABLE, "SESSIOND_MODELS"):
        monkeypatch.delenv(name, raising=False)


def from_environment(monkeypatch: pytest.MonkeyPatch, text: str) -> list[ConfiguredModel]:
    monkeypatch.setenv("SESSIOND_MODELS", text)
    return load_settings().models


def test_there_are_no_models_by_default() -> None:
    assert load_settings().models == []


def test_models_are_json_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    models = from_environment(monkeypatch, json.dumps([WHOLE, {**MINE, "id": "other"}]))
    assert [each.id for each in models] == ["mine", "other"]
    assert models[0].model_dump() == WHOLE
    assert models[1].context_tokens is None


def test_models_are_tables_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "sessiond.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in WHOLE.items()]
    file.write_text("\n".join(["[[models]]", *lines]))
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert [each.model_dump() for each in load_settings().models] == [WHOLE]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"provider": "nobody"}, "models.0.provider: .*one of demo, openai, anthropic"),
        ({"provider": "demo"}, "models.0: .*the only model of demo is echo"),
        ({"id": ""}, "models.0.id"),
        ({"colour": "red"}, "models.0.colour"),
        ({"context_tokens": 0}, "models.0.context_tokens"),
        ({"output_tokens_max": -1}, "models.0.output_tokens_max"),
        ({"input_price": -1, "output_price": 1}, "models.0.input_price"),
        ({"input_price": 1}, "input_price and output_price come together"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        load_settings(models=[{**MINE, **fields}])


def test_a_price_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for price in ("Infinity", "NaN", "1e999"):
        text = json.dumps([{**MINE, "output_price": 1}])[:-2] + f', "input_price": {price}}}]'
        with pytest.raises(SettingsError, match=r"models\.0\.input_price"):
            from_environment(monkeypatch, text)


def test_a_model_is_configured_once() -> None:
    with pytest.raises(SettingsError, match="openai/mine is there twice"):
        load_settings(models=[MINE, MINE])


def test_what_is_not_json_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match='"models".*it must be JSON'):
        from_environment(monkeypatch, "openai/mine")


@pytest.mark.parametrize(
    ("name", "value"),
    [("worker_class", "sync"), ("port", 70_000), ("port", "http"), ("token", "two words")],
)
def test_what_a_setting_can_not_be_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("log_origin", "two words", "no spaces"),
        ("log_origin", "a+b", "no spaces"),
        ("witnesses", ["witness.example/w1"], "verifier key"),
        (
            "witnesses",
            ["PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"],
            "a witness has a key of kind 4",
        ),
    ],
)
def test_a_name_or_key_that_can_not_be_in_a_checkpoint_is_refused(
    name: str, value: object, reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        load_settings(**{name: value})

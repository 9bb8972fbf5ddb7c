"""Every setting, in one typed object: from flags, the environment, a TOML file, or the default."""

import contextlib
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from actors.audit.signing.notes import COSIGNATURE, check_name, parse_verifier_key
from persistence.errors import ProofError
from web.addresses import networks_of
from web.configured import (
    ConfiguredModel,
    ConfiguredRetention,
    ConfiguredRule,
    ConfiguredServer,
)

ENV_PREFIX = "SESSIOND_"
CONFIG_VARIABLE = "SESSIOND_CONFIG"


class SettingsError(Exception):
    """A setting can't be used; the message says which, why, and where it came from."""


class Settings(BaseSettings):
    """The gateway's settings. Flag ``--queue-max``, variable ``SESSIOND_QUEUE_MAX``."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    bind: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8787, ge=0, le=65_535, description="Port to listen on.")
    database_url: str = Field(
        "sqlite:///data/sessiond.db", description="SQLAlchemy URL of the event log."
    )
    token: SecretStr | None = Field(
        None,
        description="Bearer token that clients must send; without one, loopback only.",
    )
    workers: int = Field(1, ge=1, description="Worker processes; SQLite carries one.")
    worker_class: Literal["gevent", "gthread"] = Field(
        "gevent", description="How a worker runs its requests: greenlets or threads."
    )
    max_requests: int = Field(
        0, ge=0, description="Requests after which a worker is replaced; 0: never."
    )
    lease_s: float = Field(
        10.0,
        ge=0.5,
        description="Silence after which another process has a worker's sessions, in seconds.",
    )
    on_crash: Literal["interrupt", "continue"] = Field(
        "interrupt",
        description="What becomes of a run whose process died: it ends, or goes on elsewhere.",
    )
    threads: int = Field(512, ge=4, description="Threads of a gthread worker.")
    connections_max: int = Field(
        10_000, ge=16, description="Connections that a gevent worker holds open."
    )
    model: str | None = Field(
        None, description="Default model as provider/id; otherwise by which API key is present."
    )
    model_stall_timeout_s: float = Field(
        120, gt=0, description="Silence after which a model call has failed, in seconds."
    )
    model_retries_max: int = Field(
        3, ge=0, le=20, description="How often a failed model call is made again."
    )
    model_retry_delay_s: float = Field(
        1, gt=0, le=60, description="Time before it is, in seconds, doubled each time."
    )
    models: list[ConfiguredModel] = Field(
        [],
        description="Models to offer besides their providers' lists, and what to say of any model.",
    )
    demo_deltas: int = Field(
        0, ge=0, description="Words in the demo model's answer; 0: as many as the prompt has."
    )
    demo_delay_ms: int = Field(
        20, ge=0, description="Time between the demo model's words, in milliseconds."
    )
    primary_session: str = Field("web:main", description="Key of the session made at start.")
    queue_max: int = Field(8, ge=0, description="Prompts that may wait in a session.")
    idle_minutes: float = Field(
        60, gt=0, description="Idle time after which a session leaves memory, in minutes."
    )
    sessions_loaded_max: int = Field(10_000, ge=1, description="Sessions in memory at most.")
    run_timeout_s: float = Field(1_800, gt=0, description="Time a run may take, in seconds.")
    run_turns_max: int = Field(50, ge=1, description="Model calls that a run may make.")
    system_prompt: str = Field("", description="What every model is told before a conversation.")
    tools: Literal["none", "read", "write", "all"] = Field(
        "none", description="What models may do with tools: nothing, read, also write, also run."
    )
    tool_modules: list[str] = Field(
        [], description="Python modules with tools of your own, by name."
    )
    tool_rules: list[ConfiguredRule] = Field(
        [], description="Which tool calls are allowed, asked about, or denied; the first counts."
    )
    tool_timeout_s: float = Field(120, gt=0, description="Time a tool may take, in seconds.")
    tool_output_chars_max: int = Field(
        50_000, ge=1_000, description="Characters that a model is told of a tool's output."
    )
    approval_timeout_s: float = Field(
        3_600,
        gt=0,
        description="Time after which a call that nobody approves is denied, in seconds.",
    )
    mcp_servers: list[ConfiguredServer] = Field(
        [], description="MCP servers whose tools models may use."
    )
    workspaces_dir: str = Field(
        "data/workspaces", description="Folder with the workspaces, one for each session."
    )
    sandbox: Literal["auto", "bubblewrap", "landlock", "none"] = Field(
        "auto", description="What confines commands; auto takes the first that works here."
    )
    sandbox_network: bool = Field(
        default=False, description="Whether commands may use the network."
    )
    sandbox_memory_bytes: int = Field(
        2_147_483_648,
        ge=16_777_216,
        description="Memory that a command's process may take, in bytes.",
    )
    sandbox_processes_max: int = Field(
        256, ge=1, description="Processes that a command may have at once."
    )
    sandbox_cpu_s: int = Field(
        600, ge=1, description="Processor time that a command's process may take, in seconds."
    )
    sandbox_file_bytes: int = Field(
        1_073_741_824, ge=1, description="Size of a file that a command writes, in bytes."
    )
    memory_enabled: bool = Field(
        default=True, description="Whether conversations are remembered and recalled."
    )
    memory_identity: str = Field(
        "gateway",
        pattern=r"^[A-Za-z0-9._~@+=-]+(:[A-Za-z0-9._~:@+=-]+)?$",
        description="Whose memory sessions share, as scope or scope:id, such as companion:c1.",
    )
    memory_core_tokens_max: int = Field(
        700, ge=1, description="Tokens of core memories that a model is told."
    )
    memory_recall_results_max: int = Field(
        4, ge=1, le=100, description="Memories and episodes that are recalled besides."
    )
    memory_writer_enabled: bool = Field(
        default=True, description="Whether a session's model decides what to remember of a run."
    )
    memory_writer_tokens_max: int = Field(
        600, ge=1, description="Tokens that the model may use to say so."
    )
    openai_endpoint: bool = Field(
        default=False, description="Whether clients of OpenAI's API are served, below /v1."
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Secret that webhooks must prove; without one there are none."
    )
    webhook_base_path: str = Field(
        "/webhooks", pattern=r"^(/[A-Za-z0-9._~-]+)+$", description="Path of the webhooks."
    )
    webhook_sessions: str = Field(
        "",
        description="Keys that webhooks may name besides webhook:…, separated by commas.",
    )
    webhook_tolerance_s: float = Field(
        300, gt=0, description="Age of a webhook's signature at most, in seconds."
    )
    body_bytes_max: int = Field(1_048_576, ge=1, description="Size of a request's body, in bytes.")
    image_body_bytes_max: int = Field(
        20_971_520, ge=1, description="The same where a prompt may hold pictures, in bytes."
    )
    streams_max: int = Field(
        8_000, ge=1, description="Open streams and waiting prompts of a worker at most."
    )
    cors_origins: str = Field(
        "", description="Origins whose pages may call the gateway, separated by commas."
    )
    encryption_key_file: str | None = Field(
        None, description="File with the master key by which the log is encrypted, as base64."
    )
    encryption_keys_url: str | None = Field(
        None, description="URL of the keys' database; by default beside the log."
    )
    delta_retention_days: int = Field(
        7,
        ge=0,
        le=36_500,
        description="Days after which the deltas of whole messages are erased; 0: never.",
    )
    retention: list[ConfiguredRetention] = Field(
        [], description="Days after which idle sessions are erased, by prefix; the first counts."
    )
    checkpoint_minutes: float = Field(
        5, ge=0, description="Time between two signed checkpoints, in minutes; 0: on demand only."
    )
    signing_key_file: str | None = Field(
        None,
        description="File with the key that signs; beside an SQLite database there is one anyway.",
    )
    log_origin: str = Field(
        "",
        max_length=200,
        description="What the log is called in its checkpoints, such as example.com/agents.",
    )
    witnesses: list[str] = Field(
        [],
        max_length=32,
        description="Verifier keys of those whose cosignatures are kept with checkpoints.",
    )
    audit_reads: bool = Field(
        default=False,
        description="Whether the log keeps who read a session's words, before they are shown.",
    )
    ui_secret: SecretStr | None = Field(
        None,
        description="Secret that seals the page's cookies, "
        "where gateways on several hosts serve it.",
    )
    ui_session_hours: float = Field(
        12,
        gt=0,
        le=720,
        description="Time after which the page asks for the token again, in hours.",
    )
    otel_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="Collector that gets traces and metrics by OTLP over HTTP; without one, none.",
    )
    otel_service_name: str = Field(
        "sessiond",
        min_length=1,
        max_length=200,
        description="What the gateway, and its agent, is called in traces.",
    )
    otel_content: bool = Field(
        default=False,
        description="Whether traces quote prompts, answers, tools' arguments and results.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses and networks of proxies "
        "whose X-Forwarded headers count, with commas.",
    )
    heartbeat_s: float = Field(
        15, gt=0, description="Silence after which a stream sends a comment, in seconds."
    )
    slow_reader_timeout_s: float = Field(
        30, gt=0, description="Time a reader may take to drain what it was sent, in seconds."
    )
    grace_s: float = Field(
        20, ge=0, description="Time that runs get to end when the gateway stops, in seconds."
    )
    log_texts: bool = Field(
        default=False,
        description="Whether GET /logs quotes the first words of prompts and answers.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity of the lines that the process logs."
    )

    @field_validator("token", "webhook_secret", "ui_secret")
    @classmethod
    def _is_sendable(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None:
            text = token.get_secret_value()
            if not text.isascii() or not text.isprintable() or not text.split() == [text]:
                raise ValueError("it must be printable ASCII without spaces, and not empty")
        return token

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, text: str) -> str:
        networks_of(text)
        return text

    @field_validator("log_origin")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if name:
            with _refused():
                check_name(name)
        return name

    @field_validator("witnesses")
    @classmethod
    def _are_witnesses(cls, keys: list[str]) -> list[str]:
        with _refused():
            kinds = {parse_verifier_key(each).kind for each in keys}
        if kinds - {COSIGNATURE}:
            raise ValueError(f"a witness has a key of kind {COSIGNATURE}, which cosigns")
        return keys

    @field_validator("models")
    @classmethod
    def _are_different(cls, models: list[ConfiguredModel]) -> list[ConfiguredModel]:
        names = [f"{each.provider}/{each.id}" for each in models]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is there twice")
        return models

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let flags win over the environment, and that over the file."""
        file = os.environ.get(CONFIG_VARIABLE)
        if not file:
            return init_settings, env_settings
        if not Path(file).is_file():
            raise SettingsError(f"{CONFIG_VARIABLE}: there is no file {file}.")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(file))


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Let a setting's check say what is wrong with it."""
    try:
        yield
    except ProofError as error:
        raise ValueError(str(error)) from error


def load_settings(**flags: Any) -> Settings:  # noqa: ANN401 - one value for each setting
    """Return the settings; a flag that is None was not given. Raises SettingsError."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        raise SettingsError(f"These settings can't be used: {problems}") from error
    except SourceError as error:
        raise SettingsError(f"These settings can't be used: {error}: it must be JSON") from error
    except ValueError as error:  # TOML that can't be parsed
        raise SettingsError(f"{os.environ.get(CONFIG_VARIABLE)}: {error}") from error


def is_loopback(bind: str) -> bool:
    """Tell whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(bind.strip("[]")).is_loopback
    except ValueError:
        return bind == "localhost"

"""What the configuration says about models, tools and servers: the tables among the settings."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DEMO_PROVIDER, DEMO_MODEL = "demo", "echo"
PROVIDERS = (DEMO_PROVIDER, "openai", "anthropic")


class ConfiguredModel(BaseModel):
    """What is said about a model here, rather than by its provider; prices in USD a million tokens.

    Implements actors.models.catalog.ConfiguredModel.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    provider: str
    id: str = Field(min_length=1, max_length=200)
    name: str | None = Field(default=None, min_length=1, max_length=200)
    context_tokens: int | None = Field(default=None, ge=1)
    output_tokens_max: int | None = Field(default=None, ge=1)
    reasoning: bool | None = None
    vision: bool | None = None
    input_price: float | None = Field(default=None, ge=0)
    output_price: float | None = Field(default=None, ge=0)

    @field_validator("provider")
    @classmethod
    def _is_known(cls, provider: str) -> str:
        if provider not in PROVIDERS:
            raise ValueError(f"it must be one of {', '.join(PROVIDERS)}")
        return provider

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.provider == DEMO_PROVIDER and self.id != DEMO_MODEL:
            raise ValueError(f"the only model of {DEMO_PROVIDER} is {DEMO_MODEL}")
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("input_price and output_price come together")
        return self


class ConfiguredRule(BaseModel):
    """Which calls of tools are allowed, asked about or denied; see actors.tools.policy.ToolRule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str = Field(min_length=1, max_length=200)
    action: Literal["allow", "ask", "deny"]
    arguments: dict[str, str] = {}
    unsandboxed: bool = False


class ConfiguredRetention(BaseModel):
    """How long idle sessions are kept whose keys begin so. Part of retention's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: str = Field(max_length=200)
    days: int = Field(ge=1, le=36_500)


class ConfiguredServer(BaseModel):
    """An MCP server: a command to start, or an address. Implements actors.tools.mcp's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")
    command: list[str] | None = Field(default=None, min_length=1)
    environment: dict[str, str] = {}
    url: str | None = Field(default=None, pattern=r"^https?://")
    headers: dict[str, str] = {}
    effect: Literal["read", "write", "execute"] = "execute"
    tool_timeout_s: float = Field(default=60, gt=0)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("a server has a command or a url, one of both")
        return self

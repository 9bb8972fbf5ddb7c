"""What is told about models: names, limits, abilities, prices."""

from collections.abc import Iterable

from msgspec import Struct

from actors.session.messages import Usage


class Price(Struct, frozen=True):
    """USD per million tokens; None where the source doesn't say."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None


class ModelInfo(Struct, frozen=True):
    """A model as it is shown; a limit or price of None is not known.

    ``reasoning`` and ``vision`` are true only where somebody says so.
    """

    provider: str
    model_id: str
    name: str
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    reasoning: bool = False
    vision: bool = False
    price: Price | None = None


class Facts(Struct, frozen=True):
    """What one source says about a model; None is what it doesn't say."""

    name: str | None = None
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    reasoning: bool | None = None
    vision: bool | None = None
    price: Price | None = None


def merged(sources: Iterable[Facts]) -> Facts:
    """Return what the sources say together; for each field the first one counts."""
    said = list(sources)
    first = {
        field: next((value for each in said if (value := getattr(each, field)) is not None), None)
        for field in Facts.__struct_fields__
    }
    return Facts(**first)


def cost_of(usage: Usage, price: Price | None) -> float:
    """Return what a model call cost in USD; 0 where the price is not known.

    What is cached costs as much as other input where nobody says what it costs.
    """
    if price is None:
        return 0.0
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    millionths = (
        usage.input * price.input
        + usage.output * price.output
        + usage.cache_read * read
        + usage.cache_write * write
    )
    return millionths / 1_000_000

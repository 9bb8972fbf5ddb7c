"""A tool of one's own: what the weather is like, somewhere else."""

from typing import Annotated

from msgspec import Meta, Struct

from actors.tools import ToolContext, ToolError, tool

CLIMATES = {"bergen": ("rain", 8), "cairo": ("sun", 31), "quito": ("clouds", 15)}


class Weather(Struct):
    """What a model is told of a city."""

    city: str
    sky: str
    degrees_celsius: int


@tool(effect="read")
def weather(
    city: Annotated[str, Meta(description="The city's name, in English.")],
    context: ToolContext,
) -> Weather:
    """Tell what the weather is like in a city now."""
    context.report(f"looking for {city}\n")
    try:
        sky, degrees = CLIMATES[city.lower()]
    except KeyError:
        raise ToolError(f"Nothing is known of {city}. Known: {', '.join(CLIMATES)}.") from None
    return Weather(city, sky, degrees)

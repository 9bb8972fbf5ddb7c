"""What the file tools' arguments have in common."""

from typing import Any

PATH = {"type": "string", "description": "A path in the workspace, relative to it."}


def schema(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Return the JSON Schema of a tool's arguments."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def count(description: str) -> dict[str, Any]:
    """Return the JSON Schema of a number from 1."""
    return {"type": "integer", "minimum": 1, "description": description}


def whole_number(arguments: dict[str, Any], name: str, default: int) -> int:
    """Return an argument that is an integer; JSON Schema counts 2.0 as one."""
    return int(arguments.get(name, default))

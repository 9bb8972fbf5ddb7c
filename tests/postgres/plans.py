"""How PostgreSQL carries out what is read."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa


def plan_of(reader: sa.Engine, read: Callable[[], object]) -> str:
    """Return the plans of all statements that reading takes, a line for each step."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((f"EXPLAIN {statement}", parameters))

    sa.event.listen(reader, "before_cursor_execute", note)
    read()
    sa.event.remove(reader, "before_cursor_execute", note)
    with reader.connect() as connection:
        lines = [line for each in asked for (line,) in connection.exec_driver_sql(*each)]
    return "\n".join(lines)

"""Why a session can't be asked now, or at all."""


class SessionNotFound(Exception):
    """The log holds no such session."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Session not found: {key}")


class Draining(Exception):
    """This process is stopping and takes no new prompts."""

    def __init__(self) -> None:
        super().__init__("The gateway is stopping; try again.")


class TooManySessions(Exception):
    """As many sessions as allowed are loaded, and none is idle."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} sessions are loaded; try again.")

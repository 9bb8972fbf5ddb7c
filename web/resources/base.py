"""What every resource has."""

from web.bootstrap import Gateway


class Resource:
    """Answers for one route; its responders say by ``operation`` what they ask for and answer.

    ``request.context`` then has the body, query and headers, checked, and the caller's access.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway


Route = tuple[str, type[Resource]]
"""A path as Falcon writes it, and the resource that answers there."""

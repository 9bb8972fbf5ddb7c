"""The models that sessions may choose."""

import falcon

from web.operations import READ, operation
from web.ui.page import HTML, Page


class ModelsPage(Page):
    """GET /ui/models."""

    @operation(READ, {200: HTML})
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the models with their limits and prices; waits for their providers."""
        models = self._gateway.registry.models
        self.render(
            request, response, "models.html", models=models.listed(), default=models.default
        )

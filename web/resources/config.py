"""The gateway's settings while it runs, and its channels."""

import falcon
import msgspec

from web.bootstrap import Gateway
from web.requests import read_object
from web.schemas import Ok, body_of


class ConfigResource:
    """GET and PATCH /config."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the settings as they are now, without any secret."""
        model = self._gateway.registry.models.default
        shown = self._gateway.config.shown(f"{model.provider}/{model.model_id}")
        response.data = msgspec.json.encode(shown)

    def on_patch(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change settings: at once, for all sessions, and over restarts."""
        patch = read_object(request, self._gateway.settings.body_bytes_max)
        changes = self._gateway.config.checked(patch)
        if changes:
            self._gateway.patch_config(changes, request.context.principal)
        response.data = body_of(Ok(ok=True))


class ChannelsResource:
    """GET /channels/status: this gateway has no channels of its own."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with none."""
        response.data = msgspec.json.encode({"channels": []})

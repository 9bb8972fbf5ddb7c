"""The gateway's settings while it runs, and its channels."""

import falcon

from web.asked import asked
from web.inputs import ConfigPatch
from web.operations import ADMIN, READ, operation
from web.requests import read_object
from web.resources.base import Resource
from web.schemas import Channels, Ok, ShownConfig, body_of


class ConfigResource(Resource):
    """GET and PATCH /config."""

    @operation(ADMIN, {200: ShownConfig})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the settings as they are now, without any secret."""
        self._gateway.admin.refresh()
        model = self._gateway.registry.models.default
        shown = self._gateway.config.shown(f"{model.provider}/{model.model_id}")
        response.data = body_of(ShownConfig(shown))

    @operation(ADMIN, {200: Ok}, body=ConfigPatch, raw_body=True)
    def on_patch(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change settings: at once, for all sessions, and over restarts."""
        patch = read_object(request, self._gateway.settings.body_bytes_max)
        changes = self._gateway.config.checked(patch)
        if changes:
            self._gateway.admin.patch_config(changes, **asked(request))
        response.data = body_of(Ok(ok=True))


class ChannelsResource(Resource):
    """GET /channels/status: this gateway has no channels of its own."""

    @operation(READ, {200: Channels})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with none."""
        response.data = body_of(Channels([]))

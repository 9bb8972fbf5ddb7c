"""The settings as they are now, and changing those that may change while the gateway runs."""

from typing import Annotated, Any

import falcon
import msgspec
from msgspec import Meta, Struct

from web.asked import asked
from web.errors import Problem
from web.live_config import CHANGEABLE, SHOWN
from web.operations import ADMIN, Refusable, operation
from web.ui.page import HTML, Page


class SettingForm(Refusable, frozen=True):
    """A setting by its path, and its new value; without one it is as configured again."""

    path: Annotated[str, Meta(max_length=200)]
    value: Annotated[str, Meta(max_length=200)] = ""


class ShownSetting(Struct, frozen=True):
    """A setting's row; ``kind`` is fixed, switch or number."""

    path: str
    value: str
    kind: str
    description: str
    is_changed: bool


class ConfigPage(Page):
    """GET and POST /ui/config."""

    @operation(ADMIN, {200: HTML})
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the settings, without any secret."""
        self._gateway.admin.refresh()
        model = self._gateway.registry.models.default
        rows = [self._row(path, name) for path, name in SHOWN.items()]
        rows.sort(key=lambda row: row.kind == "fixed")  # what may change comes first
        self.render(
            request,
            response,
            "config.html",
            rows=rows,
            model=f"{model.provider}/{model.model_id}",
        )

    @operation(ADMIN, {303: None}, form=SettingForm)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change one setting: at once, for all sessions, and over restarts."""
        form: SettingForm = request.context.form
        patch: Any = _value(form.value)
        for section in reversed(form.path.split(".")):
            patch = {section: patch}
        changes = self._gateway.config.checked({"gateway": patch})
        self._gateway.admin.patch_config(changes, **asked(request))
        self.go(request, response, "config?done=changed")

    def _row(self, path: str, name: str) -> ShownSetting:
        config = self._gateway.config
        value = getattr(config.current, name)
        kind = "switch" if isinstance(value, bool) else "number"
        if path not in CHANGEABLE:
            kind = "fixed"
        described = type(config.current).model_fields[name].description or ""
        shown = msgspec.json.encode(value).decode().strip('"')
        return ShownSetting(path, shown, kind, described, config.is_changed(name))


def _value(text: str) -> Any:  # noqa: ANN401 - a setting's value
    """Return what somebody wrote as JSON has it. Raises Problem 422."""
    if not text.strip():
        return None
    try:
        return msgspec.json.decode(text.strip())
    except msgspec.DecodeError as error:
        raise Problem(422, f"{text!r} is no number, true or false.") from error

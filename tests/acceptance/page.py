"""A browser without scripts: keeps cookies, and sends the forms of the operator's page."""

import html
import re
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from tests.acceptance.gateway import Answer, RunningGateway

FORM = "application/x-www-form-urlencoded"


class Browser:
    """Keeps the cookies of one gateway's page; ``headers`` go with every request."""

    def __init__(self, gateway: RunningGateway, **headers: str) -> None:
        self._gateway = gateway
        self._headers = headers
        self.cookies: dict[str, str] = {}
        self.csrf = ""

    def get(self, path: str, **headers: str) -> Answer:
        """GET a path, and keep the CSRF token of the page."""
        return self._request("GET", path, None, headers)

    def post(self, path: str, /, csrf: str | None = None, **fields: object) -> Answer:
        """Send a form, by default with the CSRF token of the last page."""
        token = self.csrf if csrf is None else csrf
        body = urlencode({"csrf": token, **fields} if token else fields, doseq=True).encode()
        return self._request("POST", path, body, {"Content-Type": FORM})

    def sign_in(self, token: str) -> Answer:
        """Sign in as people do."""
        self.get("/ui/login")
        return self.post("/ui/login", token=token)

    def text(self, path: str) -> str:
        """GET a page that is there, and return it."""
        answer = self.get(path)
        assert answer.status == 200, answer
        return text_of(answer)

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        sent = {**self._headers, **headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self._gateway.request(method, path, body, headers=sent)
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] in ("", "0") or not morsel.value:
                    del self.cookies[name]
        found = re.search(r'name="csrf" value="([^"]+)"', text_of(answer))
        found = found or re.search(r'"X-CSRF-Token": "([^"]+)"', text_of(answer))
        if found:
            self.csrf = html.unescape(found[1])
        return answer


def text_of(answer: Answer) -> str:
    """Return an answer's body as text."""
    return answer.body.decode() if isinstance(answer.body, bytes) else str(answer.body)

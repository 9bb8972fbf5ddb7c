"""Named tokens: who may come in besides the settings' own token."""

import falcon
from msgspec import UNSET

from actors.gateway_state import Token
from web.asked import asked
from web.inputs import TokenBody
from web.operations import ADMIN, operation
from web.resources.base import Resource
from web.schemas import IssuedToken, NewToken, Ok, TokenList, body_of


class TokensResource(Resource):
    """GET and POST /tokens."""

    @operation(ADMIN, {200: TokenList})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with all tokens there ever were, none of them in clear."""
        self._gateway.admin.refresh()
        response.data = body_of(TokenList([shown(each) for each in self._gateway.tokens.named]))

    @operation(ADMIN, {201: NewToken}, body=TokenBody, errors=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Issue a token; the answer is the only place where it is ever shown."""
        text, token = self._gateway.admin.issue_token(request.context.body, **asked(request))
        response.status = falcon.HTTP_201
        response.data = body_of(NewToken(ok=True, token=text, issued=shown(token)))


class TokenResource(Resource):
    """DELETE /tokens/<id>."""

    @operation(ADMIN, {200: Ok})
    def on_delete(self, request: falcon.Request, response: falcon.Response, token_id: str) -> None:
        """Revoke a token by its id: at once, and its open streams end."""
        revoked = self._gateway.admin.revoke_token(token_id, **asked(request))
        response.data = body_of(Ok(ok=revoked))


def shown(token: Token) -> IssuedToken:
    """Return what is told of a token."""
    return IssuedToken(
        id=token.token_id,
        name=token.name,
        scopes=token.scopes,
        issued_at=token.issued_at,
        key_prefix=token.key_prefix or UNSET,
        revoked_at=UNSET if token.revoked_at is None else token.revoked_at,
    )

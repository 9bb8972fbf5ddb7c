"""The page's paths."""

from web.resources.base import Route
from web.ui.approvals import ApprovalPage, ApprovalsPage
from web.ui.config import ConfigPage
from web.ui.login import LoginPage, LogoutPage, StartPage
from web.ui.memory import ForgetPage, MemoryPage
from web.ui.models import ModelsPage
from web.ui.processes import CheckpointsPage, LogsPage, WorkersPage
from web.ui.session_routes import SESSION_ROUTES
from web.ui.sessions import SessionsPage
from web.ui.static_files import StaticPage
from web.ui.tokens import RevokePage, TokensPage
from web.ui.usage import UsagePage

UI_ROUTES: tuple[Route, ...] = (
    ("/ui", StartPage),
    ("/ui/", StartPage),
    ("/ui/login", LoginPage),
    ("/ui/logout", LogoutPage),
    ("/ui/static/{name}", StaticPage),
    ("/ui/sessions", SessionsPage),
    ("/ui/approvals", ApprovalsPage),
    ("/ui/approvals/{key}/{approval_id}", ApprovalPage),
    ("/ui/memory", MemoryPage),
    ("/ui/memory/forget", ForgetPage),
    ("/ui/models", ModelsPage),
    ("/ui/usage", UsagePage),
    ("/ui/checkpoints", CheckpointsPage),
    ("/ui/workers", WorkersPage),
    ("/ui/logs", LogsPage),
    ("/ui/config", ConfigPage),
    ("/ui/tokens", TokensPage),
    ("/ui/tokens/{token_id}/revoke", RevokePage),
    *SESSION_ROUTES,
)
"""Every path of the page, and what answers there; they are no part of the API."""

"""The paths of one session's pages."""

from web.resources.base import Route
from web.resources.exports import ExportResource
from web.ui.compare import ComparePage
from web.ui.proof import EraseAction, HoldAction, ProofPage, ReleaseAction
from web.ui.session import (
    ConversationPage,
    EventPart,
    JumpPart,
    LivePart,
    TimelinePart,
    ViewPart,
)
from web.ui.session_actions import (
    AbortAction,
    ApprovalAction,
    ForkAction,
    PromptAction,
    RerunAction,
)

SESSION_ROUTES: tuple[Route, ...] = (
    ("/ui/sessions/{key}", ConversationPage),
    ("/ui/sessions/{key}/at/{place}", ViewPart),
    ("/ui/sessions/{key}/timeline", TimelinePart),
    ("/ui/sessions/{key}/jump", JumpPart),
    ("/ui/sessions/{key}/events/{place}", EventPart),
    ("/ui/sessions/{key}/live", LivePart),
    ("/ui/sessions/{key}/prompt", PromptAction),
    ("/ui/sessions/{key}/abort", AbortAction),
    ("/ui/sessions/{key}/approvals/{approval_id}", ApprovalAction),
    ("/ui/sessions/{key}/fork", ForkAction),
    ("/ui/sessions/{key}/rerun", RerunAction),
    ("/ui/sessions/{key}/compare", ComparePage),
    ("/ui/sessions/{key}/proof", ProofPage),
    ("/ui/sessions/{key}/export", ExportResource),
    ("/ui/sessions/{key}/hold", HoldAction),
    ("/ui/sessions/{key}/release", ReleaseAction),
    ("/ui/sessions/{key}/erase", EraseAction),
)
"""Every path below a session's page, and what answers there."""

"""What goes wrong, as a page; as text where htmx asked for a part of one."""

from http import HTTPStatus
from urllib.parse import quote

import falcon

from web.errors import Problem, write_problem
from web.ui.page import HTML_TYPE, frame_of, is_htmx, visit_of
from web.ui.paths import UI, is_ui
from web.ui.templating import templates


def write_problem_as_asked(
    request: falcon.Request, response: falcon.Response, problem: Problem
) -> None:
    """Answer with the problem: a page below /ui, a document elsewhere."""
    write_problem(request, response, problem)
    if not is_ui(request.path) or not hasattr(request.context, "visit"):
        return
    if problem.status == 401:
        _ask_for_token(request, response)
        return
    if is_htmx(request):
        response.content_type = "text/plain; charset=utf-8"
        response.data = problem.detail.encode()
        return
    response.content_type = HTML_TYPE
    phrase = HTTPStatus(problem.status).phrase
    page = templates().get_template("problem.html")
    shown = page.render(ui=frame_of(request), title=phrase, detail=problem.detail)
    response.data = shown.encode()


def _ask_for_token(request: falcon.Request, response: falcon.Response) -> None:
    login = f"{visit_of(request).root}/login"
    response.data = b""
    if is_htmx(request):
        response.set_header("HX-Redirect", login)
        return
    wanted = request.path.removeprefix(UI) if request.method == "GET" else ""
    if wanted.strip("/"):
        wanted += f"?{request.query_string}" if request.query_string else ""
        login += f"?next={quote(wanted, safe='/')}"
    response.status = falcon.HTTP_303
    response.set_header("Location", login)

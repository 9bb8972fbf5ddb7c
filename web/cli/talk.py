"""One session of a running gateway, as who talks with it needs it. Every call blocks."""

import time
import uuid
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from web.cli.client import Backoff, Client, Refused, Unreachable, session_path
from web.cli.follow import end_of

T = TypeVar("T")

OPEN_OUTCOMES = ("running", "waiting")
CANCELLED = "cancelled"
DELETED = "deleted"
RUNS = 50


class Talk:
    """Says, asks and answers in one session; a lost connection is tried again where that is safe.

    ``cursor`` is the seq of the last event that was taken, None before there is a session.
    Failures are Refused or Unreachable.
    """

    def __init__(self, client: Client, key: str) -> None:
        self.client = client
        self.key = key
        self.cursor: int | None = None

    def join(self) -> dict[str, Any] | None:
        """Return the session at a glance, None where there is none, and begin at its end.

        Where a prompt runs it begins before that.
        """
        session = self.snapshot()
        if session is None:
            self.cursor = None
            return None
        self.cursor = end_of(self.client, self.key)
        running = self.running()
        if running is not None:
            self.cursor = running["startedSeq"] - 1
        return session

    def snapshot(self) -> dict[str, Any] | None:
        """Return the session at a glance, None where there is none."""
        try:
            found: dict[str, Any] = self._get()["session"]
        except Refused as error:
            if error.status != 404:
                raise
            return None
        return found

    def running(self) -> dict[str, Any] | None:
        """Return the run that goes on, None where none does."""
        newest = self._get("runs", limit=1)["runs"]
        return newest[0] if newest and newest[0]["outcome"] in OPEN_OUTCOMES else None

    def say(self, text: str) -> str:
        """Prompt without waiting; return the prompt's id. A repeat is the same prompt."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        path = session_path(self.key, "enqueue")
        answer = repeated(
            lambda: self.client.call("POST", path, {"text": text}, headers=headers),
        )
        prompt_id: str = answer["promptId"]
        if self.cursor is None:
            self.cursor = self._before(prompt_id)
        return prompt_id

    def _before(self, prompt_id: str) -> int:
        """Return the seq before a prompt's run, of a session that was just made."""
        for run in self._get("runs", limit=RUNS)["runs"]:
            if run["id"] == prompt_id:
                return int(run["startedSeq"]) - 1
        return end_of(self.client, self.key)

    def ended(self, prompt_ids: Collection[str]) -> dict[str, str]:
        """Return how those of the prompts ended that have, and whose end was taken."""
        try:
            runs = repeated(lambda: self._get("runs", limit=RUNS)["runs"])
        except Refused as error:
            if error.status != 404:
                raise
            return dict.fromkeys(prompt_ids, DELETED)
        known = {run["id"]: run for run in runs}
        gone = {
            run_id: run["outcome"]
            for run_id, run in known.items()
            if run_id in prompt_ids and run.get("endedSeq", 10**18) <= (self.cursor or 0)
        }
        unknown = set(prompt_ids) - known.keys()
        if unknown:
            session = repeated(self.snapshot)
            if session is None or not (session["processing"] or session["queueDepth"]):
                gone |= dict.fromkeys(unknown, CANCELLED)
        return gone

    def steer(self, text: str) -> str:
        """Say more to what runs; return how it was taken: steer, or queued where nothing runs."""
        return str(self._post({"text": text}, "steer")["mode"])

    def abort(self) -> bool:
        """End what runs; tell whether anything did."""
        return bool(self._post({}, "abort")["ok"])

    def resolve(self, approval_id: str, *, approved: bool, reason: str) -> None:
        """Answer a call that waits for approval."""
        self._post({"approved": approved, "reason": reason}, "approvals", approval_id)

    def models(self) -> list[dict[str, Any]]:
        """Return the models that the session may choose."""
        found: list[dict[str, Any]] = self.client.call("GET", "/models")["models"]
        return found

    def choose(self, provider: str, model_id: str) -> None:
        """Send the session's next model calls to another model."""
        self._post({"provider": provider, "modelId": model_id}, "model")

    def history(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest messages."""
        found: list[dict[str, Any]] = self._get("history", limit=limit)["messages"]
        return found

    def _get(self, *rest: str, **query: object) -> Any:  # noqa: ANN401 - JSON
        return self.client.call("GET", session_path(self.key, *rest, **query))

    def _post(self, body: object, *rest: str) -> Any:  # noqa: ANN401 - JSON
        return self.client.call("POST", session_path(self.key, *rest), body)


def repeated(call: Callable[[], T]) -> T:
    """Return what a call does that may be made again, over lost connections and restarts.

    Raises the last error; Refused at once, unless it says to try again.
    """
    backoff = Backoff()
    while True:
        try:
            return call()
        except Unreachable as error:
            time.sleep(backoff.delay_s(error))
        except Refused as error:
            if error.status != 503:
                raise
            time.sleep(backoff.delay_s(error))

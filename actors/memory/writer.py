"""What a session's model thinks worth remembering of a prompt and its answer."""

import logging
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from actors.memory.rules import AUTO, BUCKET_OF_KIND, Remember, key_of
from actors.models.base import Finished, Model, ModelRequest
from actors.session.messages import Text, UserMessage, text_of
from actors.timers import Timers

WRITER_TIMEOUT_S = 60.0
KEY_CHARACTERS = 80
TEXT_CHARACTERS_MAX = 8_000

INSTRUCTIONS = f"""\
You keep the long-term memory of an assistant. You are shown the last thing its user said and its
answer. Decide what of it will still matter in later conversations: who the user is, what they
prefer, people and things they deal with, facts and decisions they will come back to. Leave out
small talk, what is only of this moment, and guesses. Keep a password, a code or a key (kind secret)
only where the user asks for it to be remembered.

Answer with JSON alone: {{"memories": [{{"bucket": "core" or "archival", "kind": one of
{", ".join(BUCKET_OF_KIND)}, "key": a few words that name the subject, "content": one sentence}}]}}.
The same key again replaces what was remembered under it. Where nothing is worth it, answer
{{"memories": []}}."""

_JSON = re.compile(r"\{.*\}", re.DOTALL)

logger = logging.getLogger(__name__)


def worth_remembering(
    model: Model, said: str, answered: str, *, tokens_max: int, timers: Timers
) -> str:
    """Ask the model, and return its answer. Raises ModelError; takes WRITER_TIMEOUT_S at most."""
    shown = (
        f"The user said:\n{said[:TEXT_CHARACTERS_MAX]}\n\n"
        f"The assistant answered:\n{answered[:TEXT_CHARACTERS_MAX]}"
    )
    request = ModelRequest(
        [UserMessage((Text(shown),), 0)], INSTRUCTIONS, max_output_tokens=tokens_max
    )
    with model.stream(request) as stream:
        timer = timers.after(WRITER_TIMEOUT_S, stream.close)
        try:
            for part in stream:
                if isinstance(part, Finished):
                    return text_of(part.message.content)
        finally:
            timer.cancel()
    return ""


def memories_in(answer: str, *, at: int, principal: str) -> Iterator[Remember]:
    """Yield what an answer says is to be remembered, each once; what makes no sense is skipped."""
    found = _JSON.search(answer)  # it may stand in a fence, or after a word
    try:
        decoded: Any = msgspec.json.decode(found[0]) if found else {}
    except (msgspec.DecodeError, RecursionError):
        return
    entries = decoded.get("memories")
    seen: set[tuple[str, str, str]] = set()
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        texts = {name: value for name, value in entry.items() if isinstance(value, str)}
        content, kind = texts.get("content", "").strip(), texts.get("kind", "")
        if not content or "\x00" in content or kind not in BUCKET_OF_KIND:
            continue
        key = key_of(texts.get("key", "").strip() or content[:KEY_CHARACTERS])
        bucket = texts.get("bucket", "")
        if (bucket, kind, key) not in seen:
            seen.add((bucket, kind, key))
            yield Remember(at, content, bucket, kind, key, AUTO, principal=principal)

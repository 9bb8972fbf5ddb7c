"""What a session was after some lines of its exported log: sessiond's answer, worked out anew.

Standard library only, nothing of sessiond: ``python independent_fold.py SEQ < session.jsonl``.
"""

import json
import sys

COUNTS = ("input", "output", "cache_read", "cache_write", "cost_usd")


def fold(lines) -> dict:
    session = begun({}, None)
    for line in lines:
        take(session, line)
    return session


def begun(kept, session_id) -> dict:
    """Return a session in which nothing was said yet."""
    fresh = {"id": session_id, "queue": [], "processing": False, "messages": [], "draft": None}
    fresh |= {"usage": dict.fromkeys(COUNTS, 0), "name": kept.get("name")}
    return fresh | {"model": kept.get("model")}


def take(session, line) -> None:
    event = json.loads(line)
    kind = event["type"] if "payload" in event else "erased"
    said = event.get("payload")
    if kind == "session.created":
        session.update(begun({}, said["session_id"]))
    elif kind in ("session.reset", "session.deleted"):
        kept = session if kind == "session.reset" else {}
        session.update(begun(kept, said.get("session_id")))
    elif kind == "session.renamed":
        session["name"] = said["name"]
    elif kind == "model.selected":
        session["model"] = [said["provider"], said["model_id"]]
    elif kind == "prompt.queued":
        session["queue"].append(said["prompt_id"])
    elif kind in ("prompt.cancelled", "run.started"):
        session["queue"].remove(said["prompt_id"])
        session["processing"] |= kind == "run.started"
    elif kind in ("run.completed", "run.failed", "run.aborted", "run.interrupted"):
        session.update(processing=False, draft=None)
    elif kind in ("turn.ended", "context.compacted"):
        for name in COUNTS:
            session["usage"][name] += said.get("usage", {}).get(name, 0)
    elif kind == "message.started" and said["role"] == "assistant":
        session["draft"] = []
    elif kind in ("text.delta", "thinking.delta", "tool_input.delta"):
        draft(session["draft"], kind, said)
    elif kind == "message.completed":
        role = said["message"]["role"]
        session["messages"].append([role, parts(role, said["message"])])
        if role == "assistant":
            session["draft"] = None
    elif kind == "tool.completed":
        session["messages"].append(["toolResult", [result(said, said["outcome"] != "ok")]])


def draft(blocks, kind, said) -> None:
    if blocks and blocks[-1][0] == said["index"]:
        if "text" in blocks[-1][1]:
            blocks[-1][1]["text"] += said["text"]
    elif kind == "tool_input.delta":
        blocks.append([said["index"], called(said["tool_call_id"], said["tool_name"])])
    else:
        shown = "text" if kind == "text.delta" else "reasoning"
        blocks.append([said["index"], {"type": shown, "text": said["text"]}])


def called(call_id, name) -> dict:
    shown = {"type": "tool-invocation", "state": "call"}
    return shown | {"toolCallId": call_id, "toolName": name}


def result(said, failed) -> dict:
    text = "".join(block["text"] for block in said["content"] if block["type"] == "text")
    state = {"state": "error" if failed else "result", "result": text}
    return called(said["tool_call_id"], said["tool_name"]) | state


def parts(role, message) -> list:
    if role == "toolResult":
        return [result(message, message.get("is_error", False))]
    return [part(block) for block in message["content"]]


def part(block) -> dict:
    if block["type"] == "toolCall":
        return called(block["id"], block["name"]) | {"args": block["arguments"]}
    if block["type"] == "image":
        kind = block["media_type"]
        return {"type": "file", "mediaType": kind, "url": f"data:{kind};base64,{block['data']}"}
    return {"type": {"thinking": "reasoning"}.get(block["type"], "text"), "text": block["text"]}


if __name__ == "__main__":
    json.dump(fold(sys.stdin.readlines()[: int(sys.argv[1])]), sys.stdout)

"""What a running client posts every second or so:

new lines, the summary, that it lives, that it has ended.
"""

from __future__ import annotations

import time
from typing import Any

from labgate.standins.wandb import lines
from labgate.standins.wandb.store import Run, Store
from labgate.standins.wandb.values import NotJsonError, dump, parse_object

STREAMS = {
    "wandb-history.jsonl": lines.HISTORY,
    "wandb-events.jsonl": lines.EVENTS,
    "output.log": lines.OUTPUT,
}
SUMMARY = "wandb-summary.json"


def take(store: Store, run: Run, body: dict[str, Any], writer: str = "") -> list[str]:
    """Keep one posted body, all of it or, when it cannot be understood, nothing.

    `writer` tells several processes apart that write one run. Returns what was odd about the body, in words.
    Raises NotJsonError for a body of another shape.
    """
    odd: list[str] = []
    with store.transaction():
        changes: dict[str, Any] = {"heartbeat": time.time()}
        for name, chunk in _object(body.get("files"), "files").items():
            offset, content = _chunk(name, chunk)
            if name in STREAMS:
                odd += lines.append(store, run.id, STREAMS[name], writer, offset, content)
            elif name == SUMMARY and content:
                changes["summary"] = _summary(store, run, content[-1], writer)
            elif name != SUMMARY:
                odd.append(f"a stream named {name!r} is not kept")
        if body.get("complete"):
            code = body.get("exitcode", 0)
            changes["exit_code"] = code if isinstance(code, int) and abs(code) < 1 << 31 else 1
            changes["state"] = "failed" if changes["exit_code"] else "finished"
        elif body.get("preempting"):
            changes["state"] = "preempting"
        store.update_run(run.id, **changes)
    return odd


def _summary(store: Store, run: Run, text: str, writer: str) -> str:
    """The whole summary; of several writers each sends its own part."""
    summary = parse_object(text)
    if writer:
        now = store.run_by_id(run.id) or run
        summary = {**parse_object(now.summary), **summary}
    return dump(summary)


def _chunk(name: str, chunk: Any) -> tuple[int, list[str]]:
    chunk = _object(chunk, name)
    offset, content = chunk.get("offset", 0), chunk.get("content", [])
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset < 1 << 62:
        raise NotJsonError(f"the offset of {name} is {offset!r:.50}")
    if not isinstance(content, list) or not all(isinstance(line, str) for line in content):
        raise NotJsonError(f"the content of {name} is no list of strings")
    return offset, content


def _object(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NotJsonError(f"{name} is no JSON object")
    return value

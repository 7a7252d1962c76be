#!/usr/bin/env python3
"""How does a front end talk to `sessd` and know a session? One file, standard library, from PROTOCOL.md alone.

Read it top down: `Connection` (one request, one answer), `Fold` (events to things), `Held` (the
unfinished), `Follower` (all of these, over lost connections). `sess_commands.py` is what its command line does.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import socket
import struct
import threading
import time
from collections import Counter, deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

Json = Any
Thing = Dict[str, Any]

ID_CHARS = 37  # of a whole session id; less is a prefix
LINE_BYTES_MAX = 8 << 20  # the daemon keeps its pages to 4 MiB; twice that is not a line but a fault
NOTIFICATIONS_MAX = 100_000  # waiting here while an answer is awaited
VIOLATIONS_MAX = 100  # kept in words; all are counted
CALL_SECONDS = 30.0
RETRY_SECONDS = 0.05
TASK_FINAL = frozenset(("completed", "failed", "cancelled", "interrupted"))
CALL_FINAL = frozenset(("done", "failed", "denied", "unknown"))
VIEW_KINDS = ("thread", "goal", "plan", "note", "task", "approval", "tool_call", "message")
COMPUTED = ("followers", "position")  # members of a session and a task, never in an event
DELTA_TYPES = {"text": "text", "reasoning": "reasoning", "tool_input": "tool_use"}


def normal(value: Json) -> Json:
    """A View as it is compared: without what is computed, and absent the same as null.

    A tool's `input` and a front end's `metadata` stay as they are: what is in there is someone's value.
    """
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if v is not None and k not in COMPUTED}
        return {k: v if k in ("input", "metadata") else normal(v) for k, v in kept.items()}
    return [normal(it) for it in value] if isinstance(value, list) else value


class SessError(Exception):
    """The daemon's refusal. Branch on `kind`."""

    def __init__(self, kind: str, code: int, message: str, data: Thing) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.code, self.message, self.data = kind, code, message, data
        self.retryable = bool(data.get("retryable"))


class ConnectionLost(ConnectionError):
    """The daemon is gone, and the fate of an unanswered request not known. `fault`: it broke the line rules."""

    def __init__(self, why: str, fault: bool = False) -> None:
        super().__init__(why)
        self.fault = fault


def socket_path() -> str:
    """Where the daemon listens (PROTOCOL §1). An empty variable counts as not set."""
    env = os.environ.get
    state = env("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    runtime = env("XDG_RUNTIME_DIR")
    return env("SESS_SOCKET") or (f"{runtime}/sess/sess.sock" if runtime else f"{state}/sess/run/sess.sock")


class Connection:
    """One socket. Threads may share it: whoever waits reads for all, so nothing is read while nobody waits."""

    def __init__(self, path: Optional[str] = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(CALL_SECONDS)
        try:
            self._socket.connect(path or socket_path())
            peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            _, uid, _ = struct.unpack("3i", peer)
            if uid != os.getuid():
                raise PermissionError(f"the daemon runs as uid {uid}, not as ours ({os.getuid()})")
        except OSError:
            self._socket.close()
            raise
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._last_id, self._reading, self._rest = 0, False, bytearray()
        self._answers: Dict[int, Optional[Thing]] = {}  # None: still awaited
        self._notifications: Deque[Thing] = deque()
        self._lost: Optional[ConnectionLost] = None
        self.told_before_answer = 0  # notifications that came before the latest answer

    def call(self, method: str, /, timeout_s: float = CALL_SECONDS, **params: Json) -> Thing:
        """One request, its answer. Raises SessError, TimeoutError, or another OSError when the daemon is gone."""
        with self._changed:
            self._last_id += 1
            request = self._last_id
            self._answers[request] = None
        try:
            line = json.dumps({"jsonrpc": "2.0", "id": request, "method": method, "params": params}) + "\n"
            with self._sending:
                self._socket.sendall(line.encode())
            answer = self._await(lambda: self._answers[request], timeout_s)
        finally:
            with self._changed:
                del self._answers[request]
        if answer is None:
            raise TimeoutError(f"no answer to {method} within {timeout_s} s")
        if "error" in answer:
            error, data = answer["error"], answer["error"].get("data") or {}
            raise SessError(data.get("kind", "internal"), error["code"], error["message"], data)
        return answer["result"]

    def notification(self, timeout_s: float) -> Optional[Thing]:
        """The next notification, or None when none comes in time. What came before a loss is given first."""
        return self._await(lambda: self._notifications.popleft() if self._notifications else None, timeout_s)

    def close(self) -> None:
        """Ends it; requests not yet answered may still take effect."""
        self._socket.close()

    def _await(self, take: Callable[[], Optional[Thing]], timeout_s: float) -> Optional[Thing]:
        deadline = time.monotonic() + timeout_s
        while True:
            with self._changed:
                found = take()
                if found is not None:
                    return found
                if self._lost is not None:
                    raise self._lost
                remaining = deadline - time.monotonic()
                if remaining <= 0 and timeout_s > 0:
                    return None
                if self._reading:  # another thread reads, and wakes us after each piece
                    if not self._changed.wait(max(remaining, 0)):
                        return None
                    continue
                self._reading = True
            got = True
            try:
                got = self._read(max(remaining, 0))
            except (OSError, ValueError) as err:
                self._lost = ConnectionLost(str(err), fault=isinstance(err, ValueError))
            finally:
                with self._changed:
                    self._reading = False
                    self._changed.notify_all()
            if not got and timeout_s <= 0:
                return None

    def _read(self, timeout_s: float) -> bool:
        """Sorts what has arrived into answers and notifications; False when nothing has."""
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return False
        piece = self._socket.recv(1 << 18)
        if not piece:
            raise ConnectionLost("the daemon closed the connection")
        self._rest += piece
        end = self._rest.rfind(b"\n") + 1
        lines, self._rest = bytes(self._rest[:end]).split(b"\n"), self._rest[end:]
        if len(self._rest) > LINE_BYTES_MAX:
            raise ValueError(f"a line of more than {LINE_BYTES_MAX} bytes")
        with self._changed:
            for line in filter(None, lines):
                self._sort(json.loads(line))
        if len(self._notifications) > NOTIFICATIONS_MAX:
            raise ConnectionLost("too many notifications wait unread")
        return True

    def _sort(self, message: Thing) -> None:
        if "method" in message:
            self._notifications.append(message)
        elif message.get("id") in self._answers:
            self._answers[message["id"]] = message
            self.told_before_answer = len(self._notifications)


class Fold:
    """What the events of a session add up to (PROTOCOL §6). Dicts keep the order of first appearance."""

    def __init__(self, view: Optional[Thing] = None) -> None:
        """Empty, to begin with event 1; or as a View says, to go on behind it."""
        self.session: Thing = dict((view or {}).get("session") or {})
        self.kinds: Dict[str, Dict[Any, Thing]] = {}
        for kind in VIEW_KINDS:
            for thing in (view or {}).get(kind + "s") or []:
                self.kinds.setdefault(kind, {})[key_of(thing)] = dict(thing)

    def apply(self, event: Thing) -> None:
        """Folds one event. A namespaced type changes nothing but the session's `seq` and `updated_at`."""
        things = event.get("data") or {} if ":" not in event["type"] else {}
        for kind, given in things.items():
            if not isinstance(given, dict):
                continue  # a detail, such as `from` or `why`
            if kind == "session":
                merge(self.session, given)
            elif given.get("removed") is True:
                self.kinds.get(kind, {}).pop(key_of(given), None)
            elif key_of(given) is not None:
                merge(self.kinds.setdefault(kind, {}).setdefault(key_of(given), {}), given)
        self.session["seq"], self.session["updated_at"] = event["seq"], event["at"]

    def things(self, kind: str) -> List[Thing]:
        """All of a kind, in the order in which they first appeared."""
        return list(self.kinds.get(kind, {}).values())

    def get(self, kind: str, key: Json) -> Optional[Thing]:
        """One thing."""
        return self.kinds.get(kind, {}).get(key)

    def path(self, n: Optional[int] = None) -> Tuple[List[Thing], Optional[str]]:
        """The newest n messages of the current thread, oldest first, and the id of the one before them, held or not."""
        at: Optional[str] = (self.get("thread", self.session.get("thread")) or {}).get("head")
        path: List[Thing] = []
        while at is not None and (n is None or len(path) < n):
            message = self.get("message", at)
            if message is None:
                break  # it lies before what this reader was given: `message/list` has it
            path.append(message)
            at = message.get("parent")
        return path[::-1], at

    def open_tasks(self) -> List[Thing]:
        """Tasks not final: what runs or waits first, then the queue."""
        tasks = [it for it in self.things("task") if it.get("status") not in TASK_FINAL]
        return sorted(tasks, key=lambda it: (it.get("status") not in ("running", "waiting"), it.get("order") or 0))

    def view(self, n: int = 50) -> Thing:
        """The View of n messages that the daemon would give at this event."""
        messages, older = self.path(n)
        view = {
            "session": self.session,
            **{kind + "s": self.things(kind) for kind in ("thread", "goal", "plan", "note")},
            "tasks": self.open_tasks(),
            "approvals": [it for it in self.things("approval") if it.get("status") == "pending"],
            "tool_calls": [it for it in self.things("tool_call") if it.get("status") not in CALL_FINAL],
            "messages": messages,
        }
        if older is not None and messages:
            view["before"] = messages[0]["id"]
        return normal(view)


def key_of(thing: Thing) -> Json:
    """A thing's key: its `id`, else its `n`."""
    return thing["id"] if thing.get("id") is not None else thing.get("n")


def merge(thing: Thing, given: Thing) -> None:
    """Each member replaces the old one whole; null removes it."""
    thing.update(given)
    for name in [it for it, value in given.items() if value is None]:
        del thing[name]


class Stream:
    """One unfinished text: a block's, or a tool's output, which may begin late."""

    def __init__(self, given: Thing, start: int = 0) -> None:
        self.type, self.id, self.name = given.get("type"), given.get("id"), given.get("name")
        self.parts: List[str] = [given.get("text") or ""]
        self.end = start + len(self.parts[0].encode())  # in bytes: where the next piece must begin


class Held:
    """What is held of one task's unfinished message and running tools."""

    def __init__(self, live: Thing) -> None:
        self.message: Optional[str] = live.get("message")
        self.blocks = {it["index"]: Stream(it) for it in live.get("blocks") or []}
        self.tools = {it["tool_call"]: Stream(it, it["offset"]) for it in live.get("tools") or []}

    def add(self, delta: Thing) -> Optional[str]:
        """Takes one piece; says what is wrong with it. A wrong piece is not taken."""
        tool, kind = delta["kind"] == "tool_output", delta["kind"]
        if not tool and self.message is not None and delta["message"] != self.message:
            return f"a delta of {delta['message']} while {self.message} is unfinished"
        streams: Dict[Any, Stream] = self.tools if tool else self.blocks
        key, type_ = delta["tool_call" if tool else "block"], DELTA_TYPES.get(kind)
        stream = streams.get(key) or Stream({"type": type_, "id": delta.get("id"), "name": delta.get("name")})
        if not tool and stream.type != type_:
            return f"a delta of {kind} for block {key}, which is {stream.type}"
        if stream.type == "tool_use" and not (stream.id and stream.name):
            return f"the first delta of tool_use block {key} names no call"
        if delta["offset"] != stream.end:
            return f"a delta at byte {delta['offset']} of {key}, where {stream.end} are held"
        stream.parts.append(delta["text"])
        stream.end += len(delta["text"].encode())
        streams[key] = stream
        self.message = self.message if tool else delta["message"]
        return None

    def end_message(self, message: Thing, may_be_shorter: bool) -> Optional[str]:
        """The message replaces its deltas; it must be, or go on from, what they said."""
        blocks, self.blocks, self.message = self.blocks, {}, None
        for type_ in ("text", "reasoning", "tool_use"):
            shown = [blocks[it] for it in sorted(blocks) if blocks[it].type == type_ and blocks[it].end]
            calls = {it.id for it in shown}  # a call without input has no deltas: calls are matched by id
            said = [it for it in message["content"] if it["type"] == type_]
            said = [it for it in said if (it["id"] in calls if type_ == "tool_use" else it.get("text"))]
            if may_be_shorter or (type_ == "tool_use" and message.get("status") == "partial"):
                shown = shown[: len(said)]
            if len(shown) > len(said) or not all(goes_on(*it, may_be_shorter) for it in zip(shown, said)):
                return f"{message['id']} does not go on from the {type_} that was streamed"
        return None


def goes_on(shown: Stream, block: Thing, may_be_shorter: bool) -> bool:
    """Whether a block's text begins with what was shown of it."""
    text = "".join(shown.parts)
    if block["type"] == "tool_use":
        try:
            return shown.id == block["id"] and json.loads(text) == block["input"]
        except ValueError:
            return shown.id == block["id"]  # a reader that fell behind holds half an object
    if "blob" in block:  # only its first bytes are here; the hash vouches for the rest
        if shown.end == block["bytes"]:
            return block["blob"] == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        fits = shown.end < block["bytes"] or may_be_shorter
        return fits and (text.startswith(block["text"]) or block["text"].startswith(text))
    return block["text"].startswith(text) or (may_be_shorter and text.startswith(block["text"]))


class Follower:
    """A session as it happens, over lost connections, with the daemon held to the rules as it goes.

    `fold` is what is on disk, `held` (by task) what is unfinished, `violations` what the daemon should not have done.
    """

    def __init__(self, session: str, path: Optional[str] = None, after: Optional[str] = None, messages: int = 50) -> None:
        self.session, self.path, self.messages = session, path, messages
        self.cursor, self.fold = after, Fold()
        self.whole = after == "start"  # False: begun at a cursor, the fold lacks what lies before
        self.held: Dict[str, Held] = {}
        self.counts: Counter = Counter()
        self.violations: List[str] = []
        self.ended = False  # the session was deleted
        self.connection: Optional[Connection] = None

    @property
    def seq(self) -> Optional[int]:
        """The last event folded."""
        return self.fold.session.get("seq", 0 if self.whole else None)

    def next(self, timeout_s: float) -> Optional[Thing]:
        """The next notification, applied; after a (re)connect the answer, as `{"method": "follow", ..}`; None: too late."""
        deadline = time.monotonic() + timeout_s
        while not self.ended:
            if self.connection is None:
                return self._follow(deadline)
            try:
                note = self.connection.notification(max(deadline - time.monotonic(), 0))
            except ConnectionLost as err:
                self.counts["lost"] += 1
                self.violation(str(err) if err.fault else None)
                self.drop()
                continue
            if note is not None:
                self._take(note)
            return note
        return None

    def view(self, n: int) -> Thing:
        """The View of n messages at `seq`. Pages for those that lie before what it was given (they never change)."""
        path, older = self.fold.path(n)
        page: Optional[Thing] = {}
        while older is not None and len(path) < n and page is not None and self.connection is not None:
            answer = self.connection.call("message/list", session=self.session, limit=500, **page)
            for message in answer["messages"]:
                if message["seq"] <= self.fold.session["seq"]:  # a later one comes with its event
                    self.fold.kinds.setdefault("message", {}).setdefault(message["id"], message)
            path, older = self.fold.path(n)
            page = {"cursor": answer["next"]} if answer.get("next") else None
        return self.fold.view(n)

    def drop(self) -> None:
        """Leaves the connection, unread lines and all; `next` goes on by cursor. Deltas begin again with a `live`."""
        if self.connection is not None:
            self.connection.close()
        self.connection, self.held = None, {}

    def violation(self, what: Optional[str]) -> None:
        """Notes that a rule was broken; None: it was not."""
        self.counts["violations"] += what is not None
        if what is not None and len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(f"at seq {self.seq}: {what}")

    def _follow(self, deadline: float) -> Optional[Thing]:
        while True:
            connection = None
            try:
                connection = Connection(self.path)
                if self.cursor is not None and self.session != "global" and len(self.session) < ID_CHARS:
                    self.session = connection.call("session/get", session=self.session)["id"]
                begin: Thing = {"messages": self.messages} if self.cursor is None else {"after": self.cursor}
                answer = connection.call("session/follow", session=self.session, **begin)
                self.connection = connection
                if connection.told_before_answer:
                    self.violation("notifications before the answer of their follow")
                self._begin(answer)
                return {"method": "follow", "params": answer}
            except SessError as err:
                if err.kind == "conflict" and self.cursor is not None:
                    self.counts["conflict"] += 1
                    self.cursor = None
                elif not err.retryable:
                    raise
            except PermissionError:
                raise
            except OSError:  # not there, or gone in the middle: the daemon may be starting
                self.counts["unreachable"] += 1
            finally:
                if connection is not None and self.connection is None:
                    connection.close()
            if time.monotonic() >= deadline:
                return None
            time.sleep(RETRY_SECONDS)

    def _begin(self, answer: Thing) -> None:
        self.counts["follow"] += 1
        if self.cursor is None:
            self.fold, self.whole = Fold(answer["view"]), True
            self.session, self.cursor = self.fold.session["id"], answer["cursor"]
            if answer.get("live"):
                self._live(answer["live"])
        elif "view" in answer:
            self.violation("a follow with `after` answered with a view")

    def _take(self, note: Thing) -> None:
        method, params = note["method"], note["params"]
        take = {"event": self._event, "delta": self._delta, "live": self._live}.get(method)
        if take is None:
            return  # a reader ignores what it does not know
        self.counts[method] += 1
        if params.get("session") != self.session:
            self.violation(f"{method} of session {params.get('session')}")
        take(params)

    def _event(self, event: Thing) -> None:
        self.ended = event["type"] == "session.deleted" and self.session != "global"  # that log tells of others' ends
        if self.seq is not None and event["seq"] != self.seq + 1:
            self.violation(f"event {event['seq']} {'twice' if event['seq'] <= self.seq else 'after a gap'}")
            if event["seq"] <= self.seq:
                return
        if not isinstance(event.get("cursor"), str) and not self.ended:
            self.violation(f"event {event['seq']} has no cursor")
        data = event.get("data") or {} if ":" not in event["type"] else {}
        for kind, thing in data.items():
            if isinstance(thing, dict) and kind != "session" and key_of(thing) is None:
                self.violation(f"{event['type']}: {kind} has no key")
        message, task, call = (data.get(it) or {} for it in ("message", "task", "tool_call"))
        if message and not message.get("removed"):
            if self.fold.get("message", message.get("id")):
                self.violation(f"message {message.get('id')} travels twice")
            if message.get("seq") != event["seq"]:
                self.violation(f"message {message.get('id')} has seq {message.get('seq')}, its event {event['seq']}")
            for held in self.held.values():
                if held.message == message.get("id"):
                    self.violation(held.end_message(message, may_be_shorter=event["type"] == "task.interrupted"))
        self.fold.apply(event)
        self.cursor = event.get("cursor", self.cursor)
        if event["type"] == "tool.finished":
            for held in self.held.values():
                held.tools.pop(call.get("id"), None)
        if task.get("status") in TASK_FINAL or task.get("status") == "queued":  # queued again: its answer is dropped
            left = self.held.pop(task["id"], None)
            cut = left and any(it.end and it.type != "tool_use" for it in left.blocks.values())
            if left and cut and task["status"] not in ("queued", "interrupted"):
                self.violation(f"{task['id']} ends without {left.message}, of which text was streamed")

    def _live(self, live: Thing) -> None:
        self._unfinished("live", live)
        self.held[live["task"]] = Held(live)

    def _delta(self, delta: Thing) -> None:
        self._unfinished("delta", delta)
        if delta["task"] not in self.held:
            self.violation(f"a delta of {delta['task']} with no live before it")
            self.held[delta["task"]] = Held({})
        self.violation(self.held[delta["task"]].add(delta))

    def _unfinished(self, what: str, params: Thing) -> None:
        task = self.fold.get("task", params["task"])
        if (task or {}).get("status") in TASK_FINAL or (self.whole and task is None):
            self.violation(f"a {what} of {params['task']}, which is {'final' if task else 'not known'}")
        if params.get("message") is not None and self.fold.get("message", params["message"]):
            self.violation(f"a {what} of {params['message']}, which has ended")
        call = self.fold.get("tool_call", params.get("tool_call"))
        if call and call.get("status") in CALL_FINAL:
            self.violation(f"a {what} of {call['id']}, which has finished")


if __name__ == "__main__":
    import sess_commands

    raise SystemExit(sess_commands.main())

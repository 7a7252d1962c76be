"""What does `sess_client.py` do from a command line: call, follow, judge a session, verify an export?"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import random
import re
import sys
import time
import unicodedata
from typing import Any, Callable, Dict, List, Optional, Set

from sess_client import (RETRY_SECONDS, TASK_FINAL, VIOLATIONS_MAX, Connection, Fold, Follower, Json, SessError, Thing, normal)

QUIET_SECONDS = 0.2
PAGE = 500  # messages
GRACE_SECONDS = 30.0  # for comparing, after the following is over
COMPARE_TRIES = 50
BLOB_PIECE_BYTES = 1 << 20
HASH_MEMBER = re.compile(rb',"hash":"([0-9a-f]{64})"(?=[,}])')
TEXT = json.JSONEncoder(ensure_ascii=False)
BODY_MEMBERS = ["session", "epoch", "events"]


def main() -> int:
    """Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 daemon unreachable."""
    parser = argparse.ArgumentParser(prog="sess_client.py", description="A client of sessd, for people and for tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    call = commands.add_parser("call", help="one request, its result as JSON")
    call.add_argument("method")
    call.add_argument("params", nargs="?", default="{}", metavar="JSON")
    follow = commands.add_parser("follow", help="read a session live")
    follow.add_argument("session")
    follow.add_argument("--after", metavar="CURSOR|start")
    follow.add_argument("--until-idle", action="store_true", help="end when no task is queued, runs or waits")
    follow.add_argument("--seconds", type=float, default=float("inf"))
    follow.add_argument("--json", action="store_true", help="print what comes, a line each")
    judge = commands.add_parser("judge", help="follow with pauses and reconnects, then compare all ways of reading")
    judge.add_argument("session")
    judge.add_argument("--until-task", metavar="TASK")
    judge.add_argument("--seconds", type=float, default=60.0)
    judge.add_argument("--messages", type=int, default=50)
    judge.add_argument("--pause-every", type=int, default=0, metavar="N", help="stop reading, about every N notifications")
    judge.add_argument("--pause-seconds", type=float, default=2.0, help="the longest pause")
    judge.add_argument("--reconnect-every", type=int, default=0, metavar="N", help="reconnect, about every N notifications")
    judge.add_argument("--seed", type=int, default=0)
    verify = commands.add_parser("verify-export", help="check the hash chain of a JSONL export or store file")
    verify.add_argument("file")
    args = parser.parse_args()
    try:
        return {"call": run_call, "follow": run_follow, "judge": run_judge, "verify-export": run_verify}[args.command](args)
    except SessError as err:
        print(json.dumps({"code": err.code, "message": err.message, "data": err.data}), file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except (OSError, TimeoutError) as err:
        print(f"sess_client.py: {err}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130


def run_call(args: argparse.Namespace) -> int:
    """`call METHOD [JSON]`."""
    try:
        params = json.loads(args.params)
        if not isinstance(params, dict) or "timeout_s" in params:
            raise ValueError("params are an object of the method's own members")
    except ValueError as err:
        print(f"sess_client.py: {err}", file=sys.stderr)
        return 2
    print(json.dumps(Connection().call(args.method, **params), ensure_ascii=False))
    return 0


def run_follow(args: argparse.Namespace) -> int:
    """`follow SESSION`: JSON lines, or text for a person."""
    follower, screen = Follower(args.session, after=args.after), Screen()
    deadline = time.monotonic() + args.seconds
    while time.monotonic() < deadline and not follower.ended:
        note = follower.next(min(QUIET_SECONDS, max(deadline - time.monotonic(), 0)))
        if note is not None and args.json:
            print(json.dumps(note, ensure_ascii=False), flush=True)
        elif note is not None:
            screen.show(note)
        elif args.until_idle and is_idle(follower):
            break
    for violation in follower.violations:
        print(f"sess_client.py: {violation}", file=sys.stderr)
    return 1 if follower.violations else 0


def is_idle(follower: Follower) -> bool:
    """Whether nothing is queued, runs or waits, and all of it has been read."""
    if follower.connection is None or follower.fold.open_tasks():
        return False
    try:
        session = follower.connection.call("session/get", session=follower.session)
    except OSError:
        return False
    return not session.get("running") and not session.get("queued") and follower.seq in (None, session["seq"])


class Screen:
    """A session as text that streams. Nothing a model says reaches the terminal as a control code."""

    def __init__(self) -> None:
        self.message: Optional[str] = None  # the one whose beginning is on the screen
        self.shown = ""

    def show(self, note: Thing) -> None:
        """Prints what a notification adds."""
        method, params = note["method"], note["params"]
        if method == "follow" and "view" in params:
            for message in params["view"]["messages"]:
                self.whole(message)
        live = params.get("live") if method == "follow" else params if method == "live" else None
        if live and live.get("message"):
            self.text(live["message"], "".join(it["text"] for it in live["blocks"] if it["type"] == "text"))
        elif method == "delta" and params["kind"] == "text":
            before = self.shown if params["message"] == self.message else ""
            self.text(params["message"], before + params["text"])
        elif method == "event":
            data = params.get("data") or {}
            if isinstance(data.get("message"), dict) and ":" not in params["type"]:
                self.whole(data["message"])
            call = data.get("tool_call") or {}
            if params["type"] == "tool.proposed":
                print(visible(f"[{call.get('name')} {json.dumps(call.get('input'), ensure_ascii=False)}]"), flush=True)
            elif params["type"] in ("task.failed", "task.cancelled", "task.interrupted"):
                print(visible(f"[{params['type']}: {(data.get('task') or {}).get('reason')}]"), flush=True)

    def whole(self, message: Thing) -> None:
        """A message as it is on disk: what its deltas did not show yet."""
        text = text_of(message)
        if message["role"] == "tool" or not (text or message["id"] == self.message):
            return
        self.text(message["id"], text if message["role"] == "assistant" else f"{message['role']}> {text}")
        self.message, self.shown = None, ""
        print(flush=True)

    def text(self, message: str, text: str) -> None:
        """All of a message so far; prints what is new, or all again when it is another text than before."""
        if message != self.message or not text.startswith(self.shown):
            if self.message is not None:
                print()
            self.message, self.shown = message, ""
        print(visible(text[len(self.shown):]), end="", flush=True)
        self.shown = text


def visible(text: str) -> str:
    """Text with control characters, and those that turn the direction of writing, spelled out."""
    return "".join(it if it in "\n\t" or not is_control(it) else f"\\u{ord(it):04x}" for it in text)


def is_control(char: str) -> bool:
    """What could move a cursor or mislead an eye."""
    return unicodedata.category(char) in ("Cc", "Cs") or char in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def text_of(message: Thing) -> str:
    """A message's text blocks; of a long one the beginning."""
    return "".join(it["text"] for it in message["content"] if it["type"] == "text")


def canonical(value: Json) -> str:
    """RFC 8785: members by UTF-16 order, no spaces, shortest numbers. Integers of any size stay exact."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda it: it.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(canonical(it) + ":" + canonical(value[it]) for it in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False).replace("e-0", "e-") if isinstance(value, float) else TEXT.encode(value)


def run_judge(args: argparse.Namespace) -> int:
    """`judge SESSION`: one JSON object, exit 0 when the daemon kept every rule."""
    live = Follower(args.session, messages=args.messages)
    fresh: Optional[Follower] = None
    text = ""
    try:
        finished = watch(live, args)
        if not finished:
            live.violation(f"{args.until_task} not final within {args.seconds} s")
        if live.counts["conflict"]:
            live.violation("the cursor of an event that was sent is refused")
        if not live.ended and live.seq is not None:
            fresh = Follower(live.session, after="start")
            compare(live, fresh, args.messages)
            text = spoken(fresh.fold, args.until_task)
    except SessError as err:
        live.violation(f"refused: {err}")
    except (OSError, TimeoutError, KeyError, TypeError, ValueError) as err:
        live.violation(f"{type(err).__name__}: {err}")
    violations = live.violations + (fresh.violations if fresh else [])
    print(json.dumps({
        "ok": not violations, "session": live.session, "events": live.counts["event"], "counts": dict(live.counts),
        "violations": violations[:VIOLATIONS_MAX], "text_sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text,
        "final_seq": live.seq,
    }, ensure_ascii=False))
    return 1 if violations else 0


def watch(live: Follower, args: argparse.Namespace) -> bool:
    """Follows with pauses and reconnects until the task is final (True) or time is up."""
    chance = random.Random(args.seed)
    deadline = time.monotonic() + args.seconds
    while time.monotonic() < deadline and not live.ended:
        note = live.next(max(deadline - time.monotonic(), 0))
        if note is None:
            break
        if args.until_task and is_final(live, args.until_task, asked=note["method"] == "follow"):
            return True
        if args.pause_every and chance.random() * args.pause_every < 1:
            live.counts["pauses"] += 1
            time.sleep(min(chance.uniform(0, args.pause_seconds), max(deadline - time.monotonic(), 0)))
        if args.reconnect_every and chance.random() * args.reconnect_every < 1:
            live.counts["reconnects"] += 1
            live.drop()
    return args.until_task is None


def is_final(live: Follower, task: str, asked: bool) -> bool:
    """Whether a task is over: as followed, or, as a View does not show final ones, as asked after a follow."""
    thing = live.fold.get("task", task)
    if thing is None and asked and live.connection is not None:
        try:
            answer = live.connection.call("task/get", task=task)
        except (SessError, OSError):
            return False  # not there yet, or the daemon is gone: the following goes on
        thing = answer.get("task", answer)
        if thing["status"] in TASK_FINAL and live.fold.get("task", task) is None:
            return True
    return (live.fold.get("task", task) or {}).get("status") in TASK_FINAL


def compare(live: Follower, fresh: Follower, n: int) -> None:
    """Four ways of reading, at one `seq`: followed live, folded from event 1, `session/resume`, `message/list`."""
    deadline = time.monotonic() + GRACE_SECONDS
    resumed = persist(lambda it: it.call("session/resume", session=live.session, messages=n), deadline)
    seq = resumed["session"]["seq"]
    for name, follower in (("followed live", live), ("folded from the start", fresh)):
        advance(follower, seq, deadline)
        view = view_of(follower, n, deadline)
        if follower.seq != seq:
            follower.violation(f"{name}: no further than {follower.seq}, where session/resume answers {seq}")
        elif canonical(view) != canonical(normal(resumed)):
            follower.violation(f"{name}: differs from session/resume in {difference(view, normal(resumed))}")
    for _ in range(COMPARE_TRIES):  # a listing is of one moment between `seq` and `upper`, or a thread moved under it
        listed = persist(lambda it: pages(it, live.session), deadline)
        upper = persist(lambda it: it.call("session/get", session=live.session)["seq"], deadline)
        agreed = same(listed, fresh.fold)
        while not agreed and fresh.seq is not None and fresh.seq < upper:
            if fresh.next(max(deadline - time.monotonic(), 0)) is None:
                break
            agreed = same(listed, fresh.fold)
        if agreed or fresh.seq == upper == seq:
            break
        seq = upper
    if not agreed:
        fresh.violation(f"message/list differs: {[it['id'] for it in listed]}, the fold's {[it['id'] for it in fresh.fold.path()[0]]}")
    advance(live, fresh.seq or 0, deadline)
    ours, theirs = view_of(live, n, deadline), fresh.fold.view(n)
    if canonical(ours) != canonical(theirs):
        live.violation(f"followed live: differs from the fold of all events in {difference(ours, theirs)}")


def advance(follower: Follower, seq: int, deadline: float) -> None:
    """Follows up to an event, no further."""
    while (follower.seq is None or follower.seq < seq) and not follower.ended:
        if follower.next(max(deadline - time.monotonic(), 0)) is None:
            return


def view_of(follower: Follower, n: int, deadline: float) -> Thing:
    """Its View, where the daemon may go away while older messages are paged for."""
    while True:
        try:
            if follower.connection is None:
                follower.next(max(deadline - time.monotonic(), 0))  # only connects: events wait until asked for
            return follower.view(n)
        except OSError:
            if time.monotonic() > deadline:
                raise
            follower.drop()


def same(listed: List[Thing], fold: Fold) -> bool:
    """Whether a listing is the fold's path; cheap when it plainly is not."""
    path = fold.path()[0]
    return len(path) == len(listed) and canonical(normal({"m": path})) == canonical(normal({"m": listed}))


def persist(ask: Callable[[Connection], Any], deadline: float) -> Any:
    """Asks what is safe to repeat until a daemon answers."""
    while True:
        connection: Optional[Connection] = None
        try:
            connection = Connection()
            return ask(connection)
        except (OSError, SessError) as err:
            refused = isinstance(err, PermissionError) or (isinstance(err, SessError) and not err.retryable)
            if refused or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
        finally:
            if connection is not None:
                connection.close()


def pages(connection: Connection, session: str) -> List[Thing]:
    """All of `message/list`, oldest first."""
    answer = connection.call("message/list", session=session, limit=PAGE)
    listed: List[Thing] = answer["messages"]
    while answer.get("next") is not None:
        answer = connection.call("message/list", session=session, limit=PAGE, cursor=answer["next"])
        listed = answer["messages"] + listed
    return listed


def difference(ours: Json, theirs: Json, place: str = "") -> str:
    """The first place where two values differ, and how."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(set(ours) | set(theirs)):
            if name not in ours or name not in theirs or canonical(ours[name]) != canonical(theirs[name]):
                return difference(ours.get(name, "(absent)"), theirs.get(name, "(absent)"), f"{place}/{name}")
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, pair in enumerate(zip(ours, theirs)):
            if canonical(pair[0]) != canonical(pair[1]):
                return difference(*pair, f"{place}/{index}")
    return f"{place or '/'}: {canonical(ours)[:300]} against {canonical(theirs)[:300]}"


def spoken(fold: Fold, task: Optional[str]) -> str:
    """What the assistant said in a task, else in the last answer of the current thread; long texts fetched whole."""
    said = [it for it in fold.things("message") if it.get("role") == "assistant" and it.get("kind") != "summary"]
    said = [it for it in said if it.get("task") == task] if task else [it for it in fold.path()[0] if it in said][-1:]
    return "".join(whole_text(it) for message in said for it in message["content"] if it["type"] == "text")


def whole_text(block: Thing) -> str:
    """A text block's text, from its blob where it is long."""
    if "blob" not in block:
        return block["text"]
    got = bytearray()
    while len(got) < block["bytes"]:
        ask = {"blob": block["blob"], "offset": len(got), "length": BLOB_PIECE_BYTES}
        piece = base64.b64decode(persist(lambda it: it.call("blob/get", **ask), time.monotonic() + GRACE_SECONDS)["data"])
        if not piece:
            raise TypeError(f"{block['blob']} ends at {len(got)} of {block['bytes']} bytes")
        got += piece
    if "sha256:" + hashlib.sha256(got).hexdigest() != block["blob"]:
        raise TypeError(f"{block['blob']} has another hash")
    return got.decode()


def run_verify(args: argparse.Namespace) -> int:
    """`verify-export FILE`."""
    with open(args.file, "rb") as file:
        report = verify(file.read().split(b"\n"))
    print(json.dumps(report))
    return 0 if report["ok"] else 1


def verify(lines: List[bytes]) -> Thing:
    """Recomputes the chain of every session, from the bytes as they lie; and the blobs that came before."""
    problems: List[str] = []
    heads: Dict[str, str] = {}
    seqs: Dict[str, int] = {}
    blobs: Dict[str, Any] = {}
    whole: Set[str] = set()
    commits = 0
    if lines.pop():
        problems.append("the last line is not ended: a commit cut short")
    for number, line in enumerate(lines, 1):
        try:
            if line.startswith(b'{"sess":') or not line:
                continue
            if line.startswith(b'{"blob":'):
                verify_blob(json.loads(line), blobs, whole)
                continue
            body, claimed = split_commit(line)
            commit, commits = json.loads(body), commits + 1
            session = commit["session"]
            chained = hashlib.sha256(bytes.fromhex(heads.get(session, "00" * 32)) + body).hexdigest()
            if chained != claimed:
                problems.append(f"line {number}: hash {claimed}, recomputed {chained}")
            heads[session] = claimed
            for event in commit["events"]:
                if event["seq"] != seqs.get(session, 0) + 1:
                    problems.append(f"line {number}: event {event['seq']} after {seqs.get(session, 0)}")
                seqs[session] = event["seq"]
        except (ValueError, KeyError, TypeError) as err:
            problems.append(f"line {number}: {err}")
    problems += [f"blob {it} is not whole" for it in blobs]
    return {"ok": not problems and commits > 0, "commits": commits, "events": sum(seqs.values()), "heads": heads,
            "blobs": len(whole), "violations": problems[:VIOLATIONS_MAX]}


def split_commit(line: bytes) -> Any:
    """A commit's body, byte for byte as hashed, and its hash. Only at the top level does closing the object there make JSON."""
    for match in HASH_MEMBER.finditer(line):
        body = line[:match.start()] + b"}"
        try:
            members = list(json.loads(body))
        except ValueError:
            continue  # a `hash` somewhere inside the events
        if members not in (BODY_MEMBERS, BODY_MEMBERS + ["private_hash"]):
            raise ValueError(f"the members before `hash` are {members}")
        return body, match.group(1).decode()
    raise ValueError("no `hash` at the top level")


def verify_blob(line: Thing, blobs: Dict[str, Any], whole: Set[str]) -> None:
    """One piece of a blob; the last one settles whether it is what its name says."""
    name, data = line["blob"], base64.b64decode(line["data"], validate=True)
    digest, length = blobs.setdefault(name, (hashlib.sha256(), 0))
    if line["offset"] != length:
        raise ValueError(f"{name}: a piece at {line['offset']}, where {length} bytes came")
    digest.update(data)
    blobs[name] = (digest, length + len(data))
    if line.get("last"):
        del blobs[name]
        whole.add(name)
        if name.rpartition(":")[2] != digest.hexdigest():
            raise ValueError(f"{name}: its bytes hash to {digest.hexdigest()}")

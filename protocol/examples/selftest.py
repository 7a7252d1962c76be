#!/usr/bin/env python3
"""Do the example client, its fold and its judge keep PROTOCOL.md themselves? Run: `python3 protocol/examples/selftest.py`."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import unittest.mock
from typing import Any, Callable, Dict, List, Optional

from sess_client import Connection, ConnectionLost, Fold, Follower, Held, SessError, normal, socket_path
from sess_commands import canonical, difference, verify, visible

SESSION = "sess_" + "1f2e" * 8
AT = "2026-01-02T03:04:05.678Z"
Script = Callable[["Peer"], None]


def event(seq: int, type_: str, /, **data: Any) -> Dict[str, Any]:
    return {"session": SESSION, "seq": seq, "cursor": f"h:{seq}:aa", "at": AT, "type": type_, "data": data}


def message(id_: str, seq: int, text: str, role: str = "assistant", parent: Optional[str] = None, **more: Any) -> Dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"id": id_, "seq": seq, "role": role, "thread": "main", "parent": parent, "content": content, **more}


def story() -> List[Dict[str, Any]]:
    """A session of one turn, as in the examples of §6."""
    return [
        event(1, "session.created", session={"id": SESSION, "thread": "main", "title": "first", "messages": 0}, thread={"id": "main", "messages": 0}),
        event(2, "task.queued", task={"id": "t1", "status": "queued", "order": 1, "request": {"message": "m1", "content": []}}, session={"queued": 1}),
        event(3, "task.started", task={"id": "t1", "status": "running", "started_at": AT, "request": {"message": "m1"}},
              message=message("m1", 3, "hello", "user"), thread={"id": "main", "head": "m1", "messages": 1},
              session={"running": "t1", "queued": 0, "messages": 1}),
        event(4, "task.completed", task={"id": "t1", "status": "completed", "ended_at": AT}, message=message("m2", 4, "grüß dich", parent="m1", task="t1"),
              thread={"id": "main", "head": "m2", "messages": 2}, session={"running": None, "messages": 2, "iterations": 1}),
    ]


def folded(events: List[Dict[str, Any]]) -> Fold:
    fold = Fold()
    for it in events:
        fold.apply(it)
    return fold


def delta(offset: int, text: str, **more: Any) -> Dict[str, Any]:
    return {"session": SESSION, "task": "t1", "message": "m2", "block": 0, "kind": "text", "offset": offset, "text": text, **more}


def live(text: str = "", **more: Any) -> Dict[str, Any]:
    return {"session": SESSION, "task": "t1", "message": "m2", "blocks": [{"index": 0, "type": "text", "text": text}], "tools": [], **more}


class CanonicalJson(unittest.TestCase):
    def test_members_are_ordered_by_utf16_units(self) -> None:
        self.assertEqual(canonical({"\ufb33": 1, "\U0001f600": 2, "a": 3}), '{"a":3,"\U0001f600":2,"\ufb33":1}')

    def test_strings_escape_only_what_must_be(self) -> None:
        self.assertEqual(canonical('€"\\/\n\x0f\x7f'), '"€\\"\\\\/\\n\\u000f\x7f"')

    def test_numbers(self) -> None:
        self.assertEqual(canonical([1.0, -1, 0.5, 2**60, True, None, 1e-7]), f"[1,-1,0.5,{2**60},true,null,1e-7]")


class TheFold(unittest.TestCase):
    def test_members_replace_whole_and_null_removes(self) -> None:
        fold = folded(story() + [event(5, "session.updated", session={"usage": {"a": 1, "b": 2}}), event(6, "session.updated", session={"usage": {"a": 3}})])
        self.assertEqual(fold.session["usage"], {"a": 3})
        self.assertNotIn("running", fold.session)
        self.assertEqual(fold.get("task", "t1")["request"], {"message": "m1"})

    def test_every_event_moves_seq_and_updated_at_but_a_namespaced_one_nothing_else(self) -> None:
        fold = folded(story() + [event(5, "ide:opened", file={"id": "f"}, session={"title": "no"})])
        self.assertEqual((fold.session["seq"], fold.session["updated_at"], fold.session["title"]), (5, AT, "first"))
        self.assertEqual(fold.things("file"), [])

    def test_unknown_kinds_fold_and_details_do_not(self) -> None:
        fold = folded([event(1, "future.thing", gadget={"n": 7, "x": 1}, why="text", list=[{"id": "a"}], flag=True, gone=None)])
        self.assertEqual(fold.kinds, {"gadget": {7: {"n": 7, "x": 1}}})

    def test_removed_things_go_and_order_is_of_first_appearance(self) -> None:
        fold = folded([event(n, "goal.changed", goal={"n": n, "text": "g"}) for n in (1, 2, 3)]
                      + [event(4, "goal.changed", goal={"n": 2, "removed": True}), event(5, "goal.changed", goal={"n": 1, "status": "done"})])
        self.assertEqual([it["n"] for it in fold.view()["goals"]], [1, 3])

    def test_it_goes_on_from_a_view(self) -> None:
        begun = Fold(folded(story()[:3]).view(1))
        begun.apply(story()[3])
        self.assertEqual(canonical(begun.view()), canonical(folded(story()).view()))


class TheView(unittest.TestCase):
    def test_messages_are_the_newest_of_the_path_oldest_first(self) -> None:
        fold = folded(story() + [event(5, "message.appended", message=message("x", 5, "beside", parent="m1"))])
        self.assertEqual([it["id"] for it in fold.view(50)["messages"]], ["m1", "m2"])
        self.assertNotIn("before", fold.view(2))
        self.assertEqual((fold.view(1)["before"], len(fold.view(1)["messages"])), ("m2", 1))

    def test_open_tasks_stand_in_running_order_and_final_things_are_left_out(self) -> None:
        tasks = [("a", "queued", 5), ("b", "queued", -1), ("c", "waiting", 9), ("d", "failed", 0)]
        events = [event(n, "task.queued", task={"id": id_, "status": status, "order": order}) for n, (id_, status, order) in enumerate(tasks, 1)]
        events += [event(5, "tool.proposed", tool_call={"id": "c1", "status": "proposed"}), event(6, "tool.finished", tool_call={"id": "c2", "status": "done"}),
                   event(7, "approval.requested", approval={"id": "p", "status": "pending"}), event(8, "approval.answered", approval={"id": "q", "status": "answered"})]
        view = folded(events).view()
        self.assertEqual([it["id"] for it in view["tasks"]], ["c", "b", "a"])
        self.assertEqual(([it["id"] for it in view["tool_calls"]], [it["id"] for it in view["approvals"]]), (["c1"], ["p"]))

    def test_what_is_computed_and_what_is_null_do_not_count(self) -> None:
        view = {"session": {"id": "s", "followers": 3, "parent": None}, "tasks": [{"id": "t", "position": 0, "usage": {"cost_usd": None}}],
                "tool_calls": [{"input": {"a": None}}], "before": None}
        self.assertEqual(normal(view), {"session": {"id": "s"}, "tasks": [{"id": "t", "usage": {}}], "tool_calls": [{"input": {"a": None}}]})
        self.assertEqual(view["session"]["followers"], 3)

    def test_a_difference_is_named_by_place(self) -> None:
        self.assertEqual(difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}), "/a/1/b: 2 against 3")


class TheUnfinished(unittest.TestCase):
    def follower(self) -> Follower:
        follower = Follower(SESSION, after="start")
        self.tell(follower, *(("event", it) for it in story()[:3]))
        return follower

    def tell(self, follower: Follower, *notes: Any) -> List[str]:
        for method, params in notes:
            follower._take({"method": method, "params": params})
        return follower.violations

    def test_deltas_count_bytes_and_the_message_replaces_them(self) -> None:
        follower = self.follower()
        self.assertEqual(self.tell(follower, ("live", live("grü")), ("delta", delta(4, "ß ")), ("delta", delta(7, "dich")), ("event", story()[3])), [])
        self.assertEqual(follower.held, {})

    def assert_violates(self, word: str, *notes: Any) -> None:
        found = self.tell(self.follower(), *notes)
        self.assertTrue(found and word in found[0], (word, found))

    def test_each_broken_rule_is_found(self) -> None:
        end, started = story()[3], ("live", live())
        self.assert_violates("where 3 are held", ("live", live("gr\u00fc"[:2] + "x")), ("delta", delta(4, "a")))
        self.assert_violates("where 4 are held", ("live", live("grü")), ("delta", delta(3, "a")))
        self.assert_violates("no live before it", ("delta", delta(0, "g")))
        self.assert_violates("does not go on", ("live", live("other")), ("event", end))
        self.assert_violates("does not go on", ("live", live("grüß dich wieder")), ("event", end))
        self.assert_violates("which is final", ("event", end), ("delta", delta(0, "g", message="m3")))
        self.assert_violates("which is final", ("event", end), started)
        silent = event(4, "task.cancelled", task={"id": "t1", "status": "cancelled"})
        self.assert_violates("ends without m2", ("live", live("grü")), ("event", silent))
        self.assert_violates("after a gap", ("event", {**end, "seq": 5}))
        self.assert_violates("twice", ("event", story()[2]))
        self.assert_violates("no cursor", ("event", {it: end[it] for it in end if it != "cursor"}))
        self.assert_violates("of session other", ("event", {**end, "session": "other"}))
        self.assert_violates("travels twice", ("event", event(4, "message.appended", message=message("m1", 4, "x"))))
        self.assert_violates("has seq 3, its event 4", ("event", event(4, "message.appended", message=message("m9", 3, "x"))))
        self.assert_violates("while m2 is unfinished", started, ("delta", delta(0, "g", message="m7")))
        self.assert_violates("which is text", started, ("delta", delta(0, "g", kind="reasoning")))
        self.assert_violates("not known", ("live", live(task="t9")))
        self.assert_violates("has no key", ("event", event(4, "x.y", thing={"a": 1})))

    def test_a_crash_may_shorten_what_was_shown(self) -> None:
        end = event(4, "task.interrupted", task={"id": "t1", "status": "interrupted"}, message=message("m2", 4, "grü", status="partial"))
        self.assertEqual(self.tell(self.follower(), ("live", live("grüß")), ("event", end)), [])

    def test_tool_output_goes_on_from_its_offset_and_ends_with_its_call(self) -> None:
        follower = self.follower()
        tools = [{"tool_call": "c1", "offset": 100, "text": "é"}]
        piece = {"session": SESSION, "task": "t1", "kind": "tool_output", "tool_call": "c1", "offset": 102, "text": "more"}
        done = event(4, "tool.finished", tool_call={"id": "c1", "status": "done"})
        self.assertEqual(self.tell(follower, ("live", live(tools=tools)), ("delta", piece)), [])
        self.assertEqual("".join(follower.held["t1"].tools["c1"].parts), "émore")
        self.assertEqual(self.tell(follower, ("event", done)), [])
        self.assertEqual(follower.held["t1"].tools, {})
        self.assertIn("has finished", self.tell(follower, ("delta", piece))[0])

    def test_tool_calls_are_matched_by_id_and_long_texts_by_hash(self) -> None:
        held = Held({"message": "m", "blocks": [{"index": 0, "type": "text", "text": "abcdef"}, {"index": 1, "type": "tool_use", "id": "c1", "name": "x", "text": '{"a":1}'}]})
        blob = {"type": "text", "text": "abc", "blob": "sha256:" + hashlib.sha256(b"abcdef").hexdigest(), "bytes": 6}
        calls = [{"type": "tool_use", "id": it, "input": {"a": 1}} for it in ("c0", "c1")]
        self.assertIsNone(held.end_message({"id": "m", "content": [blob, *calls]}, False))
        for wrong in ([{**blob, "blob": "sha256:00"}, *calls], [blob], [blob, {**calls[1], "input": {"a": 2}}]):
            held = Held({"message": "m", "blocks": [{"index": 0, "type": "text", "text": "abcdef"}, {"index": 1, "type": "tool_use", "id": "c1", "name": "x", "text": '{"a":1}'}]})
            self.assertIsNotNone(held.end_message({"id": "m", "content": wrong}, False))

    def test_control_characters_are_spelled_out(self) -> None:
        self.assertEqual(visible("a\x1b[2J\tb\n\u202e\x9b"), "a\\u001b[2J\tb\n\\u202e\\u009b")


class Peer:
    """One accepted connection of the scripted server."""

    def __init__(self, sock: socket.socket) -> None:
        self.file = sock.makefile("rwb")

    def expect(self, method: str, **params: Any) -> Any:
        request = json.loads(self.file.readline())
        given = {it: request["params"].get(it) for it in params}
        assert (request["method"], given) == (method, params), request
        return request["id"]

    def send(self, *lines: Any) -> None:
        for line in lines:
            self.file.write(json.dumps(line).encode() + b"\n\n")  # empty lines are to be ignored
        self.file.flush()

    def tell(self, method: str, *params: Any) -> None:
        self.send(*({"jsonrpc": "2.0", "method": method, "params": it} for it in params))


class OverASocket(unittest.TestCase):
    def serve(self, *scripts: Script) -> str:
        """Accepts one connection after another, each with its script. A script that fails fails the test."""
        folder = tempfile.TemporaryDirectory()
        path = os.path.join(folder.name, "sess.sock")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()
        failures: List[BaseException] = []

        def run() -> None:
            for script in scripts:
                sock = server.accept()[0]
                peer = Peer(sock)
                try:
                    script(peer)
                except BaseException as err:
                    failures.append(err)
                finally:
                    peer.file.close()
                    sock.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(folder.cleanup)
        self.addCleanup(server.close)
        self.addCleanup(lambda: self.assertEqual(failures, []))
        self.addCleanup(lambda: thread.join(10))
        return path

    def test_answers_match_by_id_across_threads_and_errors_are_raised(self) -> None:
        def script(peer: Peer) -> None:
            requests = [json.loads(peer.file.readline()) for _ in range(8)]
            peer.tell("state", {"document": "settings"})
            peer.send(*({"id": it["id"], "result": it["params"]} for it in reversed(requests)))
            peer.send({"id": peer.expect("nope"), "error": {"code": -32601, "message": "no", "data": {"kind": "unknown_method", "retryable": False}}})

        connection = Connection(self.serve(script))
        self.addCleanup(connection.close)
        got: Dict[int, Any] = {}
        threads = [threading.Thread(target=lambda n=n: got.update({n: connection.call("m", n=n)})) for n in range(8)]
        [it.start() for it in threads]
        [it.join(10) for it in threads]
        self.assertEqual(got, {n: {"n": n} for n in range(8)})
        with self.assertRaises(SessError) as caught:
            connection.call("nope")
        self.assertEqual((caught.exception.kind, caught.exception.code), ("unknown_method", -32601))
        self.assertEqual(connection.notification(1)["method"], "state")
        with self.assertRaises(ConnectionLost):
            connection.notification(10)

    def test_a_call_without_answer_times_out(self) -> None:
        done = threading.Event()
        connection = Connection(self.serve(lambda peer: done.wait(10) and None))
        self.addCleanup(connection.close)
        with self.assertRaises(TimeoutError):
            connection.call("daemon/status", timeout_s=0.05)
        done.set()

    def test_a_follower_goes_on_by_cursor_and_anew_after_a_conflict(self) -> None:
        def first(peer: Peer) -> None:
            view = {**folded(story()[:2]).view(), "session": {**folded(story()[:2]).session, "followers": 1}}
            peer.send({"id": peer.expect("session/follow", session="1f2e", messages=50), "result": {"cursor": "h:2:aa", "view": view}})
            peer.tell("event", story()[2])
            peer.tell("live", live("gr"))

        def second(peer: Peer) -> None:
            peer.send({"id": peer.expect("session/follow", session=SESSION, after="h:3:aa"), "result": {"cursor": "h:3:aa"}})
            peer.tell("live", live("grü"))
            peer.tell("delta", delta(4, "ß"))

        def third(peer: Peer) -> None:
            error = {"code": -32005, "message": "another history", "data": {"kind": "conflict", "retryable": False}}
            peer.send({"id": peer.expect("session/follow", session=SESSION, after="h:3:aa"), "error": error})
            peer.file.readline()

        def fourth(peer: Peer) -> None:
            peer.send({"id": peer.expect("session/follow", session=SESSION, messages=50), "result": {"cursor": "h:3:aa", "view": folded(story()[:3]).view(), "live": live("grüß")}})
            peer.tell("event", story()[3])

        follower = Follower("1f2e", path=self.serve(first, second, third, fourth))
        methods = [follower.next(10)["method"] for _ in range(8)]
        self.assertEqual(methods, ["follow", "event", "live", "follow", "live", "delta", "follow", "event"])
        self.assertEqual(follower.violations, [])
        self.assertEqual((follower.counts["lost"], follower.counts["conflict"]), (2, 1))
        self.assertEqual(canonical(follower.view(50)), canonical(folded(story()).view()))
        follower.drop()

    def test_a_line_that_is_no_json_is_a_fault(self) -> None:
        def first(peer: Peer) -> None:
            peer.send({"id": peer.expect("session/follow"), "result": {"cursor": "h:2:aa", "view": folded(story()[:2]).view()}})
            peer.file.write(b'{"method":"event","par\n')
            peer.file.flush()
            peer.file.readline()

        follower = Follower(SESSION, path=self.serve(first, lambda peer: peer.send({"id": peer.expect("session/follow", after="h:2:aa"), "result": {"cursor": "h:2:aa"}})))
        self.assertEqual([follower.next(10)["method"] for _ in range(2)], ["follow", "follow"])
        self.assertEqual((follower.counts["lost"], len(follower.violations)), (1, 1))
        follower.drop()

    def test_what_comes_before_the_answer_or_without_a_live_is_a_violation(self) -> None:
        def first(peer: Peer) -> None:
            id_ = peer.expect("session/follow")
            peer.tell("event", story()[3])
            peer.send({"id": id_, "result": {"cursor": "h:3:aa", "view": folded(story()[:3]).view(), "live": live("grü")}})

        def second(peer: Peer) -> None:
            peer.send({"id": peer.expect("session/follow"), "result": {"cursor": "h:3:aa"}})
            peer.tell("delta", delta(4, "ß"))
            peer.file.readline()

        follower = Follower(SESSION, path=self.serve(first, second))
        follower.next(10)
        follower.drop()  # with the unread event, which the second connection withholds
        self.assertEqual([follower.next(10)["method"] for _ in range(2)], ["follow", "delta"])
        self.assertIn("before the answer", follower.violations[0])
        self.assertIn("no live before it", follower.violations[1])
        follower.drop()

    def test_a_daemon_of_another_user_is_not_spoken_to(self) -> None:
        path = self.serve(lambda peer: self.assertEqual(peer.file.readline(), b""))
        with unittest.mock.patch("os.getuid", return_value=os.getuid() + 1), self.assertRaises(PermissionError):
            Connection(path)

    def test_a_view_of_more_messages_than_were_given_is_paged_for(self) -> None:
        def script(peer: Peer) -> None:
            peer.send({"id": peer.expect("session/follow"), "result": {"cursor": "h:4:aa", "view": folded(story()).view(1)}})
            messages = folded(story()).view()["messages"]
            peer.send({"id": peer.expect("message/list", session=SESSION), "result": {"messages": messages[1:], "next": "p2"}})
            peer.send({"id": peer.expect("message/list", cursor="p2"), "result": {"messages": messages[:1]}})

        follower = Follower(SESSION, path=self.serve(script))
        follower.next(10)
        self.assertEqual(canonical(follower.view(50)), canonical(folded(story()).view()))
        follower.drop()


class TheJudge(unittest.TestCase):
    """The commands, run as programs, against a server that knows one finished session and may lie about it."""

    def judge(self, lie: Callable[[str, Dict[str, Any]], Dict[str, Any]], *more: str) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "sess.sock")
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.bind(path)
        server.listen()

        def answer(sock: socket.socket) -> None:
            peer, done, cut = Peer(sock), folded(story()), folded(story()[:2])
            messages = done.view()["messages"]
            for line in peer.file:
                request = json.loads(line)
                method, params = request["method"], request["params"]
                after, live_from = params.get("after"), {None: 2, "start": 0}.get(params.get("after"), 0)
                result = {
                    "session/follow": {"cursor": "h:2:aa"} if after else {"cursor": "h:2:aa", "view": cut.view()},
                    "session/resume": done.view(), "session/get": done.session, "task/get": {"task": {"id": params.get("task"), "status": "queued"}},
                    "message/list": {"messages": messages[:1]} if "cursor" in params else {"messages": messages[1:], "next": "p"},
                }[method]
                peer.send({"id": request["id"], "result": lie(method, json.loads(json.dumps(result)))})
                if method == "session/follow":
                    live_from = int(after.split(":")[1]) if after and after != "start" else live_from
                    for it in story()[live_from:]:
                        if it["seq"] == 4 and after != "start":
                            peer.tell("live", live("grüß "))
                            peer.tell("delta", delta(7, "dich"))
                        peer.tell("event", it)

        def serve(sock: socket.socket) -> None:
            with sock:
                try:
                    answer(sock)
                except OSError:
                    pass  # a client may leave in the middle

        def accept() -> None:
            while True:
                try:
                    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        command = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "sess_client.py"), *more]
        return subprocess.run(command, env={**os.environ, "SESS_SOCKET": path}, capture_output=True, text=True, timeout=60)

    def test_an_honest_daemon_passes(self) -> None:
        done = self.judge(lambda _, it: it, "judge", "1f2e", "--until-task", "t1", "--seconds", "20", "--reconnect-every", "2", "--pause-every", "2", "--pause-seconds", "0.01")
        report = json.loads(done.stdout)
        self.assertEqual((done.returncode, report["ok"], report["violations"]), (0, True, []), report)
        self.assertEqual((report["text"], report["final_seq"]), ("grüß dich", 4))
        self.assertEqual(report["text_sha256"], hashlib.sha256("grüß dich".encode()).hexdigest())

    def test_each_lie_is_seen(self) -> None:
        def lies(about: str, change: Callable[[Dict[str, Any]], Any]) -> Callable[[str, Dict[str, Any]], Dict[str, Any]]:
            return lambda method, it: (change(it), it)[1] if method == about else it

        for word, lie in (
            ("/session/iterations", lies("session/resume", lambda it: it["session"].update(iterations=2))),
            ("/messages", lies("session/resume", lambda it: it["messages"].pop())),
            ("message/list differs", lies("message/list", lambda it: it["messages"][0].update(role="system"))),
            ("/session/title", lies("session/follow", lambda it: it.get("view", {"session": {}})["session"].update(title="x"))),
        ):
            done = self.judge(lie, "judge", "1f2e", "--until-task", "t1", "--seconds", "20")
            self.assertEqual(done.returncode, 1)
            self.assertIn(word, done.stdout)

    def test_a_task_that_never_ends_is_said(self) -> None:
        done = self.judge(lambda _, it: it, "judge", "1f2e", "--until-task", "t2", "--seconds", "0.2")
        self.assertEqual(done.returncode, 1)
        self.assertIn("t2 not final", done.stdout)

    def test_following_prints_the_text_once_and_ends_when_idle(self) -> None:
        done = self.judge(lambda _, it: it, "follow", "1f2e", "--until-idle")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "user> hello\ngrüß dich\n", ""))

    def test_a_call_prints_its_result(self) -> None:
        done = self.judge(lambda _, it: it, "call", "session/get", '{"session": "1f2e"}')
        self.assertEqual((done.returncode, json.loads(done.stdout)["id"]), (0, SESSION))


class Exports(unittest.TestCase):
    def export(self) -> List[bytes]:
        head, lines = bytes(32), [json.dumps({"sess": "jsonl", "version": 1, "session": SESSION}, separators=(",", ":")).encode()]
        name = "sha256:" + hashlib.sha256(b"abcd").hexdigest()
        for offset, piece in ((0, b"ab"), (2, b"cd")):
            line = {"blob": name, "offset": offset, "data": base64.b64encode(piece).decode(), **({"last": True} if offset else {})}
            lines.append(json.dumps(line, separators=(",", ":")).encode())
        for seq in (1, 2):
            inner = {"seq": seq, "at": AT, "type": "x:y", "data": {"a": 1, "hash": "0" * 64, "text": '","hash":"' + "1" * 64 + '"'}}
            body = json.dumps({"session": SESSION, "epoch": 0, "events": [inner]}, separators=(",", ":")).encode()
            head = hashlib.sha256(head + body).digest()
            lines.append(body[:-1] + b',"hash":"' + head.hex().encode() + b'","keys":[]}')
        return lines + [b""]

    def test_a_good_chain_holds(self) -> None:
        report = verify(self.export())
        self.assertEqual((report["ok"], report["commits"], report["events"], report["blobs"]), (True, 2, 2, 1), report)

    def test_every_kind_of_damage_shows(self) -> None:
        good = self.export()
        self.assertFalse(verify(good[:3] + good[4:])["ok"], "a missing commit")
        self.assertFalse(verify(good[:-2] + [good[-2][:40]])["ok"], "a torn one")
        self.assertFalse(verify(good[:2] + good[3:])["ok"], "half a blob")
        for number in (1, 2, 3, 4):
            at = good[number].rindex(b'"data":') + 9
            damaged = good[number][:at] + bytes([good[number][at] ^ 1]) + good[number][at + 1:]
            self.assertFalse(verify(good[:number] + [damaged] + good[number + 1:])["ok"], f"a flipped bit in line {number}")


class Paths(unittest.TestCase):
    def test_the_socket_is_found_by_the_rules(self) -> None:
        kept = dict(os.environ)
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(kept)))
        for name in ("SESS_SOCKET", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            os.environ.pop(name, None)
        os.environ["HOME"] = "/h"
        found = [socket_path()]
        for name, value in (("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r"), ("SESS_SOCKET", "/x.sock")):
            os.environ[name] = value
            found.append(socket_path())
        self.assertEqual(found, ["/h/.local/state/sess/run/sess.sock", "/s/sess/run/sess.sock", "/r/sess/sess.sock", "/x.sock"])


if __name__ == "__main__":
    unittest.main()

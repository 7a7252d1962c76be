#!/usr/bin/env python3
"""Do the histories of a soak agree with what the daemon says in the end? Run: `check.py FOLDER`.

Each client has written down what it asked, was answered and was told; `truth.jsonl` is what the daemon says when
all is over. Judged offline, by the fold that is made from PROTOCOL.md alone (`protocol/examples`).
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys
from collections import Counter
from typing import Any, Dict, Iterator, List, Optional

from sess_client import Fold, Held, normal

FAULTS_SHOWN_MAX = 20
CHANGES_WITHOUT_SESSION = ("session/create", "session/import")


def lines(path: pathlib.Path) -> Iterator[Dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def digest(value: Any) -> str:
    text = json.dumps(normal(value), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Check:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.faults, self.counts = folder, [], Counter()
        self.truth = {it["session"]: it for it in lines(folder / "truth.jsonl")}
        self.deleted = set()  # sessions that somebody asked to delete
        self.said = Counter()  # how often each request stands in a log

    def fault(self, what: str) -> None:
        self.faults.append(what)

    def run(self) -> None:
        for session, truth in self.truth.items():
            self.log(session, truth)
        writers = sorted(self.folder.glob("writer-*.jsonl"))
        for path in writers:
            for it in lines(path):
                if it.get("method") == "session/delete" and "ask" in it:
                    self.deleted.add(it["params"]["session"])
        for path in writers:
            self.writer(path)
        for path in sorted(self.folder.glob("follower-*.jsonl")):
            self.follower(path)

    def log(self, session: str, truth: Dict[str, Any]) -> None:
        """The log of a session is whole, and folded it is the View."""
        fold = Fold()
        for at, event in enumerate(truth["events"], 1):
            if event["seq"] != at:
                self.fault(f"{session}: event {at} has the number {event['seq']}")
            fold.apply(event)
            message = event["data"].get("message") if ":" not in event["type"] else None
            if message and message["role"] == "user":
                self.said[message["content"][0]["text"]] += 1
        self.same(f"{session}: the log from the first event on", fold, truth)
        self.counts["sessions"] += 1
        self.counts["events"] += len(truth["events"])

    def same(self, who: str, fold: Fold, truth: Dict[str, Any]) -> None:
        folded = fold.view(500)
        self.counts["folds"] += 1
        if digest(folded) != digest(truth["view"]):
            members = [it for it in folded if folded[it] != normal(truth["view"]).get(it)]
            self.fault(f"{who}: the fold is not what the daemon says, in {members}")

    def writer(self, path: pathlib.Path) -> None:
        asked: Dict[str, Dict[str, Any]] = {}
        answers: Dict[str, Dict[str, Any]] = {}
        for it in lines(path):
            if "ask" in it:
                asked[it["ask"]] = it
            elif "answer" in it and "again" not in it:
                answers[it["answer"]] = it
            else:
                self.counts["asked twice"] += 1
                if not it["same"] and not self.is_gone(asked[it["again"]], answers[it["again"]]):
                    self.fault(f"{path.name}: {it['again']} was answered in two ways: {it['answer']}, {answers[it['again']]}")
        for key, it in asked.items():
            result = (answers.get(key) or {}).get("result")
            self.counts["changes"] += 1
            if result is not None:
                self.counts["acknowledged"] += 1
                self.acknowledged(path.name, key, it, result)
            if it["method"] == "chat/send":
                self.once(path.name, key, it, result)

    def is_gone(self, it: Dict[str, Any], answer: Dict[str, Any]) -> bool:
        """A session that was deleted takes the keys of its changes with it."""
        return self.session_of(it, answer.get("result") or {}) in self.deleted

    def session_of(self, it: Dict[str, Any], result: Dict[str, Any]) -> Optional[str]:
        if it["method"] == "session/import":
            return result["session"]["id"]
        if it["method"] == "session/create":
            return result["id"]
        return it["params"].get("session") or (result.get("task") or {}).get("session")

    def acknowledged(self, name: str, key: str, it: Dict[str, Any], result: Dict[str, Any]) -> None:
        """What was acknowledged is in the log, unless its session was deleted."""
        session = self.session_of(it, result)
        truth = self.truth.get(session)
        if truth is None:
            if session not in self.deleted:
                self.fault(f"{name}: {key} {it['method']} was acknowledged, and {session} is not there")
        elif result.get("seq", 0) > len(truth["events"]) and it["method"] != "session/delete":
            self.fault(f"{name}: {key} {it['method']} had event {result['seq']}, the log has {len(truth['events'])}")
        elif it["method"] == "session/delete" and session not in self.carried(name):
            self.fault(f"{name}: {session} was deleted and is there")

    def carried(self, name: str) -> List[str]:
        """Sessions that were imported."""
        found = [it["result"]["session"]["id"] for it in lines(self.folder / name) if it.get("method") == "session/import" and it.get("result")]
        asked = [it for it in lines(self.folder / name) if it.get("method") == "session/import" and "ask" in it]
        return found if len(found) == len(asked) else list(self.truth)

    def once(self, name: str, key: str, it: Dict[str, Any], result: Optional[Dict[str, Any]]) -> None:
        """What was asked under one key happened once, or where it was not acknowledged at most once."""
        count, session = self.said[it["params"]["content"]], it["params"]["session"]
        if count > 1:
            self.fault(f"{name}: {key} was done {count} times")
        if result is None or session not in self.truth:
            return
        events = self.truth[session]["events"]
        of_task = [event["type"] for event in events if event.get("task") == result["task"]]
        if not any(it in ("task.started", "task.queued") for it in of_task):
            self.fault(f"{name}: {key} was acknowledged and its task is lost: {of_task}")
        if count == 0 and "task.started" in of_task:
            self.fault(f"{name}: {key} was done and its words are lost")

    def follower(self, path: pathlib.Path) -> None:
        """What one follower was told, without gap and without repetition, is what the daemon says."""
        fold: Optional[Fold] = None
        session, held, ended = "", {}, False
        for it in lines(path):
            if "begin" in it:
                self.end(path.name, session, fold, ended)
                session, fold, held, ended = it["begin"], Fold() if it["after"] else None, {}, False
            elif "followed" in it:
                held = {}
                result = it["answer"].get("result")
                if result is None:
                    ended = True
                elif "view" in result:
                    fold = Fold(result["view"])
                    held = {it["task"]: Held(it) for it in [result.get("live")] if it}
            elif "lost" in it:
                self.counts["reconnects"] += 1
            else:
                ended |= self.told(path.name, session, fold, held, it["told"])
        self.end(path.name, session, fold, ended)

    def told(self, name: str, session: str, fold: Optional[Fold], held: Dict[str, Held], told: Dict[str, Any]) -> bool:
        """Takes in one line; whether it was the last of its session."""
        params, method = told["params"], told["method"]
        self.counts["told"] += 1
        if params["session"] != session or fold is None:
            self.fault(f"{name}: told of {params['session']} while following {session}")
        elif method == "live":
            held[params["task"]] = Held(params)
        elif method == "delta":
            fault = held[params["task"]].add(params) if params["task"] in held else "a delta before a live"
            if fault:
                self.fault(f"{name}: {fault}")
        elif params["type"] == "session.deleted":
            return True
        else:
            if params["seq"] != (fold.session.get("seq") or 0) + 1:
                self.fault(f"{name}: {session} event {params['seq']} behind {fold.session.get('seq')}")
            fold.apply(params)
            self.whole(name, held, params)
        return False

    def whole(self, name: str, held: Dict[str, Held], event: Dict[str, Any]) -> None:
        """A message is, or goes on from, the pieces that were told of it."""
        message = (event["data"].get("message") if ":" not in event["type"] else None) or {}
        unfinished = held.get(message.get("task"))
        if unfinished and unfinished.message == message["id"]:
            fault = unfinished.end_message(message, may_be_shorter=message["status"] == "partial")
            self.counts["messages told piece by piece"] += 1
            if fault:
                self.fault(f"{name}: {fault}")

    def end(self, name: str, session: str, fold: Optional[Fold], ended: bool) -> None:
        """A fold that was not ended by the end of its session has come to the end of it."""
        truth = self.truth.get(session)
        if fold is None or ended or session in self.deleted:
            return
        if truth is None:
            self.fault(f"{name}: {session} is gone, and nobody deleted it")
        else:
            self.same(f"{name}: what was told of {session}", fold, truth)


if __name__ == "__main__":
    check = Check(pathlib.Path(sys.argv[1]))
    check.run()
    for fault in check.faults[:FAULTS_SHOWN_MAX]:
        print(fault, file=sys.stderr)
    print(json.dumps({**check.counts, "faults": len(check.faults)}))
    sys.exit(1 if check.faults else 0)

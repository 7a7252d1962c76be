#!/usr/bin/env python3
"""A terminal front end for sessd in 50 lines, made from PROTOCOL.md alone, with what Python brings along.

    terminal.py            makes a session and talks to it
    terminal.py SESSION    goes into one that is there; four digits of its id do

Any number of them may sit at one session, and all see the same. What you type is sent at the end of the
line, also while an answer comes: then it waits for its turn. Ctrl-c takes back what is being answered, and
leaves where nothing is; ctrl-d leaves, and what is being answered goes on. When the daemon is started anew
the terminal goes on behind the last event that it took in, and asks again, under the same keys, what it has
no answer to: nothing is missed, nothing is shown or done twice. Control characters are never shown: what others
write must not steer the terminal.
"""
import asyncio, contextlib, json, os, re, signal, sys, uuid

RUN, STATE = os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
SOCKET = os.environ.get("SESS_SOCKET") or (f"{RUN}/sess/sess.sock" if RUN else f"{STATE}/sess/run/sess.sock")
HELLO = ("initialize", {"protocol": 1, "client": {"name": "terminal-" + uuid.uuid4().hex[:4]}})

def say(text, end="\n"): print(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text), end=end, flush=True)

def words(blocks): return "".join(block["text"] for block in blocks if block["type"] == "text")

class Terminal:
    session, asker, asked, writer, shown = {}, {}, {}, None, ""

    def send(self, id, method, **params):  # kept until it is answered: a new connection asks it again
        self.asked[id] = (method, params)
        self.writer and self.writer.write(json.dumps({"id": id, "method": method, "params": params}).encode() + b"\n")

    def change(self, method, **params):  # by its key nothing is done again when it is asked again
        self.send(key := uuid.uuid4().hex, method, idempotency_key=key, **params)

    async def run(self, name=None):
        self.send("follow", "session/follow", session=name) if name else self.change("session/create")
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.stop)
        while True:
            with contextlib.suppress(OSError):
                reader, self.writer = await asyncio.open_unix_connection(SOCKET, limit=8 << 20)
                for id, (method, params) in {"hello": HELLO, **self.asked}.items(): self.send(id, method, **params)
                while line := await reader.readline(): self.take(**json.loads(line))
            await asyncio.sleep(0.2)

    def take(self, id=None, method=None, params=None, result={}, error=None, **_):
        kind = error and error["data"]["kind"]
        if kind in ("shutting_down", "outcome_unknown"): return self.writer.close()  # and once more
        if self.asked.pop(id, ("",))[0] == "session/create" and result or kind == "conflict":  # our cursor is no good
            self.send("follow", "session/follow", session=(result or self.session)["id"])
        elif error: (say if self.session and id != "follow" else sys.exit)("-- " + error["message"])
        elif id == "follow": self.facts(result["cursor"], **result.get("view", {}))
        if method == "live" or "live" in result: self.show(words((params or result["live"])["blocks"]))
        if method == "delta" and params["kind"] == "text": self.show(self.shown + params["text"])
        if method == "event": self.facts(params.get("cursor"), **({} if ":" in params["type"] else params["data"]))

    def facts(self, cursor, session={}, messages=(), message=None, task={}, **_):  # of a view or of an event
        self.session.update(session)
        asyncio.get_running_loop().add_reader(0, self.typed)
        self.asked["follow"] = ("session/follow", {"session": self.session["id"], "after": cursor or sys.exit("-- deleted")})
        for it in [message] if message else messages:
            who = self.asker.setdefault(it.get("task"), it.get("by", {}).get("client", "somebody"))
            self.show(f"{who}> " * (it["role"] == "user") + words(it["content"]), "\n")
        if {"running", "queued"} & session.keys():
            who, end = self.asker.get(self.session.get("running")), (task.get("error") or {"message": "idle"})["message"]
            say(f"-- answering {who}, {self.session['queued']} waiting" if self.session.get("running") else f"-- {end}")

    def show(self, text, end=""):  # an answer grows; what does not go on with it begins on a line of its own
        start = len(self.shown) if text.startswith(self.shown) or end and self.shown.startswith(text) else say("") or 0
        self.shown = say(text[start:], end) or ("" if end else text)

    def typed(self):
        for line in (os.read(0, 65536) or sys.exit()).decode(errors="replace").splitlines():
            self.change("chat/send", session=self.session["id"], content=line)

    def stop(self): self.change("task/cancel", task=self.session.get("running") or sys.exit())

asyncio.run(Terminal().run(*sys.argv[1:]))

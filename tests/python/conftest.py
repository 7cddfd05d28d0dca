"""What the tests of all clients share: a real server, and waiting with a deadline that says what was waited for."""

import hashlib
import json
import os
import queue
import secrets
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

# Ample even for a debug build on a busy machine; nothing waits this long unless it is broken.
DEADLINE_S = 20

ROOT = Path(__file__).parents[2]
BINARY = os.environ.get("HAILER_BIN", str(ROOT / "target/debug/hailer"))


class Inbox:
    """What has happened so far, in order; filled from any thread."""

    def __init__(self):
        self.items = []
        self._taken = 0
        self._changed = threading.Condition()

    def push(self, item):
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def take(self, what, wanted=lambda item: True):
        """The first item not yet taken that is wanted; passes over those before it."""
        give_up = time.monotonic() + DEADLINE_S
        with self._changed:
            while True:
                while self._taken < len(self.items):
                    item = self.items[self._taken]
                    self._taken += 1
                    if wanted(item):
                        return item
                left = give_up - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {DEADLINE_S} s: {what}; there was {self.items[-5:]}")
                self._changed.wait(left)


class Server:
    """A server process on a port of its own, which it keeps over `stop` and `start`."""

    def __init__(self, folder, token_param):
        self._key = f"hlr_{secrets.token_urlsafe(32)}"
        self._config = folder / "hailer.toml"
        self._log = folder / "server.log"
        self._address = "127.0.0.1:0"
        self._process = None
        self._settings = {name: value for name, value in os.environ.items() if not name.startswith("HAILER_")}
        self._settings["HAILER_AUTH_TOKEN_PARAM"] = token_param
        (folder / "secret").write_text(secrets.token_urlsafe(64))
        (folder / "secret").chmod(0o600)
        self._config.write_text(f"""
            [auth]
            secret_file = "secret"
            allowed_drift = "0s"
            expiry_grace = "1s"
            [[topics]]
            pattern = "room:lobby"
            join = "user"
            push = [{{ event = "new_msg", by = "user" }}]
            [[topics]]
            pattern = "realtime:lobby"
            join = "user"
            push = [{{ event = "broadcast", by = "user" }}]
            [[api.keys]]
            name = "tests"
            hash = "sha256:{hashlib.sha256(self._key.encode()).hexdigest()}"
            scopes = ["publish", "disconnect"]
        """)

    def start(self):
        command = [BINARY, "serve", "--config", self._config, "--listen", self._address, "--api-listen", "127.0.0.1:0"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=self._settings
            )
        lines = queue.Queue()
        threading.Thread(target=lambda out: [lines.put(line) for line in out], args=[self._process.stdout]).start()
        self._address = self._said(lines, "Listening on http://")
        self._api = self._said(lines, "API on ")

    def _said(self, lines, beginning):
        while True:
            try:
                line = lines.get(timeout=DEADLINE_S)
            except queue.Empty:
                raise AssertionError(f"the server has not said {beginning!r}\n{self._log.read_text()}") from None
            if line.startswith(beginning):
                return line.removeprefix(beginning).split()[0]

    def stop(self):
        """Asks the process to end, and demands that it does so cleanly."""
        self._process.terminate()
        assert self._process.wait(DEADLINE_S) == 0, self._log.read_text()

    def kill(self):
        self._process.kill()
        self._process.wait(DEADLINE_S)

    def url(self, scheme="ws"):
        """What clients are given that append the transport's name themselves."""
        return f"{scheme}://{self._address}/socket"

    def token(self, user, ttl="1h"):
        command = [BINARY, "token", "--config", self._config, "--sub", user, "--ttl", ttl]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=self._settings, timeout=DEADLINE_S)
        assert done.returncode == 0
        return done.stdout.strip()

    def publish(self, topic, event, payload):
        self._call("publish", {"topic": topic, "event": event, "payload": payload})

    def disconnect(self, user):
        self._call("disconnect", {"user": user})

    def _call(self, path, body):
        request = urllib.request.Request(
            f"{self._api}/api/v1/{path}",
            json.dumps(body).encode(),
            {"authorization": f"Bearer {self._key}", "content-type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=DEADLINE_S).close()


@pytest.fixture
def token_param():
    """The query parameter that the client gives its token in; a module may have its own."""
    return "token"


@pytest.fixture
def server(tmp_path, token_param):
    server = Server(tmp_path, token_param)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def inbox():
    return Inbox

"""Start a headless Firefox with PROFILE, open PAGE, and call functions of the page.

Standard input has one call a line, [function, arguments]; standard output the answer to each,
{"value": ..} or {"error": ..}. The browser ends at the end of the input.

Marionette is Firefox's remote protocol: length-prefixed JSON, [0, id, command, parameters] there
and [1, id, error, result] back.
"""

import json
import socket
import subprocess
import sys
import time
from typing import Any

ADDRESS = ("127.0.0.1", 2828)
START_SECONDS = 40
SCRIPT_MILLISECONDS = 300_000
# The last argument is Marionette's callback.
CALL = """
const [name, parameters, done] = arguments;
Promise.resolve()
  .then(() => window[name](...parameters))
  .then((value) => done({ value: value === undefined ? null : value }),
        (error) => done({ error: String(error) }));
"""


class Marionette:
    """A connection to the browser."""

    def __init__(self) -> None:
        self._socket = connect()
        self._unread = b""
        self._last_id = 0
        self._read()

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Send one command and return its result."""
        self._last_id += 1
        message = json.dumps([0, self._last_id, name, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._read()
        if error is not None:
            raise RuntimeError(f"{name}: {error['error']}: {error['message']}")
        return result

    def _read(self) -> Any:
        while b":" not in self._unread:
            self._receive()
        length, _, self._unread = self._unread.partition(b":")
        while len(self._unread) < int(length):
            self._receive()
        message, self._unread = self._unread[:int(length)], self._unread[int(length):]
        return json.loads(message)

    def _receive(self) -> None:
        piece = self._socket.recv(65536)
        if not piece:
            raise EOFError("Firefox ended by itself")
        self._unread += piece


def connect() -> socket.socket:
    """Connect as soon as the browser listens."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection(ADDRESS)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def main(profile: str, page: str) -> None:
    """Serve the calls of the suite."""
    firefox = subprocess.Popen(
        ["firefox-esr", "--headless", "--marionette", "--no-remote", "--profile", profile],
        stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=subprocess.STDOUT)
    try:
        marionette = Marionette()
        marionette.command("WebDriver:NewSession", {"capabilities": {}})
        marionette.command("WebDriver:SetTimeouts", {"script": SCRIPT_MILLISECONDS})
        marionette.command("WebDriver:Navigate", {"url": page})
        for line in sys.stdin:
            result = marionette.command(
                "WebDriver:ExecuteAsyncScript", {"script": CALL, "args": json.loads(line)})
            print(json.dumps(result["value"]), flush=True)
    finally:
        firefox.kill()
        firefox.wait()


main(sys.argv[1], sys.argv[2])

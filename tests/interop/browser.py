"""A headless Chromium on a test host, driven over its DevTools pipe.

The pipe (file descriptors 3 and 4 of the browser) crosses network namespaces, which a DevTools
port would not, and needs no WebSocket.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from certificates import Certificates, trust_database
from checks import Failure
from hosts import Host

PAGE = Path(__file__).parent / "page.html"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe",
]


class Browser:
    """One browser with the test page open."""

    def __init__(self, host: Host, folder: Path, name: str, made: Certificates) -> None:
        profile = folder / f"{name}-profile"
        # Chromium trusts whom the user's own database trusts, for TURN as for pages.
        home = folder / f"{name}-home"
        trust_database(home / ".pki" / "nssdb", made.authority)
        commands_out, self._commands = os.pipe()
        self._answers, answers_in = os.pipe()
        # The shell moves the pipe ends to the descriptors that Chromium reads and writes.
        launch = f'exec chromium "$@" 3<&{commands_out} 4>&{answers_in}'
        with (folder / f"{name}.log").open("w") as log:
            host.spawn(["bash", "-c", launch, "chromium", *FLAGS, f"--user-data-dir={profile}"],
                       stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                       pass_fds=[commands_out, answers_in],
                       env=os.environ | {"TMPDIR": str(folder), "HOME": str(home)})
        os.close(commands_out)
        os.close(answers_in)
        self._unread = b""
        self._events: list[dict[str, Any]] = []
        self._last_id = 0
        self._session: str | None = None
        target = self._command("Target.createTarget", url="about:blank")["targetId"]
        attached = self._command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._open(PAGE)

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the test page, wait for its promise, return what it gives."""
        listed = ", ".join(json.dumps(argument) for argument in arguments)
        answer = self._command("Runtime.evaluate", expression=f"{function}({listed})",
                               awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"].get("exception", {})
            raise Failure(f"the page: {thrown.get('description', answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def close(self) -> None:
        """Let go of the pipe; without it the browser ends."""
        os.close(self._commands)
        os.close(self._answers)

    def _open(self, page: Path) -> None:
        self._command("Page.enable")
        self._command("Page.setLifecycleEventsEnabled", enabled=True)
        loader = self._command("Page.navigate", url=page.as_uri())["loaderId"]
        # The blank page has such events, too, but another loader.
        while not any(event.get("params", {}).get("loaderId") == loader
                      and event["params"].get("name") == "load" for event in self._events):
            self._events.append(self._read())

    def _command(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") != self._last_id:
                self._events.append(answer)
                continue
            if "error" in answer:
                raise Failure(f"Chromium, {method}: {answer['error']['message']}")
            result: dict[str, Any] = answer["result"]
            return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            piece = os.read(self._answers, 65536)
            if not piece:
                raise Failure("Chromium ended by itself")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

"""A headless Firefox on a test host, driven by a program beside it on the same host.

Firefox has no DevTools pipe; its Marionette port is reached inside the network namespace alone,
so that `ends/marionette.py` runs there and carries the calls.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from browser import PAGE
from certificates import Certificates, trust_database
from checks import Failure
from hosts import Host

DRIVER = Path(__file__).parent / "ends" / "marionette.py"
PREFERENCES: dict[str, Any] = {
    "marionette.port": 2828,
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    # Nothing that asks for hosts that are not there.
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """One browser with the test page open."""

    def __init__(self, host: Host, folder: Path, name: str, made: Certificates) -> None:
        profile = folder / f"{name}-profile"
        trust_database(profile, made.authority)
        # Firefox asks for TLS to a TURN server by its name only, and no resolver is here.
        preferences = PREFERENCES | {"network.dns.forceResolve": made.address}
        lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});\n"
                 for key, value in preferences.items()]
        (profile / "user.js").write_text("".join(lines))
        with (folder / f"{name}.log").open("w") as log:
            self._driver = host.spawn(
                [sys.executable, "-B", str(DRIVER), str(profile), PAGE.as_uri()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the test page, wait for its promise, return what it gives."""
        assert self._driver.stdin is not None, "the driver is started with pipes"
        assert self._driver.stdout is not None, "the driver is started with pipes"
        self._driver.stdin.write(json.dumps([function, arguments]) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        if not line:
            raise Failure("Firefox or its driver ended by itself")
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(f"the page in Firefox: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        """End the driver, which ends the browser."""
        assert self._driver.stdin is not None, "the driver is started with pipes"
        self._driver.stdin.close()

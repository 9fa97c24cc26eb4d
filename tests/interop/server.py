"""The server under test: one fresh process with its own turn.yaml per case."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from certificates import Certificates
from checks import Failure, check
from hosts import NETWORKS, Family, Host

REALM = "interop.example"
USER = "alice"
PASSWORD = "correct horse battery"
REST_SECRET = "the-north-wind-and-the-sun"
PORT = 3478

READY_TRIES = 50
STOP_SECONDS = 2.0
PROBE = Path(__file__).parent / "ends" / "probe.py"


def default_config(relay: Host, made: Certificates) -> dict[str, Any]:
    """A turn.yaml for the test network: every family and way in, both kinds of credentials.

    All of them have one port: what a client speaks, the server has to tell by its first bytes.
    """
    return {
        "realm": REALM,
        "listen": [f"{scheme}://{address}:{PORT}" for scheme in ["udp", "tcp", "tls", "dtls"]
                   for address in [relay.v4, f"[{relay.v6}]"]],
        "tls": {"certificates": [{"certificate": str(made.certificate), "key": str(made.key)}]},
        "relay": {"addresses": [relay.v4, relay.v6], "ports": "49152-65535"},
        "auth": {"users": {USER: PASSWORD}, "rest_secrets": [REST_SECRET]},
        # The test hosts have private addresses, which a relay refuses unless told otherwise.
        "peers": {"allow": NETWORKS, "deny": []},
        "log": {"level": "debug", "format": "json"},
    }


class Server:
    """A running server; `stop` ends it and checks that it ended well."""

    def __init__(self, binary: Path, relay: Host, client: Host, folder: Path,
                 made: Certificates, changes: dict[str, Any]) -> None:
        self._told_to_stop = False
        self._log_path = folder / "server.log"
        config = default_config(relay, made) | changes
        # Every JSON document is a YAML document.
        (folder / "turn.yaml").write_text(json.dumps(config, indent=2) + "\n")
        with self._log_path.open("w") as log:
            self._process = relay.spawn([str(binary), "serve", "-c", "turn.yaml"], cwd=folder,
                                        stdin=subprocess.DEVNULL, stdout=log,
                                        stderr=subprocess.STDOUT)
        for family in Family:
            self._wait_until_ready(client, relay.address(family))

    def _wait_until_ready(self, client: Host, address: str) -> None:
        for _ in range(READY_TRIES):
            check(self.fate() == "", self.fate())
            if answers(client, address, PORT):
                return
        raise Failure(f"no answer to a Binding request from {address} port {PORT}")

    def fate(self) -> str:
        """What to say of a server that ended before it was told to; of others, nothing."""
        code = None if self._told_to_stop else self._process.poll()
        return "" if code is None else f"the server ended by itself with exit code {code}"

    def stop(self) -> None:
        """End the server with TERM: it must have survived, and it must stop cleanly."""
        check(self.fate() == "", self.fate())
        self._told_to_stop = True
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"the server still ran {STOP_SECONDS} s after TERM") from None
        check(code == 0, f"the server's exit code after TERM is {code}")
        check("panicked" not in self._log_path.read_text(), "the server's log speaks of a panic")


def answers(client: Host, address: str, port: int) -> bool:
    """Whether one datagram sent from `client` is answered; waits a fifth of a second at most."""
    probe = client.run([sys.executable, "-ES", str(PROBE), address, str(port)], timeout=10)
    return probe.returncode == 0

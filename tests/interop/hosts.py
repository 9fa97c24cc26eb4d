"""The test hosts: network namespaces on one bridge, made for one run and removed after it.

Two clients, the relay and a peer. The clients' and the peer's bridge ports are isolated: each
reaches the relay and nobody else, so whatever two of them exchange went through the relay.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

NETWORKS = ["10.90.0.0/24", "fd90::/64"]

# A killed program is gone within a few looks, and so are the children that it still started.
KILL_ROUNDS = 200


class Family(Enum):
    """An address family, by its name on the command line of a case."""

    V4 = "IPv4"
    V6 = "IPv6"


@dataclass(frozen=True)
class Host:
    """One test host: its network namespace and its addresses."""

    namespace: str
    v4: str
    v6: str

    def address(self, family: Family) -> str:
        """The host's address of one family."""
        return self.v4 if family is Family.V4 else self.v6

    def spawn(self, argv: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a program on this host; `Network.stop_programs` ends it at the latest."""
        command = ["ip", "netns", "exec", self.namespace, *argv]
        return subprocess.Popen(command, text=True, start_new_session=True, **options)

    def pids(self) -> list[int]:
        """The programs that run on this host."""
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], check=False,
                                capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    def run(self, argv: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a program on this host to its end, or kill it at `timeout` seconds.

        A program killed at its time limit has the exit code 124 that timeout(1) would give.
        """
        command = self.spawn(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
        try:
            output, _ = command.communicate(timeout=timeout)
            code = command.returncode
        except subprocess.TimeoutExpired:
            os.killpg(command.pid, signal.SIGKILL)
            output, _ = command.communicate()
            code = 124
        return subprocess.CompletedProcess(argv, code, output, "")


class Network:
    """The hosts of one run and the bridge between them; a context manager."""

    def __init__(self) -> None:
        prefix = f"sterna-{os.getpid()}"
        self.wire = f"{prefix}-wire"
        self.relay = Host(f"{prefix}-relay", "10.90.0.1", "fd90::1")
        self.alice = Host(f"{prefix}-alice", "10.90.0.2", "fd90::2")
        self.bob = Host(f"{prefix}-bob", "10.90.0.3", "fd90::3")
        self.peer = Host(f"{prefix}-peer", "10.90.0.4", "fd90::4")
        self.hosts = [self.relay, self.alice, self.bob, self.peer]

    def __enter__(self) -> Network:
        try:
            ip("netns", "add", self.wire)
            # No learning delay and no multicast filter: a frame sent at once must arrive.
            ip("-n", self.wire, "link", "add", "name", "bridge", "type", "bridge",
               "forward_delay", "0", "mcast_snooping", "0")
            ip("-n", self.wire, "link", "set", "dev", "bridge", "up")
            for number, host in enumerate(self.hosts):
                self._plug_in(host, f"port{number}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_programs()
        for namespace in [self.wire, *(host.namespace for host in self.hosts)]:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)

    def _plug_in(self, host: Host, port: str) -> None:
        ip("netns", "add", host.namespace)
        ip("-n", self.wire, "link", "add", "name", port, "type", "veth",
           "peer", "name", "eth0", "netns", host.namespace)
        ip("-n", self.wire, "link", "set", "dev", port, "master", "bridge", "up")
        if host is not self.relay:
            ip("-n", self.wire, "link", "set", "dev", port, "type", "bridge_slave",
               "isolated", "on")
        ip("-n", host.namespace, "address", "add", f"{host.v4}/24", "dev", "eth0")
        # Without duplicate address detection the address is usable at once.
        ip("-n", host.namespace, "address", "add", f"{host.v6}/64", "dev", "eth0", "nodad")
        for device in ["lo", "eth0"]:
            ip("-n", host.namespace, "link", "set", "dev", device, "up")
        if host is not self.relay:
            # Firefox asks for the address that packets to the Internet would leave from, and
            # gathers no candidate without one. The relay's host forwards none of them.
            ip("-n", host.namespace, "route", "add", "default", "via", self.relay.v4)

    def stop_programs(self) -> None:
        """Kill what still runs on the hosts; only programs of this run live there."""
        for _ in range(KILL_ROUNDS):
            pids = [pid for host in self.hosts for pid in host.pids()]
            if not pids:
                return
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def ip(*argv: str) -> None:
    """Run ip(8) and stop the suite with its message when it fails."""
    done = subprocess.run(["ip", *argv], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(argv)}: {done.stderr.strip()}")

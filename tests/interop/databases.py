"""Databases as people run them: Debian's servers, started for one case and killed in it.

Each runs on the relay's host with a data folder of its own, as no service of this machine. The
relay's host is a network namespace, in which every port is free.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from checks import Failure, check
from hosts import Host
from server import PASSWORD, REALM

SCHEMA = Path("/usr/share/coturn/schema.sql")
# A server is ready within a few of these looks.
READY_TRIES = 100
TRY_SECONDS = 0.1
TOOL_SECONDS = 60
# What a Sentinel waits before it holds a master for dead.
DOWN_MS = 1000


class Database(ABC):
    """A database that sterna is pointed to by `url`."""

    url: str

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self._processes: list[subprocess.Popen[str]] = []

    @abstractmethod
    def start(self) -> None:
        """Start its server, and wait until it answers."""

    def kill(self) -> None:
        """Kill its server, as a power failure would."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    @abstractmethod
    def turnadmin(self) -> list[str]:
        """How coturn's turnadmin is told of it."""

    def add_user(self, name: str) -> None:
        """Have turnadmin add a user, with the password that all users have."""
        said = self.run(["turnadmin", "-a", *self.turnadmin(), "-u", name, "-r", REALM,
                         "-p", PASSWORD])
        # It logs to a file and has no flag that says where.
        for path in re.findall(r"log file opened: (\S+)", said):
            Path(path).unlink(missing_ok=True)

    def spawn(self, argv: list[str]) -> None:
        """Start a server; what it says goes to database.log."""
        with (self.folder / "database.log").open("a") as log:
            self._processes.append(self.host.spawn(argv, stdin=subprocess.DEVNULL, stdout=log,
                                                   stderr=subprocess.STDOUT, cwd=self.folder))

    def run(self, argv: list[str], stdin: Path | None = None) -> str:
        """Run a tool to its end, and return what it says."""
        with (stdin or Path(os.devnull)).open() as source:
            tool = self.host.spawn(argv, stdin=source, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, cwd=self.folder)
            said, _ = tool.communicate(timeout=TOOL_SECONDS)
        check(tool.returncode == 0, f"{argv[0]} failed: {said}")
        return said

    def wait_for(self, argv: list[str], says: str = "") -> None:
        """Wait until a tool succeeds and says so."""
        for _ in range(READY_TRIES):
            done = self.host.run(argv, timeout=TOOL_SECONDS)
            if done.returncode == 0 and says in done.stdout:
                return
            time.sleep(TRY_SECONDS)
        raise Failure(f"{argv[0]} finds no server: {done.stdout}")


class Sqlite(Database):
    """A file, with coturn's tables or nothing in it."""

    def __init__(self, host: Host, folder: Path, coturn: bool) -> None:
        super().__init__(host, folder)
        self._file = folder / "users.db"
        if coturn:
            self.run(["sqlite3", str(self._file)], SCHEMA)
            self._file.chmod(0o660)
        self.url = f"sqlite://{self._file}{'' if coturn else '?mode=rwc'}"

    def start(self) -> None:
        """There is no server."""

    def turnadmin(self) -> list[str]:
        return ["-b", str(self._file)]


class Postgres(Database):
    """PostgreSQL, which does not run as root."""

    url = "postgres://postgres@127.0.0.1:5432/turn"

    def __init__(self, host: Host, folder: Path, coturn: bool) -> None:
        super().__init__(host, folder)
        self._data = folder / "postgres"
        self._data.mkdir()
        # Its user passes through the case's folder, and sees nothing else in it.
        folder.chmod(0o711)
        self.run(["chown", "postgres", str(self._data)])
        self.run(self._as_postgres("initdb", "-D", str(self._data), "-A", "trust", "-N"))
        self.start()
        self.run(["createdb", *self._client(), "turn"])
        if coturn:
            self.run(["psql", *self._client(), "-q", "turn"], SCHEMA)

    def start(self) -> None:
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self.spawn(self._as_postgres("postgres", "-D", str(self._data), "-p", "5432",
                                     "-k", str(self._data), "-h", "127.0.0.1"))
        self.wait_for(["psql", *self._client(), "-c", "SELECT 1", "postgres"])

    def kill(self) -> None:
        # Killing the first of its processes alone would leave the others to end by themselves.
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGQUIT)
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def turnadmin(self) -> list[str]:
        return ["-e", "host=127.0.0.1 port=5432 user=postgres dbname=turn"]

    @staticmethod
    def _client() -> list[str]:
        return ["-h", "127.0.0.1", "-p", "5432", "-U", "postgres"]

    @staticmethod
    def _as_postgres(program: str, *flags: str) -> list[str]:
        programs = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        check(bool(programs), f"PostgreSQL's {program} is missing")
        return ["runuser", "-u", "postgres", "--", str(programs[-1]), *flags]


class MariaDb(Database):
    """MariaDB, in the place of MySQL, too."""

    url = "mysql://turn:word@127.0.0.1:3306/turn"

    def __init__(self, host: Host, folder: Path, coturn: bool) -> None:
        super().__init__(host, folder)
        self._data = folder / "mariadb"
        self._socket = self._data / "socket"
        self.run(["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={self._data}",
                  "--auth-root-authentication-method=normal", "--skip-test-db"])
        self.start()
        self._sql("CREATE DATABASE turn; CREATE USER turn@localhost IDENTIFIED BY 'word'; "
                  "GRANT ALL ON turn.* TO turn@localhost;")
        if coturn:
            self.run(["mariadb", f"--socket={self._socket}", "turn"], SCHEMA)

    def start(self) -> None:
        self.spawn(["mariadbd", "--no-defaults", "--user=root", f"--datadir={self._data}",
                    "--port=3306", "--bind-address=127.0.0.1", f"--socket={self._socket}",
                    "--skip-name-resolve=OFF"])
        self.wait_for(["mariadb", f"--socket={self._socket}", "-e", "SELECT 1"])

    def turnadmin(self) -> list[str]:
        return ["-M", "host=127.0.0.1 port=3306 user=turn password=word dbname=turn"]

    def _sql(self, text: str) -> None:
        self.run(["mariadb", f"--socket={self._socket}", "-e", text])


class Redis(Database):
    """One Redis server."""

    url = "redis://127.0.0.1:6379/2"
    flags: list[str] = []

    def __init__(self, host: Host, folder: Path, coturn: bool) -> None:
        super().__init__(host, folder)
        del coturn  # In Redis both schemas lie beside each other.
        self.start()

    def start(self) -> None:
        self.spawn(["redis-server", "--port", "6379", "--bind", "127.0.0.1",
                    "--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always",
                    *self.flags])
        self.wait_for(["redis-cli", "-p", "6379", "ping"], "PONG")

    def turnadmin(self) -> list[str]:
        return ["-N", "ip=127.0.0.1 port=6379 dbname=2"]


class RedisCluster(Redis):
    """A cluster with all of its slots on one node."""

    url = "redis+cluster://127.0.0.1:6379"
    flags = ["--cluster-enabled", "yes"]

    def __init__(self, host: Host, folder: Path, coturn: bool) -> None:
        super().__init__(host, folder, coturn)
        self.run(["redis-cli", "-p", "6379", "cluster", "addslotsrange", "0", "16383"])
        self.wait_for(["redis-cli", "-p", "6379", "cluster", "info"], "cluster_state:ok")


class RedisSentinel(Redis):
    """A master, a replica and a Sentinel; when the master is killed the replica takes over."""

    url = "redis+sentinel://127.0.0.1:26379/2?master=turn"

    def __init__(self, host: Host, folder: Path, coturn: bool) -> None:
        super().__init__(host, folder, coturn)
        replica = RedisReplica(host, folder)
        config = folder / "sentinel.conf"
        config.write_text(f"port 26379\nbind 127.0.0.1\ndir {folder}\n"
                          "sentinel monitor turn 127.0.0.1 6379 1\n"
                          f"sentinel down-after-milliseconds turn {DOWN_MS}\n")
        replica.spawn(["redis-sentinel", str(config)])
        self.wait_for(["redis-cli", "-p", "26379", "sentinel", "replicas", "turn"], "6380")

    def kill(self) -> None:
        super().kill()
        # The Sentinel takes a few seconds to make the replica the master.
        self.wait_for(["redis-cli", "-p", "6380", "role"], "master")
        self.wait_for(["redis-cli", "-p", "26379", "sentinel", "get-master-addr-by-name", "turn"],
                      "6380")


class RedisReplica(Database):
    """What follows a Redis server."""

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__(host, folder)
        self.start()

    def start(self) -> None:
        self.spawn(["redis-server", "--port", "6380", "--bind", "127.0.0.1", "--save", "",
                    "--replicaof", "127.0.0.1", "6379"])
        self.wait_for(["redis-cli", "-p", "6380", "info", "replication"], "master_link_status:up")

    def turnadmin(self) -> list[str]:
        raise Failure("a replica is not written to")


Kind = Callable[[Host, Path, bool], Database]


def coturns(kind: Kind) -> Callable[[Host, Path], Database]:
    """A database with coturn's tables."""
    return lambda host, folder: kind(host, folder, True)


def empty(kind: Kind) -> Callable[[Host, Path], Database]:
    """A database with nothing in it, which sterna fills."""
    return lambda host, folder: kind(host, folder, False)

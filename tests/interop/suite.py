"""Run the cases: a fresh server for each, one summary line for each, and what failed in full."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from multiprocessing import Process, Value
from pathlib import Path
from types import FrameType

from cases import CASES, Case, Setting
from certificates import Certificates, make_certificates
from checks import Failure
from hosts import Network
from server import Server
from stored import SETTINGS, auth

# Of each log of a failed case, this many lines from its end are printed.
LOG_LINES = 200


def main() -> int:
    """Run what the command line asks for; the exit code is 1 when a case failed."""
    parser = argparse.ArgumentParser(prog="tests/interop/run")
    parser.add_argument("--server", type=Path, help="the binary to test")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--jobs", type=int, default=2, help="cases at the same time")
    parser.add_argument("parts", nargs="*", help="run the cases with one of these in their name")
    options = parser.parse_args()
    cases = [case for case in CASES
             if not options.parts or any(part in case.name for part in options.parts)]
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    for signum in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(signum, stop_suite)
    started = time.monotonic()
    turns = Turns()
    workers = [Process(target=work, args=(cases, options.server, turns))
               for _ in range(max(1, min(options.jobs, len(cases))))]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        # Each removes its own hosts on the way out.
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()
    passed = turns.passed.value
    print(f"{time.monotonic() - started:.0f} s in all")
    print(f"{passed} passed, {len(cases) - passed} failed", flush=True)
    return 0 if passed == len(cases) > 0 else 1


class Turns:
    """What the workers share: whose turn is next, and how many cases have passed."""

    def __init__(self) -> None:
        self.next = Value("i", 0)
        self.passed = Value("i", 0)

    def take(self) -> int:
        """The number of a case that nobody else has taken."""
        with self.next.get_lock():
            self.next.value += 1
            return self.next.value - 1

    def count(self, passed: bool) -> None:
        """One more case has come to its end."""
        with self.passed.get_lock():
            self.passed.value += passed


def work(cases: list[Case], binary: Path, turns: Turns) -> None:
    """Run one case after the other on hosts of this worker's own, until none is left."""
    signal.signal(signal.SIGALRM, time_is_up)
    with Network() as network, tempfile.TemporaryDirectory(prefix="sterna-interop-") as name:
        made = make_certificates(Path(name), network.relay)
        while (number := turns.take()) < len(cases):
            said = io.StringIO()
            with redirect_stdout(said):
                passed = run_case(cases[number], binary, network, made)
            turns.count(passed)
            # In one piece, so that the words of two workers do not mix.
            print(said.getvalue(), end="", flush=True)


def run_case(case: Case, binary: Path, network: Network, made: Certificates) -> bool:
    """Run one case and print its line; whether it passed."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sterna-interop-",
                                     ignore_cleanup_errors=True) as name:
        folder = Path(name)
        server = None
        reasons = []
        try:
            with time_limit(case.limit_s):
                config, database = case.config, None
                if case.database is not None:
                    database = case.database(network.relay, folder)
                    config = config | SETTINGS | {"auth": auth(database, case.remembers)}
                server = Server(binary, network.relay, network.alice, folder, made, config)
                case.step(Setting(network, folder, made, binary, database))
                server.stop()
        except Failure as failure:
            reasons = [str(failure), server.fate() if server else ""]
        except Exception:
            reasons = [traceback.format_exc()]
        finally:
            network.stop_programs()
        seconds = time.monotonic() - started
        print(f"{'FAIL' if reasons else 'ok  '} {case.name} ({seconds:.1f} s)", flush=True)
        if reasons:
            for reason in dict.fromkeys(filter(None, reasons)):
                print(f"     {reason}")
            print_logs(folder)
    return not reasons


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Fail the case when it takes longer."""
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def time_is_up(_signum: int, _frame: FrameType | None) -> None:
    """The handler of SIGALRM."""
    raise Failure("the case took longer than its time limit")


def stop_suite(signum: int, _frame: FrameType | None) -> None:
    """The handler of signals that end the suite: the hosts are removed on the way out."""
    sys.exit(128 + signum)


def print_logs(folder: Path) -> None:
    """What the server and the tools of a failed case said last."""
    for path in [folder / "turn.yaml", *sorted(folder.glob("*.log"))]:
        if not path.exists():
            continue
        lines = path.read_text(errors="replace").splitlines()
        print(f"---- {path.name}, the last {LOG_LINES} lines of {len(lines)}")
        print("\n".join(lines[-LOG_LINES:]))
    print("----", flush=True)


if __name__ == "__main__":
    sys.exit(main())

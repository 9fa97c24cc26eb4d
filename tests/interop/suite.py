"""Run the cases: a fresh server for each, one summary line for each, and what failed in full."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cases import CASES, Case, Setting
from certificates import Certificates, make_certificates
from checks import Failure
from hosts import Network
from server import Server

# Of each log of a failed case, this many lines from its end are printed.
LOG_LINES = 200


def main() -> int:
    """Run what the command line asks for; the exit code is 1 when a case failed."""
    parser = argparse.ArgumentParser(prog="tests/interop/run")
    parser.add_argument("--server", type=Path, help="the binary to test")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("parts", nargs="*", help="run the cases with one of these in their name")
    options = parser.parse_args()
    cases = [case for case in CASES
             if not options.parts or any(part in case.name for part in options.parts)]
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    for signum in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(signum, stop_suite)
    signal.signal(signal.SIGALRM, time_is_up)
    started = time.monotonic()
    with Network() as network, tempfile.TemporaryDirectory(prefix="sterna-interop-") as name:
        made = make_certificates(Path(name), network.relay)
        failed = sum(not run_case(case, options.server, network, made) for case in cases)
    print(f"{time.monotonic() - started:.0f} s in all")
    print(f"{len(cases) - failed} passed, {failed} failed", flush=True)
    return 1 if failed or not cases else 0


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
                server = Server(binary, network.relay, network.alice, folder, made, case.config)
                case.step(Setting(network, folder, made))
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

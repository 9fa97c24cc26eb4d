"""Steps of the cases with a database: users in it are served, also after it was away."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

from checks import Failure, check, check_equal
from databases import Database
from hosts import Family
from server import PASSWORD
from turnutils import SUMMARY, Load, check_lossless

if TYPE_CHECKING:
    from cases import Setting

LOAD = Load(sessions=4, messages=5)
# A run of uclient ends by itself in a third of this, at once when it is refused.
UCLIENT_SECONDS = 25
# How often a store that is back is tried, a second apart.
BACK_TRIES = 8
CACHE_SECONDS = 1

SETTINGS: dict[str, Any] = {
    # A worker of its own remembers users of its own: with one the cases know who is remembered.
    "workers": 1,
    # A refused uclient tries 33 times; held to the default it would wait for its next minute.
    "limits": {"failed_logins_per_minute": 1000},
}


def auth(database: Database, lifetime: str) -> dict[str, Any]:
    """The part of turn.yaml that points to the database and to nobody else."""
    return {"stores": [database.url], "cache": {"lifetime": lifetime}}


def killed_and_restarted(setting: Setting) -> None:
    """While its database is away, users who are remembered are served and others get 500."""
    database = stored(setting)
    database.add_user("ann")
    database.add_user("bob")
    check_served(setting, "ann")
    database.kill()
    check_served(setting, "ann")
    check_refused(setting, "bob", "500")
    check_equal(1, outages(setting, database), "errors in the log about the database")
    database.start()
    wait_until_served(setting, "bob")
    check_equal(1, outages(setting, database), "errors in the log about the database")


def taken_over(setting: Setting) -> None:
    """When another server takes over, its users are served without a word to sterna."""
    database = stored(setting)
    database.add_user("ann")
    database.add_user("bob")
    check_served(setting, "ann")
    database.kill()
    wait_until_served(setting, "bob")


def added_meanwhile(setting: Setting) -> None:
    """A user that turnadmin adds while sterna runs is served; a wrong password is not."""
    database = stored(setting)
    check_refused(setting, "ann", "401")
    database.add_user("ann")
    wait_until_served(setting, "ann")
    check_refused(setting, "ann", "401", "-w wrong")


def own_users(setting: Setting) -> None:
    """`sterna user` adds, lists and removes users whom the running server then knows, or not."""
    sterna(setting, "user", "add", "ann", "--allocations", "20", "--password-file", "password")
    check_served(setting, "ann")
    listed = json.loads(sterna(setting, "user", "list", "--json"))
    check("ann" in json.dumps(listed), f"user list does not list ann: {listed}")
    sterna(setting, "user", "remove", "ann")
    time.sleep(CACHE_SECONDS + 0.2)
    check_refused(setting, "ann", "401")


def sterna(setting: Setting, *argv: str) -> str:
    """Run a command of sterna's on the relay's host."""
    (setting.folder / "password").write_text(f"{PASSWORD}\n")
    (setting.folder / "password").chmod(0o600)
    command = [str(setting.binary), *argv, "-c", "turn.yaml"]
    tool = setting.network.relay.spawn(command, cwd=setting.folder, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, errors = tool.communicate(timeout=UCLIENT_SECONDS)
    check_equal(0, tool.returncode, f"{' '.join(argv)}: {errors}")
    return said


def stored(setting: Setting) -> Database:
    """The database of the case."""
    if setting.database is None:
        raise Failure("the case has no database")
    return setting.database


def check_served(setting: Setting, user: str) -> None:
    """The user's messages are relayed."""
    check_lossless(ask(setting, user), LOAD)


def wait_until_served(setting: Setting, user: str) -> None:
    """The user's messages are relayed, or will be soon."""
    for _ in range(BACK_TRIES):
        output = ask(setting, user)
        if SUMMARY.search(output) is not None:
            check_lossless(output, LOAD)
            return
        time.sleep(1)
    raise Failure(f"{user} is not served")


def check_refused(setting: Setting, user: str, code: str, flags: str = "") -> None:
    """The user is refused with this error code, and gets nothing."""
    output = ask(setting, user, flags)
    codes = set(re.findall(r"error (\d+)", output))
    # uclient does not name the 401 with which every conversation begins.
    told = codes == {code} or (code == "401" and "Cannot complete Allocation" in output)
    check(told, f"{user}: expected error {code}, got {codes or output}")
    check("tot_send_msgs=" not in output, f"{user} is served")


def ask(setting: Setting, user: str, flags: str = "") -> str:
    """A run of uclient by a user of the database."""
    from cases import uclient
    return uclient(setting, f"-u {user} -X -s -c {flags}", Family.V4, Family.V4, LOAD,
                   UCLIENT_SECONDS)


def outages(setting: Setting, database: Database) -> int:
    """How many errors the server's log has about the database."""
    scheme = database.url.split(":")[0]
    lines = (setting.folder / "server.log").read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    return sum(record.get("level") == "ERRO" and scheme in json.dumps(record)
               for record in records)

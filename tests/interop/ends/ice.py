"""One end of an aioice connection that may only use its relayed candidate.

Arguments: offer|answer, and a JSON document with server, transport, tls, username, password,
messages, interval_s and channel_refresh_s. Sends the numbered messages at that pace while it
receives the other end's, and reports what came and how often it bound a channel.
"""

import asyncio
import functools
import json
import logging
import sys
from typing import Any

import aioice
from aioice import turn
from signalling import hear, say

# How long after its own last message an end waits for the other's.
PATIENCE_S = 5


class BindCounter(logging.Handler):
    """Counts the channel bindings, refreshes among them, that aioice reports."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """One log record of aioice's TURN client."""
        if "channel bound" in record.getMessage():
            self.count += 1


def description(connection: aioice.Connection) -> dict[str, Any]:
    """What the other end needs to know."""
    return {
        "username": connection.local_username,
        "password": connection.local_password,
        "candidates": [candidate.to_sdp() for candidate in connection.local_candidates],
    }


async def learn(connection: aioice.Connection, remote: dict[str, Any]) -> None:
    """Take in the other end's description."""
    connection.remote_username = remote["username"]
    connection.remote_password = remote["password"]
    for line in remote["candidates"]:
        await connection.add_remote_candidate(aioice.Candidate.from_sdp(line))
    await connection.add_remote_candidate(None)


async def send_all(connection: aioice.Connection, messages: int, interval_s: float) -> None:
    """Send the numbered messages at an even pace."""
    for number in range(messages):
        await connection.send(b"message %d" % number)
        await asyncio.sleep(interval_s)


async def receive_all(connection: aioice.Connection, messages: int) -> list[str]:
    """The messages that came, in the order in which they came."""
    received: list[str] = []
    while len(received) < messages:
        received.append((await connection.recv()).decode())
    return received


async def main(role: str, options: dict[str, Any]) -> None:
    """Connect, exchange the messages, report."""
    binds = BindCounter()
    logging.getLogger("aioice.turn").addHandler(binds)
    logging.getLogger("aioice.turn").setLevel(logging.INFO)
    turn.create_turn_endpoint = functools.partial(
        turn.create_turn_endpoint, channel_refresh_time=options["channel_refresh_s"])
    connection = aioice.Connection(
        ice_controlling=role == "offer",
        turn_server=tuple(options["server"]),
        turn_username=options["username"],
        turn_password=options["password"],
        turn_transport=options["transport"],
        turn_ssl=options["tls"],
        transport_policy=aioice.TransportPolicy.RELAY,
    )
    await connection.gather_candidates()
    if role == "offer":
        say(description(connection))
        await learn(connection, await hear())
    else:
        remote = await hear()
        say(description(connection))
        await learn(connection, remote)
    await connection.connect()
    messages, interval_s = options["messages"], options["interval_s"]
    _, received = await asyncio.wait_for(
        asyncio.gather(send_all(connection, messages, interval_s),
                       receive_all(connection, messages)),
        timeout=messages * interval_s + PATIENCE_S)
    say({
        "local": [candidate.type for candidate in connection.local_candidates],
        "remote": [candidate.type for candidate in connection.remote_candidates],
        "received": received,
        "binds": binds.count,
    })
    # The other end may still want what is on its way: both close when both have reported.
    await hear()
    await connection.close()


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))

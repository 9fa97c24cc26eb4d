"""One end of an aiortc peer connection that may only use relayed candidates.

Arguments: offer|answer, and a JSON document with urls, username, password and messages. Sends the
numbered messages over one data channel while it receives the other end's, and reports what came.
"""

import asyncio
import json
import sys
from typing import Any

from aiortc import (RTCConfiguration, RTCDataChannel, RTCIceServer, RTCIceTransportPolicy,
                    RTCPeerConnection, RTCSessionDescription)
from signalling import hear, say


def description(connection: RTCPeerConnection) -> dict[str, str]:
    """The local session description, all candidates in it."""
    return {"sdp": connection.localDescription.sdp, "type": connection.localDescription.type}


async def open_channel(connection: RTCPeerConnection, role: str) -> RTCDataChannel:
    """Negotiate, and wait until the data channel is open."""
    opened: asyncio.Future[RTCDataChannel] = asyncio.get_running_loop().create_future()
    if role == "offer":
        channel = connection.createDataChannel("interop")
        channel.on("open", lambda: opened.set_result(channel))
        await connection.setLocalDescription(await connection.createOffer())
        say(description(connection))
        await connection.setRemoteDescription(RTCSessionDescription(**await hear()))
    else:
        connection.on("datachannel", opened.set_result)
        await connection.setRemoteDescription(RTCSessionDescription(**await hear()))
        await connection.setLocalDescription(await connection.createAnswer())
        say(description(connection))
    return await opened


async def exchange(channel: RTCDataChannel, messages: int) -> list[str]:
    """Send the numbered messages; the other end's, in the order in which they came."""
    received: list[str] = []
    complete = asyncio.Event()

    def take(message: str) -> None:
        received.append(message)
        if len(received) == messages:
            complete.set()

    channel.on("message", take)
    for number in range(messages):
        channel.send(f"message {number}")
    await complete.wait()
    return received


async def main(role: str, options: dict[str, Any]) -> None:
    """Connect, exchange the messages, report."""
    server = RTCIceServer(options["urls"], options["username"], options["password"])
    connection = RTCPeerConnection(
        RTCConfiguration([server], iceTransportPolicy=RTCIceTransportPolicy.RELAY))
    channel = await open_channel(connection, role)
    received = await exchange(channel, options["messages"])
    assert connection.sctp is not None, "a data channel has an SCTP transport"
    ice = connection.sctp.transport.transport
    say({
        "local": [candidate.type for candidate in ice.iceGatherer.getLocalCandidates()],
        "remote": [candidate.type for candidate in ice.getRemoteCandidates()],
        "received": received,
    })
    # The other end may still want what is on its way: both close when both have reported.
    await hear()
    await connection.close()


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))

"""How an end talks to the suite: one JSON document a line, signals first, its result last.

The offerer prints its signal and reads the answer; the answerer reads the offer and prints its
signal. Both then print one result. The suite carries the lines over.
"""

import asyncio
import json
import sys
from typing import Any


def say(document: Any) -> None:
    """Hand one document to the suite."""
    print(json.dumps(document), flush=True)


async def hear() -> Any:
    """The other end's document, when the suite brings it."""
    line = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise EOFError("the suite went away")
    return json.loads(line)

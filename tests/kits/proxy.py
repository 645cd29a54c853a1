"""A small forward proxy: passes CONNECT on and writes down to where."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

LOG = Path(sys.argv[1])


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    writer.close()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    method, target, _ = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)
    with LOG.open("a") as log:
        log.write(f"{method.decode()} {target.decode()}\n")
    host, _, port = target.decode().rpartition(":")
    theirs, ours = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.gather(pass_on(reader, ours), pass_on(theirs, writer), return_exceptions=True)


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    Path(sys.argv[2]).write_text(str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


asyncio.run(main())

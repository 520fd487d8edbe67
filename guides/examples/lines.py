"""Counts the lines that come in over a connection."""

from trio.testing import memory_stream_pair

from slipstream.otp import GenServer, NoReply, open_server, run


class Lines(GenServer):
    async def init(self, stream):
        self.count = 0
        self.waiting = []
        self.start_soon(self.read, stream)

    async def read(self, stream):  # a task of its own: it may wait for ever
        async for chunk in stream:
            self.ref.cast(chunk.count(b"\n"))
        self.ref.send("end")

    async def handle_cast(self, lines):
        self.count += lines

    async def handle_call(self, request, caller):
        self.waiting.append(caller)
        return NoReply()  # the answer comes later

    async def handle_info(self, message):
        for caller in self.waiting:
            caller.reply(self.count)


async def main():
    ours, theirs = memory_stream_pair()
    async with open_server(Lines, ours) as lines:
        total = lines.send_request("total")
        await theirs.send_all(b"one\ntwo\n")
        await theirs.send_all(b"three\n")
        await theirs.aclose()
        print(await total.wait())


if __name__ == "__main__":
    run(main)

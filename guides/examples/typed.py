"""Requests that say what they are answered with."""

from typing import Any

import attrs

from slipstream.otp import Caller, GenServer, Reply, Request, open_server, run


@attrs.frozen
class Get(Request[int]):
    key: str


@attrs.frozen
class Keys(Request[list[str]]):
    pass


class Stock(GenServer):
    async def init(self, pieces: dict[str, int]) -> None:
        self.pieces = dict(pieces)

    async def handle_call(self, request: Any, caller: Caller) -> Reply:
        match request:
            case Get(key):
                return Reply(self.pieces.get(key, 0))
            case Keys():
                return Reply(sorted(self.pieces))
            case _:
                raise ValueError(request)


async def main() -> None:
    async with open_server(Stock, {"tea": 2}) as stock:
        pieces = await stock.call(Get("tea"))  # an int, as a type checker knows
        keys = await stock.call(Keys())  # a list[str]
        print(pieces + 1, keys)


if __name__ == "__main__":
    run(main)

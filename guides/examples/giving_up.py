"""What a restart cannot put right goes up."""

from slipstream.errors import SupervisorGaveUpError
from slipstream.otp import GenServer, open_supervisor, run


class Reader(GenServer):
    async def init(self):
        self.send_after(1.0, "read")

    async def handle_info(self, message):
        raise FileNotFoundError("no such file: settings.toml")


async def main():
    try:
        async with open_supervisor([Reader], max_restarts=3, max_seconds=5.0) as supervisor:
            await supervisor.wait()
    except SupervisorGaveUpError as error:
        print(error)
        print("cause:", repr(error.__cause__))


if __name__ == "__main__":
    run(main)

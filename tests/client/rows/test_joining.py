"""Rows 20 to 25: how a topic is joined, and joined again."""

from slipstream import ChannelCrashed

from .stage import Stage, both_wires, joined, until


@both_wires()
async def test_a_join_made_offline_is_sent_at_the_next_connect(test: Stage) -> None:
    """Row 20."""
    test.socket.join("t", {"user": 1})
    assert test.socket.join_status("t") == "requested"
    await test.accept_connect()
    await test.assert_join("t", {"user": 1})
    await test.accept_join("t", {"hello": "you"})
    await test.assert_callback("handle_join", "t", {"hello": "you"})
    assert test.socket.joined("t")


@both_wires()
async def test_crash(test: Stage) -> None:
    """Row 36."""
    await joined(test)
    await test.crash_topic("t")
    await test.assert_callback("handle_topic_close", "t", ChannelCrashed({"reason": "channel_crash"}))
    await test.accept_join("t")
    await until(lambda: test.socket.joined("t"))
    await test.drop()
    await test.assert_callback("handle_disconnect")
    await test.accept_connect()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    await test.refute_join(within=60.0)
    test.socket.disconnect()
    await test.assert_disconnect(1000)

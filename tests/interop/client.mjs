// phoenix.js against the embedded server: each check prints one line of JSON.
// Usage: node client.mjs URL CONTROL_PORT, where URL ends before /websocket.
import net from "node:net";
import { Socket } from "phoenix";
import { WebSocket } from "ws";

const [url, controlPort] = process.argv.slice(2);
const report = (name, ok, detail) => console.log(JSON.stringify({ name, ok, detail: String(detail ?? "") }));

// Asks the test to do something to the server.
const control = (command) =>
  new Promise((resolve, reject) => {
    const socket = net.connect(Number(controlPort), "127.0.0.1", () => socket.write(command + "\n"));
    socket.on("data", () => { socket.end(); resolve(); });
    socket.on("error", reject);
  });

const within = (promise, what, milliseconds = 5000) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

const check = async (name, run) => {
  try {
    const result = await within(run(), name);
    report(name, result === true, result);
  } catch (error) {
    report(name, false, error.stack ?? error);
  }
};

const open = (options = {}) => {
  const socket = new Socket(url, {
    transport: WebSocket,
    reconnectAfterMs: () => 50,
    rejoinAfterMs: () => 50,
    heartbeatIntervalMs: 30000,
    ...options,
  });
  socket.connect();
  return socket;
};
const opened = (socket) => new Promise((resolve) => socket.onOpen(() => resolve(true)));
const answer = (push) =>
  new Promise((resolve) => {
    push.receive("ok", (response) => resolve(["ok", response]))
      .receive("error", (response) => resolve(["error", response]))
      .receive("timeout", () => resolve(["timeout", null]));
  });
const next = (channel, event) =>
  new Promise((resolve) => { const ref = channel.on(event, (payload) => { channel.off(event, ref); resolve(payload); }); });
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other) || JSON.stringify([one, other]);
const bytes = (buffer) => [...new Uint8Array(buffer)];

const socket = open({ params: { token: "abc" } });
await check("connects", () => opened(socket));
await check("is connected", async () => socket.isConnected());
await check("pings and is answered", () => new Promise((resolve) => socket.ping((rtt) => resolve(rtt >= 0))));

const room = socket.channel("rooms:1", { user: 7 });
await check("joins and gets the response", async () => same(await answer(room.join()), ["ok", { user: 7 }]));
await check("is joined", async () => room.state === "joined");
await check("a push gets its reply", async () => same(await answer(room.push("echo", { a: [1, null, "é☃"] })), ["ok", { a: [1, null, "é☃"] }]));
await check("a push gets an error reply", async () => same(await answer(room.push("fail", {})), ["error", { why: "asked" }]));
await check("an empty reply is an empty object", async () => same(await answer(room.push("ack", {})), ["ok", {}]));
await check("a reply of another status arrives", () => new Promise((resolve) => room.push("status", {}).receive("created", (r) => resolve(same(r, { id: 1 })))));
await check("replies come out of order", async () => {
  const slow = answer(room.push("later", { n: 1 }));
  const fast = await answer(room.push("echo", { n: 2 }));
  return same([fast[1].n, (await slow)[1].n], [2, 1]);
});
await check("a push without a reply times out", async () => same(await answer(room.push("silence", {}, 100)), ["timeout", null]));
await check("the server pushes", async () => { const heard = next(room, "pushed"); room.push("push_me", { x: 1 }); return same(await heard, { x: 1 }); });
await check("a binary push gets a binary reply", async () => {
  const [status, response] = await answer(room.push("echo", new Uint8Array([0, 1, 255]).buffer));
  return same([status, bytes(response)], ["ok", [0, 1, 255]]);
});
await check("the server pushes binary", async () => { const heard = next(room, "pushed"); room.push("push_me", new Uint8Array([9, 8]).buffer); return same(bytes(await heard), [9, 8]); });
await check("the server broadcasts binary", async () => { const heard = next(room, "shout"); room.push("shout", new Uint8Array([7]).buffer); return same(bytes(await heard), [7]); });

const other = open();
await check("a second client connects", () => opened(other));
const otherRoom = other.channel("rooms:1");
await check("a second client joins", async () => (await answer(otherRoom.join()))[0] === "ok");
await check("a broadcast reaches both", async () => {
  const both = Promise.all([next(room, "shout"), next(otherRoom, "shout")]);
  room.push("shout", { to: "all" });
  return same(await both, [{ to: "all" }, { to: "all" }]);
});
await check("a broadcast_from reaches the other only", async () => {
  let own = false;
  const ref = room.on("others", () => { own = true; });
  const heard = next(otherRoom, "others");
  await answer(room.push("others", { n: 1 }));
  await heard;
  room.off("others", ref);
  return !own;
});
await check("the server broadcasts by itself", async () => { const heard = next(room, "news"); await control("broadcast"); return same(await heard, { from: "server" }); });

await check("a refused join tells why", async () => { const channel = socket.channel("private:1"); const got = await answer(channel.join()); channel.leave(); return same(got, ["error", { reason: "unauthorized" }]); });
await check("an unknown topic is unmatched", async () => { const channel = socket.channel("nowhere:1"); const got = await answer(channel.join()); channel.leave(); return same(got, ["error", { reason: "unmatched topic" }]); });
await check("a join that crashes tells so", async () => { const channel = socket.channel("crash:1"); const got = await answer(channel.join()); channel.leave(); return same(got, ["error", { reason: "join crashed" }]); });
await check("a crashed channel is told and rejoins", async () => {
  const crashed = new Promise((resolve) => { const ref = room.onError((reason) => { room.off("phx_error", ref); resolve(reason); }); });
  room.push("crash", {});
  const reason = await crashed;
  while (room.state !== "joined") await new Promise((resolve) => setTimeout(resolve, 10));
  return same([reason, (await answer(room.push("echo", { again: 1 })))[1]], [{ reason: "channel_crash" }, { again: 1 }]);
});
await check("a stopped channel is closed", async () => {
  const channel = socket.channel("rooms:stop");
  await answer(channel.join());
  const closed = new Promise((resolve) => channel.onClose(() => resolve(true)));
  channel.push("stop", {});
  return (await closed) && channel.state === "closed";
});
await check("a channel is left", async () => {
  const channel = socket.channel("rooms:2");
  await answer(channel.join());
  const closed = new Promise((resolve) => channel.onClose(() => resolve(true)));
  const got = await answer(channel.leave());
  return (await closed) && same([got, channel.state], [["ok", {}], "closed"]);
});
await check("a channel that was left is joined again", async () => (await answer(socket.channel("rooms:2").join()))[0] === "ok");

const comesBack = async (command) => {
  const closed = new Promise((resolve) => socket.onClose((event) => resolve(event.code)));
  await control(command);
  const code = await closed;
  while (!(socket.isConnected() && room.state === "joined")) await new Promise((resolve) => setTimeout(resolve, 10));
  return [code, (await answer(room.push("echo", { n: 3 })))[0]];
};
await check("a cut connection comes back and rejoins", async () => same(await comesBack("drop"), [1006, "ok"]));
await check("a disconnect broadcast closes with 1001 and it comes back", async () => same(await comesBack("disconnect"), [1001, "ok"]));
await check("a restart closes with 1012 and it comes back", async () => same(await comesBack("restart"), [1012, "ok"]));
await check("a channel crashed from outside rejoins", async () => {
  const crashed = new Promise((resolve) => room.onError(() => resolve(true)));
  await control("crash");
  await crashed;
  while (room.state !== "joined") await new Promise((resolve) => setTimeout(resolve, 10));
  return (await answer(room.push("echo", {})))[0] === "ok";
});

await check("a refused connect is an error and is tried again", async () => {
  await control("refuse");
  const refused = open();
  await new Promise((resolve) => refused.onError(() => resolve()));
  await control("accept");
  const back = await opened(refused);
  refused.disconnect();
  return back;
});
await check("an auth token is taken", async () => { const authed = open({ authToken: "secret:zoe" }); const up = await opened(authed); authed.disconnect(); return up; });
await check("a client that leaves is gone on the server", async () => { await new Promise((resolve) => other.disconnect(resolve)); await control("alone"); return true; });
await check("disconnects", () => new Promise((resolve) => socket.disconnect(() => resolve(!socket.isConnected()))));
process.exit(0);

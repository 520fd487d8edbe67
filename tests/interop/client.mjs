// phoenix.js against the embedded server: each check prints one line of JSON.
// Usage: node client.mjs URL CONTROL_PORT, where URL ends before /websocket.
import net from "node:net";
import { Presence, Socket } from "phoenix";
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

await check("pushes are answered in their order", async () => {
  const numbers = [...Array(50).keys()];
  const answers = await Promise.all(numbers.map((n) => answer(room.push("echo", { n }))));
  return same(answers.map(([, response]) => response.n), numbers);
});
await check("a large payload comes back whole", async () => { const d = "é".repeat(200000); return (await answer(room.push("echo", { d })))[1].d === d; });
await check("a payload need not be an object", async () => same(await answer(room.push("echo", [1, [2], "three", null])), ["ok", [1, [2], "three", null]]));
await check("an empty binary push gets an empty binary reply", async () => { const [status, response] = await answer(room.push("echo", new ArrayBuffer(0))); return same([status, bytes(response)], ["ok", []]); });
await check("a large binary push comes back whole", async () => { const [, response] = await answer(room.push("echo", new Uint8Array(300000).fill(171).buffer)); return response.byteLength === 300000 && new Uint8Array(response).every((byte) => byte === 171); });
await check("a channel answers a push twice", async () => {
  const seen = [];
  return new Promise((resolve) => room.push("twice", {}).receive("ok", (r) => { seen.push(r.n); if (seen.length === 1) setTimeout(() => resolve(same(seen, [1])), 50); }));
});
await check("a broadcast that is intercepted comes changed", async () => { const heard = next(room, "secret"); await control("secret"); return same(await heard, { to: "everyone", by: "rooms:1" }); });
await check("a broadcast that is intercepted may be kept back", async () => {
  let heard = 0;
  const ref = room.on("secret", () => { heard += 1; });
  await control("kept");
  const marker = next(room, "secret");
  await control("secret");
  await marker;
  room.off("secret", ref);
  return heard === 1;
});

// Presence, with two sockets in one lounge.
const lounge = socket.channel("lounge:1", { name: "ann", status: "here" });
const presence = new Presence(lounge);
const changes = [];
let synced = () => {};
presence.onJoin((key, before, now) => changes.push(["join", key, before === undefined, now.metas.length]));
presence.onLeave((key, rest, gone) => changes.push(["leave", key, rest.metas.length, gone.metas.length]));
presence.onSync(() => synced());
const whenSynced = (what) => new Promise((resolve) => { synced = () => { if (what()) resolve(true); }; if (what()) resolve(true); });
const metasOf = (key) => (presence.state[key] ?? { metas: [] }).metas;
const otherLounge = other.channel("lounge:1", { name: "bob", status: "away" });
const otherPresence = new Presence(otherLounge);
await check("one who joins is present to oneself", async () => {
  await answer(lounge.join());
  await whenSynced(() => metasOf("ann").length === 1);
  return same(metasOf("ann").map((meta) => meta.status), ["here"]);
});
// The diff comes first and waits for the state, which has it already: phoenix.js then reports it again.
await check("one's own join is in the diff and in the state", async () => same(changes.splice(0), [["join", "ann", true, 1], ["join", "ann", false, 1]]));
await check("another who joins is present to both", async () => {
  await answer(otherLounge.join());
  await whenSynced(() => metasOf("bob").length === 1);
  while (Object.keys(otherPresence.state).length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  return same([presence, otherPresence].map((p) => p.list((key, { metas: [first] }) => [key, first.status]).sort()), [[["ann", "here"], ["bob", "away"]], [["ann", "here"], ["bob", "away"]]]);
});
await check("an update replaces the meta and names the one before", async () => {
  const before = metasOf("bob")[0].phx_ref;
  changes.splice(0);
  await answer(otherLounge.push("update", { status: "busy" }));
  await whenSynced(() => metasOf("bob")[0].status === "busy");
  return same([metasOf("bob").length, metasOf("bob")[0].phx_ref_prev === before, changes.splice(0)], [1, true, [["join", "bob", false, 1], ["leave", "bob", 1, 1]]]);
});
await check("the same key from elsewhere is a second meta", async () => {
  await answer(otherLounge.push("track", { name: "ann", status: "phone" }));
  await whenSynced(() => metasOf("ann").length === 2);
  return same(metasOf("ann").map((meta) => meta.status), ["here", "phone"]);
});
await check("an untracked meta is gone and the other stays", async () => {
  await answer(otherLounge.push("untrack", { name: "ann" }));
  await whenSynced(() => metasOf("ann").length === 1);
  return same(metasOf("ann").map((meta) => meta.status), ["here"]);
});
await check("one who leaves is gone", async () => {
  otherLounge.leave();
  await whenSynced(() => metasOf("bob").length === 0);
  return same(Object.keys(presence.state), ["ann"]);
});
await check("after a reconnect presence is the same again", async () => {
  const ref = metasOf("ann")[0].phx_ref;
  await control("drop");
  await whenSynced(() => metasOf("ann").length === 1 && metasOf("ann")[0].phx_ref !== ref);
  while (!other.isConnected() || otherRoom.state !== "joined" || room.state !== "joined") await new Promise((resolve) => setTimeout(resolve, 10));
  return same([Object.keys(presence.state), metasOf("ann").length], [["ann"], 1]);
});

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
await check("a close 1000 by the server comes back", async () => same(await comesBack("close"), [1000, "ok"]));
await check("a disconnect by the id of the socket closes that one only", async () => {
  let otherClosed = false;
  const ref = other.onClose(() => { otherClosed = true; });
  const got = await comesBack("disconnect users:abc");
  other.off([ref]);
  return same([got, otherClosed], [[1001, "ok"], false]);
});
await check("a push while it is away is sent when it is back", async () => {
  const closed = new Promise((resolve) => socket.onClose(() => resolve()));
  await control("drop");
  await closed;
  return same(await answer(room.push("echo", { late: 1 })), ["ok", { late: 1 }]);
});
await check("a server that hangs is left after a missed heartbeat", async () => {
  const hasty = open({ heartbeatIntervalMs: 100, params: { token: "hasty" } });
  await opened(hasty);
  const back = new Promise((resolve) => hasty.onClose(() => { hasty.onOpen(() => resolve(true)); }));
  await control("freeze users:hasty");
  const ok = await back;
  await new Promise((resolve) => hasty.disconnect(resolve));
  return ok;
});
await check("params that are a function are asked for each attempt", async () => {
  let count = 0;
  const fresh = open({ params: () => ({ token: `fresh${(count += 1)}` }) });
  await opened(fresh);
  const again = opened(fresh);
  await control("disconnect users:fresh1");
  await again;
  await control("disconnect users:fresh2");
  await opened(fresh);
  await new Promise((resolve) => fresh.disconnect(resolve));
  return count >= 3;
});
await check("a join that the server answers late times out and is tried again", async () => {
  const channel = socket.channel("slow:1", {});
  const got = [];
  channel.join(100).receive("timeout", () => got.push("timeout")).receive("ok", () => got.push("ok"));
  while (channel.state !== "joined") await new Promise((resolve) => setTimeout(resolve, 10));
  channel.leave();
  return got[0] === "timeout" && got.at(-1) === "ok";
});
await check("more channels than allowed are refused", async () => {
  const crowd = open();
  await opened(crowd);
  const joins = [...Array(101).keys()].map((n) => crowd.channel(`rooms:crowd${n}`).join());
  const answers = await Promise.all(joins.map(answer));
  await new Promise((resolve) => crowd.disconnect(resolve));
  return same([answers.filter(([status]) => status === "ok").length, answers[100]], [100, ["error", { reason: "too many channels joined" }]]);
});
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
await check("an auth token is refused", async () => {
  const wrong = open({ authToken: "wrong" });
  await new Promise((resolve) => wrong.onError(() => resolve()));
  const up = wrong.isConnected();
  wrong.disconnect();
  return !up;
});
await check("an auth token is taken", async () => { const authed = open({ authToken: "secret:zoe" }); const up = await opened(authed); authed.disconnect(); return up; });
await check("a client that leaves is gone on the server", async () => { await new Promise((resolve) => other.disconnect(resolve)); await control("alone"); return true; });
await check("disconnects", () => new Promise((resolve) => socket.disconnect(() => resolve(!socket.isConnected()))));
process.exit(0);

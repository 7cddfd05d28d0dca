// Every block of README.md, run in its order: what is for a shell by the real program in a scratch folder, what is for a
// page by the published phoenix.js. Ports, the key and numbers of clients are replaced; nothing else is.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Inbox, deadline } from "./harness.js";
import * as phoenix from "phoenix-1.8";
import { WebSocket } from "ws";

const root = fileURLToPath(new URL("../..", import.meta.url));
const program = process.env.HAILER_BIN ?? join(root, "target/debug/hailer");

/** The fenced blocks, in their order. */
const blocks = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(
  ([, language, text]) => ({ language, text }),
);
let at = 0;

/** The next block, which must begin so; each is taken once. */
function next(language, beginning) {
  const block = blocks[at++];
  assert.ok(block, `README.md has a further block, ${beginning}`);
  assert.equal(block.language, language, block.text);
  assert.ok(block.text.startsWith(beginning), `expected ${beginning}, README.md has:\n${block.text}`);
  return block.text;
}

/** A port that nobody has. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const folder = mkdtempSync(join(tmpdir(), "hailer-readme-"));
const variables = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("HAILER_"))),
  PATH: `${join(folder, "bin")}:${process.env.PATH}`,
};
let clients, api;
const running = new Set();

before(async () => {
  [clients, api] = [await freePort(), await freePort()];
  Object.assign(variables, { HAILER_LISTEN: `127.0.0.1:${clients}`, HAILER_API_LISTEN: `127.0.0.1:${api}` });
  await shell(`mkdir bin work`, folder);
  symlinkSync(program, join(folder, "bin/hailer"));
});
after(() => {
  running.forEach((child) => child.kill("SIGKILL"));
  rmSync(folder, { recursive: true, force: true });
});

const placed = (text) => text.replaceAll("localhost:4000", `127.0.0.1:${clients}`).replaceAll("localhost:4001", `127.0.0.1:${api}`);

/** The commands of a block: continued lines are one, comments are none. */
function commands(text) {
  const lines = placed(text).replaceAll(/\\\n\s*/g, " ").split("\n");
  return lines.map((line) => line.replace(/\s+# .*$/, "").trim()).filter((line) => line !== "" && !line.startsWith("#"));
}

/** Runs a command to its end, as a shell in the scratch folder does. */
async function shell(command, cwd = join(folder, "work"), codes = [0], input = "") {
  // What is exported is exported to the commands behind it.
  const exported = /^export (\w+)=/.exec(command)?.[1];
  const script = exported ? `${command}; printf %s "$${exported}"` : command;
  const child = spawn("bash", ["-c", script], { cwd, env: variables, stdio: ["pipe", "pipe", "pipe"] });
  running.add(child);
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  const code = await deadline(new Promise((resolve) => child.once("close", resolve)), command, 60_000);
  running.delete(child);
  assert.ok(codes.includes(code), `${command}: exit code ${code}\n${stdout}${stderr}`);
  if (exported) variables[exported] = stdout;
  return { stdout, stderr };
}

/** Starts a command that goes on, and the lines of its stdout. */
function start(command) {
  const child = spawn("bash", ["-c", `exec ${command}`], {
    cwd: join(folder, "work"), env: variables, stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  const said = new Inbox();
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    lines.forEach(said.push);
  });
  child.stderr.resume();
  const ended = new Promise((resolve) => child.once("close", resolve));
  const stop = async () => {
    child.kill("SIGTERM");
    await deadline(ended, `${command} ends`);
    running.delete(child);
  };
  return { child, said, stop };
}

const alerts = new Inbox();
const sockets = [];
class Socket extends phoenix.Socket {
  constructor(url, options) {
    super(url, { transport: WebSocket, ...options });
    sockets.push(this);
  }
}

/** Runs a block for a page with these names in its scope. */
async function page(text, names = {}) {
  const code = placed(text).replace(/^import .*$/gm, "");
  const scope = { Socket, alert: alerts.push, ...names };
  const run = new (async () => {}).constructor(...Object.keys(scope), code);
  await run(...Object.values(scope));
}

let server;

test("the set-up commands exist, and the program starts the demo", async () => {
  const setUp = commands(next("sh", "cargo run --release"));
  assert.deepEqual(setUp, ["cargo run --release", "tests/run"]);
  assert.match(readFileSync(join(root, "Cargo.toml"), "utf8"), /^default-run = "hailer"$/m);
  for (const path of [join(root, "tests/run"), program]) assert.ok(existsSync(path), path);
  server = start("hailer");
  const expected = placed(next("", "Listening on")).replaceAll("127.0.0.1:4000", `127.0.0.1:${clients}`).replaceAll("127.0.0.1:4001", `127.0.0.1:${api}`);
  for (const line of expected.trim().split("\n")) {
    const said = await server.said.take(line);
    const pattern = line.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll("…", "\\S+");
    assert.match(said, new RegExp(`^${pattern}$`));
    if (said.startsWith("API key")) variables.README_KEY = said.split(": ")[1];
  }
});

test("a page of one's own is connected", async () => {
  await page(next("js", "import { Socket } from \"phoenix\""));
  await deadline(new Promise((resolve) => sockets[0].channels[0].joinPush.receive("ok", resolve)), "the page has joined");
  for (const command of commands(next("sh", "curl"))) {
    const { stdout } = await shell(command);
    assert.equal(JSON.parse(stdout).status, 410);
  }
  // In a page: tests/browser/application.test.mjs.
  assert.match(next("html", "<link"), /notice\.css/);
  assert.match(next("js", "import { Socket }"), /Notices/);
});

test("something is sent", async () => {
  const text = next("sh", "export HAILER_API_KEY=hlr_…").replace("hlr_…", variables.README_KEY);
  const [key, curl, publish, top, ...more] = commands(text);
  assert.deepEqual(more, []);
  await shell(key);
  for (const command of [curl, publish]) {
    await shell(command);
    assert.equal(await alerts.take(command), "maintenance in 5 minutes");
  }
  const live = start(top);
  await live.said.take("a line about the server", (line) => line.startsWith("websocket 1 "));
  await live.stop();
  sockets[0].disconnect();
  await server.stop();
});

test("only customers are let in", async () => {
  const [init, serve, token] = commands(next("sh", "hailer init"));
  await shell(init);
  server = start(serve);
  await server.said.take("it listens", (line) => line.startsWith("Listening"));
  const alice = (await shell(token)).stdout.trim();
  sockets.length = 0;
  const names = { url: `ws://127.0.0.1:${clients}/socket`, token: alice, freshToken: () => alice, userId: "alice" };
  await page(next("js", "new Socket(url"), names);
  assert.equal(sockets.length, 2);
  for (const socket of sockets) {
    const opened = new Promise((resolve) => socket.onOpen(resolve));
    socket.connect();
    await deadline(opened, "a socket with a token opens");
  }
  await page(next("js", "const own = "), { ...names, socket: sockets[0] });
  await deadline(new Promise((resolve) => sockets[0].channels[0].joinPush.receive("ok", resolve)), "alice has joined");
});

test("staff and programs are let in", async () => {
  const [staff, key, show] = commands(next("sh", "hailer staff add"));
  await shell(staff, undefined, [0], "a long and good password\n");
  await shell(key);
  await shell(show);
  await shell("hailer check-config --config hailer.toml");
  await server.stop();
  server = start("hailer serve --config hailer.toml");
  await server.said.take("it listens", (line) => line.startsWith("API on"));
  const own = sockets[0].channels[0];
  const back = new Promise((resolve) => {
    const look = () => (own.isJoined() && sockets[1].isConnected() ? resolve() : setTimeout(look, 20));
    look();
  });
  await deadline(back, "the customers are back");
  await shell("hailer publish --user alice 'your order shipped'");
  assert.equal(await alerts.take("what is sent to alice"), "your order shipped");
});

test("someone is put off the line", async () => {
  const closed = new Inbox();
  sockets.forEach((socket) => socket.onClose((event) => closed.push(event.code)));
  const [deny, disconnect, ...more] = commands(next("sh", "hailer deny add"));
  assert.deepEqual(more, []);
  await shell(deny);
  for (const _ of sockets) assert.equal(await closed.take("the end of a socket"), 4003);
  const { stdout } = await shell(disconnect);
  assert.equal(stdout, "there is no open socket of user alice\n");
  sockets.forEach((socket) => socket.disconnect());
  await server.stop();
});

test("the example is there", () => {
  const [run] = commands(next("sh", "cargo run --example"));
  assert.ok(existsSync(join(root, `examples/${run.split(" ").at(-1)}.rs`)), run);
});

test("it is measured before it gets large", async () => {
  const [doctor, bench] = commands(next("sh", "hailer doctor"));
  // Whether so many fit is for the machine to say.
  await shell(doctor, undefined, [0, 1]);
  server = start("hailer");
  await server.said.take("it listens", (line) => line.startsWith("API on"));
  // Other servers may run on the machine that tests.
  const pgrep = join(folder, "bin/pgrep");
  writeFileSync(pgrep, `#!/bin/sh\necho ${server.child.pid}\n`);
  chmodSync(pgrep, 0o755);
  const few = bench.replace("--clients 10000", "--clients 100");
  assert.notEqual(few, bench);
  const { stdout } = await shell(few);
  assert.match(stdout, /100 of 100 in /);
  assert.ok(existsSync(join(folder, "work/report.html")));
  await server.stop();
});

test("no block is left out", () => {
  assert.equal(at, blocks.length, `README.md has more blocks:\n${blocks[at]?.text}`);
});

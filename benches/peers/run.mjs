#!/usr/bin/env node
// Runs the servers in turn, each alone on one core with the load tool on another, and tells the medians.

import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { CASES, GROUPS, TURN_GROUPS, suits } from "./cases.mjs";
import { HERE, SERVERS, addHailer, hailer, prepare } from "./servers.mjs";
import { tables } from "./tables.mjs";

const USAGE = `usage: run.mjs [options]

  --servers LIST       of ${Object.keys(SERVERS).join(", ")}
  --cases LIST         of ${GROUPS.join(", ")}
  --only TEXT          of these cases, those with TEXT in their names
  --rounds N           how often each case is run with each server (15)
  --turns N            with --together, how many turns each server takes in a round (30)
  --quick              shorter runs
  --together           all servers of a case are there at once and take turns, a few messages each: many rounds in
                       little time, beside one another (${TURN_GROUPS.join(", ")})
  --also NAME=PATH     another build of hailer as a further server; repeatable
  --server-core N      the core of the server (0)
  --tool-core N        the core of the load tool (1)
  --out FOLDER         where the results go (results/ and the time)
  --table FOLDER       runs nothing, and makes the tables of earlier results

HAILER_BIN is the program that is measured and measures; without it, it is built. BENCH_BIN is another one that
measures. UWS_DIR is a checkout of uWebSockets.`;

const OPTIONS = {
  servers: { type: "string" },
  cases: { type: "string" },
  only: { type: "string", default: "" },
  rounds: { type: "string", default: "15" },
  turns: { type: "string", default: "30" },
  quick: { type: "boolean", default: false },
  together: { type: "boolean", default: false },
  also: { type: "string", multiple: true, default: [] },
  "server-core": { type: "string", default: "0" },
  "tool-core": { type: "string", default: "1" },
  out: { type: "string" },
  table: { type: "string" },
  help: { type: "boolean", short: "h", default: false },
};

/// Turns that are not told: nothing is warm yet.
const TURNS_LEFT_OUT = 2;

/// A run of the tool that takes longer has failed.
const RUN_MAX_MS = 300_000;
const START_MAX_MS = 10_000;
const END_MAX_MS = 10_000;
/// Descriptors beside those of the clients.
const DESCRIPTORS_SPARE = 200;

const say = (text) => process.stderr.write(`${text}\n`);

function fail(text) {
  say(`run.mjs: ${text}`);
  process.exit(2);
}

/// What was started and has not ended.
const children = new Set();

function start(command, options) {
  const child = spawn(command[0], command.slice(1), options);
  children.add(child);
  child.ended = new Promise((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(signal ?? code));
  }).finally(() => children.delete(child));
  return child;
}

async function stop(child) {
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), END_MAX_MS);
  await child.ended;
  clearTimeout(timer);
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    for (const child of children) child.kill("SIGTERM");
    process.exit(130);
  });
}

/// A port that nobody listens on.
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const end = (does) => (socket.destroy(), resolve(does));
    socket.once("connect", () => end(true)).once("error", () => end(false));
  });
}

/// A server of its own for one run, on its core.
async function startServer(name, core, folder) {
  const server = SERVERS[name];
  const port = await freePort();
  mkdirSync(folder, { recursive: true });
  const log = openSync(join(folder, "log"), "a");
  const command = ["taskset", "-c", core, ...server.command(`${port}`, folder)];
  const child = start(command, { stdio: ["ignore", log, log], env: { ...process.env, ...server.env } });
  closeSync(log);
  const deadline = Date.now() + START_MAX_MS;
  let pid;
  while (!pid) {
    if (Date.now() > deadline || !children.has(child)) {
      await stop(child);
      throw new Error(`${name} does not start: see ${join(folder, "log")}`);
    }
    await sleep(20);
    // The process that serves may come later than the listener.
    if (await answers(port)) pid = server.pid ? server.pid(child.pid) : child.pid;
  }
  return { child, port, pid };
}

/// Puts an outcome among the results, with what it is one of in its settings; false if there is none.
function keep(json, labels, out) {
  let outcome;
  try {
    outcome = JSON.parse(readFileSync(json, "utf8"));
  } catch {
    return false;
  }
  Object.assign(outcome.settings, labels);
  const stem = `${labels.case}, ${labels.server}, ${labels.round}`.replaceAll(/[^\w.]+/g, "-");
  writeFileSync(join(out, `${stem}.json`), JSON.stringify(outcome));
  return true;
}

/// The tool's arguments for a server, with those of the case.
function wordsFor(one, name, { port, pid }, words) {
  const isPlain = SERVERS[name].protocol === "plain";
  const url = `ws://127.0.0.1:${port}${isPlain ? "/" : "/socket/websocket"}`;
  return [...words, url, ...(isPlain ? ["--plain"] : ["--topic", "room:lobby"]), "--clients", one.clients, "--pid", pid].map(String);
}

/// Starts the tool; `stdioOf` says what becomes of its streams, given the file in the folder for what it writes.
function startTool(words, folder, core, stdioOf) {
  const log = openSync(join(folder, "tool"), "w");
  const tool = process.env.BENCH_BIN ?? hailer();
  const bench = start(["taskset", "-c", core, tool, "bench", ...words], { stdio: stdioOf(log) });
  closeSync(log);
  return bench;
}

/// What is awaited of a tool. One that hangs is ended, which ends the waiting too.
async function unlessItHangs(bench, awaited) {
  const timer = setTimeout(() => bench.kill("SIGKILL"), RUN_MAX_MS);
  try {
    return await awaited;
  } finally {
    clearTimeout(timer);
  }
}

/// Runs one case with one server. What the tool has found out is written, whatever it was; the answer is a sentence
/// if something was wrong.
async function measure(one, name, round, settings) {
  const folder = join(settings.out, "servers", name);
  const server = await startServer(name, settings["server-core"], folder);
  const { child } = server;
  const json = join(folder, "outcome.json");
  const words = [...wordsFor(one, name, server, one.words(settings.quick)), "--json", json];
  rmSync(json, { force: true });
  const bench = startTool(words, folder, settings["tool-core"], (log) => ["ignore", log, log]);
  const code = await unlessItHangs(bench, bench.ended);
  await stop(child);
  const labels = { server: name, case: one.name, group: one.group, round: `${round}` };
  const isTold = keep(json, labels, settings.out);
  if (code === 0 && isTold) return undefined;
  const last = readFileSync(join(folder, "tool"), "utf8").trim().split("\n").slice(-3).join(" / ");
  return `${one.name}, ${name}, round ${round}: ${isTold ? "" : "no outcome, "}exit ${code}: ${last}`;
}

/// A server with its clients, which publishes when it is told to.
async function startTaking(one, name, settings) {
  const folder = join(settings.out, "servers", name);
  const server = await startServer(name, settings["server-core"], folder);
  const words = [...wordsFor(one, name, server, one.demanded), "--on-demand", "--quiet"];
  const bench = startTool(words, folder, settings["tool-core"], (log) => ["pipe", "pipe", log]);
  const lines = createInterface({ input: bench.stdout })[Symbol.asyncIterator]();
  return { name, server: server.child, bench, lines };
}

/// One turn of one server: what it has come to. A tool that hangs is ended, and with it the start.
async function take(one, { bench, lines, name }) {
  bench.stdin.write(`${one.amount}\n`);
  const { value, done } = await unlessItHangs(bench, lines.next());
  if (done || !value.startsWith("{")) throw new Error(`${one.name}, ${name}: ${value ?? "no answer"}`);
  return JSON.parse(value);
}

/// Runs one case with all servers at once. Each round of turns is one more of the rounds that the tables are made of.
async function measureTogether(one, names, round, settings) {
  const takers = [];
  try {
    for (const name of names) {
      say(`start ${round}: ${one.name}: ${name}`);
      takers.push(await startTaking(one, name, settings));
      // It is in before the next one begins.
      for (let turn = 0; turn < TURNS_LEFT_OUT; turn += 1) await take(one, takers.at(-1));
    }
    for (let turn = 0; turn < Number(settings.turns); turn += 1) {
      for (const at of names.keys()) {
        const taker = takers[(at + turn) % names.length];
        const labels = { server: taker.name, case: one.name, group: one.group, round: `${round}.${turn}` };
        settings.turned.push({ labels, ...(await take(one, taker)) });
      }
    }
    for (const { bench, lines, name } of takers) {
      bench.stdin.end();
      const rest = [];
      for await (const line of lines) rest.push(line);
      // The tool has looked at every message, and says so with its code.
      const code = await bench.ended;
      if (code !== 0) throw new Error(`${one.name}, ${name}: exit ${code}: ${rest.join(" / ")}`);
    }
    return undefined;
  } catch (error) {
    return error.message;
  } finally {
    for (const { bench, server } of takers) await Promise.all([stop(bench), stop(server)]);
  }
}

/// The descriptors that a process may have.
function descriptorsMax() {
  return Number(/^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))[1]);
}

function chosen(list, all, what) {
  const names = list?.split(",") ?? all;
  const unknown = names.find((name) => !all.includes(name));
  if (unknown !== undefined) fail(`there is no ${what} ${unknown}: ${all.join(", ")}`);
  return names;
}

function read() {
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    return fail(`${error.message}\n\n${USAGE}`);
  }
}

async function runAll(names, cases, settings) {
  const wrong = [];
  const note = (sentence) => {
    if (!sentence) return;
    wrong.push(sentence);
    say(sentence);
  };
  const rounds = Number(settings.rounds);
  for (let round = 1; round <= rounds; round += 1) {
    for (const one of cases) {
      // Whoever comes first after another case, or last, is another one in each round; so is whose memory lies where.
      const turned = names.map((_, at) => names[(at + round) % names.length]);
      if (settings.together) {
        note(await measureTogether(one, turned, round, settings));
        // What was told before an interruption is not lost.
        writeFileSync(join(settings.out, "turns.json"), JSON.stringify(settings.turned));
        continue;
      }
      for (const name of turned.filter((name) => suits(one, SERVERS[name]))) {
        say(`round ${round} of ${rounds}: ${one.name}: ${name}`);
        note(await measure(one, name, round, settings).catch((error) => error.message));
      }
    }
  }
  return wrong;
}

const settings = read();
if (settings.help) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
if (settings.table) {
  process.stdout.write(tables(settings.table));
  process.exit(0);
}
for (const also of settings.also) {
  const [name, path] = also.split("=");
  if (!path) fail(`--also ${also} is no NAME=PATH`);
  addHailer(name, path);
}
if (!(Number(settings.rounds) >= 1)) fail("--rounds is a number from 1");
const groups = chosen(settings.cases, GROUPS, "case");
const suitable = CASES.filter((one) => !settings.together || one.demanded);
const wanted = suitable.filter((one) => groups.includes(one.group) && one.name.includes(settings.only));
const room = descriptorsMax() - DESCRIPTORS_SPARE;
const cases = wanted.filter((one) => one.clients <= room);
if (cases.length < wanted.length) say(`cases of more than ${room} clients are left out: see ulimit -n`);
if (cases.length === 0) fail("no case is left");
const names = prepare(chosen(settings.servers, Object.keys(SERVERS), "server"), say);
settings.out ??= join(HERE, "results", new Date().toISOString().slice(0, 19).replaceAll(":", "-"));
mkdirSync(settings.out, { recursive: true });
settings.turned = [];
const wrong = await runAll(names, cases, settings);
const text = tables(settings.out);
writeFileSync(join(settings.out, "tables.md"), text);
process.stdout.write(text);
if (wrong.length > 0) say(`\nWhat went wrong:\n${wrong.join("\n")}`);
process.exitCode = wrong.length > 0 ? 1 : 0;

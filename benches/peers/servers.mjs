// The servers that are compared: how each is made ready and started.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = join(HERE, "../..");
const BUILD = join(HERE, "build");

/// What a server lacks: it is left out, and this says why.
class Missing extends Error {}

function run(command, args, options = {}) {
  execFileSync(command, args, { stdio: ["ignore", "inherit", "inherit"], ...options });
}

/// A function that does something the first time only.
function once(make) {
  let made;
  return () => (made ??= { value: make() }).value;
}

const cargo = once(() => {
  run("cargo", ["build", "--release", "--quiet"], { cwd: HERE });
  return join(HERE, "target/release");
});

const npm = once(() => {
  const wanted = JSON.parse(readFileSync(join(HERE, "package.json"))).dependencies;
  const isThere = ([name, version]) => {
    const manifest = join(HERE, "node_modules", name, "package.json");
    return existsSync(manifest) && JSON.parse(readFileSync(manifest)).version === version;
  };
  if (!Object.entries(wanted).every(isThere)) run("npm", ["ci", "--no-audit", "--no-fund"], { cwd: HERE });
  return join(HERE, "node_modules");
});

/// The program that is measured, and measures.
export const hailer = once(() => {
  if (process.env.HAILER_BIN) return process.env.HAILER_BIN;
  run("cargo", ["build", "--release", "--quiet", "--bin", "hailer"], { cwd: ROOT });
  return join(ROOT, "target/release/hailer");
});

const hasRingSetting = once(() => {
  return execFileSync(hailer(), ["serve", "--help"], { encoding: "utf8" }).includes("--io-uring");
});

/// nginx and its module: those of the system, or Debian's packages unpacked here, where nothing is installed and no
/// service started.
const nginx = once(() => {
  const modules = "usr/lib/nginx/modules/ngx_nchan_module.so";
  const found = ["/", join(BUILD, "debian")].find((root) => existsSync(join(root, modules)));
  if (found && existsSync(join(found, "usr/sbin/nginx"))) return found;
  const folder = join(BUILD, "debian");
  mkdirSync(folder, { recursive: true });
  try {
    run("apt-get", ["download", "-qq", "nginx", "libnginx-mod-nchan"], { cwd: folder });
  } catch {
    throw new Missing("neither nginx with nchan nor Debian's packages of them are to be had");
  }
  for (const name of readdirSync(folder).filter((name) => name.endsWith(".deb"))) {
    run("dpkg", ["-x", name, "."], { cwd: folder });
  }
  return folder;
});

/// uWebSockets is not here: UWS_DIR is a checkout of it, with uSockets inside or beside.
const uws = once(() => {
  const folder = process.env.UWS_DIR;
  if (!folder) throw new Missing("UWS_DIR names no checkout of uWebSockets");
  const sockets = [join(folder, "uSockets/src"), join(folder, "../uSockets/src")].find((path) =>
    existsSync(join(path, "libusockets.h")),
  );
  if (!sockets) throw new Missing(`there is no uSockets in ${folder} or beside it`);
  mkdirSync(join(BUILD, "uws"), { recursive: true });
  const options = { cwd: join(BUILD, "uws") };
  const sources = [sockets, join(sockets, "eventing"), join(sockets, "crypto")].flatMap((path) =>
    readdirSync(path).filter((name) => name.endsWith(".c")).map((name) => join(path, name)),
  );
  // The flags of uWebSockets' own makefile, without TLS and compression.
  const flags = ["-O3", "-march=native", "-flto=auto", "-DLIBUS_NO_SSL", `-I${sockets}`];
  run("gcc", [...flags, "-std=gnu11", "-c", ...sources], options);
  const objects = readdirSync(options.cwd).filter((name) => name.endsWith(".o"));
  const program = [...flags, "-std=c++20", "-DUWS_NO_ZLIB", `-I${join(folder, "src")}`, join(HERE, "uws.cpp")];
  run("g++", [...program, ...objects, "-o", "uws"], options);
  return join(options.cwd, "uws");
});

function nchan(port, folder) {
  const root = nginx();
  const conf = join(folder, "nginx.conf");
  const text = readFileSync(join(HERE, "nchan.conf"), "utf8");
  const modules = join(root, "usr/lib/nginx/modules");
  writeFileSync(conf, text.replaceAll("PORT", port).replaceAll("FOLDER", folder).replaceAll("MODULES", modules));
  return [join(root, "usr/sbin/nginx"), "-e", join(folder, "error.log"), "-c", conf];
}

/// The worker, which nginx's first process starts; nothing until it has.
function worker(pid) {
  const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
  return child && Number(child);
}

/// `program` is a function that gives the path, asked for when the server starts.
function hailerServer(program, ring) {
  return {
    protocol: "phoenix",
    env: { HAILER_API_LISTEN: "off" },
    command: (port) => {
      const flags = hasRingSetting() ? ["--io-uring", ring] : [];
      return [program(), "serve", "--listen", `127.0.0.1:${port}`, "--shards", "1", "--log-level", "warn", ...flags];
    },
    prepare: () => {
      program();
      if (ring === "on" && !hasRingSetting()) throw new Missing("this hailer has no --io-uring");
    },
  };
}

function floor(...flags) {
  return {
    protocol: flags.includes("--phoenix") ? "phoenix" : "plain",
    prepare: cargo,
    command: (port) => [join(cargo(), "floor"), `${port}`, ...flags],
  };
}

const plain = (prepare, command) => ({ protocol: "plain", prepare, command });

/// By name: `protocol` that it speaks, `prepare` what it needs, `command` that serves at a port (and may keep files in
/// a folder), `pid` of the process that serves where that is another one, as soon as it is there.
export const SERVERS = {
  hailer: hailerServer(hailer, "off"),
  "hailer-uring": hailerServer(hailer, "on"),
  floor: floor("--send"),
  "floor-coalesce": floor("--coalesce"),
  "floor-uring": floor("--uring"),
  "floor-uring-coalesce": floor("--uring", "--coalesce"),
  "floor-phoenix": floor("--coalesce", "--phoenix"),
  uws: plain(uws, (port) => [uws(), `${port}`]),
  bun: plain(npm, (port) => [join(npm(), "bun/bin/bun.exe"), join(HERE, "bun.js"), `${port}`]),
  nchan: { ...plain(nginx, nchan), pid: worker },
  axum: plain(cargo, (port) => [join(cargo(), "axum-chat"), `${port}`]),
  ws: plain(npm, (port) => [process.execPath, join(HERE, "ws.mjs"), `${port}`]),
};

/// Another build of Hailer, to be compared with the one that measures.
export function addHailer(name, path) {
  SERVERS[name] = hailerServer(() => path, "off");
}

/// Makes the servers ready and returns the names of those that can be started, with a sentence for each other one.
export function prepare(names, say) {
  return names.filter((name) => {
    try {
      SERVERS[name].prepare();
      return true;
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      say(`${name} is left out: ${error.message}`);
      return false;
    }
  });
}

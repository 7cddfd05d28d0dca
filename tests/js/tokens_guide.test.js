// The recipes of docs/tokens.md, each run as it stands there with what `hailer init` writes.
//
// Node's and Python's are always run. Those of other languages are where the language and its library are; what was
// skipped is printed at the end. HAILER_PHP_VENDOR names a folder with Composer's autoload.php for both PHP libraries.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPaths } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import * as jose from "jose";
import jwt from "jsonwebtoken";
import { CLIENTS, SECRETS, Server, connect, dial, join } from "./harness.js";
import { SECRET, isRefusal, keepSecret } from "./tokens.js";

const run = promisify(execFile);
const [client] = CLIENTS;
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const guide = readFileSync(here("../../docs/tokens.md"), "utf8");
const OUT = here("../out/tokens");
const HAILER = process.env.HAILER_BIN ?? here("../../target/debug/hailer");

/** What a language answers, or nothing if it is not there. */
const answer = (command, ...args) => run(command, args, { timeout: 60_000 }).then(({ stdout }) => stdout, () => undefined);

/** A Python that has PyJWT, in an environment of its own. */
async function python() {
  const [wanted, program] = [here("requirements.txt"), joinPaths(OUT, "venv/bin/python")];
  const made = joinPaths(OUT, "venv/made");
  if (!existsSync(made) || statSync(made).mtimeMs < statSync(wanted).mtimeMs) {
    mkdirSync(OUT, { recursive: true });
    await run("python3", ["-m", "venv", "--clear", joinPaths(OUT, "venv")]);
    await run(program, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted]);
    writeFileSync(made, "");
  }
  return program;
}

/** The folder of Composer's autoload.php, made by Composer if it is there. */
async function phpVendor() {
  if ((await answer("php", "-v")) === undefined) throw new Error("php is not installed");
  if (process.env.HAILER_PHP_VENDOR) return process.env.HAILER_PHP_VENDOR;
  const folder = joinPaths(OUT, "php");
  if (!existsSync(joinPaths(folder, "vendor/autoload.php"))) {
    mkdirSync(folder, { recursive: true });
    const libraries = ["firebase/php-jwt:^7", "lcobucci/jwt:^5"];
    const made = await answer("composer", "require", "--quiet", "--no-interaction", `--working-dir=${folder}`, ...libraries);
    if (made === undefined) throw new Error("Composer is not there, or could not install the libraries");
  }
  return joinPaths(folder, "vendor");
}

async function available(what, command, ...args) {
  if ((await answer(command, ...args)) === undefined) throw new Error(`${what} is not installed`);
  return command;
}

/** How a recipe is run; what can't be is an error that says why. */
const RECIPES = [
  ["jsonwebtoken.mjs", async () => process.execPath],
  ["jose.mjs", async () => process.execPath],
  ["pyjwt.py", python],
  ["firebase.php", async (folder) => (symlinkSync(await phpVendor(), joinPaths(folder, "vendor")), "php")],
  ["lcobucci.php", async (folder) => (symlinkSync(await phpVendor(), joinPaths(folder, "vendor")), "php")],
  ["jwt.rb", () => available("Ruby with ruby-jwt", "ruby", "-e", 'require "jwt"')],
  ["jose.exs", () => available("Elixir with JOSE", "elixir", "-e", ':jose_jwt.to_binary(%{"a" => 1})')],
];
const ALWAYS = ["jsonwebtoken.mjs", "jose.mjs", "pyjwt.py"];

/** The recipe of the guide behind the comment with this name. */
function recipe(name) {
  const marked = new RegExp(`<!-- ${name.replace(".", "\\.")} -->\n\`\`\`\\w+\n(.*?)\`\`\`\n`, "s").exec(guide);
  assert.ok(marked, `the guide has a recipe ${name}`);
  return marked[1];
}

async function expectWelcome(t, server, sub, token) {
  const connection = await connect(t, server, client, undefined, { params: { token: keepSecret(token) } });
  await join(connection, `user:${sub}`);
}

describe("the recipes of the guide", () => {
  const folder = mkdtempSync(joinPaths(tmpdir(), "hailer-recipes-"));
  const [ran, skipped] = [[], []];
  let server;
  before(async () => {
    await run(HAILER, ["init"], { cwd: folder });
    symlinkSync(here("node_modules"), joinPaths(folder, "node_modules"));
    const [config, secret] = ["hailer.toml", "hailer.secret"].map((name) => readFileSync(joinPaths(folder, name), "utf8"));
    SECRETS.add(secret.trim());
    server = await Server.start("hailer", { config, files: { "hailer.secret": secret } });
  });
  after(async () => {
    await server?.kill();
    rmSync(folder, { recursive: true, force: true });
    console.log(`token recipes run: ${ran.join(", ")}; skipped: ${skipped.join(", ") || "none"}`);
  });

  it("are all run or named here", () => {
    const named = [...guide.matchAll(/<!-- (\S+) -->/g)].map(([, name]) => name);
    assert.deepEqual(named, RECIPES.map(([name]) => name));
  });

  for (const [name, prepare] of RECIPES) it(`${name} makes a token that connects`, async (t) => {
    const text = recipe(name);
    const own = mkdtempSync(joinPaths(folder, "run-"));
    writeFileSync(joinPaths(own, "hailer.secret"), readFileSync(joinPaths(folder, "hailer.secret")));
    writeFileSync(joinPaths(own, name), text);
    let command;
    try {
      command = await prepare(own);
    } catch (error) {
      if (ALWAYS.includes(name)) throw error;
      skipped.push(`${name} (${error.message})`);
      return t.skip(error.message);
    }
    const { stdout } = await run(command, [name], { cwd: own, timeout: 60_000 });
    await expectWelcome(t, server, "alice", stdout.trim());
    ran.push(name);
  });
});

describe("tokens that an application has already, with the settings that the guide names", () => {
  const start = (t, lines, files) => Server.startFor(t, "hailer", { config: `[auth]\n${lines}`, files });
  const hour = { expiresIn: "1h" };

  it("HS256, the default of most libraries", async (t) => {
    const token = jwt.sign({ sub: "alice" }, SECRET, hour);
    const server = await start(t, 'secret_file = "secret"\nalgorithm = "HS256"', { secret: SECRET });
    await expectWelcome(t, server, "alice", token);
    // And without the setting the log names it.
    const other = await start(t, 'secret_file = "secret"', { secret: SECRET });
    const { socket, closes } = dial(t, other, client, undefined, { params: { token } });
    assert.equal(await closes.take("the refusal"), 1006);
    socket.disconnect();
    const line = await other.log.take("the log", (line) => isRefusal(line, "wrong token algorithm"));
    assert.ok(line.includes('header alg is "HS256", expected HS512 (auth.algorithm)'), line);
  });

  it("a secret in base64 that is decoded first", async (t) => {
    const secret = Buffer.from(SECRET).toString("base64");
    SECRETS.add(secret);
    const server = await start(t, 'secret_file = "secret"\nsecret_encoding = "base64"', { secret });
    await expectWelcome(t, server, "alice", jwt.sign({ sub: "alice" }, SECRET, { algorithm: "HS512", ...hour }));
  });

  it("of Supabase, with its secret", async (t) => {
    const lines = 'secret_file = "secret"\nalgorithm = "HS256"\naudience = "authenticated"';
    const server = await start(t, lines, { secret: SECRET });
    const sub = randomUUID();
    const claims = { sub, aud: "authenticated", role: "authenticated", session_id: randomUUID(), is_anonymous: false };
    await expectWelcome(t, server, sub, jwt.sign(claims, SECRET, hour));
  });

  it("of an issuer with a JWKS, Keycloak's and Auth0's", async (t) => {
    const { privateKey, publicKey } = await jose.generateKeyPair("RS256", { extractable: true });
    const jwks = { keys: [{ ...(await jose.exportJWK(publicKey)), kid: "k1", alg: "RS256", use: "sig" }] };
    const files = { "jwks.json": JSON.stringify(jwks) };
    const lines = 'jwks_file = "jwks.json"\nissuer = "https://issuer.example/"\naudience = "shop"';
    const sign = (claims, header) =>
      new jose.SignJWT({ sub: "auth0|1", iss: "https://issuer.example/", aud: ["account", "shop"], ...claims })
        .setProtectedHeader({ alg: "RS256", kid: "k1", ...header }).setIssuedAt().setExpirationTime("1h").sign(privateKey);
    const auth0 = await start(t, lines, files);
    await expectWelcome(t, auth0, "auth0|1", await sign({ scope: "openid" }, { typ: "at+jwt" }));
    const keycloak = await start(t, `${lines}\ntyp = "Bearer"`, files);
    await expectWelcome(t, keycloak, "auth0|1", await sign({ typ: "Bearer", azp: "shop" }, { typ: "JWT" }));
  });

  it("of Laravel Passport", async (t) => {
    const { privateKey, publicKey } = await jose.generateKeyPair("RS256", { extractable: true });
    const files = { "oauth-public.key": await jose.exportSPKI(publicKey) };
    const lines = '[[auth.keys]]\nalgorithm = "RS256"\nfile = "oauth-public.key"';
    const server = await Server.startFor(t, "hailer", { config: lines, files });
    const now = Date.now() / 1000;
    const claims = { aud: "9", jti: randomUUID(), iat: now, nbf: now, exp: now + 600.25, sub: "42", scopes: [] };
    const token = await new jose.SignJWT(claims).setProtectedHeader({ typ: "JWT", alg: "RS256" }).sign(privateKey);
    await expectWelcome(t, server, "42", token);
  });
});

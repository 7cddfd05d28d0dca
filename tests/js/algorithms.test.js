// Tokens of every algorithm, with keys that another library has made.

import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { describe, it } from "node:test";
import * as jose from "jose";
import { CLIENTS, SECRETS, Server, connect, dial, join } from "./harness.js";
import { guarded, guardianClaims, isRefusal, keepSecret, mint } from "./tokens.js";

const [client] = CLIENTS;

const ALGORITHMS = [
  ["HS256", 32],
  ["HS384", 48],
  ["HS512", 64],
  ...["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"].map((alg) => [alg]),
];

/** A key that signs, and what a server that verifies is told: for HMAC a secret in base64, else a public key in PEM. */
async function makeKey(alg, bytes) {
  if (bytes === undefined) {
    const { privateKey, publicKey } = await jose.generateKeyPair(alg, { extractable: true });
    return { alg, key: privateKey, publicKey, text: await jose.exportSPKI(publicKey) };
  }
  const key = randomBytes(bytes);
  SECRETS.add(key.toString("base64"));
  return { alg, key, text: key.toString("base64") };
}

/** A server that knows one key. */
function startWith(t, { alg, text }) {
  const encoding = alg.startsWith("HS") ? '\nsecret_encoding = "base64"' : "";
  const rest = `[[auth.keys]]\nalgorithm = "${alg}"\nfile = "key"${encoding}`;
  return Server.startFor(t, "hailer", guarded({ auth: "", rest, files: { key: text } }));
}

async function expectWelcome(t, server, sub, token) {
  const connection = await connect(t, server, client, undefined, { params: { token } });
  await join(connection, `user:${sub}`);
}

async function expectRefusal(t, server, token, reason) {
  const { socket, opens, closes } = dial(t, server, client, undefined, { params: { token } });
  assert.equal(await closes.take(`the refusal: ${reason}`), 1006);
  socket.disconnect();
  await server.log.take(`the log: ${reason}`, (line) => line.includes("WebSocket ") && isRefusal(line, reason));
  assert.deepEqual(opens.items, []);
}

/** The token with one of its parts replaced. */
function withPart(token, n, make) {
  const parts = token.split(".");
  parts[n] = make(parts[n]);
  return keepSecret(parts.join("."));
}

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Changes one bit in the middle of a signature. */
function flip(signature) {
  const bytes = Buffer.from(signature, "base64url");
  bytes[bytes.length >> 1] ^= 1;
  return bytes.toString("base64url");
}

for (const [alg, bytes] of ALGORITHMS) describe(alg, () => {
  it("lets in whom the key has signed, and nobody else", async (t) => {
    const [made, other] = [await makeKey(alg, bytes), await makeKey(alg, bytes)];
    const server = await startWith(t, made);
    const sub = randomUUID();
    const sign = (claims) => mint(sub, { key: made.key, header: { alg }, ...claims });
    const token = await sign();
    await expectWelcome(t, server, sub, token);

    const forged = { ...guardianClaims(sub), staff: true };
    for (const [bad, reason] of [
      [withPart(token, 1, () => encoded(forged)), "bad token signature"],
      [withPart(token, 2, flip), "bad token signature"],
      [withPart(token, 2, () => ""), "bad token signature"],
      [withPart(token, 0, () => encoded({ alg: "none", typ: "JWT" })), "wrong token algorithm"],
      [await mint(sub, { key: other.key, header: { alg } }), "bad token signature"],
      [await sign({ typ: "refresh" }), "wrong token type"],
      [await sign({ ttl: -60 }), "token expired"],
      [await sign({ nbf: Math.floor(Date.now() / 1000) + 600 }), "token not yet valid"],
      [await sign({ exp: undefined }), "token without expiry"],
    ]) {
      await expectRefusal(t, server, bad, reason);
    }
    await expectWelcome(t, server, sub, token);
  });
});

describe("the algorithm is the key's, whatever a token says", () => {
  it("none", async (t) => {
    const server = await startWith(t, await makeKey("HS512", 64));
    const unsigned = keepSecret(new jose.UnsecuredJWT(guardianClaims(randomUUID())).encode());
    await expectRefusal(t, server, unsigned, "wrong token algorithm");
    for (const alg of ["None", "NONE", "nOnE", ""]) {
      const token = withPart(unsigned, 0, () => encoded({ alg, typ: "JWT" }));
      await expectRefusal(t, server, token, "wrong token algorithm");
    }
  });

  it("HS256 with the public key for a secret", async (t) => {
    const made = await makeKey("RS256");
    const server = await startWith(t, made);
    const der = Buffer.from(made.text.replaceAll(/-.*-|\s/g, ""), "base64");
    for (const key of [made.text, made.text.trimEnd(), der]) {
      const token = await mint(randomUUID(), { key, header: { alg: "HS256" } });
      await expectRefusal(t, server, token, "wrong token algorithm");
    }
  });

  it("another algorithm for the same key", async (t) => {
    const made = await makeKey("RS256");
    const server = await startWith(t, made);
    const pkcs8 = await jose.exportPKCS8(made.key);
    for (const alg of ["RS384", "RS512", "PS256", "PS384", "PS512"]) {
      const token = await mint(randomUUID(), { key: await jose.importPKCS8(pkcs8, alg), header: { alg } });
      await expectRefusal(t, server, token, "wrong token algorithm");
    }
  });

  it("another algorithm for the same secret", async (t) => {
    const made = await makeKey("HS512", 64);
    const server = await startWith(t, made);
    for (const alg of ["HS256", "HS384"]) {
      const token = await mint(randomUUID(), { key: made.key, header: { alg } });
      await expectRefusal(t, server, token, "wrong token algorithm");
    }
  });

  it("keys that a token brings along", async (t) => {
    const [made, other] = [await makeKey("ES256"), await makeKey("ES256")];
    const server = await startWith(t, made);
    const jwk = await jose.exportJWK(other.publicKey);
    for (const header of [{ jwk }, { jku: "http://127.0.0.1:1/keys" }, { x5u: "http://127.0.0.1:1/key" }]) {
      const token = await mint(randomUUID(), { key: other.key, header: { alg: "ES256", ...header } });
      await expectRefusal(t, server, token, "bad token signature");
    }
  });
});

describe("a set of keys", () => {
  const IDS = { old: "RS256", new: "RS256", curve: "ES256", larger: "ES384", edwards: "EdDSA", pss: "PS512" };

  /** Keys with ids, as an identity provider publishes them. */
  const makeSet = () =>
    Promise.all(
      Object.entries(IDS).map(async ([kid, alg]) => {
        const made = await makeKey(alg);
        const jwk = { ...(await jose.exportJWK(made.publicKey)), kid, alg, use: "sig" };
        return { ...made, kid, jwk, header: { alg, kid } };
      }),
    );
  const optionsOf = (keys) => {
    const files = { "keys.json": JSON.stringify({ keys: keys.map(({ jwk }) => jwk) }) };
    return guarded({ auth: 'jwks_file = "keys.json"', files });
  };

  it("lets in whom any of them has signed, each under its own id", async (t) => {
    const keys = await makeSet();
    const server = await Server.startFor(t, "hailer", optionsOf(keys));
    const sub = randomUUID();
    for (const { key, header } of keys) await expectWelcome(t, server, sub, await mint(sub, { key, header }));
    const [old, fresh] = keys;
    const swapped = { alg: "RS256", kid: fresh.kid };
    await expectRefusal(t, server, await mint(sub, { key: old.key, header: swapped }), "bad token signature");
    for (const kid of ["retired", "", "../old", "old' OR 1=1", undefined]) {
      const header = { alg: "RS256", ...(kid !== undefined && { kid }) };
      await expectRefusal(t, server, await mint(sub, { key: old.key, header }), "unknown token key");
    }
  });

  it("is exchanged key by key: first both are good, then the old one is not", async (t) => {
    const [old, fresh] = await makeSet();
    const sub = randomUUID();
    const tokens = await Promise.all([old, fresh].map(({ key, header }) => mint(sub, { key, header })));
    const server = await Server.startFor(t, "hailer", optionsOf([old, fresh]));
    for (const token of tokens) await expectWelcome(t, server, sub, token);
    const later = await Server.startFor(t, "hailer", optionsOf([fresh]));
    await expectWelcome(t, later, sub, tokens[1]);
    await expectRefusal(t, later, tokens[0], "unknown token key");
  });

  it("may stand beside a secret and a key in PEM", async (t) => {
    const [first] = await makeSet();
    const second = await makeKey("ES384");
    const { config, files } = optionsOf([first]);
    const server = await Server.startFor(t, "hailer", {
      config: config
        .replace("[auth]", '[auth]\nsecret_file = "secret"')
        .concat('\n[[auth.keys]]\nalgorithm = "ES384"\nkid = "pem"\nfile = "key.pem"'),
      files: { ...files, "key.pem": second.text },
    });
    const sub = randomUUID();
    for (const options of [{}, first, { key: second.key, header: { alg: "ES384", kid: "pem" } }]) {
      const { key, header } = options;
      await expectWelcome(t, server, sub, await mint(sub, { ...(key && { key, header }) }));
    }
  });
});

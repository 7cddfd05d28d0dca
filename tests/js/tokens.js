// Tokens as an application makes them, by a library that has nothing to do with the server, and configurations
// of servers that ask for them.

import { randomBytes, randomUUID } from "node:crypto";
import { SignJWT } from "jose";
import { SECRETS } from "./harness.js";

/** The secret of this run, as `mix guardian.gen.secret` makes them. */
export const SECRET = randomBytes(48).toString("base64");
export const ISSUER = "customers";

SECRETS.add(SECRET);

/** Has no server print the token, nor the parts of it that tell something. */
export function keepSecret(token) {
  const [, claims, signature] = token.split(".");
  // phoenix.js gives its `authToken` in base64.
  const wrapped = Buffer.from(token).toString("base64").replaceAll("=", "");
  for (const secret of [token, wrapped, claims, signature]) if (secret) SECRETS.add(secret);
  return token;
}

/** Whether a line of the log says that a client was refused for this reason, whatever it says besides. */
export const isRefusal = (line, reason) =>
  [": ", " ("].some((behind) => line.includes(` unauthorized: ${reason}${behind}`));

/** Exactly the claims that Guardian writes, for `ttl` seconds from here on. */
export function guardianClaims(sub, { ttl = 3600, ...claims } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const iat = now + Math.min(ttl, 0);
  const registered = { aud: ISSUER, exp: now + ttl, iat, iss: ISSUER, jti: randomUUID(), nbf: iat - 1 };
  return { ...registered, sub, typ: "access", ...claims };
}

/** The token of the user `sub`, signed with the `key` for the `header`'s algorithm. */
export async function mint(sub, { key = SECRET, header = { alg: "HS512" }, ...claims } = {}) {
  const bytes = typeof key === "string" ? Buffer.from(key) : key;
  const token = new SignJWT(guardianClaims(sub, claims)).setProtectedHeader({ typ: "JWT", ...header });
  return keepSecret(await token.sign(bytes));
}

/** A server's options: it prints all it can and has a secret; lines to put above all tables, in `[auth]`, behind it. */
export const guarded = ({ above = "", auth = 'secret_file = "secret"', files, rest = "", ...options } = {}) => ({
  config: [
    'log_level = "trace"',
    above,
    `[auth]\n${auth}\nissuer = ["${ISSUER}"]\naudience = ["${ISSUER}"]`,
    rest,
  ].join("\n"),
  files: { secret: SECRET, ...files },
  ...options,
});

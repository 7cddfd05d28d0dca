// The HTTP API of a server, as a back end calls it.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { SECRETS } from "./harness.js";

const KEY = `hlr_${randomBytes(32).toString("base64url")}`;
SECRETS.add(KEY);

/** The lines of a configuration that let `call` in. */
export const KEYS = `
  [[api.keys]]
  name = "tests"
  hash = "sha256:${createHash("sha256").update(KEY).digest("hex")}"
  scopes = ["publish", "disconnect", "read"]
`;

/** Asks the API of `server` for something, and demands that it is done: the answer. */
export async function call(server, path, body) {
  const response = await fetch(`${server.api}/api/v1/${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.ok, `${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

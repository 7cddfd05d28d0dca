// The HTTP API as docs/openapi.json describes it: every answer is held against the contract.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import Ajv2020 from "ajv/dist/2020.js";
import { SECRETS } from "./harness.js";

const CONTRACT = JSON.parse(readFileSync(new URL("../../docs/openapi.json", import.meta.url)));

// An OpenAPI file is no schema itself: its other words are left alone.
const ajv = new Ajv2020({ strict: false, allErrors: true });
ajv.addSchema(CONTRACT, "contract");

/** The place of a part of the contract, as a JSON pointer writes it. */
const pointer = (...names) =>
  names.map((name) => `/${encodeURIComponent(name.replaceAll("~", "~0").replaceAll("/", "~1"))}`).join("");

const OPERATIONS = Object.entries(CONTRACT.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
);

/** The name and method of every operation, of which those that were called are struck out. */
export const UNCALLED = new Set(OPERATIONS.map(({ operation }) => operation.operationId));

/** Every status that the contract knows for an operation, of which those that were seen are struck out. */
export const UNSEEN = new Set(
  OPERATIONS.flatMap(({ operation }) =>
    Object.keys(operation.responses).map((status) => `${operation.operationId} ${status}`),
  ),
);

function find(method, path) {
  const matches = (pattern) => new RegExp(`^${pattern.replaceAll(/\{\w+\}/g, "[^/]+")}$`).test(path);
  return OPERATIONS.find((known) => known.method === method && matches(known.path));
}

/** What a schema of the contract has against a value. */
function objections(place, value) {
  const validate = ajv.getSchema(`contract#${place}`);
  assert.ok(validate, `there is a schema at ${place}`);
  return validate(value) ? [] : validate.errors.map(({ instancePath, message }) => `${instancePath} ${message}`);
}

/** Holds an answer against the contract. */
function check({ path, method, operation }, { status, headers, text, body }) {
  const name = `${operation.operationId} ${status}`;
  let place = `/paths${pointer(path, method, "responses", `${status}`)}`;
  let answer = operation.responses[status];
  assert.ok(answer, `${name} is no answer of the contract: ${text}`);
  if (answer.$ref) {
    place = answer.$ref.slice(1);
    answer = CONTRACT.components.responses[place.split("/").at(-1)];
  }
  UNCALLED.delete(operation.operationId);
  UNSEEN.delete(name);
  for (const [header, { required }] of Object.entries(answer.headers ?? {})) {
    if (required) assert.ok(headers.has(header), `${name} has ${header}`);
  }
  const types = Object.keys(answer.content ?? {});
  const type = headers.get("content-type")?.split(";")[0];
  assert.ok(type ? types.includes(type) : types.length === 0, `the type of ${name}: ${type}`);
  if (type === "application/json") {
    const schema = `${place}${pointer("content", type, "schema")}`;
    assert.deepEqual(objections(schema, body), [], `${name}: ${text}`);
  } else if (type === undefined) {
    assert.equal(text, "", `${name} has no body`);
  }
}

/** A key, and its lines for a configuration. */
export function makeKey(name, scopes, topics) {
  const key = `hlr_${randomBytes(32).toString("base64url")}`;
  SECRETS.add(key);
  const hash = createHash("sha256").update(key).digest("hex");
  const lines = [
    "[[api.keys]]",
    `name = "${name}"`,
    `hash = "sha256:${hash}"`,
    `scopes = ${JSON.stringify(scopes)}`,
    ...(topics ? [`topics = ${JSON.stringify(topics)}`] : []),
  ];
  return { key, lines: lines.join("\n") };
}

/** Calls the API of a server with a key. */
export class Caller {
  #server;
  #headers;

  constructor(server, headers) {
    this.#server = server;
    this.#headers = headers;
  }

  /**
   * Asks for `path`, and holds the answer against the contract, and a good request's body as well: the status, the
   * headers, and the body as text and as JSON.
   */
  async ask(method, path, { body, text, headers = {} } = {}) {
    const announced = method === "post" ? { "content-type": "application/json" } : {};
    const response = await fetch(`${this.#server.api}${path}`, {
      method: method.toUpperCase(),
      headers: { ...announced, ...this.#headers, ...headers },
      body: text ?? (body === undefined ? undefined : JSON.stringify(body)),
      redirect: "manual",
    });
    const answer = { status: response.status, headers: response.headers, text: await response.text() };
    if (answer.text && response.headers.get("content-type")?.startsWith("application/json")) {
      answer.body = JSON.parse(answer.text);
    }
    assert.equal(answer.headers.get("cache-control"), "no-store", path);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff", path);
    assert.equal(answer.headers.get("access-control-allow-origin"), null, path);
    const found = find(method, path.split("?")[0]);
    if (found) {
      check(found, answer);
      if (response.ok && body !== undefined) {
        const place = pointer(found.path, method, "requestBody", "content", "application/json", "schema");
        assert.deepEqual(objections(`/paths${place}`, body), [], `what ${path} took is in the contract`);
      }
    } else if (answer.status >= 400) {
      assert.deepEqual(objections("/components/schemas/Error", answer.body), [], path);
    }
    return answer;
  }

  /** Asks for something that is done: the body of the answer. */
  async get(path) {
    const { status, text, body } = await this.ask("get", path);
    assert.equal(status, 200, `${path}: ${text}`);
    return body;
  }

  async post(path, body, headers) {
    const { status, text, body: answer } = await this.ask("post", path, { body, headers });
    assert.ok(status === 200 || status === 202, `${path}: ${status} ${text}`);
    return answer;
  }

  /** Asks for something that is refused: the message. */
  async refused(code, method, path, request) {
    const { body, text } = await this.ask(method, path, request);
    assert.equal(body?.error?.code, code, `${method} ${path}: ${text}`);
    return body.error.message;
  }
}

// The code in docs/notifications.md, which is run as it stands there.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

const guide = await readFile(new URL("../../docs/notifications.md", import.meta.url), "utf8");

/** The block behind the comment with this name, with the address of `server` in the place of the one that it has. */
export function snippet(name, server) {
  const marked = new RegExp(`<!-- ${name.replace(".", "\\.")} -->\n\`\`\`\\w+\n(.*?)\`\`\`\n`, "s").exec(guide);
  assert.ok(marked, `the guide has a block ${name}`);
  const addresses = marked[1].split("localhost:4000");
  assert.ok(addresses.length <= 2, `${name} names one server at most`);
  return addresses.join(server.address);
}

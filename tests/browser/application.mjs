// An application of somebody else's, with the guide's page and its ten lines, as they stand in docs/notifications.md.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { snippet } from "../js/snippets.js";
import { path } from "./tabs.mjs";

/** What the guide promises to get along with. */
const POLICY = "default-src 'none'; style-src 'self'; connect-src ws:";

/** Serves the application with this phoenix.js; its `files` are added when it is known where. */
export async function serve(t, version) {
  const files = new Map();
  for (const [name, file] of [
    ["/phoenix.js", `../js/node_modules/phoenix-${version}/priv/static/phoenix.mjs`],
    ["/notices.js", "../../src/web/notices.js"],
    ["/notice.css", "../../src/web/notice.css"],
  ]) {
    files.set(name, await readFile(path(file), "utf8"));
  }
  const application = createServer(({ url }, response) => {
    const type = url.endsWith(".js") ? "text/javascript" : url.endsWith(".css") ? "text/css" : "text/html";
    const policy = `${POLICY}; script-src 'self' 'nonce-application'`;
    response.setHeader("content-type", `${type}; charset=utf-8`).setHeader("content-security-policy", policy);
    response.end(files.get(new URL(url, "http://x").pathname) ?? "");
  });
  application.listen(0, "127.0.0.1");
  await once(application, "listening");
  t.after(() => {
    application.closeAllConnections();
    application.close();
  });
  return { files, origin: `http://127.0.0.1:${application.address().port}` };
}

/** The application's page for its user, who is signed in with this token; what it has besides stands below. */
export const page = (server, user, token, below = "") => `<!doctype html>
  <html lang="en">
  <meta name="color-scheme" content="light dark">
  <title>An application</title>
  <script type="importmap" nonce="application">{ "imports": { "phoenix": "/phoenix.js" } }</script>
  <script nonce="application">const [token, userId] = ${JSON.stringify([token, user])};</script>
  ${snippet("page.html", server)}
  ${below}
`;

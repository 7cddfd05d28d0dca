// How long the session lasts. Typing keeps it, a warning comes before its end, and from there the way leads to the sign-in.

/** A warning comes so long before the end, or when half of the time that a session may be idle is over. */
const WARN_MS = 2 * 60_000;
/** While somebody types the session is kept no oftener than that, or than after a quarter of the time it may be idle. */
const KEEP_MS = 60_000;
/** When the server can't be asked it is asked again after this. */
const RETRY_MS = 5_000;
/** Where the session is asked for; a POST also keeps it. */
const ADDRESS = "/admin/session";

const live = document.getElementById("live");
const { account } = live.dataset;
const idleMs = Number(live.dataset.endsIn);
const warnMs = Math.min(WARN_MS, idleMs / 2);
const keepMs = Math.min(KEEP_MS, idleMs / 4);

/** Called once the session has ended. */
export const whenOver = new Set();
let isOver = false;
let endsAt = performance.now() + idleMs;
let keptAt = performance.now();
let timer = null;
let asking = null;

const warning = document.createElement("div");
warning.className = "session-warning";
warning.role = "alert";
const words = document.createElement("p");
const left = document.createElement("span");
// It counts down for the eye only.
left.ariaLive = "off";

/** A link to the sign-in. What is in a form of a message goes there with it; from other pages the way leads back. */
export function signInLink(text) {
  const link = document.createElement("a");
  const path = location.pathname.startsWith("/admin/compose") ? "/admin/compose" : location.pathname;
  link.href = `/admin/sign-in?next=${path}`;
  link.textContent = text;
  link.addEventListener("click", (event) => {
    const form = document.querySelector("form.compose, form.send");
    const isEmpty = ["title", "body", "link"].every((name) => !form?.elements[name]?.value.trim());
    if (!form || isEmpty) return;
    event.preventDefault();
    // The server answers with the sign-in, and the text in it.
    form.dispatchEvent(new Event("carry"));
    form.action = "/admin/compose/edit";
    form.submit();
  });
  return link;
}

function end() {
  if (isOver) return;
  isOver = true;
  clearTimeout(timer);
  words.replaceChildren("You are signed out. What you wrote is kept: ", signInLink("sign in again"), " to go on.");
  warning.replaceChildren(words);
  if (document.querySelector("form.compose, form.send")) document.body.append(warning);
  else warning.remove();
  for (const act of whenOver) act();
}

function warn(endsInMs, atMostMs) {
  const seconds = Math.max(1, Math.ceil(endsInMs / 1_000));
  left.textContent = seconds > 90 ? `${Math.round(seconds / 60)} minutes` : `${seconds} s`;
  if (warning.isConnected) return;
  const isLast = atMostMs <= endsInMs;
  words.replaceChildren(isLast ? "Your session is at its end, in " : "You will be signed out in ", left, ". ");
  const stay = document.createElement("button");
  stay.type = "button";
  stay.textContent = "Stay signed in";
  stay.addEventListener("click", keep);
  warning.replaceChildren(words, isLast ? signInLink("Sign in again") : stay);
  document.body.append(warning);
}

function learn({ account: found, ends_in_ms, at_most_ms }) {
  if (found !== account) return end();
  endsAt = performance.now() + ends_in_ms;
  if (ends_in_ms > warnMs) warning.remove();
  else warn(ends_in_ms, at_most_ms);
  askLater(ends_in_ms > warnMs ? ends_in_ms - warnMs : Math.min(5_000, ends_in_ms / 4));
}

function askLater(ms) {
  clearTimeout(timer);
  if (!isOver) timer = setTimeout(ask, Math.min(ms, 2 ** 30) + 50);
}

/** Asks how long the session lasts, which does not prolong it: another tab may have done so, or have ended it. */
export async function ask() {
  if (isOver || asking) return;
  asking = fetch(ADDRESS, { cache: "no-store" });
  try {
    const answer = await asking;
    asking = null;
    if (answer.ok) learn(await answer.json());
    else askLater(RETRY_MS);
  } catch {
    asking = null;
    askLater(RETRY_MS);
  }
}

/** Says that somebody is there. */
async function keep() {
  keptAt = performance.now();
  const csrf = document.querySelector(".sign-out [name=csrf]").value;
  try {
    const answer = await fetch(ADDRESS, { method: "POST", body: new URLSearchParams({ csrf }) });
    if (answer.ok) learn(await answer.json());
    // Another tab has signed in again: how long its session lasts is for the server to say.
    else await ask();
  } catch {
    askLater(RETRY_MS);
  }
}

if (idleMs > 0) {
  document.addEventListener("input", () => {
    if (!isOver && performance.now() - keptAt >= keepMs) keep();
  });
  // Timers of a page that nobody looks at, or of a machine that sleeps, come late.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && performance.now() >= endsAt - warnMs) ask();
  });
  askLater(idleMs - warnMs);
}

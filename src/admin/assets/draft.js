// What is being written is kept in the browser until it is sent: it survives a closed tab, a session that has ended, and a
// restart of the server. Each tab has a draft of its own, and each account sees its own alone.

const PREFIX = "hailer:draft:";
/** Where a tab keeps the name of its draft. */
const TAB_KEY = "hailer:draft";
/** Drafts of one account, and of all; the oldest are removed. */
const [DRAFTS_MAX, ALL_DRAFTS_MAX] = [5, 20];
/** Characters of a draft: a longer one is not kept. */
const CHARACTERS_MAX = 50_000;
/** A draft is kept for so long. */
const LIFETIME_MS = 7 * 24 * 60 * 60 * 1000;
/** How long other tabs have to say which drafts are theirs. */
const CLAIM_MS = 150;
const TEXTS = ["title", "body", "link"];
const FIELDS = [...TEXTS, "to", "topic", "user", "severity", "lifetime", "lifetime_unit", "when", "send_at", "resend_of"];

const timeFormat = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "short" });
const same = (text) => text.replace(/\r\n/g, "\n").trim();

/** The browser's storages, as far as it lets the page have them. */
function storage(name) {
  try {
    return globalThis[name];
  } catch {
    return null;
  }
}
const [shared, own] = [storage("localStorage"), storage("sessionStorage")];

/** A draft as it was stored, which may be anything; null if it is none. */
function read(key) {
  try {
    const { at, sending, fields } = JSON.parse(shared.getItem(key));
    const isFresh = Number.isFinite(at) && Date.now() - at < LIFETIME_MS;
    if (!isFresh || FIELDS.some((name) => typeof fields[name] !== "string")) return null;
    return { key, at, sending: sending === true, fields };
  } catch {
    return null;
  }
}

function remove(key) {
  try {
    shared.removeItem(key);
  } catch {
    // Then it was not stored either.
  }
}

/** All drafts whose keys begin so, the newest first; what is none, or too old, is removed. */
function list(prefix) {
  const keys = shared ? Object.keys(shared).filter((key) => key.startsWith(prefix)) : [];
  const drafts = [];
  for (const key of keys) {
    const draft = read(key);
    if (draft) drafts.push(draft);
    else remove(key);
  }
  return drafts.sort((one, other) => other.at - one.at);
}

const { account } = document.getElementById("live").dataset;
const ofAccount = `${PREFIX}${encodeURIComponent(account)}:`;

/** The key of this tab's draft; one of another account is not this account's. */
function currentKey() {
  try {
    const key = own.getItem(TAB_KEY);
    return key?.startsWith(ofAccount) ? key : null;
  } catch {
    return null;
  }
}

function adopt(key) {
  try {
    own.setItem(TAB_KEY, key);
  } catch {
    // The tab then knows its draft until it leaves the page.
  }
  return key;
}

const freshKey = () => adopt(`${ofAccount}${Math.random().toString(36).slice(2)}`);

function write(key, draft) {
  const text = JSON.stringify(draft);
  if (text.length > CHARACTERS_MAX) return;
  try {
    if (shared.getItem(key) === null) {
      for (const old of list(ofAccount).slice(DRAFTS_MAX - 1)) remove(old.key);
      for (const old of list(PREFIX).slice(ALL_DRAFTS_MAX - 1)) remove(old.key);
    }
    shared.setItem(key, text);
  } catch {
    // A browser without a storage, or with a full one: the server carries what is posted all the same.
  }
}

/** Writes a form's draft as somebody types. */
class Draft {
  #form;
  #key = currentKey();
  #channel = null;
  #note = null;
  /** Called when a draft has been put into the form. */
  #filled;

  constructor(form, filled) {
    this.#form = form;
    this.#filled = filled;
    const stored = this.#key && read(this.#key);
    if (stored && this.#says(stored.fields)) {
      // The form has come back from the server as it went.
    } else if (stored && this.#isUntouched()) {
      this.#fill(stored);
    } else {
      this.#key = freshKey();
    }
    if (typeof BroadcastChannel === "function") this.#answerOthers();
    if (this.#hasText()) this.#save();
    else this.#offer();
    form.addEventListener("input", () => this.#save());
    form.addEventListener("change", () => this.#save());
  }

  #value(name) {
    return this.#form.elements[name]?.value ?? "";
  }

  #hasText() {
    return TEXTS.some((name) => this.#value(name).trim());
  }

  #isUntouched() {
    return !this.#hasText() && this.#value("to") === "everyone";
  }

  #says(fields) {
    return TEXTS.every((name) => same(this.#value(name)) === same(fields[name]));
  }

  #save() {
    if (!this.#hasText()) return remove(this.#key);
    const fields = Object.fromEntries(FIELDS.map((name) => [name, this.#value(name)]));
    write(this.#key, { at: Date.now(), sending: false, fields });
  }

  #fill({ at, sending, fields }) {
    for (const name of FIELDS) if (this.#form.elements[name]) this.#form.elements[name].value = fields[name];
    this.#filled();
    const doubt = sending ? " It was about to be sent: look among the messages whether it was." : "";
    this.#say(`Your text of ${timeFormat.format(at)} is here again.${doubt}`, {
      "Discard it": () => {
        this.#form.reset();
        this.#filled();
        remove(this.#key);
      },
    });
  }

  /** Offers the newest draft that no other tab has. */
  async #offer() {
    const taken = await this.#claimed();
    if (this.#hasText() || this.#note?.isConnected) return;
    const draft = list(ofAccount).find(({ key }) => key !== this.#key && !taken.has(key));
    if (!draft) return;
    const words = (draft.fields.title || draft.fields.body || draft.fields.link).trim().slice(0, 60);
    this.#say(`A text of ${timeFormat.format(draft.at)} was not sent: “${words}”`, {
      "Go on with it": () => {
        this.#key = adopt(draft.key);
        this.#fill(draft);
      },
      "Discard it": () => remove(draft.key),
    });
  }

  #say(text, actions) {
    this.#note?.remove();
    const note = (this.#note = document.createElement("div"));
    [note.className, note.role] = ["restored", "status"];
    const words = document.createElement("p");
    words.textContent = text;
    note.append(words);
    for (const [label, act] of Object.entries(actions)) {
      const button = document.createElement("button");
      [button.type, button.className, button.textContent] = ["button", "quiet", label];
      button.addEventListener("click", () => {
        note.remove();
        act();
        this.#form.elements.body.focus();
      });
      note.append(button);
    }
    this.#form.before(note);
  }

  #answerOthers() {
    this.#channel = new BroadcastChannel("hailer:drafts");
    this.#channel.addEventListener("message", ({ data }) => {
      if (data !== "whose?" || !this.#hasText()) return;
      this.#channel.postMessage({ mine: this.#key });
    });
  }

  /** The drafts that are being written in other tabs. */
  async #claimed() {
    const keys = new Set();
    if (!this.#channel) return keys;
    this.#channel.addEventListener("message", ({ data }) => data?.mine && keys.add(data.mine));
    this.#channel.postMessage("whose?");
    await new Promise((resolve) => setTimeout(resolve, CLAIM_MS));
    return keys;
  }
}

/** Keeps what is written in this page's form, if it has one, and forgets what was sent. */
export function keepDraft(filled) {
  const key = currentKey();
  const stored = key && read(key);
  if (stored?.sending && /^\/admin\/messages\/[^/]+$/.test(location.pathname)) remove(key);
  const preview = document.querySelector("form.send");
  preview?.addEventListener("submit", ({ submitter }) => {
    const draft = key && read(key);
    const isSent = !submitter?.hasAttribute("formaction");
    if (draft) write(key, { at: draft.at, sending: isSent, fields: draft.fields });
  });
  const form = document.querySelector("form.compose");
  if (form) new Draft(form, filled);
  // Whoever signs out leaves nothing behind.
  document.querySelector("form.sign-out").addEventListener("submit", () => {
    for (const draft of list(ofAccount)) remove(draft.key);
  });
}

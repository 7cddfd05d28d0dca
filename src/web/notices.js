// Notifications as an application shows them: banners by severity, and a bell with the last ones. Where they come
// from is for others to know:
//
//   const notices = new Notices({ banners, bell, panel, user: userId });
//   channel.on("new_msg", (payload) => isNotification(payload) && notices.add(payload, topic));
//   channel.on("retract", ({ id }) => notices.retract(id));
//   channel.join().receive("ok", () => notices.joined(topic));
//
// A notification is `{ body, title, link, severity, id, expires_at }`, any of which may be missing. `banners` and `panel`
// are empty elements and `bell` is a button; how all of it looks is in notice.css.
//
// With a `user`, what was shown, seen and dismissed is stored for that user: it survives a change of page, and all tabs
// of the user show the same. Every tab merges what others have stored into its own before it stores: an id's flags are
// only ever added to, so the order in which tabs do so does not matter.

/** The gravest first; what has another severity, or none, is taken for the last. */
const SEVERITIES = { critical: "Critical", warning: "Warning", info: "Information" };
const GRAVITY = Object.keys(SEVERITIES);
/** Notifications behind the bell; older ones are dropped. */
const LISTED_MAX = 20;
/** Banners that others may take the place of, and those that stay until they are dismissed. */
const [BANNERS_MAX, CRITICAL_MAX] = [3, 20];
/** Ids that are known, with what is known of them; the oldest are forgotten. */
const REMEMBERED_MAX = 500;
/** Characters of an id; a longer one is taken for none. */
const ID_CHARACTERS_MAX = 200;
/** Keys in a storage begin with this; the user follows. */
const STORED_PREFIX = "hailer:notices:";
/** Characters that are stored for a user, and users of one browser for whom something is. */
const [STORED_CHARACTERS_MAX, STORED_USERS_MAX] = [200_000, 5];
/** How long a notification is stored that does not say when it expires. */
const STORED_MS = 24 * 60 * 60 * 1000;
/** Without ids, two tabs that get the same text within this time have got the same message. */
const TWIN_MS = 10_000;
/** Kept messages come right behind the reply to a join: whatever has not come when none came for so long is gone. */
const SETTLE_MS = 10_000;

/** How long messages that arrive are gathered before they are stored. */
const GATHER_MS = 50;

/** What is known of an id. MISSING was kept by the server and is no longer: retracted while no page was open. */
const [SEEN, DISMISSED, RETRACTED, MISSING] = [1, 2, 4, 8];

const timeFormat = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });

/** Whether a payload is a notification, and no plain message. */
export function isNotification(payload) {
  return ["severity", "title", "id"].some((key) => (payload?.[key] ?? null) !== null);
}

/** Where a link leads, if it may: to a page of http(s), or along a path of this page's own server. */
export function destination(link) {
  if (typeof link !== "string") return null;
  const isPath = /^\/(?![/\\])/.test(link);
  if (!isPath && !/^https?:\/\//i.test(link)) return null;
  try {
    const url = new URL(link, location.href);
    // Browsers drop tabs and line ends, so that what looks like a path may name a host.
    return isPath && url.origin !== location.origin ? null : url;
  } catch {
    return null;
  }
}

/** An id as it is compared; null if it is none. */
function idOf(id) {
  const text = typeof id === "string" || typeof id === "number" ? String(id) : null;
  return text === null || text.length > ID_CHARACTERS_MAX ? null : text;
}

/** What is known of a notification whose sender, or whoever has written to the storage, may have said anything. */
function read({ id, title, body, link, severity, expires_at }) {
  return {
    id: idOf(id),
    title: typeof title === "string" ? title : "",
    body: typeof body === "string" ? body : (JSON.stringify(body ?? undefined) ?? ""),
    link: typeof link === "string" ? link : "",
    url: destination(link),
    severity: GRAVITY.includes(severity) ? severity : "info",
    until: Number.isFinite(expires_at) ? expires_at : null,
  };
}

/** An element whose content is text, whoever has written it, and never becomes markup. */
function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** The element that shows a notification. */
function draw({ title, body, url, severity }) {
  const drawn = element("section", `notice notice-${severity}`);
  drawn.append(element("span", "notice-severity", `${SEVERITIES[severity]}: `));
  for (const [className, text] of [["notice-title", title], ["notice-body", body]]) {
    if (!text) continue;
    const paragraph = element("p", className, text);
    paragraph.dir = "auto";
    drawn.append(paragraph);
  }
  if (url) {
    const link = element("a", "notice-link", "More about this");
    link.href = url.href;
    link.rel = "noopener noreferrer";
    if (url.origin !== location.origin) link.target = "_blank";
    drawn.append(link);
  }
  return drawn;
}

/** The bell's picture. It is made here since a strict policy allows no picture in a style. */
function drawBell() {
  const make = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const round = { "stroke-linecap": "round", "stroke-linejoin": "round", "stroke-width": 2 };
  const line = { fill: "none", stroke: "currentColor", ...round, d: "M6 17v-6a6 6 0 0 1 12 0v6l2 2H4zM10 22h4" };
  const drawn = make("svg", { viewBox: "0 0 24 24", width: 20, height: 20, "aria-hidden": "true" });
  drawn.append(make("path", line));
  return drawn;
}

/** The storage of all tabs; null where the browser keeps it from the page. */
function sharedStorage() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

/** Whether two notifications say the same. */
function sayTheSame(one, other) {
  return ["title", "body", "link", "severity"].every((key) => one[key] === other[key]);
}

/** What flags are known by: the id, or what the tabs that have got the message call it. */
const namesOf = ({ id, keys }) => (id === null ? keys.map((key) => `~${key}`) : [id]);

/** The part of a key that names the tab. */
const tabOf = (key) => key.split(".")[0];

const gravityOf = ({ severity }) => GRAVITY.indexOf(severity);

/** When an entry is no longer stored. */
const endOf = ({ until, at }) => until ?? at + STORED_MS;

/** An entry as it was stored; null if it is none. */
function restore(stored, now) {
  const { at, keys, topic, seen, dismissed, away } = stored ?? {};
  const names = Array.isArray(keys) ? keys.filter((key) => typeof key === "string" && key.length < 64) : [];
  if (!Number.isFinite(at) || (idOf(stored.id) === null && names.length === 0)) return null;
  const flags = { seen: seen === true, dismissed: dismissed === true, away: away === true };
  const where = { at: Math.min(at, now), keys: names.slice(0, 10), topic: typeof topic === "string" ? topic : null };
  return { ...read(stored), ...where, ...flags, cameAt: -Infinity, item: null, banner: null };
}

/** What is stored for one user. Any script of the origin may have written it, so it is read as a stranger's. */
class Store {
  #storage;
  key;

  constructor(storage, user) {
    this.#storage = storage;
    this.key = `${STORED_PREFIX}${user}`;
  }

  /** The ids with their flags, the entries, the newest first, and the ids of those that have expired. */
  read(now = Date.now()) {
    const found = { ids: new Map(), entries: [], expired: [] };
    try {
      const { ids, entries } = JSON.parse(this.#storage.getItem(this.key)) ?? { ids: [], entries: [] };
      for (const [id, flags] of ids.slice(-REMEMBERED_MAX)) {
        if (typeof id === "string" && idOf(id) === id && Number.isInteger(flags)) found.ids.set(id, flags & 15);
      }
      for (const stored of entries.slice(0, LISTED_MAX + BANNERS_MAX + CRITICAL_MAX)) {
        const entry = restore(stored, now);
        if (!entry) continue;
        if (endOf(entry) > now) found.entries.push(entry);
        else if (entry.id !== null) found.expired.push(entry.id);
      }
    } catch {
      // What can't be read, or something else that is stored there, keeps nothing from being shown.
    }
    return found;
  }

  /** Stores as much of it as there is room for, the newest first. */
  write(ids, entries, now = Date.now()) {
    const plain = entries.map(({ id, keys, title, body, link, severity, until, at, topic, seen, dismissed, away }) => {
      return { id, keys, title, body, link, severity, expires_at: until, at, topic, seen, dismissed, away };
    });
    const known = [...ids];
    const encode = () => JSON.stringify({ at: now, ids: known, entries: plain });
    let text = encode();
    while (text.length > STORED_CHARACTERS_MAX && (plain.pop() || known.shift())) text = encode();
    try {
      if (this.#storage.getItem(this.key) === null) this.#makeRoom();
      this.#storage.setItem(this.key, text);
    } catch {
      // A full storage, or one that the browser has closed, brings a banner back, and that is all.
    }
  }

  remove() {
    try {
      this.#storage.removeItem(this.key);
    } catch {
      // Then nothing was stored either.
    }
  }

  /** Removes what is stored for the users who have not been here for longest. */
  #makeRoom() {
    const age = (key) => {
      try {
        return Number(JSON.parse(this.#storage.getItem(key)).at) || 0;
      } catch {
        return 0;
      }
    };
    const keys = Object.keys(this.#storage).filter((key) => key.startsWith(STORED_PREFIX));
    const oldest = keys.map((key) => [age(key), key]).sort(([one], [other]) => other - one);
    for (const [, key] of oldest.slice(STORED_USERS_MAX - 1)) this.#storage.removeItem(key);
  }
}

export class Notices {
  #bell;
  #panel;
  #storage;
  #store;
  #count = element("span", "notice-count");
  #list = element("ul", "notice-list");
  #none = element("p", "notice-none", "No notifications yet.");
  /** Screen readers hear what is put into these: at once, or when they are done with what they say. */
  #regions = { alert: element("div", "notice-region"), status: element("div", "notice-region") };
  /** What is behind the bell, the newest first. */
  #listed = [];
  /** What has a banner: the gravest first, and then the newest. */
  #shown = [];
  /** The ids of all that have come, with their flags: a kept message comes again with each connection. */
  #ids = new Map();
  /** Ids that are shown when they come again: they have expired here, by a clock that may be wrong. */
  #expired = new Set();
  /** Ids that have come again although they were MISSING. */
  #found = new Set();
  /** The timers of topics whose kept messages are coming, and when they were joined. */
  #settling = new Map();
  /** Tells what this tab has got from what others have, for messages without ids. */
  #tab = Math.random().toString(36).slice(2);
  #received = 0;
  /** What has come is stored when this timer ends. */
  #saving = null;

  /**
   * `user` is the user's id, an empty text for visitors: what is shown to one user is never shown to another. `storage`
   * is where all of it is kept over a change of page: `localStorage` by default, `null` for nowhere. Without a `user`
   * nothing is stored, unless a `storage` is given.
   */
  constructor({ banners, bell, panel, user, storage = user === undefined ? null : sharedStorage() }) {
    [this.#bell, this.#panel] = [bell, panel];
    for (const [role, region] of Object.entries(this.#regions)) {
      region.role = role;
      // Only what has come is read out, not all that is there.
      region.ariaAtomic = "false";
      banners.append(region);
    }
    panel.hidden = true;
    panel.append(this.#none, this.#list);
    if (bell.childElementCount === 0) bell.replaceChildren(drawBell());
    bell.append(this.#count);
    bell.addEventListener("click", () => this.#open(panel.hidden));
    for (const part of [bell, panel]) {
      part.addEventListener("keydown", ({ key }) => {
        if (key !== "Escape" || panel.hidden) return;
        this.#open(false);
        bell.focus();
      });
    }
    document.addEventListener("pointerdown", ({ target }) => {
      if (!bell.contains(target) && !panel.contains(target)) this.#open(false);
    });
    addEventListener("storage", (event) => this.#handleStored(event));
    addEventListener("pagehide", () => this.#saving && this.#save());
    // A page in the back-forward cache hears of nothing.
    addEventListener("pageshow", ({ persisted }) => persisted && this.#recall());
    this.use(user, storage);
  }

  /** Shows what is stored for this user in place of all that is shown, for a page that outlives a sign-in. */
  use(user, storage = this.#storage) {
    if (this.#saving) this.#save();
    this.#clear();
    this.#storage = storage;
    this.#store = storage ? new Store(storage, user ?? "") : null;
    this.#recall();
  }

  /** Removes all that is shown and stored for the user, in every tab, as when the user signs out. */
  forget() {
    this.#store?.remove();
    this.#clear();
    this.#tell();
  }

  /** Notifications that nobody has looked at: neither behind the bell, nor to dismiss them. */
  get unseen() {
    return this.#listed.filter(({ seen }) => !seen).length;
  }

  /** Shows a notification of a topic, unless it has been here before; whether it has not. */
  add(payload, topic = null) {
    const notice = read(payload);
    if (this.#settling.has(topic)) this.#settle(topic);
    if (!this.#isNew(notice, topic)) return false;
    const now = Date.now();
    const keys = notice.id === null ? [this.#newKey()] : [];
    const flags = { seen: false, dismissed: false, away: false };
    const entry = { ...notice, ...flags, keys, topic, at: now, cameAt: performance.now(), item: null, banner: null };
    if (notice.id !== null) this.#mark(notice.id, 0);
    this.#heed(entry);
    this.#insert(entry);
    this.#saveSoon();
    this.#tell();
    return true;
  }

  /** Takes a notification back: it is gone from the banners and from behind the bell. */
  retract(id) {
    if (idOf(id) === null) return;
    // It may still be on its way.
    this.#mark(idOf(id), RETRACTED);
    for (const entry of this.#find(id)) this.#drop(entry);
    this.#saveSoon();
    this.#tell();
  }

  /** Takes a notification's banner away for good; it stays behind the bell. */
  dismiss(id) {
    for (const entry of this.#find(id)) this.#dismiss(entry);
  }

  /**
   * Says that a topic was joined: the server gives all that it keeps for the topic. What it kept before, and does not
   * any more, was retracted while no page was open.
   */
  joined(topic) {
    this.#settling.set(topic, { ...this.#settling.get(topic), since: performance.now() });
    this.#settle(topic);
  }

  #settle(topic) {
    const settling = this.#settling.get(topic);
    clearTimeout(settling.timer);
    settling.timer = setTimeout(() => this.#settled(topic), SETTLE_MS);
  }

  #settled(topic) {
    // Some clients hand on the join's reply behind what came with it.
    const since = this.#settling.get(topic).since - 1_000;
    this.#settling.delete(topic);
    const now = Date.now();
    for (const entry of this.#all()) {
      const isKept = entry.id !== null && entry.topic === topic && entry.until > now;
      if (!isKept || entry.cameAt >= since) continue;
      this.#mark(entry.id, MISSING);
      this.#found.delete(entry.id);
      this.#drop(entry);
    }
    this.#save();
    this.#tell();
  }

  /** Whether a notification is to be shown; one that is there already has come again. */
  #isNew(notice, topic) {
    const { id } = notice;
    if (id === null) return !this.#pair(notice);
    const flags = this.#ids.get(id);
    if (flags & RETRACTED) return false;
    const [entry] = this.#find(id);
    if (entry) {
      Object.assign(entry, { topic, until: notice.until, cameAt: performance.now() });
      return false;
    }
    if (flags & MISSING) {
      this.#found.add(id);
      this.#ids.set(id, flags & ~MISSING);
      return true;
    }
    return flags === undefined || this.#expired.delete(id);
  }

  /** Whether a notification without an id has come to another tab already; that one's entry is then also ours. */
  #pair(notice) {
    const now = Date.now();
    const isOurs = (key) => tabOf(key) === this.#tab;
    const pair = this.#all().findLast((entry) => {
      return entry.id === null && !entry.keys.some(isOurs) && now - entry.at <= TWIN_MS && sayTheSame(entry, notice);
    });
    pair?.keys.push(this.#newKey());
    if (pair) this.#saveSoon();
    return pair !== undefined;
  }

  #newKey() {
    return `${this.#tab}.${++this.#received}`;
  }

  #find(id) {
    return this.#all().filter((entry) => entry.id !== null && entry.id === idOf(id));
  }

  /** All that is shown, the newest first. */
  #all() {
    return [...new Set([...this.#listed, ...this.#shown])].sort((one, other) => other.at - one.at);
  }

  #dismiss(entry) {
    const at = this.#shown.indexOf(entry);
    const next = this.#shown[at + 1] ?? this.#shown[at - 1];
    this.#takeDown(entry, next?.banner.querySelector(".notice-dismiss") ?? this.#bell);
    [entry.seen, entry.dismissed] = [true, true];
    for (const name of namesOf(entry)) this.#mark(name, SEEN | DISMISSED);
    this.#save();
    this.#tell();
  }

  /** Puts an entry behind the bell, and gives it a banner if it is to have one. */
  #insert(entry) {
    if (!this.#panel.hidden) this.#see(entry);
    const found = this.#listed.findIndex(({ at }) => at <= entry.at);
    const place = found === -1 ? this.#listed.length : found;
    if (place < LISTED_MAX) {
      const [drawn, date] = [draw(entry), new Date(entry.at)];
      const time = element("time", "notice-time", timeFormat.format(date));
      time.dateTime = date.toISOString();
      drawn.append(time);
      entry.item = element("li", "");
      entry.item.append(drawn);
      this.#list.insertBefore(entry.item, this.#listed[place]?.item ?? null);
      this.#listed.splice(place, 0, entry);
      for (const old of this.#listed.splice(LISTED_MAX)) this.#remove(old.item);
    }
    const hasPlace = place < LISTED_MAX || entry.severity === "critical";
    if (hasPlace && !entry.dismissed && !entry.away) this.#show(entry);
  }

  /** Gives a notification a banner, in the place of one that matters less if there are many. */
  #show(entry) {
    const { severity } = entry;
    const banner = (entry.banner = draw(entry));
    const button = element("button", "notice-dismiss", "×");
    button.type = "button";
    button.ariaLabel = `Dismiss: ${entry.title || entry.body}`.slice(0, 100);
    button.addEventListener("click", () => this.#dismiss(entry));
    banner.addEventListener("keydown", ({ key }) => key === "Escape" && this.#dismiss(entry));
    banner.append(button);

    const isBehind = (other) => gravityOf(other) - gravityOf(entry) || entry.at - other.at;
    const at = this.#shown.findIndex((other) => isBehind(other) >= 0);
    const place = at === -1 ? this.#shown.length : at;
    const isCritical = severity === "critical";
    const region = this.#regions[isCritical ? "alert" : "status"];
    const next = this.#shown[place]?.banner;
    region.insertBefore(banner, next?.parentElement === region ? next : null);
    this.#shown.splice(place, 0, entry);

    const alike = this.#shown.filter((other) => (other.severity === "critical") === isCritical);
    if (alike.length <= (isCritical ? CRITICAL_MAX : BANNERS_MAX)) return;
    // Nobody is to press a button that has just become another one.
    const displaced = alike.findLast((other) => !other.banner.contains(document.activeElement));
    displaced.away = true;
    this.#takeDown(displaced, this.#bell);
  }

  /** Removes a banner; the focus, if it is there, goes to `heir`. */
  #takeDown(entry, heir) {
    if (!entry.banner) return;
    this.#shown = this.#shown.filter((other) => other !== entry);
    this.#remove(entry.banner, heir);
    entry.banner = null;
  }

  /** Removes an entry from the banners and from behind the bell. */
  #drop(entry) {
    this.#takeDown(entry, this.#bell);
    if (entry.item) this.#remove(entry.item);
    this.#listed = this.#listed.filter((other) => other !== entry);
  }

  #remove(part, heir = this.#bell) {
    const hadFocus = part.contains(document.activeElement);
    part.remove();
    if (hadFocus) heir.focus();
  }

  #open(open) {
    this.#panel.hidden = !open;
    if (open && this.unseen > 0) {
      for (const entry of this.#listed) this.#see(entry);
      this.#save();
    }
    this.#tell();
  }

  #see(entry) {
    entry.seen = true;
    for (const name of namesOf(entry)) this.#mark(name, SEEN);
  }

  /** Says on the bell how many are unseen. */
  #tell() {
    const { unseen } = this;
    this.#count.textContent = unseen || "";
    this.#bell.ariaLabel = unseen ? `Notifications, ${unseen} unseen` : "Notifications";
    this.#bell.ariaExpanded = String(!this.#panel.hidden);
    this.#none.hidden = this.#listed.length > 0;
  }

  /** Adds flags to those of an id, and forgets the oldest ids. */
  #mark(id, flags) {
    this.#ids.set(id, this.#ids.get(id) | flags);
    if (this.#ids.size > REMEMBERED_MAX) this.#ids.delete(this.#ids.keys().next().value);
  }

  /** Does with an entry what the flags of its id say. */
  #heed(entry) {
    const flags = namesOf(entry).reduce((all, name) => all | this.#ids.get(name), 0);
    if (flags & (RETRACTED | MISSING)) this.#drop(entry);
    if (flags & SEEN) entry.seen = true;
    if (flags & DISMISSED) entry.dismissed = true;
    if (entry.dismissed) {
      entry.seen = true;
      this.#takeDown(entry, this.#bell);
    }
  }

  /** Shows what is stored, besides what is shown. */
  #recall() {
    const stored = this.#store?.read();
    if (stored) {
      this.#merge(stored);
      for (const id of stored.expired) this.#expired.add(id);
    }
    this.#tell();
  }

  /** Stores all of it, with what other tabs have stored meanwhile. */
  #save() {
    clearTimeout(this.#saving);
    this.#saving = null;
    if (!this.#store) return;
    this.#merge(this.#store.read());
    this.#store.write(this.#ids, this.#all());
  }

  /** The same for what may come by the hundred. */
  #saveSoon() {
    this.#saving ??= setTimeout(() => this.#save(), GATHER_MS);
  }

  /** Another tab has stored something. */
  #handleStored({ key, newValue, storageArea }) {
    if (!this.#store || storageArea !== this.#storage || (key !== null && key !== this.#store.key)) return;
    if (newValue === null) {
      this.#clear();
      this.#tell();
      return;
    }
    this.#merge(this.#store.read());
    // What comes while this tab's list is open is seen here; the others hear of it, once.
    if (!this.#panel.hidden) this.#open(true);
    this.#tell();
  }

  #merge({ ids, entries }) {
    for (const [id, flags] of ids) this.#mark(id, this.#found.has(id) ? flags & ~MISSING : flags);
    for (const stored of [...entries].reverse()) {
      const own = this.#twinOf(stored);
      if (own) {
        own.keys = [...new Set([...own.keys, ...stored.keys])].slice(0, 10);
        // The tab that has got it first says when: so all of them come to the same order.
        own.at = Math.min(own.at, stored.at);
        own.seen ||= stored.seen;
        own.dismissed ||= stored.dismissed;
      } else if (!((this.#ids.get(stored.id) ?? 0) & (RETRACTED | MISSING))) {
        this.#heed(stored);
        this.#insert(stored);
      }
    }
    for (const entry of this.#all()) this.#heed(entry);
    this.#sort();
  }

  /** Puts what has been found to be older in its place. */
  #sort() {
    const isSorted = this.#listed.every(({ at }, place) => place === 0 || at <= this.#listed[place - 1].at);
    if (isSorted) return;
    this.#listed.sort((one, other) => other.at - one.at);
    this.#list.append(...this.#listed.map(({ item }) => item));
    const banners = this.#shown.map(({ banner }) => banner);
    // An element that is moved loses the focus.
    if (banners.some((banner) => banner.contains(document.activeElement))) return;
    this.#shown.sort((one, other) => gravityOf(one) - gravityOf(other) || other.at - one.at);
    for (const { banner } of this.#shown) banner.parentElement.append(banner);
  }

  /** The entry that shows what a stored one is about. */
  #twinOf(stored) {
    if (stored.id !== null) return this.#find(stored.id)[0];
    const others = this.#all().filter(({ id }) => id === null);
    const same = others.find(({ keys }) => keys.some((key) => stored.keys.includes(key)));
    const tabs = new Set(stored.keys.map(tabOf));
    const isTwin = (entry) => {
      const isElsewhere = !entry.keys.some((key) => tabs.has(tabOf(key)));
      return isElsewhere && Math.abs(entry.at - stored.at) <= TWIN_MS && sayTheSame(entry, stored);
    };
    return same ?? others.findLast(isTwin);
  }

  /** Removes all that is shown and known. */
  #clear() {
    for (const entry of this.#all()) this.#drop(entry);
    clearTimeout(this.#saving);
    this.#saving = null;
    for (const { timer } of this.#settling.values()) clearTimeout(timer);
    for (const known of [this.#ids, this.#expired, this.#found, this.#settling]) known.clear();
  }
}

// Notifications as an application shows them: banners by severity, and a bell with the last ones. Where they come
// from is for others to know:
//
//   const notices = new Notices({ banners, bell, panel, storage: sessionStorage });
//   channel.on("new_msg", (payload) => isNotification(payload) && notices.add(payload));
//   channel.on("retract", ({ id }) => notices.retract(id));
//
// A notification is `{ body, title, link, severity, id }`, any of which may be missing. `banners` and `panel` are
// empty elements and `bell` is a button; the look of a notification is in notice.css.

/** The gravest first; what has another severity, or none, is taken for the last. */
const SEVERITIES = { critical: "Critical", warning: "Warning", info: "Information" };
const GRAVITY = Object.keys(SEVERITIES);
/** Notifications behind the bell; older ones are dropped. */
const LISTED_MAX = 20;
/** Banners that others may take the place of, and those that stay until they are dismissed. */
const [BANNERS_MAX, CRITICAL_MAX] = [3, 20];
/** Ids that are known, and those of dismissed ones; the oldest are forgotten. */
const REMEMBERED_MAX = 500;
/** Where the ids of dismissed ones are stored. */
const DISMISSED_KEY = "hailer:dismissed";

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
  return typeof id === "string" || typeof id === "number" ? String(id) : null;
}

/** What is known of a notification whose sender may have said anything. */
function read({ id, title, body, link, severity }) {
  return {
    id: idOf(id),
    title: typeof title === "string" ? title : "",
    body: typeof body === "string" ? body : (JSON.stringify(body ?? undefined) ?? ""),
    url: destination(link),
    severity: GRAVITY.includes(severity) ? severity : "info",
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

/** Adds an id to a set that forgets its oldest. */
function remember(ids, id) {
  ids.add(id);
  if (ids.size > REMEMBERED_MAX) ids.delete(ids.values().next().value);
}

export class Notices {
  #bell;
  #panel;
  #storage;
  #count = element("span", "notice-count");
  #list = element("ul", "notice-list");
  #none = element("p", "notice-none", "No notifications yet.");
  /** Screen readers hear what is put into these: at once, or when they are done with what they say. */
  #regions = { alert: element("div", "notice-region"), status: element("div", "notice-region") };
  /** What is behind the bell, the newest first. */
  #listed = [];
  /** What has a banner: the gravest first, and then the newest. */
  #shown = [];
  /** The ids of all that have come: a kept message comes again with each connection. */
  #known = new Set();
  #dismissed = new Set();

  /** `storage` keeps over a reload what was dismissed, as `sessionStorage` does. */
  constructor({ banners, bell, panel, storage }) {
    [this.#bell, this.#panel, this.#storage] = [bell, panel, storage];
    for (const [role, region] of Object.entries(this.#regions)) {
      region.role = role;
      // Only what has come is read out, not all that is there.
      region.ariaAtomic = "false";
      banners.append(region);
    }
    this.#recall();
    panel.hidden = true;
    panel.append(this.#none, this.#list);
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
    this.#open(false);
  }

  /** Notifications that nobody has looked at: neither behind the bell, nor to dismiss them. */
  get unseen() {
    return this.#listed.filter(({ seen }) => !seen).length;
  }

  /** Shows a notification, unless it has been here before; whether it has not. */
  add(payload) {
    const notice = read(payload);
    const { id } = notice;
    if (id !== null) {
      if (this.#known.has(id)) return false;
      remember(this.#known, id);
    }
    const isDismissed = this.#dismissed.has(id);
    const entry = { ...notice, seen: isDismissed || !this.#panel.hidden, item: element("li", ""), banner: null };
    const [drawn, now] = [draw(notice), new Date()];
    const time = element("time", "notice-time", timeFormat.format(now));
    time.dateTime = now.toISOString();
    drawn.append(time);
    entry.item.append(drawn);
    this.#listed.unshift(entry);
    this.#list.prepend(entry.item);
    for (const old of this.#listed.splice(LISTED_MAX)) this.#remove(old.item);
    if (!isDismissed) this.#show(entry);
    this.#tell();
    return true;
  }

  /** Takes a notification back: it is gone from the banners and from behind the bell. */
  retract(id) {
    if (idOf(id) === null) return;
    // It may still be on its way.
    remember(this.#known, idOf(id));
    for (const entry of this.#find(id)) {
      this.#takeDown(entry, this.#bell);
      this.#remove(entry.item);
      this.#listed = this.#listed.filter((other) => other !== entry);
    }
    this.#tell();
  }

  /** Takes a notification's banner away for good; it stays behind the bell. */
  dismiss(id) {
    for (const entry of this.#find(id)) this.#dismiss(entry);
  }

  #find(id) {
    const entries = new Set([...this.#listed, ...this.#shown]);
    return [...entries].filter((entry) => entry.id !== null && entry.id === idOf(id));
  }

  #dismiss(entry) {
    const at = this.#shown.indexOf(entry);
    const next = this.#shown[at + 1] ?? this.#shown[at - 1];
    this.#takeDown(entry, next?.banner.querySelector(".notice-dismiss") ?? this.#bell);
    entry.seen = true;
    if (entry.id !== null) {
      remember(this.#dismissed, entry.id);
      this.#store();
    }
    this.#tell();
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

    const gravity = (other) => GRAVITY.indexOf(other.severity);
    const at = this.#shown.findIndex((other) => gravity(other) >= gravity(entry));
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
    this.#takeDown(displaced, this.#bell);
  }

  /** Removes a banner; the focus, if it is there, goes to `heir`. */
  #takeDown(entry, heir) {
    if (!entry.banner) return;
    this.#shown = this.#shown.filter((other) => other !== entry);
    this.#remove(entry.banner, heir);
    entry.banner = null;
  }

  #remove(part, heir = this.#bell) {
    const hadFocus = part.contains(document.activeElement);
    part.remove();
    if (hadFocus) heir.focus();
  }

  #open(open) {
    this.#panel.hidden = !open;
    if (open) for (const entry of this.#listed) entry.seen = true;
    this.#tell();
  }

  /** Says on the bell how many are unseen. */
  #tell() {
    const { unseen } = this;
    this.#count.textContent = unseen || "";
    this.#bell.ariaLabel = unseen ? `Notifications, ${unseen} unseen` : "Notifications";
    this.#bell.ariaExpanded = String(!this.#panel.hidden);
    this.#none.hidden = this.#listed.length > 0;
  }

  #recall() {
    try {
      const ids = JSON.parse(this.#storage?.getItem(DISMISSED_KEY) ?? "[]");
      for (const id of ids) if (typeof id === "string") remember(this.#dismissed, id);
    } catch {
      // What somebody else has written there is no reason to show nothing.
    }
  }

  #store() {
    try {
      this.#storage?.setItem(DISMISSED_KEY, JSON.stringify([...this.#dismissed]));
    } catch {
      // A full storage brings a banner back, and that is all.
    }
  }
}

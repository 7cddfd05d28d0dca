// What makes the back office's pages live: figures that change, times as the browser's own. Every page works without.
import { Socket } from "./client.js";
import { keepDraft } from "./draft.js";
import { ask, signInLink, whenOver } from "./session.js";

const find = (id) => document.getElementById(id);

// Times

const shownTime = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });

for (const time of document.querySelectorAll("time[datetime]")) {
  const date = new Date(time.dateTime);
  if (Number.isNaN(date.getTime())) continue;
  time.title = time.textContent;
  time.textContent = shownTime.format(date);
}

const sendAt = find("send_at");
if (sendAt) {
  const [offset, zone] = [find("offset"), find("zone")];
  zone.textContent = `(${Intl.DateTimeFormat().resolvedOptions().timeZone})`;
  // The difference to UTC is that of the day chosen, which may have another than today.
  const say = () => {
    const date = new Date(sendAt.value);
    offset.value = Number.isNaN(date.getTime()) ? "" : date.getTimezoneOffset();
  };
  for (const event of ["submit", "carry"]) sendAt.form.addEventListener(event, say);
}

// The fields of a choice are there when it is chosen, and are not sent otherwise.

const composing = document.querySelector("form.compose");

function showChosen() {
  const { to, when } = composing.elements;
  for (const part of composing.querySelectorAll("[data-of]")) {
    const isChosen = [to.value, when.value].includes(part.dataset.of);
    part.hidden = !isChosen;
    for (const field of part.querySelectorAll("input")) field.disabled = !isChosen;
  }
}

if (composing) {
  const { lifetime, lifetime_unit: unit } = composing.elements;
  // What the server has refused stays in sight until something else is chosen.
  if (!composing.querySelector("[data-of] [aria-invalid]")) showChosen();
  // Who clicks on a choice goes on with its field; by keyboard, the arrows go through the choices.
  let isPointed = false;
  composing.addEventListener("pointerdown", () => (isPointed = true));
  composing.addEventListener("keydown", () => (isPointed = false));
  for (const name of ["to", "when"]) {
    for (const choice of composing.elements[name]) {
      choice.addEventListener("change", () => {
        showChosen();
        const field = isPointed ? composing.querySelector(`[data-of="${choice.value}"] input`) : null;
        // A label gives the focus to its choice first.
        if (field) setTimeout(() => field.focus());
      });
    }
  }
  lifetime.addEventListener("input", () => {
    if (lifetime.value && unit.value === "none") unit.value = "minutes";
  });
  unit.addEventListener("change", () => {
    if (unit.value === "none") lifetime.value = "";
  });
  // Some browsers fill in what was there before a reload once the page has loaded.
  addEventListener("pageshow", () => composing.querySelector("[data-of] [aria-invalid]") || showChosen());
}
keepDraft(() => showChosen());

// Live figures

const live = find("live");
const number = new Intl.NumberFormat();
const socket = new Socket("/admin/socket");

/** Whether there was a connection: from then on its loss is worth a word. */
let wasLive = false;

/** Whether the session has ended: then there is no use in trying. */
let isOver = false;

socket.onstate = (state) => {
  wasLive ||= state === "connected";
  live.dataset.state = state === "connected" ? "live" : "lost";
  if (state === "offline") live.replaceChildren("Not live: ", signInLink("sign in again"));
  else live.textContent = { connected: "Live", waiting: "Not live: trying again" }[state] ?? (wasLive ? "Reconnecting…" : "Connecting…");
  // A server that has restarted knows no session of before, and a socket is not told why it is refused.
  if (!isOver && (state === "offline" || state === "waiting")) ask();
};

whenOver.add(() => {
  isOver = true;
  socket.disconnect();
});

const overview = socket.channel("admin:overview");
overview.on("overview", ({ websocket, longpoll, topics }) => {
  find("overview").hidden = false;
  find("online-topics-line").hidden = false;
  find("online-topics-noun").textContent = topics === 1 ? "topic" : "topics";
  for (const [id, value] of Object.entries({ "online-websocket": websocket, "online-longpoll": longpoll, "online-topics": topics })) {
    find(id).textContent = number.format(value);
  }
});
overview.join();

// How far a message has got

const FIGURES = ["addressed", "written", "behind", "received", "gone"];
/** What is spoken changes no oftener than that, so that a screen reader can keep up. */
const SPEAK_MS = 5_000;
/** Points of the chart; beyond, every other one is left out. */
const POINTS_MAX = 240;
/** A message that was sent so lately is drawn from its beginning; of an older one, what came before is not known. */
const FRESH_MS = 10_000;

function follow(section) {
  const chart = new Chart(find("chart"));
  const age = Number(section.dataset.age);
  if (age < FRESH_MS) chart.add({ addressed: 0, written: 0, received: 0, behind: 0, gone: 0 }, -age);
  const [refresh, spoken] = [find("refresh"), find("spoken")];
  let last = null;
  let spokenAt = -Infinity;
  const channel = socket.channel(`admin:message:${section.dataset.message}`);
  channel.on("progress", (progress) => {
    last = progress;
    refresh.hidden = true;
    show(progress);
    chart.add(progress);
    if (progress.done || performance.now() - spokenAt >= SPEAK_MS) {
      spokenAt = performance.now();
      spoken.textContent = sentence(progress);
    }
  });
  channel.join();
  // A line that grows while nothing changes shows that time passes.
  const ticking = setInterval(() => {
    if (last?.done) clearInterval(ticking);
    else if (last) chart.add(last);
  }, 1_000);
}

function sentence({ addressed, written, received, behind, gone, done }) {
  const figures = `Written to ${written} of ${addressed}, received by ${received}, ${behind} still behind, ${gone} gone.`;
  return done ? `${figures} Counting is over.` : figures;
}

function show(progress) {
  for (const name of FIGURES) find(name).textContent = number.format(progress[name]);
  for (const name of ["addressed", "written", "received"]) find(`${name}-text`).textContent = number.format(progress[name]);
  for (const name of ["written", "received"]) {
    const bar = find(`${name}-bar`);
    bar.max = Math.max(1, progress.addressed);
    bar.value = progress[name];
  }
  find("delivery").dataset.done = progress.done;
}

/** Two lines over time: to how many it was written, and how many have received it. */
class Chart {
  static #WIDTH = 600;
  static #HEIGHT = 140;
  #points = [];
  #lines = {};
  #svg;
  #place;
  #time = document.createElement("span");
  #began = performance.now();

  constructor(place) {
    this.#place = place;
    place.hidden = true;
    const make = (name, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      return element;
    };
    const [width, height] = [Chart.#WIDTH, Chart.#HEIGHT];
    this.#svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", preserveAspectRatio: "none" });
    this.#svg.append(make("line", { class: "axis", x1: 0, y1: height - 1, x2: width, y2: height - 1 }));
    for (const name of ["written", "received"]) {
      this.#lines[name] = make("polyline", { class: `line ${name}`, points: "" });
      this.#svg.append(this.#lines[name]);
    }
    const legend = document.createElement("p");
    legend.className = "legend";
    for (const [name, label] of [["written", "written"], ["received", "received"]]) {
      const entry = document.createElement("span");
      entry.className = name;
      entry.textContent = label;
      legend.append(entry, " ");
    }
    legend.append(this.#time);
    place.append(this.#svg, legend);
  }

  /** One more point, of this time or of `at` milliseconds from the chart's beginning. */
  add(progress, at = performance.now() - this.#began) {
    this.#points.push({ at, ...progress });
    // One point is no line.
    this.#place.hidden = this.#points.length < 2;
    if (this.#points.length > POINTS_MAX) this.#points = this.#points.filter((_, i) => i % 2 === 1);
    const [first, latest] = [this.#points[0], this.#points.at(-1)];
    const span = Math.max(1, latest.at - first.at);
    const most = Math.max(1, ...this.#points.map(({ addressed }) => addressed));
    for (const [name, line] of Object.entries(this.#lines)) {
      const place = (point) => {
        const x = ((point.at - first.at) / span) * Chart.#WIDTH;
        const y = (Chart.#HEIGHT - 4) * (1 - point[name] / most) + 2;
        return `${x.toFixed(1)},${y.toFixed(1)}`;
      };
      line.setAttribute("points", this.#points.map(place).join(" "));
    }
    const seconds = number.format((span / 1_000).toFixed(1));
    this.#time.textContent = `over ${seconds} s`;
    this.#svg.setAttribute("aria-label", `Chart of ${seconds} s: ${sentence(latest)}`);
  }
}

const delivery = find("delivery");
if (delivery?.dataset.message) follow(delivery);

addEventListener("pagehide", () => socket.disconnect());
addEventListener("pageshow", (event) => {
  if (event.persisted && !isOver) socket.connect();
});
addEventListener("online", () => {
  if (socket.state === "waiting") socket.connect();
});

socket.connect();

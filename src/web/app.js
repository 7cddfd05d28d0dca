// The demo page: one room, whose messages are shown in every open tab.
import { Automatic, Socket, longPoll, webSocket } from "./client.js";
import { Notices, isNotification } from "./notices.js";

/** Messages kept on the page; older ones are dropped. */
const MESSAGES_MAX = 200;
/** How long arriving messages are gathered before the page is touched: one frame. */
const GATHER_MS = 16;

const find = (id) => document.getElementById(id);
const [pill, state, transport, announcement] = ["pill", "state", "transport", "announcement"].map(find);
const [connect, log, form, message, notice] = ["connect", "log", "form", "message", "notice"].map(find);
const [choice, tokenField] = ["choice", "token"].map(find);
const [banners, bell, panel] = ["banners", "bell", "panel"].map(find);
const notices = new Notices({ banners, bell, panel });
const timeFormat = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** What the page's address may ask for behind its #; nothing there leaves it to the page. */
const TRANSPORTS = { "": new Automatic(), websocket: webSocket, longpoll: longPoll };

/** Where a tab keeps its token: it is gone with the tab. */
const TOKEN_KEY = "hailer:token";

/** The transport that the address asks for, by its name in `TRANSPORTS`. */
function wanted() {
  const name = location.hash.slice(1);
  return Object.hasOwn(TRANSPORTS, name) ? name : "";
}

/** Takes a token out of the address, `#token=…`, where it would stay for all to see; whether there was one. */
function takeToken() {
  if (!location.hash.startsWith("#token=")) return false;
  sessionStorage.setItem(TOKEN_KEY, location.hash.slice("#token=".length));
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

takeToken();

/** The parameters of each connection: the token, if there is one. */
function params() {
  const token = sessionStorage.getItem(TOKEN_KEY);
  return token ? { token } : {};
}

/** The user that a token names. Whether that is true is for the server to say. */
function userOf(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    return typeof sub === "string" ? sub : null;
  } catch {
    return null;
  }
}

const LOBBY = "room:lobby";
const socket = new Socket("/socket", { params, transport: TRANSPORTS[wanted()] });
const room = socket.channel(LOBBY);
/** The user's own topic, where there is a user. */
let own = null;

/** Joins the topic of the token's user, and leaves that of an earlier one. */
function joinOwn() {
  own?.leave();
  const user = userOf(params().token ?? "");
  // Tabs without a user are different customers, each with notifications of its own.
  notices.use(user, user === null ? sessionStorage : localStorage);
  const topic = `user:${user}`;
  own = user === null ? null : socket.channel(topic);
  if (own) {
    listen(own, topic, { private: true });
    own.onstate = (name) => name === "joined" && notices.joined(topic);
  }
  own?.join();
}

// The connection

/** Whether the room was joined once: from then on the page speaks of reconnecting. */
let wasJoined = false;
let countdown = null;

function showState(name, text) {
  const changed = pill.dataset.state !== name;
  pill.dataset.state = name;
  state.textContent = text;
  transport.textContent = name === "connected" ? socket.transport : "";
  connect.hidden = name === "connected" || name === "connecting";
  // The seconds count down for the eye only; a screen reader hears of changes.
  if (changed) announcement.textContent = name === "reconnecting" ? "Connection lost, reconnecting" : text;
}

function showConnection(retryMs = 0) {
  clearInterval(countdown);
  if (socket.state === "offline" || room.state === "closed") {
    showState("offline", "Offline");
  } else if (room.state === "joined") {
    wasJoined = true;
    showState("connected", "Connected");
  } else if (socket.state === "waiting") {
    const retryAt = performance.now() + retryMs;
    const tick = () => {
      const seconds = Math.max(1, Math.ceil((retryAt - performance.now()) / 1000));
      showState("reconnecting", `Reconnecting in ${seconds} s`);
    };
    tick();
    countdown = setInterval(tick, 250);
  } else if (wasJoined) {
    showState("reconnecting", "Reconnecting…");
  } else {
    showState("connecting", "Connecting…");
  }
  if (socket.state === "waiting" && !wasJoined) {
    notice.textContent = "The server can't be reached, or wants another token than it was given: set one below.";
  }
}

socket.onstate = (_, { retryMs }) => showConnection(retryMs);

room.onstate = (name, { reason }) => {
  if (name === "joined") {
    notice.textContent = "";
    notices.joined(LOBBY);
  }
  if (name === "waiting") notice.textContent = `The server did not let you into the room: ${reason}.`;
  if (name === "closed") notice.textContent = "The server closed the room.";
  // While the socket waits, its own state is on the page, with the seconds left.
  if (socket.state === "connected") showConnection();
};

connect.addEventListener("click", () => {
  room.join();
  socket.connect();
  // The button is about to hide and must not take the focus along.
  message.focus();
});
// A choice is kept in the address, so that each tab has its own and a link can ask for one.
choice.value = wanted();
choice.addEventListener("change", () => {
  history.replaceState(null, "", choice.value ? `#${choice.value}` : location.pathname + location.search);
  socket.use(TRANSPORTS[choice.value]);
});
/** Connects as whom the tab's token names. */
function useToken() {
  tokenField.value = params().token ?? "";
  notice.textContent = "";
  joinOwn();
  socket.disconnect();
  socket.connect();
}

tokenField.addEventListener("change", () => {
  sessionStorage.setItem(TOKEN_KEY, tokenField.value.trim());
  useToken();
});
addEventListener("hashchange", () => {
  if (takeToken()) useToken();
  choice.value = wanted();
  socket.use(TRANSPORTS[choice.value]);
});
addEventListener("online", () => {
  if (socket.state === "waiting") socket.connect();
});
// A page in the back-forward cache may not hold a connection.
addEventListener("pagehide", () => socket.disconnect());
addEventListener("pageshow", (event) => {
  if (event.persisted) socket.connect();
});

// Messages that arrive

/** Whether the newest message is in view, and so shall be the next; who has scrolled up reads in peace. */
let following = true;
let arrived = [];
let gathering = null;
/** Texts sent from here that have not come back yet: the room answers only what it refuses. */
const unconfirmed = [];

function receive(body, origin = {}) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const mine = unconfirmed.indexOf(text);
  if (mine !== -1) unconfirmed.splice(mine, 1);
  arrived.push(line(text, new Date(), origin));
  if (arrived.length > MESSAGES_MAX) arrived.shift();
  gathering ??= setTimeout(showArrived, GATHER_MS);
}

function line(text, time, origin) {
  const stamp = document.createElement("time");
  stamp.dateTime = time.toISOString();
  stamp.textContent = timeFormat.format(time);
  const body = document.createElement("span");
  body.className = "body";
  // The text of strangers: it is text and never becomes markup.
  body.textContent = text;
  const row = document.createElement("p");
  row.append(stamp, " ");
  if (origin.private) {
    const mark = document.createElement("span");
    mark.className = "private";
    mark.textContent = "for you";
    row.append(mark, " ");
  }
  row.append(body);
  return row;
}

function showArrived() {
  log.append(...arrived);
  while (log.childElementCount > MESSAGES_MAX) log.firstElementChild.remove();
  arrived = [];
  gathering = null;
  follow();
}

function follow() {
  if (following) log.scrollTop = log.scrollHeight;
}

log.addEventListener("scroll", () => {
  following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});
// A notice of two lines or a phone's keyboard takes space from the log.
new ResizeObserver(follow).observe(log);

/** Has what comes on a channel shown: as a notification, or as a line of talk. */
function listen(channel, topic, origin) {
  channel.on("new_msg", (payload) => {
    if (isNotification(payload)) notices.add(payload, topic);
    else receive(payload?.body, origin);
  });
  channel.on("retract", (payload) => notices.retract(payload?.id));
}

listen(room, LOBBY);

// Messages that are sent

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = message.value.trim();
  if (!text) return;
  if (room.state !== "joined") {
    notice.textContent = "Not connected: your message stays here until you can send it.";
    return;
  }
  message.value = "";
  notice.textContent = "";
  unconfirmed.push(text);
  try {
    await room.push("new_msg", { body: text });
  } catch (error) {
    showFailure(error, text);
  }
});

function showFailure(error, text) {
  const place = unconfirmed.indexOf(text);
  // It has come back, so it was sent.
  if (place === -1) return;
  unconfirmed.splice(place, 1);
  if (!message.value) message.value = text;
  notice.textContent =
    error.kind === "refused"
      ? `The server refused the message: ${error.message}.`
      : "The message may not have been sent: the connection failed before it came back.";
}

room.join();
useToken();

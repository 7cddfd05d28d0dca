// What is measured: for each case the words of `hailer bench` and the servers that it makes sense for; where servers can
// take turns, the words for that as well, and the messages or clients of one turn.

const SIZES = [64, 512];
const SUBSCRIBERS = [1_000, 10_000, 18_000];
const TOGETHER = [1, 2, 5, 10, 20, 50, 100];

/// A second or so of publishing for each run: processor time is told in nanoseconds, and what disturbs is evened out
/// by rounds, not by long runs.
const DELIVERIES = 400_000;

/// Deliveries of one turn, when servers take turns.
const TURN_DELIVERIES = 40_000;

/// Clients in a second where their coming is not what is measured.
const CONNECT_RATE = 10_000;

const messages = (clients, quick) => Math.max(10, Math.round(DELIVERIES / clients / (quick ? 4 : 1)));

const single = SIZES.flatMap((bytes) =>
  SUBSCRIBERS.map((clients) => ({
    group: "single",
    name: `${bytes} B to ${clients.toLocaleString("en")}`,
    clients,
    amount: Math.round(TURN_DELIVERIES / clients),
    demanded: ["fan-out", "--connect-rate", CONNECT_RATE, "--bytes", bytes],
    words: (quick) => [
      "fan-out", "--closed", "--connect-rate", CONNECT_RATE, "--bytes", bytes, "--messages", messages(clients, quick),
    ],
  })),
);

const burst = TOGETHER.map((together) => ({
  group: "burst",
  name: `k = ${together}`,
  clients: 10_000,
  amount: Math.max(together, Math.round(TURN_DELIVERIES / 10_000)),
  demanded: ["burst", "--connect-rate", CONNECT_RATE, "--burst", together, "--bytes", 64],
  words: (quick) => {
    const bursts = Math.max(4, Math.round(messages(10_000, quick) / Math.sqrt(together)));
    return ["burst", "--connect-rate", CONNECT_RATE, "--burst", together, "--bytes", 64, "--messages", bursts * together];
  },
}));

/// Clients that connect (and join) at a rate, 0 being as fast as they can, and do nothing for a time.
const comingIn = (group, name, rate, time) => {
  const demanded = ["idle", "--connect-rate", rate];
  return { group, name, clients: 10_000, amount: 2_000, demanded, words: () => [...demanded, "--duration", time] };
};

/// All cases, in the order of the tables.
export const CASES = [
  ...single,
  ...burst,
  {
    group: "overload",
    name: "300/s to 2,000",
    clients: 2_000,
    words: (quick) => ["fan-out", "--connect-rate", CONNECT_RATE, "--rate", 300, "--bytes", 64, "--duration", quick ? "4s" : "10s"],
  },
  comingIn("idle", "10,000 idle", 5_000, "2s"),
  comingIn("storm", "10,000 at once", 0, "1s"),
  {
    group: "heartbeats",
    name: "15,000 idle, a heartbeat each in 30 s",
    clients: 15_000,
    // A plain WebSocket has no heartbeats.
    protocol: "phoenix",
    words: (quick) => ["idle", "--duration", quick ? "35s" : "65s"],
  },
  {
    group: "churn",
    name: "500/s come and go beside 1,000",
    clients: 1_000,
    words: (quick) => ["churn", "--churn-rate", 500, "--duration", quick ? "3s" : "10s"],
  },
  {
    group: "slow",
    name: "20 of 200 stop reading, 500 × 16 KiB",
    clients: 200,
    words: () => ["slow-readers", "--slow-percent", 10, "--bytes", 16_384, "--messages", 500],
  },
];

const groupsOf = (cases) => [...new Set(cases.map((one) => one.group))];

export const GROUPS = groupsOf(CASES);

/// Those in which servers can take turns.
export const TURN_GROUPS = groupsOf(CASES.filter((one) => one.demanded));

/// Whether the server speaks what the case is about.
export const suits = (one, server) => !one.protocol || one.protocol === server.protocol;

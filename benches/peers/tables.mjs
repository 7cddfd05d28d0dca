// Medians of what was measured, as tables in Markdown: servers as rows, cases as columns.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { CASES } from "./cases.mjs";
import { SERVERS } from "./servers.mjs";

const cpu = (figures) => figures.user_micros + figures.system_micros;

/// The percentile in microseconds; the tool gives 50, 75, 90, 99, 99.9, 99.99 and 100.
const percentile = (latency, at) => latency?.percentiles[at] ?? Number.NaN;

/// What is told of each group: `of` takes it from an outcome, and `base` is the server that others are compared with,
/// in the same round.
const FIGURES = [
  {
    group: "single",
    title: "One message at a time: processor time of the server for each delivery, µs",
    of: (outcome) => outcome.server?.micros_per_delivery,
    base: "floor",
  },
  {
    group: "single",
    title: "One message at a time: until the last subscriber has it, median, ms",
    of: (outcome) => percentile(outcome.deliveries.last, 0) / 1000,
    base: "floor",
  },
  {
    group: "burst",
    title: "k messages at once to 10,000: processor time of the server for each delivery, µs",
    of: (outcome) => outcome.server?.micros_per_delivery,
    base: "floor-coalesce",
  },
  {
    group: "overload",
    title: "Overload: deliveries in a second, thousands",
    of: (outcome) => outcome.deliveries.per_second / 1000,
    base: "floor-coalesce",
  },
  {
    group: "overload",
    title: "Overload: 99th percentile, ms",
    of: (outcome) => percentile(outcome.deliveries.latency, 3) / 1000,
    base: "floor-coalesce",
  },
  {
    group: "idle",
    title: "Resident memory of the server for each idle client, bytes",
    of: (outcome) => outcome.server?.rss_per_client,
  },
  {
    group: "idle",
    title: "Connecting (and joining): processor time of the server for each client, µs",
    of: (outcome) => outcome.server?.micros_per_join,
    base: "floor",
  },
  {
    group: "storm",
    title: "Connecting (and joining) as fast as it goes: processor time of the server for each client, µs",
    of: (outcome) => outcome.server?.micros_per_join,
    base: "floor",
  },
  {
    group: "heartbeats",
    title: "Processor time of the server for each heartbeat, µs",
    of: (outcome) => outcome.server && cpu(outcome.server.measured) / outcome.heartbeats?.count,
    base: "floor-phoenix",
  },
  {
    // With each of many goes time in which the machine was away, and which counts as the server's.
    group: "heartbeats",
    title: "The same: involuntary switches of the server meanwhile",
    of: (outcome) => outcome.server?.measured.involuntary_switches,
  },
  {
    group: "churn",
    title: "Coming and going: processor time of the server for each client, µs",
    of: (outcome) => outcome.server && cpu(outcome.server.measured) / outcome.returns?.back,
    base: "floor-phoenix",
  },
  {
    group: "slow",
    title: "Slow readers: growth of the server's resident memory for each, KB",
    of: (outcome) => outcome.slow?.rss_growth_per_reader / 1000,
  },
];

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/// Three figures, and no more than are known.
function short(value) {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toFixed(digits).replace(/\B(?=(\d{3})+$)/, ",");
}

function hasLost({ deliveries, errors }) {
  const { lost, doubled, out_of_order } = deliveries;
  return lost + doubled + out_of_order > 0 || Object.keys(errors).length > 0;
}

/// One figure of one server in one case: the median, how it stands to the base, and how many runs were not right.
function cell(runs, server, figure) {
  const mine = runs.filter((run) => run.settings.server === server);
  const known = mine.filter((run) => Number.isFinite(figure.of(run)));
  if (known.length === 0) return mine.length === 0 ? "" : "?";
  let text = short(median(known.map(figure.of)));
  const ratios = known.flatMap((run) => {
    const base = runs.find(
      (other) => other.settings.server === figure.base && other.settings.round === run.settings.round,
    );
    const value = base && figure.of(base);
    return Number.isFinite(value) && value > 0 ? [figure.of(run) / value] : [];
  });
  if (ratios.length > 0) text += ` (${median(ratios).toFixed(2)})`;
  const wrong = mine.filter(hasLost).length;
  return wrong > 0 ? `${text} !${wrong}` : text;
}

function table(outcomes, figure) {
  const mine = outcomes.filter((outcome) => outcome.settings.group === figure.group);
  const cases = CASES.map((one) => one.name).filter((name) => mine.some((run) => run.settings.case === name));
  if (cases.length === 0 || !mine.some((run) => Number.isFinite(figure.of(run)))) return "";
  const known = new Set([...Object.keys(SERVERS), ...mine.map((run) => run.settings.server)]);
  const servers = [...known].filter((name) => mine.some((run) => run.settings.server === name));
  const rounds = new Set(mine.map((run) => run.settings.round)).size;
  const ratio = servers.includes(figure.base) ? `; in brackets × ${figure.base} in the same round` : "";
  const rows = servers.map((server) => {
    const cells = cases.map((name) => cell(mine.filter((run) => run.settings.case === name), server, figure));
    return [server, ...cells];
  });
  const lines = [["server", ...cases], cases.map(() => "---").concat("---"), ...rows];
  const body = lines.map((line) => `| ${line.join(" | ")} |`).join("\n");
  return `### ${figure.title}\n\n${rounds === 1 ? "One round" : `Medians of ${rounds} rounds`}${ratio}.\n\n${body}\n`;
}

/// What one turn has come to, as an outcome. A turn with something lost, doubled or out of order fails its run.
function ofTurn({ labels, deliveries, clients, seconds, server_cpu_micros: micros }) {
  const each = (count) => (count > 0 ? micros / count : Number.NaN);
  return {
    settings: labels,
    server: { micros_per_delivery: each(deliveries), micros_per_join: each(clients) },
    deliveries: { per_second: deliveries / seconds },
    errors: {},
  };
}

/// The tables of the outcomes in a folder. `!n` stands where n runs lost, doubled or swapped messages or had errors.
export function tables(folder) {
  const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
  const read = names.map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")));
  const outcomes = read.flatMap((one) => (Array.isArray(one) ? one.map(ofTurn) : [one]));
  return FIGURES.map((figure) => table(outcomes, figure)).filter(Boolean).join("\n");
}

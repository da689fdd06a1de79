// Numbers for people: three digits, and a unit that fits.

const NONE = "–";
const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

const digits = (value) => (value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2));

export const count = (value) => (value == null ? NONE : plain.format(value));

export const short = (value) => (value == null ? NONE : value < 10000 ? plain.format(value) : compact.format(value));

export const percent = (part) => (part == null ? NONE : part > 0 && part < 0.01 ? "< 1 %" : `${Math.round(part * 100)} %`);

export function rate(value) {
  if (value == null) return NONE;
  if (value === 0) return "0 /s";
  return value < 99.95 ? `${digits(value)} /s` : `${short(value)} /s`;
}

/** How long something took: 85 µs, 1.25 ms, 3.50 s. */
export function seconds(value) {
  if (value == null) return NONE;
  if (value === 0) return "0 ms";
  if (value < 0.9995e-3) return `${Math.max(1, value * 1e6).toFixed(0)} µs`;
  if (value < 0.9995) return `${digits(value * 1e3)} ms`;
  return value < 99.95 ? `${digits(value)} s` : age(value);
}

/** The same for a percentile: of what is in the shortest class no more is known than that. */
export const below = (value, shortest) => (value != null && shortest && value <= shortest ? `< ${seconds(shortest)}` : seconds(value));

/** How long something lasts: 4.2 s, 3 min 20 s, 2 h 5 min, 3 d. */
export function age(value) {
  if (value == null) return NONE;
  const s = Math.max(0, value);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${s.toFixed(0)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const ago = (value) => (value < 1 ? "now" : `${age(Math.floor(value))} ago`.replace(".0", ""));

export function bytes(value) {
  if (value == null) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let n = value, i = 0;
  while (n >= 1023.5 && i < units.length - 1) { n /= 1024; i += 1; }
  return i === 0 ? `${n} B` : `${digits(n)} ${units[i]}`;
}

export const timeOfDay = (epoch) => clock.format(new Date(epoch * 1000));

export const OUTCOMES = {
  completed: "completed",
  failed: "failed",
  timed_out: "timed out",
  lost: "lost",
  cancelled: "cancelled",
  refused: "refused",
};

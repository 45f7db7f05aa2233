/* Numbers and times as people read them. All widths are steady (tabular figures), so that what changes each second does
   not dance. */

import { language, t } from "/page/words.js";

export const NONE = "–";

export function number(value, digits = 0) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** 0.0123 → 1.2 %; digits as many as it takes to tell a small share from none, or a large one from all. */
export function percent(share, digits = null) {
  if (share === null || share === undefined || !Number.isFinite(share)) return NONE;
  const near = Math.min(share, Math.abs(1 - share));
  const places = near === 0 || near >= 0.0995 ? 0 : near >= 0.00995 ? 1 : 2;
  return share.toLocaleString(language, { style: "percent", minimumFractionDigits: digits ?? 0, maximumFractionDigits: digits ?? places });
}

export function millis(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (value >= 10000) return t("unit.s", { value: number(value / 1000, 1) });
  return t("unit.ms", { value: number(value, value < 10 ? 1 : 0) });
}

export function perSecond(value) {
  return t("unit.per_s", { value: number(value, value < 100 ? 1 : 0) });
}

export function bytes(value) {
  const [size, key] = value >= 2 ** 30 ? [2 ** 30, "unit.gib"] : [2 ** 20, "unit.mib"];
  return t(key, { value: number(value / size, size === 2 ** 30 ? 1 : 0) });
}

/** Compact: 1,234 stays, 123,456 becomes 123k. */
export function many(value) {
  if (value === null || value === undefined) return NONE;
  if (Math.abs(value) < 100000) return number(value);
  return value.toLocaleString(language, { notation: "compact", maximumFractionDigits: 1 });
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  if (seconds < 60) return t("unit.s", { value: number(seconds, seconds < 10 ? 1 : 0) });
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, index) => (index ? String(part).padStart(2, "0") : String(part))).join(":");
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

/** A time of today as a clock shows it, another one with its day. */
export function moment(when, { short = false } = {}) {
  const time = new Date(when);
  if (Number.isNaN(time.getTime())) return NONE;
  const clock = short ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } : CLOCK;
  const day = time.toDateString() === new Date().toDateString() ? {} : { month: "short", day: "numeric" };
  return new Intl.DateTimeFormat(language, { ...day, ...clock }).format(time);
}

export function share(part, whole) {
  return whole > 0 ? part / whole : 0;
}

export function sum(numbers) {
  return Object.values(numbers ?? {}).reduce((total, one) => total + one, 0);
}

export function day(when) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium" }).format(new Date(when));
}

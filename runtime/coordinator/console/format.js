// How numbers, sizes and times are written.

const NONE = '–';

/** A number of things: exact below ten thousand. */
export function count(number) {
  if (!Number.isFinite(number)) return NONE;
  if (Math.abs(number) < 10_000) return Math.round(number).toLocaleString('en-US');
  return scaled(number, 1_000, ['', 'k', 'M', 'G', 'T', 'P']);
}

/** A rate per second. */
export function rate(perSecond) {
  if (!Number.isFinite(perSecond)) return NONE;
  if (perSecond > 0 && perSecond < 10) return `${perSecond.toFixed(1)}/s`;
  return `${count(perSecond)}/s`;
}

/** Bytes, in powers of 1,024. */
export function bytes(number) {
  if (!Number.isFinite(number)) return NONE;
  if (number < 1_024) return `${number} B`;
  return scaled(number, 1_024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']);
}

function scaled(number, base, units) {
  let value = number;
  let unit = 0;
  while (Math.abs(value) >= base && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  const digits = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
  return `${value.toFixed(digits)}${units[unit] ? ` ${units[unit]}` : ''}`;
}

/** Milliseconds, in at most two units. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return NONE;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1_000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.floor(whole / 60);
  if (whole < 86_400) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1_440)} d ${Math.floor((minutes % 1_440) / 60)} h`;
}

/** A time of day; with the date where it is not today's. */
export function time(ms, now = Date.now()) {
  if (!Number.isFinite(ms) || ms <= 0) return NONE;
  const date = new Date(ms);
  const clock = date.toLocaleTimeString('en-GB');
  if (date.toDateString() === new Date(now).toDateString()) return clock;
  const pad = (number) => String(number).padStart(2, '0');
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock}`;
}

/** A part of a thousand, as per cent. */
export function permille(part) {
  return Number.isFinite(part) ? `${Math.round(part / 10)} %` : NONE;
}

/** A watermark: microseconds of event time, and how far it is behind the clock. */
export function watermark(micros, now) {
  if (micros === null || micros === undefined) return { text: 'none yet', behind: null };
  if (micros >= 9e18) return { text: 'end of input', behind: null };
  if (micros <= -9e18) return { text: 'none yet', behind: null };
  const ms = micros / 1_000;
  const behind = now - ms;
  return { text: time(ms, now), behind: behind > 0 && behind < 86_400_000 ? `${duration(behind)} behind` : null };
}

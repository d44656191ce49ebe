import { type Locale, tags } from "@/i18n/locales";

/**
 * An instant as the clocks of a zone show it: weekday and time, with the day when it is more than six days away. A zone
 * whose clocks show another time than the reader's is named: `city` says how.
 */
export function instant(
  locale: Locale,
  iso: string,
  zone: string,
  now: string,
  city: (zone: string) => string,
  readersZone?: string, // the browser's, unless a test says another
): string {
  const isFar = Math.abs(Date.parse(iso) - Date.parse(now)) > 6 * 86_400_000;
  const day: Intl.DateTimeFormatOptions = isFar ? { day: "numeric", month: "short" } : {};
  const shown = (timeZone: string | undefined) =>
    new Intl.DateTimeFormat(tags[locale], {
      weekday: "short",
      ...day,
      hour: "2-digit",
      minute: "2-digit",
      ...(timeZone === undefined ? {} : { timeZone }),
    }).format(new Date(iso));
  const there = shown(zone);
  return there === shown(readersZone) ? there : `${there} ${city(zone)}`;
}

/** The day's name, 1 for Monday. */
export function weekday(locale: Locale, day: number, style: "short" | "long" = "short"): string {
  // 5 January 2026 was a Monday.
  return new Intl.DateTimeFormat(tags[locale], { weekday: style, timeZone: "UTC" }).format(
    new Date(Date.UTC(2026, 0, 4 + day)),
  );
}

/** Seconds in words: exact below two minutes, then minutes, hours and minutes, days. */
export function duration(locale: Locale, seconds: number): string {
  const unit = (value: number, name: "second" | "minute" | "hour" | "day") =>
    new Intl.NumberFormat(tags[locale], { style: "unit", unit: name, unitDisplay: "short" }).format(value);
  if (seconds < 120) return unit(Math.max(0, Math.round(seconds)), "second");
  if (seconds < 7_200) return unit(Math.round(seconds / 60), "minute");
  if (seconds < 172_800) {
    const minutes = Math.round(seconds / 60);
    const rest = minutes % 60;
    return unit(Math.floor(minutes / 60), "hour") + (rest ? ` ${unit(rest, "minute")}` : "");
  }
  return unit(Math.round(seconds / 86_400), "day");
}

import { readFileSync } from "node:fs";
import { expect, locales, type Page } from "./house";

type Words = { [key: string]: string | Words };
const read = (locale: string) => JSON.parse(readFileSync(`messages/${locale}.json`, "utf8")) as Words;
const words = Object.fromEntries(locales.map((locale) => [locale, read(locale)]));
export const say = (locale: string, path: string) =>
  path.split(".").reduce<string | Words>((at, part) => (at as Words)[part] ?? "", words[locale] ?? {}) as string;

/** A text with its places as a pattern; none for one with branches, or without a word of its own. */
function patternOf(text: string): RegExp | null {
  if (/\{\w+,/.test(text) || !/[a-z]{3}/.test(text.replaceAll(/\{\w+\}/g, ""))) return null;
  const literal = (part: string) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(
    `^${text
      .split(/\{\w+\}/)
      .map(literal)
      .join(".+")}$`,
  );
}

/** English sentences and labels that the language says otherwise. */
function english(locale: string): RegExp[] {
  const flat = (own: Words, path: string[] = []): string[] =>
    Object.entries(own).flatMap(([key, value]) =>
      typeof value === "string" ? [[...path, key].join(".")] : flat(value, [...path, key]),
    );
  const paths = flat(words.en ?? {});
  const own = new Set(paths.map((path) => say(locale, path))); // "Prompt" is German, too
  return paths
    .filter((path) => say("en", path) !== say(locale, path))
    .map((path) => say("en", path))
    .filter((text) => !own.has(text))
    .map(patternOf)
    .filter((pattern) => pattern !== null);
}

const foreign = new Map(locales.map((locale) => [locale as string, english(locale)]));

/**
 * Nothing that shows, or that is read out or shown on the pointer (options, labels, titles, hints), is said in English
 * where the language says it otherwise. Names, code and the gateway's own sentences, marked as English, aside.
 */
export async function speaks(page: Page, locale: string) {
  if (locale === "en") return;
  const texts = await page
    .locator("body *:not(script):not(code):not(pre)")
    .evaluateAll((all) =>
      all
        .filter((one) => !one.closest("[lang=en]"))
        .flatMap((one) => [
          ...[...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent?.trim() ?? ""),
          ...["aria-label", "title", "placeholder", "alt"].map((name) => one.getAttribute(name)?.trim() ?? ""),
        ]),
    );
  const patterns = foreign.get(locale) ?? [];
  expect(texts.length).toBeGreaterThan(20);
  expect(texts.filter((text) => text !== "" && patterns.some((pattern) => pattern.test(text)))).toEqual([]);
}

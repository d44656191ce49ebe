import { readFileSync } from "node:fs";
import { expect, locales, type Page } from "./house";

type Words = { [key: string]: string | Words };
const read = (locale: string) => JSON.parse(readFileSync(`messages/${locale}.json`, "utf8")) as Words;
const words = Object.fromEntries(locales.map((locale) => [locale, read(locale)]));
export const say = (locale: string, path: string) =>
  path.split(".").reduce<string | Words>((at, part) => (at as Words)[part] ?? "", words[locale] ?? {}) as string;

/** English sentences and labels that the language says otherwise. */
function english(locale: string): string[] {
  const flat = (own: Words, path: string[] = []): string[] =>
    Object.entries(own).flatMap(([key, value]) =>
      typeof value === "string" ? [[...path, key].join(".")] : flat(value, [...path, key]),
    );
  const paths = flat(words.en ?? {});
  const own = new Set(paths.map((path) => say(locale, path))); // "Prompt" is German, too
  return paths
    .filter((path) => say("en", path) !== say(locale, path))
    .map((path) => say("en", path))
    .filter((text) => !own.has(text));
}

/** Nothing that shows is said in English where the language says it otherwise. Names, code and the gateway's own sentences aside. */
export async function speaks(page: Page, locale: string) {
  if (locale === "en") return;
  const texts = await page
    .locator("body *:not(script):not(option):not(code):not(pre):not([lang=en])")
    .evaluateAll((all) =>
      all.flatMap((one) =>
        [...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent?.trim() ?? ""),
      ),
    );
  const foreign = english(locale);
  expect(texts.filter((text) => text !== "" && foreign.includes(text))).toEqual([]);
}

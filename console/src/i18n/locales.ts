/** The languages of the console. The first is what a browser gets that asks for none of them. */
export const locales = ["en", "de", "zh"] as const;
export type Locale = (typeof locales)[number];

/** What each language calls itself. */
export const ownNames: Record<Locale, string> = { en: "English", de: "Deutsch", zh: "中文" };

/** BCP 47 tags with the region whose numbers and dates we write. */
export const tags: Record<Locale, string> = { en: "en-GB", de: "de-DE", zh: "zh-CN" };

export const isLocale = (text: string): text is Locale => (locales as readonly string[]).includes(text);

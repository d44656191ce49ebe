"use client";

import { usePathname } from "next/navigation";
import { useTranslations } from "next-intl";
import { type Locale, locales, ownNames, tags } from "@/i18n/locales";

const shortNames: Record<Locale, string> = { en: "EN", de: "DE", zh: "中文" };

/** The same page in the other languages. The choice is remembered for `/`, and the address keeps its question. */
export function Languages({ current }: { current: Locale }) {
  const t = useTranslations("Frame");
  const rest = usePathname().split("/").slice(2).join("/");

  function choose(locale: Locale, link: HTMLAnchorElement) {
    // biome-ignore lint/suspicious/noDocumentCookie: the Cookie Store API is not in every browser
    document.cookie = `locale=${locale}; path=/; max-age=31536000; samesite=lax`;
    link.search = location.search;
    link.hash = location.hash;
  }

  return (
    <nav aria-label={t("language")} className="flex">
      {locales.map((locale) => (
        <a
          key={locale}
          href={`/${locale}${rest ? `/${rest}` : ""}`}
          hrefLang={tags[locale]}
          lang={tags[locale]}
          title={ownNames[locale]}
          aria-current={locale === current ? "true" : undefined}
          onClick={(event) => choose(locale, event.currentTarget)}
          className="flex min-h-10 items-center px-2 text-[0.8125rem] text-muted hover:text-text aria-[current]:font-semibold aria-[current]:text-text"
        >
          {shortNames[locale]}
        </a>
      ))}
    </nav>
  );
}

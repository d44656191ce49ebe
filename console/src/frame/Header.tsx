import { getTranslations } from "next-intl/server";
import type { Locale } from "@/i18n/locales";
import { Words } from "@/i18n/Words";
import { Account } from "@/session/Account";
import { Languages } from "./Languages";
import { Link } from "./Link";
import { NavLink } from "./NavLink";
import { ThemeSwitch } from "./ThemeSwitch";

/** On every page: where one is, and where one may go. Wraps to two rows on a phone. */
export async function Header({ locale }: { locale: Locale }) {
  const t = await getTranslations("Frame");
  return (
    <header className="sticky top-0 z-30 border-b border-hairline bg-bg">
      <div className="mx-auto flex w-full max-w-[88rem] flex-wrap items-center gap-x-6 px-4 py-1 sm:px-6 md:h-14 md:flex-nowrap md:py-0">
        <Link href={`/${locale}`} className="flex min-h-10 items-center gap-2.5 font-semibold tracking-tight">
          <svg viewBox="0 0 24 24" className="size-6 text-accent" aria-hidden="true">
            <path d="M3 3h7v7H3zM14 14h7v7h-7z" fill="currentColor" />
            <path d="M14 3h7v7h-7zM3 14h7v7H3z" fill="none" stroke="currentColor" strokeWidth="2" />
          </svg>
          {t("name")}
        </Link>
        <nav aria-label={t("navigation")} className="order-last -ml-3 flex w-full md:order-none md:ml-0 md:w-auto">
          <NavLink href={`/${locale}/models`}>{t("models")}</NavLink>
          <NavLink href={`/${locale}/playground`}>{t("playground")}</NavLink>
          <a href="/docs" className="flex min-h-10 items-center px-3 text-muted hover:text-text">
            {t("reference")}
          </a>
        </nav>
        <div className="ml-auto flex items-center gap-0.5 sm:gap-2">
          <Words of={["Frame", "Session", "Catalog", "Refusals"]}>
            <Account />
            <Languages current={locale} />
            <ThemeSwitch />
          </Words>
        </div>
      </div>
    </header>
  );
}

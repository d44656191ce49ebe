"use client";

import { useLocale, useTranslations } from "next-intl";
import type { CatalogModel, Tier } from "@/api/catalog";
import { duration, instant } from "@/time";

const BERLIN = "Europe/Berlin";
const tones: Record<Tier["state"], string> = {
  warm: "bg-ok",
  unreachable: "bg-bad",
  starting: "bg-warn motion-safe:animate-pulse",
  cold: "bg-transparent border-2 border-cold",
  not_deployed: "bg-transparent border-2 border-control border-dotted",
};

/** How a tier is now: a dot for the eye, and words that say what comes next. */
export function State({ tier, now }: { tier: Tier; now: string }) {
  const words = useStateWords();
  return (
    <span className="inline-flex items-baseline gap-2">
      <span className={`size-2.5 shrink-0 rounded-full ${tones[tier.state]}`} aria-hidden="true" />
      <span>{words(tier, now)}</span>
    </span>
  );
}

/** That of both tiers: one line when they say the same. */
export function States({ model, now }: { model: CatalogModel; now: string }) {
  const t = useTranslations("Catalog");
  const words = useStateWords();
  const said = new Set(model.tiers.map((tier) => words(tier, now)));
  const shown = said.size === 1 ? model.tiers.slice(0, 1) : model.tiers;
  return shown.map((tier) => (
    <span key={tier.id} className="block">
      {said.size === 1 ? null : <span className="mr-2 text-muted">{t(tier.tier)}</span>}
      <State tier={tier} now={now} />
    </span>
  ));
}

/** The words alone. */
export function useStateWords(): (tier: Tier, now: string) => string {
  const t = useTranslations("Catalog");
  const locale = useLocale();
  return (tier, now) => {
    const zone = tier.week?.time_zone ?? BERLIN;
    if (tier.state === "warm") {
      return tier.closes_at ? t("warmUntil", { time: instant(locale, tier.closes_at, zone, now) }) : t("warm");
    }
    if (tier.state === "starting") {
      return tier.eta_seconds === null ? t("starting") : t("startingIn", { time: duration(locale, tier.eta_seconds) });
    }
    if (tier.state === "unreachable") return t("notAnswering");
    if (tier.state === "not_deployed") return t("notDeployed");
    return tier.opens_at ? t("opens", { time: instant(locale, tier.opens_at, zone, now) }) : t("cold");
  };
}

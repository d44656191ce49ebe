"use client";

import { useLocale, useTranslations } from "next-intl";
import { type CatalogModel, type Tier, useCatalog } from "@/api/catalog";
import { duration } from "@/time";
import { useInstants } from "./instants";
import { reasonOf } from "./reasons";

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
      <span>
        {words(tier, now)}
        <Why tier={tier} now={now} />
      </span>
    </span>
  );
}

/** Why it does not answer, where its cluster says so. */
export function Why({ tier, now }: { tier: Tier; now: string }) {
  const t = useTranslations("Catalog");
  const instants = useInstants();
  if (tier.state_reason === null) return null;
  const reason = reasonOf(tier.state_reason);
  return (
    <span data-testid="why" className="block text-[0.8125rem] text-muted" lang={reason ? undefined : "en"}>
      {reason === null
        ? tier.state_reason
        : reason.name === "away"
          ? t("why.away", { time: instants(reason.since, now, tier.week?.time_zone) })
          : t(`why.${reason.name}`)}
    </span>
  );
}

/** How the tier of an id is now, where a model is only named; nothing for one that is not in the catalog. */
export function ModelState({ id }: { id: string }) {
  const { data } = useCatalog();
  const words = useStateWords();
  const tier = data?.models.flatMap((model) => model.tiers).find((one) => one.id === id);
  return tier && data ? <span className="text-[0.8125rem] text-muted">{words(tier, data.read_at)}</span> : null;
}

/** That of both tiers: one line when they say the same. */
export function States({ model, now }: { model: CatalogModel; now: string }) {
  const t = useTranslations("Catalog");
  const words = useStateWords();
  const said = new Set(model.tiers.map((tier) => `${words(tier, now)} ${tier.state_reason ?? ""}`));
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
  const instants = useInstants();
  return (tier, now) => {
    const at = (iso: string) => instants(iso, now, tier.week?.time_zone);
    if (tier.state === "warm") return tier.closes_at ? t("warmUntil", { time: at(tier.closes_at) }) : t("warm");
    if (tier.state === "starting") {
      return tier.eta_seconds === null ? t("starting") : t("startingIn", { time: duration(locale, tier.eta_seconds) });
    }
    if (tier.state === "unreachable") return t("notAnswering");
    if (tier.state === "not_deployed") return t("notDeployed");
    const eta = tier.eta_seconds;
    if (tier.opens_at) {
      const opens = t("opens", { time: at(tier.opens_at) });
      return eta === null ? opens : t("opensReady", { opens, time: duration(locale, eta) });
    }
    return eta === null ? t("cold") : t("coldReady", { time: duration(locale, eta) });
  };
}

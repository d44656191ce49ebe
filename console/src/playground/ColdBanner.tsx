"use client";

import { Progress } from "@base-ui/react/progress";
import { useLocale, useTranslations } from "next-intl";
import { useStateWords, Why } from "@/catalog/State";
import { duration } from "@/time";
import type { Offer } from "./offers";

type Properties = {
  offer: Offer;
  now: string;
  alternative: Offer | undefined;
  cancel: () => void;
  use: (model: string) => void;
};

/** Said while a question waits for its model. The question goes by itself, and waiting costs nothing. */
export function ColdBanner({ offer, now, alternative, cancel, use }: Properties) {
  const t = useTranslations("Playground");
  const words = useStateWords();
  const locale = useLocale();
  const { tier, name } = offer;
  const eta = tier.eta_seconds;
  const usual = Math.max(tier.usual_warmup_seconds, 1);
  const done = tier.state === "starting" && eta !== null ? Math.min(0.97, Math.max(0.03, 1 - eta / usual)) : null;
  return (
    <section
      aria-label={t("cold.label")}
      className="rounded-md border border-warn bg-warn-soft px-4 py-3 text-[0.875rem]"
    >
      <p className="font-semibold" aria-live="polite">
        {t("cold.title", { name })}
      </p>
      <p className="mt-1 min-h-10">
        {tier.state === "starting" ? "" : `${words(tier, now)}. `}
        {eta === null
          ? t("cold.unknown")
          : t("cold.eta", { time: duration(locale, eta), usual: duration(locale, usual) })}
        <Why tier={tier} now={now} />
      </p>
      <Progress.Root
        value={done === null ? null : Math.round(done * 100)}
        aria-label={t("cold.label")}
        className="mt-2"
      >
        <Progress.Track className="h-1.5 overflow-hidden rounded-full bg-hairline">
          <Progress.Indicator className="block h-full bg-warn transition-[width] duration-700" />
        </Progress.Track>
      </Progress.Root>
      {tier.state === "starting" && eta !== null && tier.usual_warmup_stages ? (
        <Stages stages={tier.usual_warmup_stages} elapsed={usual - eta} />
      ) : null}
      <p className="mt-2 text-muted">{t("cold.free")}</p>
      <div className="mt-3 flex flex-wrap gap-2">
        {alternative ? (
          <button type="button" className="button-quiet min-h-8" onClick={() => use(alternative.tier.id)}>
            {t("cold.use", { model: alternative.tier.id })}
          </button>
        ) : null}
        <button type="button" className="button-quiet min-h-8" onClick={cancel}>
          {t("cold.cancel")}
        </button>
      </div>
    </section>
  );
}

const names = ["weights", "start", "answer"] as const;

/** The stages of a start, as wide as they usually take. No replica says where it is, so the one at hand is reckoned, and said to be. */
function Stages({ stages, elapsed }: { stages: NonNullable<Offer["tier"]["usual_warmup_stages"]>; elapsed: number }) {
  const t = useTranslations("Playground");
  const locale = useLocale();
  const seconds = [stages.weights_seconds, stages.start_seconds, stages.first_answer_seconds];
  const ends = seconds.map((_, place) => seconds.slice(0, place + 1).reduce((sum, one) => sum + one, 0));
  const past = ends.findIndex((end) => elapsed < end);
  const at = past < 0 ? names.length - 1 : past;
  return (
    <>
      <ol className="mt-2 flex flex-wrap gap-x-5 gap-y-1" data-testid="stages">
        {names.map((name, place) => (
          <li
            key={name}
            aria-current={place === at ? "step" : undefined}
            className={place < at ? "text-muted line-through" : place === at ? "font-semibold" : "text-muted"}
          >
            {t(`stages.${name}`)} <span className="numbers">{duration(locale, seconds[place] ?? 0)}</span>
          </li>
        ))}
      </ol>
      <p className="mt-1 text-[0.8125rem] text-muted">{t("stagesBy")}</p>
    </>
  );
}

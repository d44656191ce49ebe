"use client";

import { useQuery } from "@tanstack/react-query";
import { useFormatter, useTranslations } from "next-intl";
import { read } from "@/api/read";
import { Refusal } from "@/api/refusal";
import { ModelState } from "@/catalog/State";
import { GatewaySays } from "@/frame/GatewaySays";
import type { Tally } from "./blind";
import Sheet from "./Sheet";

const ENOUGH = 20; // votes; below that a coin says as much

/** Who won against whom in all votes of the organisation, counted by the gateway. */
export default function TallyDialog({ apiKey, close }: { apiKey: string; close: () => void }) {
  const t = useTranslations("Compare");
  const p = useTranslations("Playground");
  const format = useFormatter();
  const tally = useQuery({
    queryKey: ["tally", apiKey],
    queryFn: ({ signal }) => read<Tally>("/v1/comparisons/tally", { key: apiKey, signal }),
    staleTime: 0,
  });
  const pairs = tally.data?.pairs ?? [];
  return (
    <Sheet title={t("tally")} note={t("tallyNote")} close={close}>
      {tally.error ? (
        <div role="alert" className="text-bad">
          <GatewaySays said={tally.error instanceof Refusal ? tally.error : p("faults.network")} />
        </div>
      ) : tally.data && pairs.length === 0 ? (
        <p>{t("noVotes")}</p>
      ) : (
        <ul className="space-y-4">
          {pairs.map((pair) => (
            <li key={pair.models.join()} className="rounded-md border border-hairline p-4">
              <dl className="numbers grid grid-cols-[1fr_auto] gap-x-6 gap-y-1">
                {pair.models.map((model, place) => (
                  <div key={model} className="contents">
                    <dt className="text-[0.875rem] wrap-anywhere">
                      <span className="font-mono">{model}</span> <ModelState id={model} />
                    </dt>
                    <dd>{t("wins", { count: pair.wins[place] ?? 0 })}</dd>
                  </div>
                ))}
                <dt className="text-muted">{t("tie")}</dt>
                <dd>{format.number(pair.ties)}</dd>
                <dt className="text-muted">{t("none")}</dt>
                <dd>{format.number(pair.neither)}</dd>
              </dl>
              <p className="mt-2 text-[0.8125rem] text-muted">
                {t("votes", { count: pair.votes })}
                {pair.votes < ENOUGH ? ` ${t("few", { least: ENOUGH })}` : ""}
              </p>
            </li>
          ))}
        </ul>
      )}
    </Sheet>
  );
}

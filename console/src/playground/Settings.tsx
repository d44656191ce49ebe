"use client";

import { useTranslations } from "next-intl";
import type { Asking } from "./asking";
import { Parameter } from "./Parameter";
import type { Name } from "./parameters";
import { Structure } from "./Structure";

type Properties = { asking: Asking; change: (part: Partial<Asking>) => void };

const usual = ["temperature", "top_p", "max_tokens", "stop", "seed", "top_logprobs"] as const;
const rest = [
  ...["presence_penalty", "frequency_penalty", "repetition_penalty"],
  ...["top_k", "min_p", "n", "logit_bias"],
] as Exclude<Name, "tool_choice" | "parallel_tool_calls">[];

/** The system prompt and what steers the engine, each with a sentence that says what it does. */
export function Settings({ asking, change }: Properties) {
  const { system, parameters } = asking;
  const t = useTranslations("Playground");
  const set = rest.filter((name) => parameters[name] !== "").length;
  const one = (name: (typeof rest)[number]) => (
    <Parameter
      key={name}
      name={name}
      value={parameters[name]}
      change={(text) => change({ parameters: { ...parameters, [name]: text } })}
    />
  );
  return (
    <div className="space-y-5 text-[0.8125rem]">
      <label className="flex flex-col gap-1">
        <span className="font-semibold">{t("system")}</span>
        <textarea
          rows={4}
          className="field resize-y"
          value={system}
          placeholder={t("systemHint")}
          onChange={(event) => change({ system: event.target.value })}
        />
      </label>
      {usual.map(one)}
      <details className="border-t border-hairline pt-3">
        <summary className="min-h-6 font-semibold">
          {t("moreParameters")}
          {set ? <span className="ml-2 font-normal text-accent">{t("areSet", { count: set })}</span> : null}
        </summary>
        <div className="mt-4 space-y-5">{rest.map(one)}</div>
      </details>
      <div className="space-y-5 border-t border-hairline pt-4">
        <Structure asking={asking} change={change} />
      </div>
    </div>
  );
}

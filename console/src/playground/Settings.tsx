"use client";

import { Slider } from "@base-ui/react/slider";
import { useTranslations } from "next-intl";
import { useId } from "react";
import type { Asking } from "./asking";
import { bounds, isGood, type Parameters } from "./parameters";
import { Structure } from "./Structure";

type Properties = { asking: Asking; change: (part: Partial<Asking>) => void };

const sliding = ["temperature", "top_p", "presence_penalty", "frequency_penalty"] as const;
const order = [
  "temperature",
  "top_p",
  "max_tokens",
  "stop",
  "seed",
  "presence_penalty",
  "frequency_penalty",
  "top_logprobs",
] as const;

/** The system prompt and what steers the engine, each with a sentence that says what it does. */
export function Settings({ asking, change }: Properties) {
  const { system, parameters } = asking;
  const t = useTranslations("Playground");
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
      {order.map((name) => (
        <Parameter
          key={name}
          name={name}
          value={parameters[name]}
          change={(text) => change({ parameters: { ...parameters, [name]: text } })}
        />
      ))}
      <Structure tools={asking.tools} format={asking.format} change={change} />
    </div>
  );
}

type One = { name: keyof Parameters; value: string; change: (text: string) => void };

function Parameter({ name, value, change }: One) {
  const t = useTranslations("Playground");
  const id = useId();
  const slides = sliding.find((one) => one === name);
  const good = isGood(name, value);
  return (
    <div>
      <div className="flex items-center gap-2">
        <label htmlFor={id} className="flex-1 font-semibold">
          {t(`parameters.${name}.name`)}
        </label>
        <button type="button" className="link min-h-6" hidden={value === ""} onClick={() => change("")}>
          {t("reset")}
        </button>
        <input
          id={id}
          inputMode={name === "stop" ? "text" : "decimal"}
          autoComplete="off"
          className={`field w-24 min-h-8 text-right font-mono ${good ? "" : "border-bad"}`}
          value={value}
          placeholder={t("default")}
          aria-invalid={!good}
          aria-describedby={`${id}-help`}
          onChange={(event) => change(event.target.value)}
        />
      </div>
      {slides ? (
        <Slider.Root
          className="mt-2 px-2"
          value={value !== "" && good ? Number(value) : slides.endsWith("penalty") ? 0 : 1}
          min={bounds[slides].least}
          max={bounds[slides].most}
          step={bounds[slides].step}
          onValueChange={(one) => change(String(Math.round(Number(one) * 100) / 100))}
        >
          <Slider.Control className="flex h-6 items-center">
            <Slider.Track className="h-1 w-full rounded-full bg-hairline">
              <Slider.Indicator className={`rounded-full ${value === "" ? "bg-control" : "bg-accent"}`} />
              <Slider.Thumb
                aria-label={t(`parameters.${name}.name`)}
                className={`size-4 rounded-full border-2 bg-surface has-[:focus-visible]:outline-2 has-[:focus-visible]:outline-offset-2 has-[:focus-visible]:outline-accent ${value === "" ? "border-control" : "border-accent"}`}
              />
            </Slider.Track>
          </Slider.Control>
        </Slider.Root>
      ) : null}
      <p id={`${id}-help`} className={good ? "mt-0.5 text-muted" : "mt-0.5 text-bad"}>
        {good || name === "stop"
          ? t(`parameters.${name}.help`)
          : t("outside", { least: bounds[name].least, most: bounds[name].most })}
      </p>
    </div>
  );
}

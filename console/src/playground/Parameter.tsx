"use client";

import { Slider } from "@base-ui/react/slider";
import { useTranslations } from "next-intl";
import { useId } from "react";
import { bounds, isGood, MOST_STOPS, type Name, type Numeric } from "./parameters";

type Typed = Exclude<Name, "tool_choice" | "parallel_tool_calls">;
type Properties = { name: Typed; value: string; change: (text: string) => void };

// Where the thumb rests while nothing is set: what changes nothing.
const resting: Partial<Record<Typed, number>> = {
  temperature: 1,
  top_p: 1,
  min_p: 0,
  presence_penalty: 0,
  frequency_penalty: 0,
  repetition_penalty: 1,
};
const texts = ["stop", "logit_bias"] as const; // of several lines
const isNumber = (name: Typed): name is Numeric => !texts.some((one) => one === name);

/** One parameter: its name, a field, a slider where that helps, and what it does or why it cannot be sent. */
export function Parameter({ name, value, change }: Properties) {
  const t = useTranslations("Playground");
  const id = useId();
  const good = isGood(name, value);
  const field = {
    id,
    autoComplete: "off",
    value,
    "aria-invalid": !good,
    "aria-describedby": `${id}-help`,
    onChange: (event: { target: { value: string } }) => change(event.target.value),
  };
  return (
    <div>
      <div className="flex items-center gap-2">
        <label htmlFor={id} className="flex-1 font-semibold">
          {t(`parameters.${name}.name`)}
        </label>
        <button type="button" className="link min-h-6" hidden={value === ""} onClick={() => change("")}>
          {t("reset")}
        </button>
        {isNumber(name) ? (
          <input
            {...field}
            inputMode="decimal"
            className={`field w-24 min-h-8 text-right font-mono ${good ? "" : "border-bad"}`}
            placeholder={t("default")}
          />
        ) : null}
      </div>
      {isNumber(name) ? null : (
        <textarea
          {...field}
          rows={Math.min(4, Math.max(1, value.split("\n").length))}
          spellCheck={false}
          className={`field mt-1 w-full resize-y font-mono ${good ? "" : "border-bad"}`}
          placeholder={t("default")}
        />
      )}
      {isNumber(name) && resting[name] !== undefined ? (
        <Slider.Root
          className="mt-2 px-2"
          value={value !== "" && good ? Number(value) : resting[name]}
          min={bounds[name].least}
          max={bounds[name].most}
          step={bounds[name].step}
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
        {good
          ? t(`parameters.${name}.help`)
          : isNumber(name)
            ? t("outside", { least: bounds[name].least, most: bounds[name].most })
            : t(name === "stop" ? "badStops" : "badBias", { most: MOST_STOPS })}
      </p>
    </div>
  );
}

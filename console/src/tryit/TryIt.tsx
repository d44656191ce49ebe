"use client";

import { useQuery } from "@tanstack/react-query";
import { useFormatter, useLocale, useTranslations } from "next-intl";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { read } from "@/api/read";
import { Refusal } from "@/api/refusal";
import type { components } from "@/api/schema";
import { ModelState } from "@/catalog/State";
import { Link } from "@/frame/Link";
import { duration } from "@/time";
import { type Answer, ask, nothing } from "./ask";

type State = components["schemas"]["TryItState"];
type Fault = { kind: "visitor" | "day" | "busy" | "cold" | "off" | "other"; seconds: number | null };

const kinds: Record<string, Fault["kind"]> = {
  try_it_visitor_limit: "visitor",
  try_it_day_spent: "day",
  try_it_busy: "busy",
  model_asleep: "cold",
  not_found: "off",
};

/** Ask a model with one click: no key, no account. The answer's own figures stand below it. */
export function TryIt() {
  const t = useTranslations("TryIt");
  const locale = useLocale();
  const format = useFormatter();
  const [prompt, setPrompt] = useState(t("prompt"));
  const [answer, setAnswer] = useState<Answer>(nothing);
  const [fault, setFault] = useState<Fault | null>(null);
  const [isRunning, setRunning] = useState(false);
  const running = useRef<AbortController>(null);
  const box = useRef<HTMLTextAreaElement>(null);
  const { data: state, isError } = useQuery({
    queryKey: ["try-it"],
    queryFn: ({ signal }) => read<State>("/v1/try-it", { signal }),
    refetchInterval: 15_000,
  });
  useEffect(() => {
    if (box.current) setPrompt(box.current.value); // what was typed before this script was there
    return () => running.current?.abort();
  }, []);

  async function run(event: FormEvent) {
    event.preventDefault();
    if (isRunning) return running.current?.abort();
    const abort = new AbortController();
    running.current = abort;
    setFault(null);
    setAnswer(nothing);
    setRunning(true);
    try {
      await ask(prompt, abort.signal, setAnswer);
    } catch (error) {
      if (!abort.signal.aborted) setFault(faultOf(error));
    } finally {
      setRunning(false);
    }
  }

  const isOff = state?.is_on === false || fault?.kind === "off";
  const named = answer.model ?? state?.model ?? "";
  const canAsk = state?.is_on === true && prompt.trim() !== "";
  return (
    <section aria-labelledby="try-it" className="card p-5">
      <div className="flex min-h-10 items-baseline justify-between gap-4">
        <h2 id="try-it" className="text-[1.0625rem] font-semibold">
          {t("title")}
        </h2>
        <span className="min-w-0 text-right text-[0.8125rem] text-muted">
          <span className="block truncate font-mono">{named}</span>
          <span className="block min-h-5">{named ? <ModelState id={named} /> : null}</span>
        </span>
      </div>
      <form onSubmit={run} className="mt-3">
        <label className="sr-only" htmlFor="try-it-prompt">
          {t("label")}
        </label>
        <textarea
          id="try-it-prompt"
          ref={box}
          rows={2}
          maxLength={state?.most_characters ?? 400}
          className="field h-[4.25rem] w-full resize-none py-2"
          value={prompt}
          onChange={(event) => setPrompt(event.target.value)}
        />
        <div className="mt-2 flex items-center gap-3">
          <button type="submit" className="button-primary min-w-24" disabled={isOff || (!canAsk && !isRunning)}>
            {isRunning ? t("stop") : t("run")}
          </button>
          <p className="text-[0.8125rem] text-muted">{t("note", { tokens: state?.most_tokens ?? 120 })}</p>
        </div>
      </form>
      <section
        className="mt-4 h-44 overflow-y-auto rounded-md bg-sunk px-4 py-3"
        aria-live="polite"
        aria-busy={isRunning}
        data-testid="try-it-answer"
        tabIndex={0}
        aria-label={t("answer")}
      >
        {answer.text ? (
          <p className="wrap-anywhere whitespace-pre-wrap">{answer.text}</p>
        ) : (
          <p className="text-muted">
            {isOff
              ? t("off")
              : isRunning
                ? t("thinking")
                : isError
                  ? t("unreachable")
                  : state && state.model === null
                    ? state.eta_seconds === null
                      ? t("asleep")
                      : t("coldUntil", { time: duration(locale, state.eta_seconds) })
                    : t("empty")}
          </p>
        )}
        {fault && fault.kind !== "off" ? (
          <p role="alert" className="mt-3 border-t border-hairline pt-3 text-warn">
            {t(`faults.${fault.kind}`)}
            {fault.seconds === null ? "" : ` ${t("againIn", { time: duration(locale, fault.seconds) })}`}{" "}
            <Link href={`/${locale}/playground`} className="link">
              {t("toPlayground")}
            </Link>
          </p>
        ) : null}
      </section>
      <p className="numbers mt-3 min-h-5 truncate font-mono text-[0.8125rem] text-muted" data-testid="try-it-meter">
        {answer.ttftMs === null
          ? ""
          : `${t("ttft", { ms: format.number(Math.round(answer.ttftMs)) })} · ${
              answer.tokensPerSecond === null
                ? ""
                : `${t("speed", { rate: format.number(answer.tokensPerSecond, { maximumFractionDigits: 0 }) })} · `
            }${t("tokens", { read: format.number(answer.read), written: format.number(answer.written) })}`}
      </p>
    </section>
  );
}

function faultOf(error: unknown): Fault {
  if (!(error instanceof Refusal)) return { kind: "other", seconds: null };
  return { kind: kinds[error.code ?? ""] ?? "other", seconds: error.retryAfterSeconds };
}

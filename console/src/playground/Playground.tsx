"use client";

import { useTranslations } from "next-intl";
import { useCallback, useEffect, useRef, useState } from "react";
import { Refusal } from "@/api/refusal";
import { CurrencySwitch } from "@/catalog/currency";
import { Trouble } from "@/catalog/Trouble";
import { Caller, useCaller } from "@/session/Caller";
import { CodeDialog } from "./CodeDialog";
import { ColumnView } from "./ColumnView";
import { Composer } from "./Composer";
import { newTurn, run, type Turn } from "./conversation";
import { useOffers } from "./offers";
import { bodyOf, isGood, type Parameters } from "./parameters";
import { Settings } from "./Settings";
import { type Column, fresh, remember, remembered, rememberedKey, rememberKey, type Session } from "./session";

const LETTERS = ["A", "B"] as const;

/** Chat with one model, or with two side by side. One tree of components for all widths, so that no text is lost. */
export function Playground() {
  const t = useTranslations("Playground");
  const [session, setSession] = useState<Session>(fresh);
  const [pasted, setKey] = useState("");
  const { key, isKnown } = useCaller(pasted);
  const [isOpen, setOpen] = useState(false); // the parameters, where there is no room for them
  const [isLoaded, setLoaded] = useState(false);
  const running = useRef(new Map<string, AbortController>());
  const isWaiting = session.columns.some((column) => column.turns.at(-1)?.state === "waiting");
  const { catalog, offers, now, keyError, isKeyGood } = useOffers(key, isWaiting);
  const usual = (offers.find((offer) => offer.tier.state === "warm") ?? offers[0])?.tier.id ?? "";
  const modelOf = useCallback((column: Column) => column.model || usual, [usual]);

  useEffect(() => {
    const stored = remembered();
    const asked = new URLSearchParams(location.search).get("model");
    const [first = { model: "", turns: [] }, ...rest] = stored.columns;
    setSession(asked ? { ...stored, columns: [{ ...first, model: asked }, ...rest] } : stored);
    setKey(rememberedKey());
    setLoaded(true);
  }, []);

  useEffect(() => {
    if (!isLoaded) return;
    const timer = setTimeout(() => remember(session), 300);
    const leave = () => remember(session);
    addEventListener("pagehide", leave);
    return () => {
      clearTimeout(timer);
      removeEventListener("pagehide", leave);
    };
  }, [session, isLoaded]);

  const change = (part: Partial<Session>) => setSession((old) => ({ ...old, ...part }));
  const changeColumn = useCallback(
    (place: number, to: (column: Column) => Column) =>
      setSession((old) => ({ ...old, columns: old.columns.map((one, at) => (at === place ? to(one) : one)) })),
    [],
  );
  const report = useCallback(
    (place: number, turn: Turn) =>
      changeColumn(place, (column) => ({
        ...column,
        turns: column.turns.map((one) => (one.id === turn.id ? turn : one)),
      })),
    [changeColumn],
  );

  const start = useCallback(
    (place: number, turn: Turn, before: Turn[], system: string, parameters: Parameters) => {
      if (running.current.has(turn.id)) return;
      const abort = new AbortController();
      running.current.set(turn.id, abort);
      const question = { ...turn, text: "" };
      const body = bodyOf(turn.asked, system, [...before, question], parameters);
      run(question, body, key, abort.signal, (one) => {
        // Gone cold between the look and the request: it waits as if it had been cold before.
        if (one.fault?.code === "model_asleep") report(place, newTurnLike(one));
        else report(place, one);
      }).finally(() => running.current.delete(turn.id));
    },
    [key, report],
  );

  // What waits goes as soon as its model is warm.
  useEffect(() => {
    if (!key) return;
    session.columns.forEach((column, place) => {
      const turn = column.turns.at(-1);
      const offer = offers.find((one) => one.tier.id === turn?.asked);
      if (turn?.state === "waiting" && offer?.tier.state === "warm") {
        start(place, turn, column.turns.slice(0, -1), session.system, session.parameters);
      }
    });
  }, [session, offers, key, start]);

  const isBusy = session.columns.some((column) => ["running", "waiting"].includes(column.turns.at(-1)?.state ?? ""));
  const areGood = Object.entries(session.parameters).every(([name, text]) => isGood(name as keyof Parameters, text));
  const canSend = key !== "" && !isBusy && areGood && usual !== "" && session.draft.trim() !== "";

  function send() {
    if (!canSend) return;
    const prompt = session.draft;
    const columns = session.columns.map((column) => ({
      ...column,
      turns: [...column.turns, newTurn(prompt, modelOf(column), "waiting")],
    }));
    change({ draft: "", columns });
  }

  function stop() {
    for (const abort of running.current.values()) abort.abort();
    const waiting = session.columns.map((column) => column.turns.at(-1)).find((turn) => turn?.state === "waiting");
    setSession((old) => ({
      ...old,
      draft: old.draft || (waiting?.prompt ?? ""),
      columns: old.columns.map((column) => ({
        ...column,
        turns: column.turns.filter((turn) => turn.state !== "waiting"),
      })),
    }));
  }

  /** Takes a waiting question back into the composer. */
  function cancel(place: number) {
    const turn = session.columns[place]?.turns.at(-1);
    if (!turn) return;
    changeColumn(place, (column) => ({ ...column, turns: column.turns.slice(0, -1) }));
    if (!session.draft) change({ draft: turn.prompt });
  }

  function again(place: number, model?: string) {
    changeColumn(place, (column) => {
      const turn = column.turns.at(-1);
      if (!turn) return column;
      const asked = model ?? modelOf(column);
      return { model: asked, turns: [...column.turns.slice(0, -1), newTurn(turn.prompt, asked, "waiting")] };
    });
  }

  function compare() {
    const [first = { model: "", turns: [] }, second] = session.columns;
    if (second) return change({ columns: [first] });
    const used = modelOf(first);
    const other = offers.find((offer) => offer.tier.id !== used)?.tier.id ?? used;
    return change({
      columns: [
        { ...first, model: used },
        { model: other, turns: [] },
      ],
    });
  }

  const bodies = session.columns.map((column) => {
    const typed = session.draft.trim() ? [newTurn(session.draft, "", "waiting")] : [];
    const turns = [...column.turns, ...typed];
    return bodyOf(
      modelOf(column),
      session.system,
      turns.length ? turns : [newTurn("Hello", "", "waiting")],
      session.parameters,
    );
  });
  const keyRefusal = keyError instanceof Refusal ? keyError.message : keyError ? t("faults.network") : null;

  return (
    <div className="flex flex-1 flex-col lg:h-[calc(100dvh-3.5rem)] lg:min-h-[34rem] lg:flex-none lg:flex-row">
      <div className="flex min-w-0 flex-1 flex-col">
        <div className="flex flex-wrap items-center gap-2 border-b border-hairline px-4 py-2 sm:px-6">
          <h1 className="mr-auto text-[1.125rem] font-semibold">{t("title")}</h1>
          <button
            type="button"
            aria-pressed={session.columns.length > 1}
            className="button-quiet min-h-8 aria-pressed:border-accent aria-pressed:bg-accent-soft"
            onClick={compare}
            disabled={isBusy}
          >
            {t("compare")}
          </button>
          <CodeDialog api={catalog.data?.api_url ?? "https://…"} bodies={bodies} />
          <button
            type="button"
            className="button-quiet min-h-8"
            disabled={isBusy || session.columns.every((column) => column.turns.length === 0)}
            onClick={() => change({ columns: session.columns.map((column) => ({ ...column, turns: [] })) })}
          >
            {t("clear")}
          </button>
        </div>
        <div
          className={`grid min-h-0 flex-1 grid-cols-1 ${session.columns.length > 1 ? "md:grid-cols-2 md:divide-x md:divide-hairline" : ""}`}
        >
          {session.columns.map((column, place) => (
            <ColumnView
              key={LETTERS[place]}
              letter={session.columns.length > 1 ? (LETTERS[place] ?? null) : null}
              column={column}
              model={modelOf(column)}
              offers={offers}
              now={now}
              changeModel={(model) => changeColumn(place, (one) => ({ ...one, model }))}
              cancel={() => cancel(place)}
              again={(model) => again(place, model)}
              suggest={(draft) => change({ draft })}
            />
          ))}
        </div>
        <Composer
          draft={session.draft}
          isBusy={isBusy}
          canSend={canSend}
          hint={key === "" ? (isKnown ? t("needsKey") : "") : areGood ? "" : t("needsGood")}
          change={(draft) => change({ draft })}
          send={send}
          stop={stop}
        />
      </div>
      <aside
        aria-label={t("settings")}
        className="space-y-5 border-t border-hairline px-4 py-4 sm:px-6 lg:w-[20rem] lg:overflow-y-auto lg:border-t-0 lg:border-l lg:px-5 max-lg:order-first max-lg:border-t-0 max-lg:border-b"
      >
        <Trouble query={catalog} />
        <Caller
          value={pasted}
          error={keyRefusal}
          isGood={isKeyGood}
          change={(one) => {
            rememberKey(one);
            setKey(one);
          }}
        />
        <button
          type="button"
          aria-expanded={isOpen}
          aria-controls="parameters"
          className="button-quiet min-h-8 w-full lg:hidden"
          onClick={() => setOpen(!isOpen)}
        >
          {isOpen ? t("hideSettings") : t("showSettings")}
        </button>
        <div id="parameters" className={isOpen ? "" : "max-lg:hidden"}>
          <h2 className="mb-3 text-[0.875rem] font-semibold max-lg:hidden">{t("settings")}</h2>
          <div className="mb-5 flex items-center justify-between text-[0.8125rem]">
            <span className="font-semibold">{t("currency")}</span>
            <CurrencySwitch />
          </div>
          <Settings
            system={session.system}
            parameters={session.parameters}
            changeSystem={(system) => change({ system })}
            change={(parameters) => change({ parameters })}
          />
        </div>
      </aside>
    </div>
  );
}

const newTurnLike = (turn: Turn): Turn => ({ ...newTurn(turn.prompt, turn.asked, "waiting"), id: turn.id });

"use client";

import dynamic from "next/dynamic";
import { useTranslations } from "next-intl";
import { useCallback, useState } from "react";
import { Refusal } from "@/api/refusal";
import { CurrencySwitch } from "@/catalog/currency";
import { Trouble } from "@/catalog/Trouble";
import type { Said } from "@/frame/GatewaySays";
import { Caller, useCaller } from "@/session/Caller";
import { responseFormatOf, toolsOf } from "./asking";
import { BlindBar } from "./BlindBar";
import { begin, isAlias, letters, uncovered, type Verdict, vote } from "./blind";
import { ColumnView } from "./ColumnView";
import { Composer } from "./Composer";
import { askedAnew, type Column, emptyColumn, mapTurns, switched, withTurn } from "./columns";
import { newTurn, preferring, type Turn } from "./conversation";
import { useOffers } from "./offers";
import { bodyOf, isGood, type Name } from "./parameters";
import type { Asked } from "./receipts";
import { Settings } from "./Settings";
import type { Session } from "./session";
import { saidIn, setUp, setupOf } from "./setup";
import { type DialogName, Toolbar } from "./Toolbar";
import type { TurnActions } from "./TurnView";
import { askedAgain, useRuns } from "./useRuns";
import { useSession } from "./useSession";

const BatchTest = dynamic(() => import("./batch/BatchTest"), { ssr: false });
const CodeDialog = dynamic(() => import("./CodeDialog"), { ssr: false });
const PresetsDialog = dynamic(() => import("./PresetsDialog"), { ssr: false });
const ReceiptDialog = dynamic(() => import("./ReceiptDialog"), { ssr: false });
const ShareDialog = dynamic(() => import("./ShareDialog"), { ssr: false });
const TallyDialog = dynamic(() => import("./TallyDialog"), { ssr: false });

const grids = ["", "", "md:grid-cols-2", "md:grid-cols-2 xl:grid-cols-3", "md:grid-cols-2 md:grid-rows-2"];

/** Chat with up to four models side by side, or a batch of prompts. One tree for all widths, so that no text is lost. */
export function Playground() {
  const t = useTranslations("Playground");
  const {
    session,
    setSession,
    kept,
    isLoaded,
    key: pasted,
    changeKey,
    shared,
    acceptShared,
    refuseShared,
  } = useSession();
  const { key, isKnown, lacks } = useCaller(pasted);
  const [isOpen, setOpen] = useState(false); // the parameters, where there is no room for them
  const [dialog, setDialog] = useState<DialogName | null>(null);
  const [receiptOf, setReceiptOf] = useState<Asked | null>(null);
  const [trouble, setTrouble] = useState<Said | null>(null); // of a blind comparison
  const [isBeginning, setBeginning] = useState(false);
  const isWaiting = session.columns.some((column) => column.turns.at(-1)?.state === "waiting");
  const { catalog, offers, now, keyError, isKeyGood } = useOffers(key, isWaiting);
  const usual = (offers.find((offer) => offer.tier.state === "warm") ?? offers[0])?.tier.id ?? "";
  const models = session.columns.map((column) => column.model || usual);

  // The cold model that a turn waits for; null when it is not known, undefined when nothing is in its way. A blind
  // round begins when all of its models are warm, since who waits would tell who it is.
  const names = models.join();
  const coldFor = useCallback(
    (turn: Turn) => {
      const needed = isAlias(turn.asked) ? names.split(",") : [turn.asked];
      const found = needed.map((name) => offers.find((offer) => offer.tier.id === name) ?? null);
      // What is not deployed here is never warm: the gateway says so.
      const cold = found.find((offer) => offer !== null && !["warm", "not_deployed"].includes(offer.tier.state));
      // What nobody offers is sent all the same once all is read: the gateway says best what is wrong with it.
      return cold ?? (found.includes(null) && !isKeyGood ? null : undefined);
    },
    [offers, names, isKeyGood],
  );
  const isElsewhere = useCallback(
    (turn: Turn) =>
      (isAlias(turn.asked) ? names.split(",") : [turn.asked]).some(
        (name) => offers.find((offer) => offer.tier.id === name)?.tier.state === "not_deployed",
      ),
    [offers, names],
  );
  const abort = useRuns(session, setSession, key, coldFor, isElsewhere, catalog);

  const change = (part: Partial<Session>) => setSession((old) => ({ ...old, ...part }));
  const changeColumn = (place: number, to: (column: Column) => Column) =>
    setSession((old) => ({ ...old, columns: old.columns.map((one, at) => (at === place ? to(one) : one)) }));

  const isBusy =
    isBeginning || session.columns.some((column) => ["running", "waiting"].includes(column.turns.at(-1)?.state ?? ""));
  const areGood =
    Object.entries(session.parameters).every(([name, text]) => isGood(name as Name, text)) &&
    toolsOf(session.tools) !== null &&
    responseFormatOf(session.format) !== null;
  const canSend = key !== "" && !isBusy && areGood && usual !== "" && session.draft.trim() !== "";
  const canSee = models.every((model) => offers.find((offer) => offer.tier.id === model)?.vision);

  async function send() {
    if (!canSend) return;
    let round = session.round;
    setTrouble(null);
    if (session.isBlind && round === null) {
      setBeginning(true);
      try {
        round = await begin(key, models);
      } catch (error) {
        setTrouble(error instanceof Refusal ? error : t("faults.network"));
        return;
      } finally {
        setBeginning(false);
      }
    }
    const begun = session.isBlind && round ? { id: round.id, aliases: round.aliases } : null;
    setSession((old) => ({
      ...old,
      draft: "",
      images: [],
      round: begun,
      reveal: null,
      columns: old.columns.map((column, place) => {
        const asked = begun?.aliases[place] ?? models[place] ?? usual;
        const turn = newTurn(session.draft, asked, "waiting");
        return withTurn(column, { ...turn, images: canSee ? session.images : [], round: begun?.id ?? null });
      }),
    }));
  }

  /** Ends what runs, and takes what waits back into the composer. */
  function stop() {
    abort();
    setSession((old) => {
      const waiting = old.columns.map((column) => column.turns.at(-1)).find((turn) => turn?.state === "waiting");
      const columns = old.columns.map((column) => ({
        ...column,
        turns: column.turns.filter((turn) => turn.state !== "waiting"),
      }));
      const hasRound = columns.some((column) => column.turns.some((turn) => turn.round === old.round?.id));
      return {
        ...old,
        draft: old.draft || (waiting?.prompt ?? ""),
        images: old.images.length ? old.images : (waiting?.images ?? []),
        round: hasRound ? old.round : null,
        columns,
      };
    });
  }

  /** Takes one waiting question back. Those of a blind round wait together. */
  function cancel(place: number) {
    const turn = session.columns[place]?.turns.at(-1);
    if (!turn || turn.round !== null) return stop();
    changeColumn(place, (column) => ({ ...column, turns: column.turns.slice(0, -1) }));
    if (!session.draft) change({ draft: turn.prompt, images: turn.images });
  }

  async function cast(verdict: Verdict) {
    if (!session.round) return;
    setTrouble(null);
    try {
      const comparison = await vote(key, session.round.id, verdict);
      setSession((old) => uncovered(old, comparison));
    } catch (error) {
      setTrouble(error instanceof Refusal ? error : t("faults.network"));
    }
  }

  /** What was typed below a turn has been sent. */
  const forget = (turn: Turn) =>
    setSession((old) => {
      const others = Object.entries(old.unsent).filter(([name]) => name.split(" ")[1] !== turn.id);
      return { ...old, unsent: Object.fromEntries(others) };
    });

  function actionsOf(place: number): TurnActions {
    const model = models[place] ?? usual;
    const anew = (turn: Turn, prompt: string) => {
      changeColumn(place, (column) => {
        const at = column.turns.findIndex((one) => one.id === turn.id);
        return askedAnew(column, at, { ...newTurn(prompt, model, "waiting"), images: turn.images });
      });
      forget(turn);
    };
    return {
      again: (turn) => anew(turn, turn.prompt),
      edit: anew,
      answer: (turn, results) => {
        changeColumn(place, (column) => {
          const asked = { ...newTurn("", turn.asked, "waiting"), results, round: turn.round };
          return withTurn(column, asked);
        });
        forget(turn);
      },
      switchVersion: (turn, by) =>
        changeColumn(place, (column) =>
          switched(
            column,
            column.turns.findIndex((one) => one.id === turn.id),
            by,
          ),
        ),
      showReceipt: setReceiptOf,
      prefer: (turn, at) =>
        changeColumn(place, (column) => mapTurns(column, (one) => (one.id === turn.id ? preferring(one, at) : one))),
      settle: (turn, settled) =>
        changeColumn(place, (column) => mapTurns(column, (one) => (one.id === turn.id ? { ...one, settled } : one))),
      apiKey: key,
      unsent: session.unsent,
      type: (name, text) =>
        setSession((old) => {
          const { [name]: _, ...others } = old.unsent;
          return { ...old, unsent: text === undefined ? others : { ...others, [name]: text } };
        }),
    };
  }

  function addColumn() {
    const other = offers.find((offer) => !models.includes(offer.tier.id))?.tier.id ?? usual;
    const named = session.columns.map((column, place) => ({ ...column, model: models[place] ?? usual }));
    change({ columns: [...named, emptyColumn(other)] });
    return [...named, emptyColumn(other)];
  }

  function switchBlind() {
    const columns = !session.isBlind && session.columns.length < 2 ? addColumn() : session.columns;
    change({ isBlind: !session.isBlind, reveal: null, columns });
  }

  const isHidden = session.round !== null;
  const bodies = session.columns.map((column, place) => {
    const typed = session.draft.trim() ? [{ ...newTurn(session.draft, "", "waiting"), images: session.images }] : [];
    const said = column.turns.filter((turn) => turn.round === (session.round?.id ?? null));
    const turns = [...(session.isBlind && !isHidden ? [] : said), ...typed];
    const model = session.round?.aliases[place] ?? models[place] ?? usual;
    return bodyOf(model, session, turns.length ? turns : [newTurn("Hello", "", "waiting")]);
  });
  const keyRefusal = keyError instanceof Refusal ? keyError : keyError ? t("faults.network") : null;
  const hint = lacks ? (isKnown ? t(lacks) : "") : areGood ? "" : t("needsGood");

  return (
    // From its beginning as high as the window, so that the message stands below and no answer pushes it there.
    <div className="flex min-h-[calc(100dvh-3.5rem)] flex-1 flex-col lg:h-[calc(100dvh-3.5rem)] lg:min-h-[34rem] lg:flex-none lg:flex-row">
      <div className="flex min-w-0 flex-1 flex-col">
        <Toolbar
          session={session}
          isBusy={isBusy}
          hasKey={key !== ""}
          change={change}
          addColumn={addColumn}
          switchBlind={switchBlind}
          clear={() =>
            change({
              round: null,
              reveal: null,
              unsent: {},
              columns: session.columns.map((one) => emptyColumn(one.model)),
            })
          }
          open={setDialog}
        />
        {shared ? (
          <div role="status" className="flex flex-wrap items-center gap-2 bg-warn-soft px-4 py-2 sm:px-6">
            <span className="mr-auto">{shared.said ? t("sharedWhole") : t("shared")}</span>
            <button type="button" className="button-quiet min-h-8" onClick={acceptShared}>
              {t("acceptShared")}
            </button>
            <button type="button" className="button-quiet min-h-8" onClick={refuseShared}>
              {t("dismiss")}
            </button>
          </div>
        ) : null}
        {kept === "all" ? null : (
          <p role="status" className="border-b border-warn bg-warn-soft px-4 py-2 text-[0.875rem] sm:px-6">
            {t(`kept.${kept}`)}
          </p>
        )}
        {session.mode === "batch" ? (
          isLoaded && (
            <BatchTest
              apiKey={key}
              lacks={lacks}
              asking={session}
              offers={offers}
              now={now}
              models={models}
              areGood={areGood}
            />
          )
        ) : (
          <>
            {session.isBlind ? (
              <BlindBar
                round={session.round}
                reveal={session.reveal}
                count={session.columns.length}
                canVote={!isBusy}
                trouble={trouble}
                vote={cast}
              />
            ) : null}
            <div
              className={`grid min-h-0 flex-1 grid-cols-1 ${grids[session.columns.length]} ${session.columns.length > 1 ? "gap-px bg-hairline [&>*]:bg-bg" : ""}`}
            >
              {session.columns.map((column, place) => {
                const last = column.turns.at(-1);
                return (
                  <ColumnView
                    key={letters[place]}
                    letter={session.columns.length > 1 ? (letters[place] ?? null) : null}
                    column={column}
                    model={models[place] ?? usual}
                    isHidden={isHidden}
                    isBusy={isBusy}
                    waitsFor={last?.state === "waiting" ? (coldFor(last) ?? undefined) : undefined}
                    offers={offers}
                    now={now}
                    changeModel={(model) => changeColumn(place, (one) => ({ ...one, model }))}
                    remove={
                      session.columns.length > (session.isBlind ? 2 : 1)
                        ? () => change({ columns: session.columns.filter((_, at) => at !== place) })
                        : null
                    }
                    cancel={() => cancel(place)}
                    use={(model) =>
                      changeColumn(place, (one) => ({
                        ...one,
                        model,
                        turns: one.turns.map((turn) => (turn === last ? askedAgain(turn, model) : turn)),
                      }))
                    }
                    actions={actionsOf(place)}
                    suggest={(draft) => change({ draft })}
                  />
                );
              })}
            </div>
            <Composer
              draft={session.draft}
              images={session.images}
              canSee={canSee}
              isBusy={isBusy}
              canSend={canSend}
              hint={session.images.length && !canSee ? t("cannotSee") : hint}
              change={(draft) => change({ draft })}
              changeImages={(images) => change({ images })}
              send={send}
              stop={stop}
            />
          </>
        )}
      </div>
      <aside
        aria-label={t("settings")}
        className="space-y-5 border-t border-hairline px-4 py-4 sm:px-6 lg:w-[20rem] lg:overflow-y-auto lg:border-t-0 lg:border-l lg:px-5 max-lg:order-first max-lg:border-t-0 max-lg:border-b"
      >
        <Trouble query={catalog} />
        <Caller value={pasted} error={keyRefusal} isGood={isKeyGood} change={changeKey} />
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
          <Settings asking={session} change={change} />
        </div>
      </aside>
      {dialog === "code" ? (
        <CodeDialog api={catalog.data?.api_url ?? "https://…"} bodies={bodies} close={() => setDialog(null)} />
      ) : null}
      {dialog === "tally" ? <TallyDialog apiKey={key} close={() => setDialog(null)} /> : null}
      {dialog === "share" ? (
        <ShareDialog setup={setupOf(session, models)} said={saidIn(session)} close={() => setDialog(null)} />
      ) : null}
      {dialog === "presets" ? (
        <PresetsDialog
          setup={setupOf(session, models)}
          use={(setup) => {
            setSession((old) => setUp(old, { setup, said: null }));
            setDialog(null);
          }}
          close={() => setDialog(null)}
        />
      ) : null}
      {receiptOf ? <ReceiptDialog asked={receiptOf} apiKey={key} close={() => setReceiptOf(null)} /> : null}
    </div>
  );
}

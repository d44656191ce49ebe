import { type Dispatch, type SetStateAction, useCallback, useEffect, useRef, useState } from "react";
import { isAlias } from "./blind";
import { type Fault, newTurn, run, type Turn } from "./conversation";
import type { Offer } from "./offers";
import { bodyOf } from "./parameters";
import type { Session } from "./session";

/** What passes by itself, and says when: a limit that is reached, a gateway with too much to do. */
export const PASSES: readonly (string | null)[] = ["rate_limit_exceeded", "server_is_overloaded"];

/** Until when (ms) a refusal is waited for. Null: it is said and is the reader's. What had begun is never sent again. */
const passesAt = ({ code, isFree, retryAfterSeconds: seconds }: Fault): number | null =>
  isFree && seconds !== null && PASSES.includes(code) ? Date.now() + seconds * 1_000 : null;

/**
 * Sends what waits as soon as its model is warm, and writes down what comes. A model that was asleep although the catalog
 * said otherwise is asked again only after a later reading: the one at hand would send the question again and again.
 */
export function useRuns(
  session: Session,
  setSession: Dispatch<SetStateAction<Session>>,
  key: string,
  coldFor: (turn: Turn) => Offer | undefined | null,
  isElsewhere: (turn: Turn) => boolean,
  catalog: { dataUpdatedAt: number; refetch: () => unknown },
) {
  const asleepAt = useRef(new Map<string, number>());
  const { dataUpdatedAt: readAt, refetch } = catalog;
  const running = useRef(new Map<string, AbortController>());
  const [heldUntil, setHeldUntil] = useState(0); // ms; what was held no longer than that may go

  const report = useCallback(
    (turn: Turn) =>
      setSession((old) => ({
        ...old,
        columns: old.columns.map((column) => ({
          ...column,
          turns: column.turns.map((one) => (one.id === turn.id ? turn : one)),
        })),
      })),
    [setSession],
  );

  useEffect(() => {
    if (!key) return;
    for (const column of session.columns) {
      const turn = column.turns.at(-1);
      if (turn?.state !== "waiting" || coldFor(turn) !== undefined || running.current.has(turn.id)) continue;
      if ((asleepAt.current.get(turn.id) ?? 0) >= readAt) continue;
      if (turn.held && turn.held.until > heldUntil) continue;
      const abort = new AbortController();
      running.current.set(turn.id, abort);
      // What was said in another round was said by another model, or told who it was.
      const before = column.turns.slice(0, -1).filter((one) => one.round === turn.round);
      const question = { ...turn, text: "", held: null };
      run(question, bodyOf(turn.asked, session, [...before, question]), key, abort.signal, (one) => {
        // Gone cold between the look and the request: it waits as if it had been cold before.
        const isAsleep = one.fault?.code === "model_asleep" && !isElsewhere(turn);
        if (isAsleep) {
          asleepAt.current.set(turn.id, Date.now());
          refetch();
        }
        const until = one.fault && passesAt(one.fault);
        if (isAsleep) report(askedAgain(turn));
        else if (one.fault && until) {
          const { message, code } = one.fault;
          report({ ...askedAgain(turn), held: { until, message, code } });
        } else report(one);
      }).finally(() => running.current.delete(turn.id));
    }
  }, [session, key, coldFor, isElsewhere, report, readAt, refetch, heldUntil]);

  const held = session.columns.map((column) => column.turns.at(-1)?.held?.until ?? 0);
  const next = Math.min(...held.filter((until) => until > heldUntil));
  useEffect(() => {
    if (next === Number.POSITIVE_INFINITY) return;
    const timer = setTimeout(() => setHeldUntil(next), Math.max(0, next - Date.now()));
    return () => clearTimeout(timer);
  }, [next]);

  // Who leaves the page for another of the console stops what runs: nobody would see it.
  useEffect(() => {
    const all = running.current;
    return () => {
      for (const abort of all.values()) abort.abort();
    };
  }, []);

  return useCallback(() => {
    for (const abort of running.current.values()) abort.abort();
  }, []);
}

/** The same question, not asked yet. */
export const askedAgain = (turn: Turn, asked = turn.asked): Turn => ({
  ...newTurn(turn.prompt, asked, "waiting"),
  id: turn.id,
  images: turn.images,
  results: turn.results,
  round: isAlias(asked) ? turn.round : null,
});

import { useCallback, useEffect, useRef, useState } from "react";
import type { Asking } from "../asking";
import { newTurn, run, type Turn } from "../conversation";
import { PASSES } from "../useRuns";
import type { PromptRow } from "./prompts";
import { askedIn, cellOf, isStale, type Kept, rememberedTest, rememberTest, requestOf, type Test, wayOf } from "./test";

const AT_ONCE = 4; // a browser keeps six connections to a host, and the page needs some for itself
const ENDS_ALL = [
  ...["insufficient_quota", "credit_balance_exhausted"],
  ...["project_spend_limit_exceeded", "organization_spend_limit_exceeded"],
  ...["invalid_api_key", "invalid_token", "permission_denied"],
];

/** A batch test with its runs. What is finished stays, whatever ends a run. */
export function useTest(key: string) {
  const [test, setTest] = useState<Test>(rememberedTest);
  const [kept, setKept] = useState<Kept>("all"); // what a reload would bring back
  const [isRunning, setRunning] = useState(false);
  const abort = useRef<AbortController | null>(null);
  const latest = useRef(test);
  latest.current = test;

  useEffect(() => {
    const timer = setTimeout(() => setKept(rememberTest(test)), 500);
    return () => clearTimeout(timer);
  }, [test]);

  useEffect(() => {
    const leave = () => {
      rememberTest(latest.current);
    };
    addEventListener("pagehide", leave);
    return () => {
      removeEventListener("pagehide", leave);
      leave();
      abort.current?.abort();
    };
  }, []);

  const report = useCallback((cell: string, way: string, turn: Turn) => {
    setTest((old) => ({ ...askedIn(old, cell, way), cells: { ...old.cells, [cell]: turn } }));
  }, []);

  /** What has no good answer yet, and with `anew` what was asked another way than now. A limit that was reached is waited for; money that ended ends it all. */
  async function start(asking: Asking, rows: PromptRow[], models: string[], anew: boolean) {
    const way = wayOf(asking);
    const ending = new AbortController();
    abort.current = ending;
    setRunning(true);
    const todo = rows.flatMap((row, place) =>
      models
        .map((model) => ({ row, model, cell: cellOf(place, model) }))
        .filter(({ cell }) => test.cells[cell]?.state !== "done" || (anew && isStale(test, cell, way))),
    );
    const work = async () => {
      while (!ending.signal.aborted) {
        const one = todo.shift();
        if (!one) return;
        let last: Turn = newTurn(one.row.prompt, one.model, "waiting");
        do {
          const turn = newTurn(one.row.prompt, one.model, "waiting");
          await run(turn, requestOf(asking, one.model, one.row), key, ending.signal, (now) => {
            last = now;
            report(one.cell, way, now);
          });
          if (!last.fault || !PASSES.includes(last.fault.code)) break;
          await pause((last.fault.retryAfterSeconds ?? 1) * 1_000, ending.signal);
        } while (!ending.signal.aborted);
        if (ENDS_ALL.includes(last.fault?.code ?? "")) ending.abort();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    setRunning(false);
  }

  return { test, setTest, kept, isRunning, start, stop: () => abort.current?.abort() };
}

const pause = (ms: number, signal: AbortSignal) =>
  new Promise<void>((over) => {
    const timer = setTimeout(over, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      over();
    });
  });

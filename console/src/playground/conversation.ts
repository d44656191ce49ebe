import { Refusal } from "@/api/refusal";
import type { Body } from "@/code/samples";
import type { Usage } from "@/money";
import { chat, type Likelihood } from "./chat";
import type { Settled } from "./receipts";
import { StreamCut } from "./sse";

/** What went wrong with a turn, in a form that survives a reload. */
export type Fault = {
  kind: "refused" | "cut" | "network";
  message: string;
  code: string | null;
  requestId: string | null;
  isFree: boolean;
  retryAfterSeconds: number | null;
};

export type ToolCall = { id: string; name: string; arguments: string };
export type ToolResult = { id: string; content: string };

/** A question and what became of it. */
export type Turn = {
  id: string;
  born: number; // ms; versions of the same place are in this order
  endedAt: number | null; // ms
  prompt: string;
  images: string[]; // data addresses
  results: ToolResult[]; // instead of a prompt: what the calls of the turn before gave
  asked: string; // the model that was asked for, or the alias of one
  round: string | null; // the blind comparison that it belongs to
  text: string;
  thought: string;
  calls: ToolCall[];
  likelihoods: Likelihood[];
  state: "waiting" | "running" | "done" | "stopped" | "failed";
  model: string | null; // the one that says it answered
  requestId: string | null;
  usage: Usage | null;
  isFinal: boolean; // whether `usage` is the engine's closing count
  ttftMs: number | null;
  tokensPerSecond: number | null;
  finish: string | null;
  fault: Fault | null;
  settled: Settled | null; // by the ledger
};

export const newId = (): string => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`; // plain http has no UUIDs

export const newTurn = (prompt: string, asked: string, state: Turn["state"]): Turn => ({
  id: newId(),
  born: Date.now(),
  endedAt: null,
  prompt,
  images: [],
  results: [],
  asked,
  round: null,
  text: "",
  thought: "",
  calls: [],
  likelihoods: [],
  state,
  model: null,
  requestId: null,
  usage: null,
  isFinal: false,
  ttftMs: null,
  tokensPerSecond: null,
  finish: null,
  fault: null,
  settled: null,
});

/** A turn as a store gave it back. An answer that was on its way when the page went is one that was stopped. */
export function revived(stored: Partial<Turn>): Turn {
  const turn = { ...newTurn("", "", "done"), ...stored };
  return turn.state === "running" ? { ...turn, state: "stopped", endedAt: Date.now() } : turn;
}

const MOST_CHARACTERS = 1_000_000; // an answer that goes on for longer is stopped, and a tab stays usable
const MOST_LIKELIHOODS = 500;

/** Runs one turn and reports it as it grows: at most once per frame, and once a second while the tab is hidden. */
export async function run(turn: Turn, body: Body, key: string, signal: AbortSignal, report: (turn: Turn) => void) {
  const now: Turn = { ...turn, state: "running" };
  let isDue = false;
  let isOver = false;
  const flush = () => {
    isDue = false;
    if (!isOver) report({ ...now });
  };
  const soon = () => {
    if (isDue) return;
    isDue = true;
    if (document.hidden) setTimeout(flush, 1_000);
    else requestAnimationFrame(flush);
  };
  const began = performance.now();
  let first: number | null = null;
  report({ ...now });
  const abort = new AbortController(); // ours; the caller's ends it, too
  const leave = () => abort.abort();
  signal.addEventListener("abort", leave);
  try {
    if (signal.aborted) leave();
    for await (const piece of chat(body, key, abort.signal)) {
      const at = performance.now();
      if (piece.kind === "began") now.requestId = piece.requestId;
      if (piece.kind === "model") now.model = piece.model;
      if (piece.kind === "text") now.text += piece.text;
      if (piece.kind === "thought") now.thought += piece.text;
      if (piece.kind === "call") now.calls = withCall(now.calls, piece);
      if (piece.kind === "likelihoods") {
        now.likelihoods = [...now.likelihoods, ...piece.likelihoods].slice(0, MOST_LIKELIHOODS);
      }
      if (piece.kind === "finish") {
        now.finish = piece.stopReason === "budget" ? "budget" : piece.reason;
      }
      if (piece.kind === "text" || piece.kind === "thought" || piece.kind === "call") {
        first ??= at;
        now.ttftMs = first - began;
      }
      if (piece.kind === "usage") {
        // A running count knows nothing of the cache; the closing one comes after the last choice and knows it all.
        now.isFinal = now.finish !== null;
        now.usage = piece.usage;
        const seconds = first === null ? 0 : (at - first) / 1_000;
        if (!now.isFinal && seconds > 0.05) now.tokensPerSecond = (piece.usage.completion - 1) / seconds;
      }
      soon();
      if (now.text.length + now.thought.length > MOST_CHARACTERS) {
        now.finish = "endless";
        leave();
        break;
      }
    }
    now.state = "done";
  } catch (error) {
    now.state = signal.aborted ? "stopped" : "failed";
    if (!signal.aborted) now.fault = faultOf(error, now);
  } finally {
    isOver = true;
    now.endedAt = Date.now();
    signal.removeEventListener("abort", leave);
    report({ ...now });
  }
}

function faultOf(error: unknown, turn: Turn): Fault {
  if (error instanceof Refusal) {
    // After the first byte a refusal is an error event: what was delivered is billed.
    const isFree = error.isFree && turn.requestId === null;
    return {
      kind: "refused",
      message: error.message,
      code: error.code,
      requestId: error.requestId,
      isFree,
      retryAfterSeconds: error.retryAfterSeconds,
    };
  }
  const kind = error instanceof StreamCut || turn.requestId !== null ? "cut" : "network";
  return { kind, message: "", code: null, requestId: turn.requestId, isFree: false, retryAfterSeconds: null };
}

/** Calls come in pieces: the first names the function, all others continue its arguments. */
function withCall(calls: ToolCall[], piece: ToolCall & { index: number }): ToolCall[] {
  const { index, id, name } = piece;
  const old = calls[index] ?? { id: "", name: "", arguments: "" };
  const next = { id: id || old.id, name: name || old.name, arguments: old.arguments + piece.arguments };
  return Object.assign([...calls], { [index]: next });
}

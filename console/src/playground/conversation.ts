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

/** What was refused before anything began and passes by itself: until when (ms) it is waited for, and why. */
export type Held = { until: number; message: string; code: string | null };

/** One of several answers. */
export type Choice = { text: string; thought: string; calls: ToolCall[] };

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
  others: Choice[]; // where several answers were asked for: all but the first
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
  held: Held | null;
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
  others: [],
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
  held: null,
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
  const written: number[] = []; // tokens, by choice
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
      if (piece.kind === "text" || piece.kind === "thought" || piece.kind === "call") {
        if (piece.choice === 0) Object.assign(now, grown(now, piece));
        else now.others = withOther(now.others, piece.choice - 1, piece);
      }
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
        now.isFinal = piece.choice === null;
        if (piece.choice !== null) written[piece.choice] = piece.usage.completion;
        const completion = piece.choice === null ? piece.usage.completion : written.reduce((all, one) => all + one, 0);
        now.usage = { ...piece.usage, completion };
        const seconds = first === null ? 0 : (at - first) / 1_000;
        if (!now.isFinal && seconds > 0.05) now.tokensPerSecond = (completion - 1) / seconds;
      }
      soon();
      if (lengthOf(now) > MOST_CHARACTERS) {
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

type Growth = { kind: "text" | "thought"; text: string } | (ToolCall & { kind: "call"; index: number });

function grown({ text, thought, calls }: Choice, piece: Growth): Choice {
  if (piece.kind === "call") return { text, thought, calls: withCall(calls, piece) };
  if (piece.kind === "text") return { text: text + piece.text, thought, calls };
  return { text, thought: thought + piece.text, calls };
}

function withOther(others: Choice[], at: number, piece: Growth): Choice[] {
  const all = Array.from({ length: Math.max(others.length, at + 1) }, (_, place) => others[place] ?? noChoice);
  return all.map((one, place) => (place === at ? grown(one, piece) : one));
}

const noChoice: Choice = { text: "", thought: "", calls: [] };

const lengthOf = (turn: Turn) =>
  [turn, ...turn.others].reduce((sum, { text, thought }) => sum + text.length + thought.length, 0);

/** The same with one of the others as the answer that the conversation goes on from. Probabilities were of the first. */
export function preferring(turn: Turn, at: number): Turn {
  const chosen = turn.others[at];
  if (!chosen) return turn;
  const first = { text: turn.text, thought: turn.thought, calls: turn.calls };
  return { ...turn, ...chosen, likelihoods: [], others: turn.others.map((one, place) => (place === at ? first : one)) };
}

/** Calls come in pieces: the first names the function, all others continue its arguments. */
function withCall(calls: ToolCall[], piece: ToolCall & { index: number }): ToolCall[] {
  const { index, id, name } = piece;
  const old = calls[index] ?? { id: "", name: "", arguments: "" };
  const next = { id: id || old.id, name: name || old.name, arguments: old.arguments + piece.arguments };
  return Object.assign([...calls], { [index]: next });
}

import { type Asking, plain } from "./asking";
import { type Column, emptyColumn, mapTurns } from "./columns";
import { newTurn, type Turn } from "./conversation";
import { unset } from "./parameters";

/** A blind comparison whose models nobody here knows yet: column by column its aliases. */
export type Round = { id: string; aliases: string[] };
export type Reveal = { models: string[]; verdict: string };

/** Everything typed and answered in this tab. Kept by the tab alone and gone with it; the key has a place of its own. */
export type Session = Asking & {
  draft: string;
  images: string[];
  mode: "chat" | "batch";
  isBlind: boolean;
  round: Round | null;
  reveal: Reveal | null; // of the last round
  columns: Column[];
};

export const fresh: Session = {
  draft: "",
  images: [],
  mode: "chat",
  system: "",
  parameters: unset,
  tools: "",
  format: plain,
  isBlind: false,
  round: null,
  reveal: null,
  columns: [emptyColumn()],
};

const SESSION = "playground";
const KEY = "playground-key";
const MOST_CHARACTERS = 2_000_000; // browsers give a site about five million

/** What the tab remembers. An answer that was on its way when the page went is one that was stopped. */
export function remembered(): Session {
  try {
    const stored = JSON.parse(sessionStorage.getItem(SESSION) ?? "null") as Session | null;
    if (stored === null) return fresh;
    const revived = (turn: Turn): Turn => ({
      ...newTurn("", "", "done"),
      ...turn,
      state: turn.state === "running" ? "stopped" : turn.state,
    });
    const columns = stored.columns.map((column) => mapTurns({ ...emptyColumn(), ...column }, revived));
    return { ...fresh, ...stored, parameters: { ...unset, ...stored.parameters }, columns };
  } catch {
    return fresh;
  }
}

/** As much as the tab's store holds: what goes first are pictures, then other versions, then the oldest turns. */
export function remember(session: Session) {
  let kept = session;
  const isTooLong = () => JSON.stringify(kept).length > MOST_CHARACTERS;
  if (isTooLong()) {
    const columns = kept.columns.map((column) =>
      mapTurns(column, (turn) => ({ ...turn, images: [], likelihoods: [] })),
    );
    kept = { ...kept, images: [], columns };
  }
  if (isTooLong()) kept = { ...kept, columns: kept.columns.map((column) => ({ ...column, branches: [] })) };
  while (isTooLong() && kept.columns.some((column) => column.turns.length > 1)) {
    kept = { ...kept, columns: kept.columns.map((column) => ({ ...column, turns: column.turns.slice(1) })) };
  }
  try {
    sessionStorage.setItem(SESSION, JSON.stringify(kept));
  } catch {
    // The tab's store is full or forbidden: the page goes on without a memory.
  }
}

export const rememberedKey = () => sessionStorage.getItem(KEY) ?? "";

export function rememberKey(key: string) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

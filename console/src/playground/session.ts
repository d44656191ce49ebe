import { type Asking, plain } from "./asking";
import { type Column, emptyColumn, mapTurns } from "./columns";
import { revived, type Turn } from "./conversation";
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
  unsent: Record<string, string>; // typed below a turn: a question that is edited, what a call gave
};

export const editOf = (turn: Turn) => `edit ${turn.id}`;
export const givenFor = (turn: Turn, call: string) => `call ${turn.id} ${call}`;

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
  unsent: {},
};

const SESSION = "playground";
const KEY = "playground-key";
const MOST_CHARACTERS = 2_000_000; // browsers give a site about five million

/** What the tab remembers. */
export function remembered(): Session {
  try {
    const stored = JSON.parse(sessionStorage.getItem(SESSION) ?? "null") as Session | null;
    if (stored === null) return fresh;
    const columns = stored.columns.map((column) => mapTurns({ ...emptyColumn(), ...column }, revived));
    return { ...fresh, ...stored, parameters: { ...unset, ...stored.parameters }, columns };
  } catch {
    return fresh;
  }
}

/** How much of a session the tab's store holds: all, all but pictures, without what was said first, or nothing. */
export type Kept = "all" | "words" | "end" | "nothing";

/** As much as there is room for: what goes first are pictures, then other versions, then the oldest turns. Says what it was. */
export function remember(session: Session): Kept {
  let kept: Session = session;
  let what: Kept = "all";
  const isTooLong = () => JSON.stringify(kept).length > MOST_CHARACTERS;
  if (isTooLong()) {
    const columns = kept.columns.map((column) =>
      mapTurns(column, (turn) => ({ ...turn, images: [], likelihoods: [] })),
    );
    kept = { ...kept, images: [], columns };
    what = "words";
  }
  if (isTooLong()) {
    kept = { ...kept, columns: kept.columns.map((column) => ({ ...column, branches: [] })) };
    what = "end";
  }
  while (isTooLong() && kept.columns.some((column) => column.turns.length > 1)) {
    kept = { ...kept, columns: kept.columns.map((column) => ({ ...column, turns: column.turns.slice(1) })) };
  }
  try {
    sessionStorage.setItem(SESSION, JSON.stringify(kept));
    return what;
  } catch {
    return "nothing"; // the tab's store is full or forbidden: the page goes on without a memory
  }
}

export const rememberedKey = () => sessionStorage.getItem(KEY) ?? "";

export function rememberKey(key: string) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

import type { Turn } from "./conversation";
import { type Parameters, unset } from "./parameters";

/** Everything typed and answered in this tab. Kept by the tab alone and gone with it; the key has a place of its own. */
export type Column = { model: string; turns: Turn[] };
export type Session = { draft: string; system: string; parameters: Parameters; columns: Column[] };

export const fresh: Session = { draft: "", system: "", parameters: unset, columns: [{ model: "", turns: [] }] };

const SESSION = "playground";
const KEY = "playground-key";
const MOST_CHARACTERS = 2_000_000; // browsers give a site about five million

/** What the tab remembers. An answer that was on its way when the page went is one that was stopped. */
export function remembered(): Session {
  try {
    const stored = JSON.parse(sessionStorage.getItem(SESSION) ?? "null") as Session | null;
    if (stored === null) return fresh;
    const columns = stored.columns.map((column) => ({
      ...column,
      turns: column.turns.map((turn) => (turn.state === "running" ? { ...turn, state: "stopped" as const } : turn)),
    }));
    return { ...fresh, ...stored, columns };
  } catch {
    return fresh;
  }
}

export function remember(session: Session) {
  let kept = session;
  while (JSON.stringify(kept).length > MOST_CHARACTERS && kept.columns.some((column) => column.turns.length > 1)) {
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

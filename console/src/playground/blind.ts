import { send } from "@/api/caller";
import type { components } from "@/api/schema";
import { mapTurns } from "./columns";
import type { Session } from "./session";

export type Comparison = components["schemas"]["ComparisonObject"];
export type Verdict = components["schemas"]["Vote"]["verdict"];
export type Tally = components["schemas"]["TallyObject"];

export const letters = ["A", "B", "C", "D"] as const;

export const isAlias = (model: string) => model.startsWith("blind-");

/** The gateway draws the order by lot; sent sorted, so that the request does not hint at it. */
export const begin = (key: string, models: string[]) =>
  send<Comparison>("/v1/comparisons", key, { models: [...models].sort() });

export const vote = (key: string, id: string, verdict: Verdict) =>
  send<Comparison>(`/v1/comparisons/${id}/vote`, key, { verdict });

/** After the vote every turn of the round says which model it was, and its column stays with that model. */
export function uncovered(session: Session, comparison: Comparison): Session {
  const models = comparison.models ?? [];
  const named = (alias: string) => models[comparison.aliases.indexOf(alias)] ?? alias;
  const columns = session.columns.map((column, place) =>
    mapTurns({ ...column, model: models[place] ?? column.model }, (turn) => ({
      ...turn,
      asked: named(turn.asked),
      model: turn.model && named(turn.model),
    })),
  );
  return { ...session, columns, round: null, reveal: { models, verdict: comparison.verdict ?? "none" } };
}

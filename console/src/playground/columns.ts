import type { Turn } from "./conversation";

/** What was said from a place on before somebody edited or asked again there. It keeps its own other versions. */
export type Branch = { at: number; turns: Turn[]; branches: Branch[] };
export type Column = { model: string; turns: Turn[]; branches: Branch[] };

export const emptyColumn = (model = ""): Column => ({ model, turns: [], branches: [] });

export const withTurn = (column: Column, turn: Turn): Column => ({ ...column, turns: [...column.turns, turn] });

/** Asks anew at a place. What stood there, and after it, is kept as a branch. */
export function askedAnew(column: Column, at: number, turn: Turn): Column {
  const { branches, tail } = cut(column, at);
  return { ...column, turns: [...column.turns.slice(0, at), turn], branches: [...branches, tail] };
}

/** Which version of a place is shown, from 1, and of how many. */
export function versionAt(column: Column, at: number): { number: number; of: number } {
  const others = column.branches.filter((branch) => branch.at === at);
  const born = column.turns[at]?.born ?? 0;
  return { number: 1 + others.filter((branch) => bornOf(branch) < born).length, of: others.length + 1 };
}

/** Shows the next or the previous version of a place. */
export function switched(column: Column, at: number, by: 1 | -1): Column {
  const { branches, tail } = cut(column, at);
  const versions = [...branches.filter((branch) => branch.at === at), tail].sort((a, b) => bornOf(a) - bornOf(b));
  const shown = versions[versions.indexOf(tail) + by];
  if (!shown) return column;
  const rest = branches.filter((branch) => branch !== shown);
  return {
    ...column,
    turns: [...column.turns.slice(0, at), ...shown.turns],
    branches: [...rest, tail, ...shown.branches],
  };
}

/** The same with every turn changed, shown or not. */
export function mapTurns<T extends { turns: Turn[]; branches: Branch[] }>(part: T, to: (turn: Turn) => Turn): T {
  return { ...part, turns: part.turns.map(to), branches: part.branches.map((branch) => mapTurns(branch, to)) };
}

function cut(column: Column, at: number): { branches: Branch[]; tail: Branch } {
  const inner = column.branches.filter((branch) => branch.at > at);
  const branches = column.branches.filter((branch) => branch.at <= at);
  return { branches, tail: { at, turns: column.turns.slice(at), branches: inner } };
}

const bornOf = (branch: Branch) => branch.turns[0]?.born ?? 0;

import { callerHeaders } from "./caller";
import { refusalOf } from "./refusal";

/** A GET of JSON, or a Refusal. */
export async function read<T>(path: string, { key, signal }: { key?: string; signal?: AbortSignal } = {}): Promise<T> {
  const response = await fetch(path, { headers: callerHeaders(key ?? ""), signal: signal ?? null });
  if (!response.ok) throw await refusalOf(response);
  return (await response.json()) as T;
}

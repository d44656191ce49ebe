import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { read } from "./read";
import { refusalOf } from "./refusal";
import type { components } from "./schema";

export type Session = components["schemas"]["Session"];
export type Person = components["schemas"]["Person"];
type SignedOut = components["schemas"]["SignedOut"];

const SIGNED_IN = "signed-in:";

/**
 * Stands for a key where somebody signed in asks: the cookie says who it is. It names the tenant, so that what was read
 * for one is never shown for another; empty while none is chosen.
 */
export const keyOf = (person: Person | null | undefined) => (person?.tenant ? SIGNED_IN + person.tenant : "");
export const isSession = (key: string | undefined) => key?.startsWith(SIGNED_IN) ?? false;

const QUERY = ["session"] as const;
const ENDED = "session-ended";
let proof = ""; // that a page of ours asks, and no other site; it follows from the session and is worth nothing elsewhere

/** What a request shows: a key, or what the session's cookie needs beside it. */
export const credentials = (key: string): Record<string, string> =>
  isSession(key) ? { "x-csrf-token": proof } : key ? { authorization: `Bearer ${key}` } : {};

/** Who is signed in. Other tabs, the way back and a refused request make it ask again. */
export function useSession() {
  const client = useQueryClient();
  useEffect(() => {
    const again = () => client.invalidateQueries({ queryKey: QUERY });
    const shown = (event: PageTransitionEvent) => event.persisted && again();
    const tabs = new BroadcastChannel(ENDED);
    tabs.addEventListener("message", again);
    addEventListener(ENDED, again);
    addEventListener("pageshow", shown);
    return () => {
      tabs.close();
      removeEventListener(ENDED, again);
      removeEventListener("pageshow", shown);
    };
  }, [client]);
  return useQuery({
    queryKey: QUERY,
    queryFn: async ({ signal }) => {
      const session = await read<Session>("/auth/session", { signal });
      proof = session.person?.csrf_token ?? "";
      return session;
    },
    staleTime: 30_000,
  });
}

/** A refused request has shown that the session is over, or another one has begun. */
export function askAgain() {
  dispatchEvent(new Event(ENDED));
}

/** Tells this tab and all others that who is signed in has changed. */
function tell() {
  askAgain();
  const tabs = new BroadcastChannel(ENDED);
  tabs.postMessage(null);
  tabs.close();
}

export const chooseTenant = (tenant: string) => change<Person>("/auth/session/tenant", { tenant });
export const signOut = () => change<SignedOut>("/auth/logout", {});
export const takeLink = (token: string) => change<null>("/auth/link", { token });

async function change<T>(path: string, body: object): Promise<T> {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", ...credentials(SIGNED_IN) },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw await refusalOf(response);
  tell();
  return (response.status === 204 ? null : await response.json()) as T;
}

/** A page of ours to come back to; undefined for anything else that an address may say. */
export const safePath = (text: string | null) =>
  text && /^\/(en|de|zh)(\/[a-z-]+)?(\?[\w=&.%:-]*)?(#[\w.:-]*)?$/.test(text) ? text : undefined;

/** Where one signs in and comes back from to where one is. */
export const signInPath = (locale: string) =>
  `/${locale}/signin?next=${encodeURIComponent(safePath(location.pathname + location.search) ?? `/${locale}`)}`;

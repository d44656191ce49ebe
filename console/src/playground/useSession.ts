import { useEffect, useRef, useState } from "react";
import { fresh, type Kept, remember, remembered, rememberedKey, rememberKey, type Session } from "./session";
import { type Shared, setUp, sharedIn } from "./setup";

/** The session of this tab, kept as it changes, and a setup that a link brought and nobody has accepted yet. */
export function useSession() {
  const [session, setSession] = useState<Session>(fresh);
  const [key, setKey] = useState("");
  const [isLoaded, setLoaded] = useState(false);
  const [kept, setKept] = useState<Kept>("all"); // what a reload would bring back
  const [shared, setShared] = useState<Shared | null>(null);
  const latest = useRef({ session, isLoaded });
  latest.current = { session, isLoaded };

  useEffect(() => {
    const stored = remembered();
    const asked = new URLSearchParams(location.search).get("model");
    const given = sharedIn(location.hash);
    const [first, ...rest] = stored.columns;
    let begun =
      asked && first && stored.round === null ? { ...stored, columns: [{ ...first, model: asked }, ...rest] } : stored;
    const isEmpty = begun.draft === "" && begun.columns.every((column) => column.turns.length === 0);
    if (given && isEmpty) begun = setUp(begun, given);
    else setShared(given);
    // Taken over by now: a reload must not choose the model, or ask about the link, once more.
    if (asked || given) history.replaceState(history.state, "", location.pathname);
    setSession(begun);
    setKey(rememberedKey());
    setLoaded(true);
    const leave = () => {
      if (latest.current.isLoaded) remember(latest.current.session);
    };
    addEventListener("pagehide", leave);
    return () => {
      removeEventListener("pagehide", leave);
      leave();
    };
  }, []);

  useEffect(() => {
    if (!isLoaded) return;
    const timer = setTimeout(() => setKept(remember(session)), 300);
    return () => clearTimeout(timer);
  }, [session, isLoaded]);

  return {
    session,
    setSession,
    kept,
    isLoaded,
    key,
    changeKey: (one: string) => {
      rememberKey(one);
      setKey(one);
    },
    shared,
    acceptShared: () => {
      if (shared) setSession((old) => setUp(old, shared));
      setShared(null);
    },
    refuseShared: () => setShared(null),
  };
}

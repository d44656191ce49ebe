"use client";

import { useLocale, useTranslations } from "next-intl";
import { useEffect, useRef, useState } from "react";
import { signInPath, useSession } from "@/api/session";
import { GatewaySays } from "@/frame/GatewaySays";
import { TenantChoice } from "./TenantChoice";
import { useLeaving } from "./useLeaving";

const box = "flex h-10 min-w-10 items-center gap-2 rounded-md px-2 text-[0.8125rem] text-muted hover:text-text";

/** In the header: who is signed in and for whom, or the way in. Keeps its place while that is asked. */
export function Account() {
  const t = useTranslations("Session");
  const locale = useLocale();
  const { data: session } = useSession();
  const [path, setPath] = useState(`/${locale}/signin`);
  const details = useRef<HTMLDetailsElement>(null);

  useEffect(() => {
    const close = (event: Event) => {
      const inside = event.target instanceof Node && details.current?.contains(event.target);
      if (details.current?.open && (!inside || (event instanceof KeyboardEvent && event.key === "Escape"))) {
        details.current.open = false;
      }
    };
    addEventListener("pointerdown", close);
    addEventListener("keydown", close);
    return () => {
      removeEventListener("pointerdown", close);
      removeEventListener("keydown", close);
    };
  }, []);

  const { leave, fault } = useLeaving();

  const person = session?.person;
  if (!session || (!person && !session.provider && !session.links)) return <span className="size-10" />;
  if (!person) {
    return (
      <a
        href={path}
        className={box}
        onFocus={() => setPath(signInPath(locale))}
        onPointerEnter={() => setPath(signInPath(locale))}
        aria-label={t("signIn")}
      >
        <Figure />
        <span className="max-sm:hidden">{t("signIn")}</span>
      </a>
    );
  }
  const name = person.name ?? person.email ?? person.user_id;
  return (
    <details ref={details} className="relative">
      <summary className={`${box} list-none`} aria-label={t("account", { name })}>
        <Figure isFilled />
        <span className="max-w-40 truncate max-sm:hidden">
          {name}
          {person.tenant ? <span className="text-muted"> · {person.tenant}</span> : null}
        </span>
      </summary>
      <div className="card absolute right-0 z-40 mt-1 w-72 space-y-3 p-4 text-[0.875rem] max-sm:-right-24">
        <p>
          <span className="block font-semibold wrap-anywhere">{name}</span>
          {person.email && person.email !== name ? (
            <span className="block text-muted wrap-anywhere">{person.email}</span>
          ) : null}
          <span className="block text-muted">
            {person.everywhere.length ? t("operator", { roles: person.everywhere.join(", ") }) : ""}
          </span>
        </p>
        <TenantChoice person={person} />
        <button type="button" className="button-quiet w-full" onClick={leave}>
          {t("signOut")}
        </button>
        {fault ? (
          <div role="alert" className="text-bad">
            <GatewaySays said={fault} />
          </div>
        ) : null}
      </div>
    </details>
  );
}

function Figure({ isFilled = false }: { isFilled?: boolean }) {
  return (
    <svg
      viewBox="0 0 24 24"
      className="size-5 shrink-0"
      fill={isFilled ? "currentColor" : "none"}
      stroke="currentColor"
      strokeWidth="1.75"
      aria-hidden="true"
    >
      <circle cx="12" cy="8" r="4" />
      <path d="M4 20.5c1-4 4.2-6 8-6s7 2 8 6" />
    </svg>
  );
}

"use client";

import { useLocale, useTranslations } from "next-intl";
import { type ComponentProps, useEffect, useState } from "react";
import { keyOf, signInPath, useSession } from "@/api/session";
import { KeyField } from "@/playground/KeyField";
import { TenantChoice } from "./TenantChoice";

const height = "min-h-[11.5rem]";

/** In whose name a page asks: the pasted key, else who is signed in and for which tenant, else nobody. */
export function useCaller(pasted: string) {
  const { data: session, isPending } = useSession();
  const key = pasted || keyOf(session?.person);
  return {
    key,
    isKnown: !isPending,
    lacks: key ? null : session?.person ? ("needsTenant" as const) : ("needsKey" as const),
  };
}

/** Says who asks. Somebody signed in needs no key; who was signed out meanwhile is told so and comes back to this page. */
export function Caller(field: ComponentProps<typeof KeyField>) {
  const t = useTranslations("Session");
  const locale = useLocale();
  const { data: session, isError } = useSession();
  const [wasSignedIn, setSignedIn] = useState(false);
  const [wantsKey, setWantsKey] = useState(false);
  const person = session?.person ?? null;
  const canSignIn = session !== undefined && (session.provider || session.links);

  useEffect(() => {
    if (person) setSignedIn(true);
  }, [person]);

  // As high as what will stand here, so that nothing below jumps when it is known.
  if (!session && !isError && !field.value) return <div className={height} aria-busy="true" />;
  if (person && !field.value && !wantsKey) {
    return (
      <div className={`space-y-2 text-[0.8125rem] ${height}`}>
        <p className="flex flex-wrap items-center gap-x-3 gap-y-1">
          <span className="min-w-0 flex-1 wrap-anywhere">
            <span className="text-muted">{t("as")}</span>{" "}
            <strong data-testid="person">{person.name ?? person.email ?? person.user_id}</strong>
            {person.tenant ? <span className="text-muted"> · {person.tenant}</span> : null}
          </span>
          <button type="button" className="link min-h-6" onClick={() => setWantsKey(true)}>
            {t("useKey")}
          </button>
        </p>
        <TenantChoice person={person} />
        <p className="text-muted">{t("billed")}</p>
      </div>
    );
  }
  return (
    <div className={`space-y-3 ${field.value ? "" : height}`}>
      {!person && canSignIn && !field.value ? (
        <div
          role={wasSignedIn ? "alert" : undefined}
          className={`text-[0.8125rem] ${wasSignedIn ? "rounded-md border border-warn bg-warn-soft px-3 py-2.5" : ""}`}
        >
          {wasSignedIn ? <p className="mb-2">{t("ended")}</p> : null}
          {/* Not a link of the router: as the page goes, the draft is written down to the last letter. */}
          <a href={signInPath(locale)} className="button-primary min-h-9 w-full">
            {wasSignedIn ? t("again") : t("signIn")}
          </a>
        </div>
      ) : null}
      <KeyField {...field} />
      {person && wantsKey ? (
        <button
          type="button"
          className="link min-h-6 text-[0.8125rem]"
          onClick={() => {
            field.change("");
            setWantsKey(false);
          }}
        >
          {t("useSession")}
        </button>
      ) : null}
    </div>
  );
}

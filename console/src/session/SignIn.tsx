"use client";

import { useLocale, useTranslations } from "next-intl";
import { useEffect, useState } from "react";
import { Refusal } from "@/api/refusal";
import { type Session, safePath, takeLink, useSession } from "@/api/session";
import { Trouble } from "@/catalog/Trouble";
import { GatewaySays } from "@/frame/GatewaySays";
import { Link } from "@/frame/Link";
import { TenantChoice } from "./TenantChoice";
import { useLeaving } from "./useLeaving";

const reasons = ["denied", "expired", "refused", "away", "off", "link"] as const;
type Reason = (typeof reasons)[number];

/** The way in, by provider or one-time link; what went wrong, and what to do about it. */
export function SignIn() {
  const t = useTranslations("Session");
  const locale = useLocale();
  const query = useSession();
  const [next, setNext] = useState(`/${locale}/playground`);
  const [reason, setReason] = useState<Reason | null>(null);
  const [isTaking, setTaking] = useState(false);

  useEffect(() => {
    const asked = new URLSearchParams(location.search);
    const after = safePath(asked.get("next")) ?? `/${locale}/playground`;
    setNext(after);
    setReason(reasons.find((one) => one === asked.get("error")) ?? null);
    const token = new URLSearchParams(location.hash.slice(1)).get("link");
    if (!token) return;
    // It is good once: not for the history, nor for whoever looks over a shoulder.
    history.replaceState(history.state, "", location.pathname + location.search);
    setTaking(true);
    takeLink(token).then(
      () => location.replace(after),
      (error: unknown) => {
        setTaking(false);
        setReason(error instanceof Refusal && error.status < 500 ? "link" : "away");
      },
    );
  }, [locale]);

  return (
    <div className="mx-auto w-full max-w-[30rem] px-4 py-14 sm:px-6">
      <h1 className="text-[1.75rem] font-semibold">{t("title")}</h1>
      <div className="mt-6 min-h-72 space-y-5">
        {reason ? (
          <div role="alert" className="rounded-md border border-bad bg-bad-soft px-4 py-3 text-[0.9375rem]">
            <p className="font-semibold">{t(`reasons.${reason}.title`)}</p>
            <p className="mt-1">{t(`reasons.${reason}.text`)}</p>
          </div>
        ) : null}
        <Trouble query={query} />
        {isTaking || query.isPending ? (
          <output className="block text-muted">{isTaking ? t("taking") : t("asking")}</output>
        ) : query.data ? (
          <Ways session={query.data} next={next} />
        ) : null}
      </div>
    </div>
  );
}

function Ways({ session, next }: { session: Session; next: string }) {
  const t = useTranslations("Session");
  const locale = useLocale();
  const { leave, fault } = useLeaving();
  const person = session.person;
  if (person) {
    return (
      <div className="card space-y-4 p-5">
        <p>
          {t("as")} <strong data-testid="person">{person.name ?? person.email ?? person.user_id}</strong>
          {person.tenant ? <span className="text-muted"> · {person.tenant}</span> : null}
        </p>
        <TenantChoice person={person} />
        <div className="flex flex-wrap gap-3">
          <Link href={next} className="button-primary">
            {t("goOn")}
          </Link>
          <button type="button" className="button-quiet min-h-10 px-4" onClick={leave}>
            {t("signOut")}
          </button>
        </div>
        {fault ? (
          <div role="alert" className="text-bad">
            <GatewaySays said={fault} />
          </div>
        ) : null}
      </div>
    );
  }
  return (
    <>
      {session.provider ? (
        <div className="card p-5">
          <p className="mb-4 text-muted">{t("byProvider")}</p>
          <a href={`/auth/login?next=${encodeURIComponent(next)}`} className="button-primary w-full">
            {t("withProvider")}
          </a>
        </div>
      ) : null}
      {session.links ? (
        <div className="card p-5">
          <p className="text-muted">{t("byLink")}</p>
          <pre className="mt-3 overflow-x-auto rounded-md bg-sunk px-3 py-2 font-mono text-[0.8125rem]">
            bin/studio signin-link create --ops
          </pre>
        </div>
      ) : null}
      {session.provider || session.links ? null : <p>{t("noWay")}</p>}
      <p className="text-[0.875rem] text-muted">
        {t("orKey")}{" "}
        <Link href={`/${locale}/playground`} className="link">
          {t("toPlayground")}
        </Link>
      </p>
    </>
  );
}

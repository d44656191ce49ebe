"use client";

import { useTranslations } from "next-intl";
import { useState } from "react";
import { Refusal } from "@/api/refusal";
import { chooseTenant, type Person } from "@/api/session";
import { GatewaySays, type Said } from "@/frame/GatewaySays";

/** Which tenant to act for, when there are several; what to do when there is none. */
export function TenantChoice({ person }: { person: Person }) {
  const t = useTranslations("Session");
  const [error, setError] = useState<Said | null>(null);

  async function choose(tenant: string) {
    try {
      setError(null);
      await chooseTenant(tenant);
    } catch (refused) {
      setError(refused instanceof Refusal ? refused : t("unreachable"));
    }
  }

  if (person.places.length === 0) {
    return (
      <p className="text-warn wrap-anywhere">
        {t("noRole")} <code className="font-mono text-[0.75rem]">{person.user_id}</code>
      </p>
    );
  }
  if (person.places.length === 1) return null;
  return (
    <div>
      <label className="flex flex-col gap-1">
        <span className="text-muted">{t("tenant")}</span>
        <select className="field" value={person.tenant ?? ""} onChange={(event) => choose(event.target.value)}>
          {person.tenant === null ? <option value="">{t("chooseTenant")}</option> : null}
          {person.places.map((place) => (
            <option key={place.tenant} value={place.tenant}>
              {place.tenant}
            </option>
          ))}
        </select>
      </label>
      {error ? (
        <div role="alert" className="text-bad">
          <GatewaySays said={error} />
        </div>
      ) : null}
    </div>
  );
}

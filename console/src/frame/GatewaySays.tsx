"use client";

import { useLocale, useTranslations } from "next-intl";

/** A refusal with the gateway's own English sentence, or a sentence of ours, which is in the reader's language already. */
export type Said = { message: string; code: string | null } | string;

const codes = [
  "conflict",
  "context_length_exceeded",
  "credit_balance_exhausted",
  "idempotency_key_reused",
  "insufficient_quota",
  "invalid_api_key",
  "invalid_file",
  "invalid_image_url",
  "invalid_request",
  "invalid_token",
  "model_asleep",
  "model_not_found",
  "not_found",
  "organization_spend_limit_exceeded",
  "payload_too_large",
  "permission_denied",
  "project_spend_limit_exceeded",
  "rate_limit_exceeded",
  "server_is_overloaded",
  "session_ended",
] as const;

/** What a refusal means, in the reader's language: by its code. In English the gateway says it best. */
export function useGatewayWords(): (said: Said) => string {
  const t = useTranslations("Refusals");
  const locale = useLocale();
  return (said) => {
    if (typeof said === "string") return said;
    return locale === "en" ? said.message : t(codes.find((code) => code === said.code) ?? "other");
  };
}

/** The same, and below it what the gateway said itself, with its figures and names. */
export function GatewaySays({ said }: { said: Said }) {
  const t = useTranslations("Refusals");
  const locale = useLocale();
  const words = useGatewayWords();
  return (
    <div className="wrap-anywhere">
      <p>{words(said)}</p>
      {locale !== "en" && typeof said !== "string" && said.message ? (
        <details className="mt-1 text-[0.8125rem]">
          <summary className="min-h-6">{t("original")}</summary>
          <p lang="en">{said.message}</p>
        </details>
      ) : null}
    </div>
  );
}

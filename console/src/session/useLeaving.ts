import { useTranslations } from "next-intl";
import { useState } from "react";
import { Refusal } from "@/api/refusal";
import { signOut } from "@/api/session";
import type { Said } from "@/frame/GatewaySays";

/** Signs out, and goes where the provider ends its own session; says so when that failed. */
export function useLeaving() {
  const t = useTranslations("Session");
  const [fault, setFault] = useState<Said | null>(null);

  async function leave() {
    setFault(null);
    try {
      const { go_to } = await signOut();
      if (go_to) location.assign(go_to);
    } catch (error) {
      setFault(error instanceof Refusal ? error : t("unreachable"));
    }
  }

  return { leave, fault };
}

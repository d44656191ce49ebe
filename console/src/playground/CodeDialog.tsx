"use client";

import { useTranslations } from "next-intl";
import { Samples } from "@/code/Samples";
import type { Body } from "@/code/samples";
import Sheet from "./Sheet";

/** The request as code: the same body that the page sends, with the key from the environment. */
export default function CodeDialog({ api, bodies, close }: { api: string; bodies: Body[]; close: () => void }) {
  const t = useTranslations("Playground");
  return (
    <Sheet title={t("code")} note={t("codeNote")} close={close} wide>
      <div className="space-y-4">
        {bodies.map((body, column) => (
          <Samples key={`${column}-${body.model}`} api={api} body={{ ...body, stream: true }} />
        ))}
      </div>
    </Sheet>
  );
}

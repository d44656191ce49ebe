"use client";

import { Dialog } from "@base-ui/react/dialog";
import { useTranslations } from "next-intl";
import { Samples } from "@/code/Samples";
import type { Body } from "@/code/samples";

/** The request as code: the same body that the page sends, with the key from the environment. */
export function CodeDialog({ api, bodies }: { api: string; bodies: Body[] }) {
  const t = useTranslations("Playground");
  return (
    <Dialog.Root>
      <Dialog.Trigger className="button-quiet min-h-8">{t("code")}</Dialog.Trigger>
      <Dialog.Portal>
        <Dialog.Backdrop className="fixed inset-0 z-40 bg-black/50" />
        <Dialog.Popup className="card fixed inset-x-4 top-[8vh] z-50 mx-auto max-h-[84vh] max-w-3xl overflow-y-auto p-5 shadow-xl">
          <div className="mb-3 flex items-center justify-between gap-4">
            <Dialog.Title className="text-[1.125rem] font-semibold">{t("code")}</Dialog.Title>
            <Dialog.Close className="button-quiet min-h-8">{t("close")}</Dialog.Close>
          </div>
          <Dialog.Description className="mb-4 text-muted">{t("codeNote")}</Dialog.Description>
          <div className="space-y-4">
            {bodies.map((body, column) => (
              <Samples key={`${column}-${body.model}`} api={api} body={{ ...body, stream: true }} />
            ))}
          </div>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

"use client";

import { Dialog } from "@base-ui/react/dialog";
import { useTranslations } from "next-intl";
import type { ReactNode } from "react";

type Properties = { title: string; note?: string; close: () => void; wide?: boolean; children: ReactNode };

/** The frame of every dialog of the playground: open for as long as it is there. */
export default function Sheet({ title, note, close, wide = false, children }: Properties) {
  const t = useTranslations("Playground");
  return (
    <Dialog.Root open onOpenChange={(isOpen) => isOpen || close()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="fixed inset-0 z-40 bg-black/50" />
        <Dialog.Popup
          className={`card fixed inset-x-4 top-[8vh] z-50 mx-auto max-h-[84vh] overflow-y-auto p-5 shadow-xl ${wide ? "max-w-5xl" : "max-w-2xl"}`}
        >
          <div className="mb-3 flex items-center justify-between gap-4">
            <Dialog.Title className="min-w-0 text-[1.125rem] font-semibold wrap-anywhere">{title}</Dialog.Title>
            <Dialog.Close className="button-quiet min-h-8">{t("close")}</Dialog.Close>
          </div>
          {note ? <Dialog.Description className="mb-4 text-muted">{note}</Dialog.Description> : null}
          {children}
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

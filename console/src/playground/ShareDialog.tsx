"use client";

import { useTranslations } from "next-intl";
import { useState } from "react";
import { Copy } from "@/code/Copy";
import Sheet from "./Sheet";
import { linkOf, MOST_LINK, type Said, type Setup } from "./setup";

/** A link that carries the setup, and what was said only when that is asked for. */
export default function ShareDialog({ setup, said, close }: { setup: Setup; said: Said; close: () => void }) {
  const t = useTranslations("Setup");
  const [isWhole, setWhole] = useState(false);
  const link = linkOf({ setup, said: isWhole ? said : null });
  return (
    <Sheet title={t("share")} note={t("shareNote")} close={close}>
      <label className="flex items-start gap-2">
        <input
          type="checkbox"
          className="mt-1 size-4 accent-accent"
          checked={isWhole}
          onChange={(event) => setWhole(event.target.checked)}
        />
        <span>{t("withContent")}</span>
      </label>
      {isWhole ? (
        <p role="alert" className="mt-3 rounded-md border border-warn bg-warn-soft px-4 py-3">
          {t("contentWarning")}
        </p>
      ) : null}
      {link.length > MOST_LINK ? (
        <p role="alert" className="mt-3 text-bad">
          {t("tooLong")}
        </p>
      ) : (
        <div className="mt-4 flex items-start gap-2">
          <output
            data-copied
            data-testid="link"
            className="block max-h-32 min-w-0 flex-1 overflow-y-auto rounded-md bg-sunk p-3 font-mono text-[0.8125rem] break-all"
            tabIndex={0}
          >
            {link}
          </output>
          <Copy text={link} />
        </div>
      )}
    </Sheet>
  );
}

"use client";

import { useTranslations } from "next-intl";
import { type KeyboardEvent, useState } from "react";
import { imageTypes, readImage } from "./images";

type Properties = {
  draft: string;
  images: string[];
  canSee: boolean; // whether every model reads images
  isBusy: boolean;
  canSend: boolean;
  hint: string;
  change: (draft: string) => void;
  changeImages: (images: string[]) => void;
  send: () => void;
  stop: () => void;
};

/** Where one types. Enter sends and Shift-Enter breaks the line, but never while an input method is composing. */
export function Composer(properties: Properties) {
  const { draft, images, canSee, isBusy, canSend, hint, change, changeImages, send, stop } = properties;
  const t = useTranslations("Playground");
  const [fault, setFault] = useState("");

  function press(event: KeyboardEvent) {
    if (event.key === "Escape" && isBusy) stop();
    // 229: browsers that end the composition before the key that ended it
    const isComposing = event.nativeEvent.isComposing || event.keyCode === 229;
    if (event.key !== "Enter" || event.shiftKey || isComposing) return;
    event.preventDefault();
    send();
  }

  async function take(file: File | undefined) {
    if (!file) return;
    const read = await readImage(file);
    setFault("fault" in read ? t(`imageFaults.${read.fault}`, { file: file.name, most: read.most }) : "");
    if ("url" in read) changeImages([...images, read.url]);
  }

  return (
    <form
      className="sticky bottom-0 border-t border-hairline bg-bg px-4 py-3 sm:px-6"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      {images.length ? (
        <ul className="mx-auto mb-2 flex max-w-[60rem] flex-wrap gap-2">
          {images.map((image, place) => (
            <li key={`${place}-${image.length}`} className="relative">
              {/* biome-ignore lint/performance/noImgElement: a data address, which needs no optimizing */}
              <img src={image} alt={t("imageOf", { number: place + 1 })} className="size-16 rounded-md object-cover" />
              <button
                type="button"
                aria-label={t("removeImage", { number: place + 1 })}
                className="absolute -top-2 -right-2 size-6 rounded-full border border-control bg-surface leading-none"
                onClick={() => changeImages(images.filter((_, at) => at !== place))}
              >
                ×
              </button>
            </li>
          ))}
        </ul>
      ) : null}
      <div className="mx-auto flex max-w-[60rem] items-end gap-3">
        <textarea
          aria-label={t("prompt")}
          placeholder={t("promptHint")}
          rows={Math.min(8, Math.max(2, draft.split("\n").length))}
          className="field min-w-0 flex-1 resize-none"
          value={draft}
          onChange={(event) => change(event.target.value)}
          onKeyDown={press}
        />
        {canSee ? (
          <label className="button-quiet min-h-10 has-[:focus-visible]:outline-2 has-[:focus-visible]:outline-offset-2 has-[:focus-visible]:outline-accent">
            {t("attach")}
            <input
              type="file"
              accept={imageTypes.join()}
              className="sr-only"
              onChange={(event) => {
                take(event.target.files?.[0]);
                event.target.value = "";
              }}
            />
          </label>
        ) : null}
        {isBusy ? (
          <button type="button" className="button-quiet min-h-10 w-24" onClick={stop}>
            {t("stop")}
          </button>
        ) : (
          <button type="submit" className="button-primary w-24" disabled={!canSend}>
            {t("send")}
          </button>
        )}
      </div>
      <p className="mx-auto mt-1 min-h-5 max-w-[60rem] text-[0.8125rem] text-muted" aria-live="polite">
        {fault || hint || t("keys")}
      </p>
    </form>
  );
}

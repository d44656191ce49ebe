"use client";

const PIECE = 8_000; // characters; browsers lay out only the pieces that are in view

/** A text as it is, however long. */
export function LongText({ text }: { text: string }) {
  const pieces = [];
  for (let at = 0; at < text.length; at += PIECE) pieces.push(text.slice(at, at + PIECE));
  return (
    <div className="wrap-anywhere whitespace-pre-wrap">
      {pieces.map((piece, place) => (
        <span
          key={place}
          className={pieces.length > 1 ? "block [contain-intrinsic-size:auto_60rem] [content-visibility:auto]" : ""}
        >
          {piece}
        </span>
      ))}
    </div>
  );
}

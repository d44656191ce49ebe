"use client";

import { useTranslations } from "next-intl";
import { memo } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import rehypeSanitize from "rehype-sanitize";
import remarkGfm from "remark-gfm";
import { blocksOf } from "./blocks";
import { LongText } from "./LongText";

const LONG_FROM = 20_000; // characters; blocks out of view are then not laid out

const PLAIN_FROM = 30_000; // characters of one block: a table of thousands of rows, a fence that never closes

const remark = [remarkGfm];
const rehype = [rehypeSanitize];

/** A link out of an answer opens elsewhere, tells nobody where it came from, and says where it goes. */
const components: Components = {
  a: ({ href, children }) => {
    const host = hostOf(href);
    if (!href || host === null) return <span>{children}</span>;
    return (
      <a className="link" href={href} target="_blank" rel="noopener noreferrer nofollow ugc">
        {children} <span className="text-[0.8125rem] text-muted">({host})</span>
      </a>
    );
  },
  // A picture from elsewhere would tell its host who reads what.
  img: ({ alt, src }) => <Picture alt={alt} source={typeof src === "string" ? src : ""} />,
  pre: ({ children }) => <pre tabIndex={0}>{children}</pre>,
  table: ({ children }) => (
    <div className="overflow-x-auto" tabIndex={0}>
      <table>{children}</table>
    </div>
  ),
  input: ({ checked }) => <span aria-hidden="true">{checked ? "☑" : "☐"} </span>,
};

function Picture({ alt, source }: { alt: string | undefined; source: string }) {
  const t = useTranslations("Playground");
  return (
    <span className="rounded bg-sunk px-1.5 text-[0.8125rem] text-muted">
      {t("picture")} {alt} {hostOf(source) ?? ""}
    </span>
  );
}

function hostOf(address: string | undefined): string | null {
  try {
    const url = new URL(address ?? "");
    return url.protocol === "https:" || url.protocol === "http:" ? url.host : null;
  } catch {
    return null;
  }
}

const Block = memo(function Block({ text }: { text: string }) {
  if (text.length > PLAIN_FROM) return <LongText text={text} />;
  return (
    <ReactMarkdown remarkPlugins={remark} rehypePlugins={rehype} components={components}>
      {text}
    </ReactMarkdown>
  );
});

/** What a model wrote, which nobody has checked: no HTML, no scripts, no pictures, links with their host. */
export default function Markdown({ text, isGrowing }: { text: string; isGrowing: boolean }) {
  // In one piece, lists and references that span blocks come out right; a long answer stays in blocks.
  const blocks = isGrowing || text.length > LONG_FROM ? blocksOf(text) : [text];
  return (
    <div className={`prose-answer ${text.length > LONG_FROM ? "prose-long" : ""}`}>
      {blocks.map((block, place) => (
        <Block key={place} text={block} />
      ))}
    </div>
  );
}

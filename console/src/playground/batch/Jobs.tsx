"use client";

import { Progress } from "@base-ui/react/progress";
import { useQuery } from "@tanstack/react-query";
import { useTranslations } from "next-intl";
import { useState } from "react";
import { send } from "@/api/caller";
import { read } from "@/api/read";
import { Refusal, refusalOf } from "@/api/refusal";
import type { components } from "@/api/schema";
import { credentials } from "@/api/session";
import type { Asking } from "../asking";
import { saveFile } from "../files";
import type { PromptRow } from "./prompts";
import { jobLines, type Test } from "./test";

type Batch = components["schemas"]["BatchObject"];
type Job = Test["jobs"][number];

const ENDED = ["completed", "failed", "expired", "cancelled"];

type Properties = {
  apiKey: string;
  asking: Asking;
  rows: PromptRow[];
  models: string[];
  most: string;
  canStart: boolean;
  jobs: Job[];
  add: (job: Job) => void;
};

/** The same prompts as batch jobs, one for each model: for half the price, some time within a day, without this tab. */
export function Jobs({ apiKey, asking, rows, models, most, canStart, jobs, add }: Properties) {
  const t = useTranslations("Batch");
  const p = useTranslations("Playground");
  const [fault, setFault] = useState("");
  const [isSending, setSending] = useState(false);

  async function start() {
    setSending(true);
    setFault("");
    try {
      for (const model of models) {
        const file = await upload(apiKey, `playground-${model}.jsonl`, jobLines(asking, model, rows));
        const body = { input_file_id: file, endpoint: "/v1/chat/completions", completion_window: "24h" };
        add({ id: (await send<Batch>("/v1/batches", apiKey, body)).id, model });
      }
    } catch (error) {
      setFault(error instanceof Refusal ? error.message : p("faults.network"));
    } finally {
      setSending(false);
    }
  }

  return (
    <section aria-label={t("job")} className="rounded-md border border-hairline p-4">
      <div className="flex flex-wrap items-center gap-3">
        <div className="mr-auto">
          <h2 className="font-semibold">{t("job")}</h2>
          <p className="mt-1 max-w-[44rem] text-[0.875rem] text-muted">{t("jobNote")}</p>
          <p data-testid="job-quote" className="numbers mt-1 text-[0.875rem]">
            {t("jobQuote", { lines: rows.length, jobs: models.length, most })}
          </p>
        </div>
        <button
          type="button"
          className="button-primary"
          disabled={!canStart || isSending || models.length === 0}
          onClick={start}
        >
          {isSending ? t("sending") : t("makeJob")}
        </button>
      </div>
      {fault ? (
        <p role="alert" lang="en" className="mt-2 text-bad">
          {fault}
        </p>
      ) : null}
      <ul className="mt-3 divide-y divide-hairline">
        {jobs.map((job) => (
          <JobView key={job.id} job={job} apiKey={apiKey} />
        ))}
      </ul>
    </section>
  );
}

function JobView({ job, apiKey }: { job: Job; apiKey: string }) {
  const t = useTranslations("Batch");
  const batch = useQuery({
    queryKey: ["batch", job.id, apiKey],
    queryFn: ({ signal }) => read<Batch>(`/v1/batches/${job.id}`, { key: apiKey, signal }),
    enabled: apiKey !== "",
    refetchInterval: (query) => (ENDED.includes(query.state.data?.status ?? "") ? false : 2_000),
  });
  const found = batch.data;
  const counts = found?.request_counts;
  const ended = (counts?.completed ?? 0) + (counts?.failed ?? 0);
  const isOver = ENDED.includes(found?.status ?? "");
  return (
    <li className="py-3 text-[0.875rem]" data-testid="job">
      <p className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <span className="font-mono font-semibold wrap-anywhere">{job.model}</span>
        <code className="font-mono text-[0.75rem] text-muted">{job.id}</code>
        <span aria-live="polite" className="ml-auto">
          {found ? t(`statuses.${found.status}`) : t("loading")}
        </span>
      </p>
      <Progress.Root
        className="mt-2"
        aria-label={t("progress", { model: job.model })}
        value={isOver ? 100 : counts?.total ? Math.round((100 * ended) / counts.total) : null}
      >
        <Progress.Track className="h-1.5 overflow-hidden rounded-full bg-hairline">
          <Progress.Indicator className="block h-full bg-accent" />
        </Progress.Track>
      </Progress.Root>
      <p className="numbers mt-1 flex min-h-8 flex-wrap items-center gap-2 text-muted">
        {counts ? t("lines", { completed: counts.completed, total: counts.total }) : ""}
        {counts?.failed ? ` · ${t("failed", { count: counts.failed })}` : ""}
        {(["output_file_id", "error_file_id"] as const).map((field) => {
          const file = found?.[field];
          return file ? (
            <button
              key={field}
              type="button"
              className="button-quiet min-h-8"
              onClick={() => download(apiKey, file, `${job.id}-${field.split("_")[0]}.jsonl`)}
            >
              {t(`downloads.${field}`)}
            </button>
          ) : null;
        })}
      </p>
      {found?.errors?.data[0] ? (
        <p lang="en" className="text-bad">
          {found.errors.data[0].message}
        </p>
      ) : null}
    </li>
  );
}

async function upload(key: string, name: string, content: string): Promise<string> {
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", new Blob([content], { type: "application/x-ndjson" }), name);
  const response = await fetch("/v1/files", { method: "POST", headers: credentials(key), body: form });
  if (!response.ok) throw await refusalOf(response);
  return ((await response.json()) as { id: string }).id;
}

async function download(key: string, file: string, name: string) {
  const response = await fetch(`/v1/files/${file}/content`, { headers: credentials(key) });
  if (response.ok) saveFile(name, await response.blob(), "application/x-ndjson");
}

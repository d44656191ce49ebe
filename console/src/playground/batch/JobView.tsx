"use client";

import { Progress } from "@base-ui/react/progress";
import { useQuery } from "@tanstack/react-query";
import { useTranslations } from "next-intl";
import { useState } from "react";
import { read } from "@/api/read";
import { Refusal, refusalOf } from "@/api/refusal";
import { credentials } from "@/api/session";
import { ModelState } from "@/catalog/State";
import { GatewaySays, type Said } from "@/frame/GatewaySays";
import { saveFile } from "../files";
import type { Batch } from "./orders";
import type { Test } from "./test";

const ENDED = ["completed", "failed", "expired", "cancelled"];

/** One batch job: how far it is, and its files once it has ended. */
export function JobView({ job, apiKey }: { job: Test["jobs"][number]; apiKey: string }) {
  const t = useTranslations("Batch");
  const p = useTranslations("Playground");
  const [fault, setFault] = useState<Said | null>(null); // of a download
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

  async function download(file: string, name: string) {
    setFault(null);
    try {
      const response = await fetch(`/v1/files/${file}/content`, { headers: credentials(apiKey) });
      if (!response.ok) throw await refusalOf(response);
      saveFile(name, await response.blob(), "application/x-ndjson");
    } catch (error) {
      setFault(error instanceof Refusal ? error : p("faults.network"));
    }
  }

  return (
    <li className="py-3 text-[0.875rem]" data-testid="job">
      <p className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <span className="font-mono font-semibold wrap-anywhere">{job.model}</span>
        <ModelState id={job.model} />
        <code className="font-mono text-[0.75rem] text-muted">{job.id}</code>
        <span aria-live="polite" className="ml-auto">
          {found ? t(`statuses.${found.status}`) : batch.error ? "" : t("loading")}
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
              onClick={() => download(file, `${job.id}-${field.split("_")[0]}.jsonl`)}
            >
              {t(`downloads.${field}`)}
            </button>
          ) : null;
        })}
      </p>
      {found?.errors?.data[0] ? (
        <div className="text-bad">
          <GatewaySays said={found.errors.data[0]} />
        </div>
      ) : null}
      {batch.error || fault ? (
        <div role="alert" className="text-bad">
          <GatewaySays said={fault ?? (batch.error instanceof Refusal ? batch.error : p("faults.network"))} />
        </div>
      ) : null}
    </li>
  );
}

"use client";

import { useLocale, useTranslations } from "next-intl";
import { useMemo, useState } from "react";
import { Refusal } from "@/api/refusal";
import { ModelState } from "@/catalog/State";
import { GatewaySays, type Said } from "@/frame/GatewaySays";
import type { Asking } from "../asking";
import { amountOf } from "../receipts";
import { JobView } from "./JobView";
import { fingerprint, isOpen, type Order, place, prepare } from "./orders";
import type { PromptRow } from "./prompts";
import { jobLines, type Test } from "./test";

type Properties = {
  apiKey: string;
  asking: Asking;
  rows: PromptRow[];
  models: string[];
  most: string;
  canStart: boolean;
  test: Test;
  change: (to: (test: Test) => Test) => void;
};

/**
 * The same prompts as batch jobs, one for each model: for half the price, some time within a day, without this tab. First
 * their price is promised, then they are made.
 */
export function Jobs({ apiKey, asking, rows, models, most, canStart, test, change }: Properties) {
  const t = useTranslations("Batch");
  const p = useTranslations("Playground");
  const [fault, setFault] = useState<Said | null>(null);
  const [isSending, setSending] = useState(false);
  const wanted = useMemo(
    () =>
      models.map((model) => {
        const lines = jobLines(asking, model, rows);
        return { model, lines, content: fingerprint(apiKey, lines) };
      }),
    [apiKey, asking, rows, models],
  );
  const openOf = (model: string, content: string) =>
    test.orders.find((order) => order.model === model && isOpen(order, content, Date.now()));
  const orders = wanted.map(({ model, content }) => openOf(model, content)).filter((order) => order !== undefined);
  // After a part of them was made the rest is still open, and pressing again makes only that.
  const isMade = (content: string) => test.orders.some((one) => one.content === content && one.job !== null);
  const isPriced =
    orders.length > 0 && wanted.every(({ model, content }) => openOf(model, content) !== undefined || isMade(content));

  async function work(step: () => Promise<void>) {
    setSending(true);
    setFault(null);
    try {
      await step();
    } catch (error) {
      setFault(error instanceof Refusal ? error : p("faults.network"));
    } finally {
      setSending(false);
    }
  }

  const price = () =>
    work(async () => {
      for (const { model, lines, content } of wanted) {
        if (openOf(model, content)) continue;
        const order = await prepare(apiKey, model, lines, content);
        change((old) => ({ ...old, orders: [...old.orders.filter((one) => one.content !== content), order] }));
      }
    });

  const make = () =>
    work(async () => {
      for (const order of orders) {
        const { id } = await place(apiKey, order);
        change((old) => ({
          ...old,
          orders: old.orders.map((one) => (one.key === order.key ? { ...one, job: id } : one)),
          jobs: [{ id, model: order.model }, ...old.jobs],
        }));
      }
    });

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
          onClick={isPriced ? make : price}
        >
          {isSending ? t("sending") : isPriced ? t("makeJob") : t("getPrice")}
        </button>
      </div>
      {isPriced ? (
        <ul className="mt-3 space-y-1 text-[0.875rem]" aria-live="polite">
          {orders.map((order) => (
            <OrderView key={order.key} order={order} />
          ))}
        </ul>
      ) : null}
      {fault ? (
        <div role="alert" className="mt-2 text-bad">
          <GatewaySays said={fault} />
        </div>
      ) : null}
      <ul className="mt-3 divide-y divide-hairline">
        {test.jobs.map((job) => (
          <JobView key={job.id} job={job} apiKey={apiKey} />
        ))}
      </ul>
    </section>
  );
}

function OrderView({ order }: { order: Order }) {
  const t = useTranslations("Batch");
  const locale = useLocale();
  const { quote } = order;
  return (
    <li data-testid="order">
      <span className="font-mono wrap-anywhere">{order.model}</span>{" "}
      {quote ? (
        <span className="numbers">
          {t("binding", { most: amountOf({ currency: quote.currency, amount: quote.most }, locale) })}
        </span>
      ) : (
        <span className="text-warn">{t("notBinding")}</span>
      )}{" "}
      <ModelState id={order.model} />
      {order.unquoted ? (
        <div className="text-muted">
          <GatewaySays said={order.unquoted} />
        </div>
      ) : null}
    </li>
  );
}

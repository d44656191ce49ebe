import { useQuery } from "@tanstack/react-query";
import { read } from "@/api/read";
import type { components } from "@/api/schema";

export type Report = components["schemas"]["OwnReport"];
export type Figure = components["schemas"]["FigureView"];

export const objectives = ["availability", "prewarm", "first_token_ms_p50", "fast_target", "usage_error"] as const;
export type Objective = (typeof objectives)[number];

/** Months that there is a report of, newest first. */
export function useMonths(key: string) {
  return useQuery({
    queryKey: ["slo", key],
    queryFn: ({ signal }) => read<components["schemas"]["MonthList"]>("/v1/slo", { key, signal }),
    enabled: key !== "",
  });
}

export function useReport(key: string, month: string | undefined) {
  return useQuery({
    queryKey: ["slo", key, month],
    queryFn: ({ signal }) => read<Report>(`/v1/slo/${month}`, { key, signal }),
    enabled: key !== "" && month !== undefined,
  });
}

/** The figures of each model, in the order of their names. */
export function byModel(figures: Figure[]): [string, Partial<Record<Objective, Figure>>][] {
  const models = new Map<string, Partial<Record<Objective, Figure>>>();
  for (const figure of figures) {
    const objective = objectives.find((one) => one === figure.objective);
    if (!objective) continue;
    models.set(figure.subject, { ...models.get(figure.subject), [objective]: figure });
  }
  return [...models].sort(([a], [b]) => a.localeCompare(b));
}

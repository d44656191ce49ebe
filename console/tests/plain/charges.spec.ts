import { expect, test } from "@playwright/test";
import { Refusal } from "../../src/api/refusal";
import { newTurn } from "../../src/playground/conversation";
import { askedOf, GRACE, standingOf } from "../../src/playground/receipts";
import { instant } from "../../src/time";

const ENDED = 1_000_000;
const missing = new Refusal("No usage is known.", 404, "not_found", "req_1", null);

test("a missing receipt proves nothing before the books can know", () => {
  expect(standingOf("key", null, 0, ENDED)).toBe("asking");
  expect(standingOf("key", missing, ENDED + GRACE - 1, ENDED)).toBe("soon");
  expect(standingOf("key", missing, ENDED + GRACE, ENDED)).toBe("none");
  expect(standingOf("key", new Refusal("", 503, null, null, 1), ENDED + GRACE, ENDED)).toBe("unread");
  expect(standingOf("key", new TypeError("no network"), ENDED, ENDED)).toBe("unread");
  expect(standingOf("", null, 0, ENDED)).toBe("unread");
});

test("a refusal before the answer is known to be free, one within it is not", () => {
  const fault = { kind: "refused" as const, message: "", code: null, requestId: "req_1", retryAfterSeconds: null };
  const refused = { ...newTurn("", "m", "failed"), fault: { ...fault, isFree: true } };
  expect(askedOf(refused)).toEqual({ requestId: "req_1", endedAt: 0, isFree: true, model: "m" });
  expect(askedOf({ ...refused, requestId: "req_1", fault: { ...fault, isFree: false } })?.isFree).toBe(false);
  expect(askedOf(newTurn("", "m", "waiting"))).toBeNull();
});

test("a time says its zone to whoever lives by another", () => {
  const at = (zone: string) =>
    instant("en", "2026-11-02T17:00:00Z", "Europe/Berlin", "2026-11-02T09:00:00Z", () => "Berlin", zone);
  expect(at("Europe/Paris")).toBe("Mon 18:00");
  expect(at("Asia/Shanghai")).toBe("Mon 18:00 Berlin");
});

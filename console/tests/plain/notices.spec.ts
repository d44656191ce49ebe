import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "@playwright/test";
import { noticeNamed } from "../../src/catalog/notices";

test("every notice of the catalog is there in all languages", () => {
  const folder = "../catalog/models";
  const texts = readdirSync(folder).flatMap((file) => {
    const [, text] = /^notice: >-\n((?: {2}.*\n)+)/m.exec(readFileSync(`${folder}/${file}`, "utf8")) ?? [];
    return text ? [text.trim().replace(/\n\s*/g, " ")] : [];
  });
  expect(texts.length).toBeGreaterThan(0);
  const english = JSON.parse(readFileSync("messages/en.json", "utf8")).Models.notices;
  for (const text of texts) expect(english[noticeNamed(text) ?? ""]).toBe(text);
});

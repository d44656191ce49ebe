import { expect, test } from "@playwright/test";
import { literals } from "../../scripts/literals.mjs";

const said = (jsx: string) => literals(`const a = ${jsx};`).map((one: string) => one.replace(/^\d+: /, ""));

test("a word that stands in the code of a page is found, wherever it hides", () => {
  expect(said("<p>Hello</p>")).toEqual(["Hello"]);
  expect(said('<p>{isOpen ? "open" : t("closed")}</p>')).toEqual(["open"]);
  expect(said('<p>{name ?? "nobody"}{isOld && "old"}</p>')).toEqual(["nobody", "old"]);
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the code that is looked at
  expect(said("<p>{`costs ${t(`a`)} at most`}</p>")).toEqual(["costs   at most"]);
  for (const name of ["aria-label", "title", "placeholder", "alt", "label"])
    expect(said(`<input ${name}="Your name" />`)).toEqual(["Your name"]);
  expect(said('<input title={isOpen ? "Close" : undefined} />')).toEqual(["Close"]);
  expect(said('{ fault: "Nothing was found." }')).toEqual(["Nothing was found."]);
  expect(literals('function f() {\n  throw new Error("That did not work");\n}')).toEqual(["2: That did not work"]);
});

test("names, units, signs, code, classes and what is marked as English are left alone", () => {
  expect(said('<p className="flex gap-2" aria-live="polite">· – {t("hello")} {12} ms TTFT</p>')).toEqual([]);
  expect(said('<span lang="en">Hello there</span>')).toEqual([]);
  expect(said("<pre>curl it</pre>")).toEqual([]);
});

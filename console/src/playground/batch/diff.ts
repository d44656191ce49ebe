export type Difference = { kind: "same" | "left" | "right"; text: string };

const MOST_CELLS = 4_000_000; // of the table below; two long texts are compared as wholes

/** Word by word what two texts share, in order (the longest common subsequence), and what only one of them has. */
export function differences(left: string, right: string): Difference[] {
  const a = left.match(/\s+|[\p{L}\p{N}_]+|[^\s]/gu) ?? [];
  const b = right.match(/\s+|[\p{L}\p{N}_]+|[^\s]/gu) ?? [];
  if (left === right) return left ? [{ kind: "same", text: left }] : [];
  if (a.length * b.length > MOST_CELLS) {
    return [
      { kind: "left", text: left },
      { kind: "right", text: right },
    ];
  }
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width); // of the best from here to both ends
  const at = (i: number, j: number) => lengths[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const found: Difference[] = [];
  const add = (kind: Difference["kind"], text: string) => {
    const last = found.at(-1);
    if (last?.kind === kind) last.text += text;
    else found.push({ kind, text });
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add("same", a[i] ?? "");
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1))) {
      add("left", a[i] ?? "");
      i += 1;
    } else {
      add("right", b[j] ?? "");
      j += 1;
    }
  }
  return found;
}

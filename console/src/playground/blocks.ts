/**
 * Markdown in pieces that can be rendered on their own, cut at blank lines outside code fences. While an answer grows
 * only its last piece changes; the others are kept as they are. Lists and references that span pieces come out right
 * when the whole is rendered at the end.
 */
export function blocksOf(text: string): string[] {
  const blocks: string[] = [];
  let lines: string[] = [];
  let fence: string | null = null;
  for (const line of text.split("\n")) {
    const mark = /^\s{0,3}(```+|~~~+)/.exec(line)?.[1];
    if (mark && fence === null) fence = mark;
    else if (mark && fence !== null && mark.startsWith(fence)) fence = null;
    if (line.trim() === "" && fence === null) {
      if (lines.length) blocks.push(lines.join("\n"));
      lines = [];
    } else {
      lines.push(line);
    }
  }
  if (lines.length) blocks.push(lines.join("\n"));
  return blocks;
}

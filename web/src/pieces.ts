// A long text in pieces, so that a browser that lays out what has grown does not begin with its first word.

/** About so long is a piece, in UTF-16 units. */
const PIECE = 1500;

export interface Piece {
  text: string;
  /** It begins and ends with lines of its own, and can be laid out by itself. */
  isWhole: boolean;
}

/** Cut behind a line's end, or behind a space, never within a letter. A text that grows keeps the pieces that it has. */
export function pieces(text: string): Piece[] {
  const cut: Piece[] = [];
  let [from, beginsLine] = [0, true];
  const push = (to: number): void => {
    const endsLine = text[to - 1] === "\n";
    cut.push({ text: text.slice(from, to), isWhole: beginsLine && endsLine });
    [from, beginsLine] = [to, endsLine];
  };
  while (text.length - from > PIECE) {
    const last = from + PIECE - 1;
    const line = text.lastIndexOf("\n", last);
    const space = text.lastIndexOf(" ", last);
    if (line > from) push(line + 1);
    else if (space > from) push(space + 1);
    else push(/[\uD800-\uDBFF]/.test(text.charAt(last)) ? last : last + 1);
  }
  push(text.length);
  return cut;
}

// Work that is worth doing only when it is seen: however much comes in, it is done once a frame, or more seldom.

/** A page that is not shown gets no frames; it goes on all the same, slowly. */
const HIDDEN_MS = 250;

/** Does the work with the next frame, however often it is asked for until then. */
export class PerFrame {
  #frame = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wait: ReturnType<typeof setTimeout> | undefined;
  #done = -Infinity;
  readonly #work: () => void;
  readonly #apart_ms: number;

  /** `apart_ms`: so long lies between two times at least. */
  constructor(work: () => void, apart_ms = 0) {
    this.#work = work;
    this.#apart_ms = apart_ms;
  }

  ask(): void {
    if (this.#timer !== undefined || this.#wait !== undefined) return;
    const left = this.#done + this.#apart_ms - performance.now();
    if (left > 0) this.#wait = setTimeout(() => this.#next(), left);
    else this.#next();
  }

  #next(): void {
    this.#wait = undefined;
    this.#frame = requestAnimationFrame(() => this.now());
    this.#timer = setTimeout(() => this.now(), HIDDEN_MS);
  }

  /** Does it at once. */
  now(): void {
    this.drop();
    this.#done = performance.now();
    this.#work();
  }

  /** Takes back what was asked for. */
  drop(): void {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    clearTimeout(this.#wait);
    this.#timer = this.#wait = undefined;
  }
}

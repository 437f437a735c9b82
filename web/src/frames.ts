// Work that is worth doing only when it is seen: however much comes in, it is done once a frame.

/** A page that is not shown gets no frames; it goes on all the same, slowly. */
const HIDDEN_MS = 250;

/** Runs the work with the next frame, however often it is asked for until then. */
export class PerFrame {
  #frame = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #work: () => void;

  constructor(work: () => void) {
    this.#work = work;
  }

  ask(): void {
    if (this.#timer !== undefined) return;
    this.#frame = requestAnimationFrame(() => this.now());
    this.#timer = setTimeout(() => this.now(), HIDDEN_MS);
  }

  /** Does it at once. */
  now(): void {
    this.drop();
    this.#work();
  }

  /** Takes back what was asked for. */
  drop(): void {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

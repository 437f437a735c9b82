// Which page is shown: the part of the address behind the #.

export const PAGES = ["chat", "market", "money", "providers", "explorer", "settings"] as const;

/** Also the first steps, which no menu names. */
export type Page = (typeof PAGES)[number] | "begin";

export const TITLES: Record<Page, string> = {
  chat: "Chat",
  market: "Market",
  money: "Money",
  providers: "Providers",
  explorer: "Explorer",
  settings: "Settings",
  begin: "First steps",
};

/** The page, and what of it: all behind its name and a slash. */
function read(): { page: Page; rest: string } {
  const [named = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const page = ([...PAGES, "begin"] as const).find((page) => page === named);
  return page === undefined ? { page: "chat", rest: "" } : { page, rest: plain(rest.join("/")) };
}

function plain(escaped: string): string {
  try {
    return decodeURIComponent(escaped);
  } catch {
    return escaped;
  }
}

class Router {
  page = $state<Page>("chat");
  rest = $state("");

  constructor() {
    addEventListener("hashchange", () => this.#read());
    this.#read();
  }

  #read(): void {
    ({ page: this.page, rest: this.rest } = read());
  }
}

export const router = new Router();

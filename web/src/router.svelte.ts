// Which page is shown: the part of the address behind the #.

export const PAGES = ["chat", "market", "money", "providers", "settings"] as const;

export type Page = (typeof PAGES)[number];

export const TITLES: Record<Page, string> = {
  chat: "Chat",
  market: "Market",
  money: "Money",
  providers: "Providers",
  settings: "Settings",
};

function read(): Page {
  const named = location.hash.replace(/^#\/?/, "");
  return PAGES.find((page) => page === named) ?? "chat";
}

class Router {
  page = $state<Page>(read());

  constructor() {
    addEventListener("hashchange", () => (this.page = read()));
  }
}

export const router = new Router();
